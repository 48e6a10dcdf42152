"""Checks that the metrics share: one sentence that names the argument, the value seen and what to do."""

import operator
from typing import Any

import jax.core
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike, DTypeLike


def real(name: str, x: Any) -> None:
    """`x` is numbers or booleans, none of them complex; text, None and keys are not."""
    dtype = x.dtype if hasattr(x, "dtype") else np.asarray(x).dtype
    if np.iscomplexobj(x):
        raise TypeError(f"{name} must be real, got complex numbers; pass real and imaginary parts apart.")
    if not (jnp.issubdtype(dtype, np.number) or jnp.issubdtype(dtype, np.bool_)):
        raise TypeError(f"{name} must be numbers, got {x!r:.60}.")


def floating(name: str, x: ArrayLike) -> Array:
    """`x` in at least float32: metrics sum many terms, and uint8 or bfloat16 would wrap or round them."""
    real(name, x)
    x = jnp.asarray(x)
    is_floating = jnp.issubdtype(x.dtype, jnp.floating)
    return x.astype(jnp.promote_types(x.dtype, jnp.float32) if is_floating else jnp.result_type(float))


def matrix(name: str, x: ArrayLike, *, min_rows: int = 1) -> None:
    """`x` is real, [rows, columns], with at least `min_rows` rows and one column."""
    real(name, x)
    shape = np.shape(x)
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


def above(name: str, value: Any, dtype: DTypeLike, bound: float | int = 0, *, inclusive: bool = False) -> Array:
    """A number in the data's type, above `bound` there, or equal to it where `inclusive`; a traced one is not seen."""
    if np.shape(value):
        raise ValueError(f"{name} must be one number, got an array of shape {np.shape(value)}.")
    try:
        if isinstance(value, str | bytes) or np.iscomplexobj(value):
            raise TypeError
        with np.errstate(over="ignore"):
            number = jnp.asarray(value, dtype)
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be a real number, got {value!r:.60}.") from None
    if isinstance(value, jax.core.Tracer):
        return number
    seen = float(np.asarray(value))
    if not (seen >= bound if inclusive else seen >= bound + float(jnp.finfo(dtype).tiny)):
        relation = "at least" if inclusive else "greater than"
        raise ValueError(f"{name} must be {relation} {bound:g}, got {seen:g}.")
    return number


def count(name: str, value: Any, least: int = 1) -> int:
    """A whole number of at least `least`: a count or a seed."""
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an integer, got {value!r}.") from None
    if number < least:
        raise ValueError(f"{name} must be at least {least}, got {number}.")
    return number


def finite(name: str, x: ArrayLike) -> None:
    """No NaN and no infinity, which a count or a comparison would hide; a traced value cannot be seen and passes."""
    if isinstance(x, jax.core.Tracer):
        return
    # NumPy's, since under `jit` JAX's would trace what is known.
    bad = int(np.size(x) - np.count_nonzero(np.isfinite(np.asarray(x))))
    if bad:
        raise ValueError(f"{name} must be finite, got {bad} values that are not.")
