"""Checks that the metrics share: one sentence that names the argument, the value seen and what to do."""

import operator
from typing import Any

import jax.core
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike


def floating(x: ArrayLike) -> Array:
    """`x` in at least float32: metrics sum many terms, and uint8 or bfloat16 would wrap or round them."""
    x = jnp.asarray(x)
    if jnp.issubdtype(x.dtype, jnp.complexfloating):
        raise TypeError(f"arrays must be real, got {x.dtype} of shape {x.shape}; pass real and imaginary parts apart.")
    is_floating = jnp.issubdtype(x.dtype, jnp.floating)
    return x.astype(jnp.promote_types(x.dtype, jnp.float32) if is_floating else jnp.result_type(float))


def matrix(name: str, x: ArrayLike, *, min_rows: int = 1) -> None:
    """`x` is real, [rows, columns], with at least `min_rows` rows and one column."""
    shape = np.shape(x)
    if np.iscomplexobj(x):
        raise TypeError(f"{name} must be real, got complex numbers; pass real and imaginary parts as columns.")
    if len(shape) != 2 or shape[1] < 1:
        raise ValueError(f"{name} must have shape [examples, dimensions], got {shape}; flatten each example.")
    if shape[0] < min_rows:
        raise ValueError(f"{name} must hold at least {min_rows} rows, got shape {shape}; pass more examples.")


def same_columns(name_a: str, a: ArrayLike, name_b: str, b: ArrayLike) -> None:
    """Two matrices of points live in one space."""
    if np.shape(a)[1] != np.shape(b)[1]:
        raise ValueError(
            f"{name_a} and {name_b} must have equal dimensions, got shapes {np.shape(a)} and {np.shape(b)}."
        )


def above(name: str, value: ArrayLike, bound: float | int = 0, *, inclusive: bool = False) -> None:
    """A number above `bound`, or equal to it where `inclusive`; a traced value cannot be seen and passes."""
    if np.shape(value):
        raise ValueError(f"{name} must be one number, got an array of shape {np.shape(value)}.")
    if isinstance(value, jax.core.Tracer):
        return
    try:
        number = float(np.asarray(value))
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be a real number, got {value!r}.") from None
    if not (number >= bound if inclusive else number > bound):
        relation = "at least" if inclusive else "greater than"
        raise ValueError(f"{name} must be {relation} {bound:g}, got {number:g}.")


def count(name: str, value: Any, least: int = 1) -> int:
    """A whole number of at least `least`: a count or a seed."""
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an integer, got {value!r}.") from None
    above(name, number, least, inclusive=True)
    return number


def finite(name: str, x: ArrayLike) -> None:
    """No NaN and no infinity, which a count or a comparison would hide; a traced value cannot be seen and passes."""
    if isinstance(x, jax.core.Tracer):
        return
    # NumPy's, since under `jit` JAX's would trace what is known.
    bad = int(np.size(x) - np.count_nonzero(np.isfinite(np.asarray(x))))
    if bad:
        raise ValueError(f"{name} must be finite, got {bad} values that are not.")
