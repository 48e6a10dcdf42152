"""Checks at call time, shared by this package's functions."""

import operator
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer
from jax.typing import ArrayLike


def require(condition: bool, message: str) -> None:
    """Raise a ValueError with the message unless the condition holds."""
    if not condition:
        raise ValueError(message)


def as_array(name: str, x: Any) -> Array:
    """The argument as an array; what is none, such as None or text, is refused by its name."""
    try:
        return jnp.asarray(x)
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be an array or a number, but is {x!r:.60}") from None


def as_float(name: str, x: ArrayLike) -> Array:
    """The argument as an array, refused unless its type is floating."""
    x = as_array(name, x)
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise TypeError(f"{name} must be floating, but is {x.dtype}: convert it first")
    return x


def as_indices(name: str, x: ArrayLike) -> Array:
    """The argument as integers of 32 bits or more: fewer could not be compared with the size of a codebook."""
    x = as_array(name, x)
    if not jnp.issubdtype(x.dtype, jnp.integer):
        raise TypeError(f"{name} must be integers, but are {x.dtype}")
    return x.astype(jnp.int32) if x.dtype.itemsize < 4 else x


def is_concrete(x: ArrayLike) -> bool:
    """Whether values can be looked at: not under `jit`, `grad` or `vmap`."""
    return not isinstance(x, Tracer)


def require_count(name: str, x: Any, *, least: int = 1) -> int:
    """A whole number of at least `least`, known while tracing."""
    try:
        number = operator.index(x)
    except TypeError:
        raise TypeError(f"{name} must be an integer known while tracing, but is {x!r:.60}") from None
    require(number >= least, f"{name} must be at least {least}, but is {number}")
    return number


def require_number(name: str, x: Any, *, positive: bool = False) -> None:
    """One real number, above zero or not below it where its value is known; NaN is neither."""
    number = as_array(name, x)
    if jnp.issubdtype(number.dtype, jnp.complexfloating):
        raise TypeError(f"{name} must be real, but is {x}")
    require(number.ndim == 0, f"{name} must be one number, but has the shape {number.shape}")
    if is_concrete(x):
        allowed = float(x) > 0 if positive else float(x) >= 0
        require(allowed, f"{name} must {'be above 0' if positive else 'not be negative'}, but is {x}")


def require_finite(name: str, x: ArrayLike) -> None:
    """Refuse NaN and infinities; under `jit`, where there are no values yet, do nothing."""
    if not is_concrete(x):
        return
    bad = int(np.size(x) - np.count_nonzero(np.isfinite(np.asarray(x))))
    require(bad == 0, f"{name} must be finite, but {bad} of its {np.size(x)} entries are NaN or infinite")


def nonzero(x: Array) -> Array:
    """Denominators with 1 in place of 0, for a ratio whose numerator is then 0 too."""
    return jnp.where(x == 0, 1.0, x)
