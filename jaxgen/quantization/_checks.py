"""Checks at call time, shared by this package's functions."""

import operator
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer
from jax.typing import ArrayLike, DTypeLike

from jaxgen._arrays import as_array


def require(condition: bool, message: str) -> None:
    """Raise a ValueError with the message unless the condition holds."""
    if not condition:
        raise ValueError(message)


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


def known(x: ArrayLike) -> np.ndarray | None:
    """The numbers of an argument as it was given; None for a tracer or an array on other hosts.

    Not of what `as_array` made of it: under `jit` that is a tracer, even of a constant.
    """
    if isinstance(x, Tracer) or (isinstance(x, Array) and not x.is_fully_addressable):
        return None
    return np.asarray(x)


def require_count(name: str, x: Any, *, least: int = 1) -> int:
    """A whole number of at least `least`, known while tracing."""
    try:
        number = operator.index(x)
    except TypeError:
        raise TypeError(f"{name} must be an integer known while tracing, but is {x!r:.60}") from None
    require(number >= least, f"{name} must be at least {least}, but is {number}")
    return number


def as_number(name: str, x: Any, dtype: DTypeLike) -> Array:
    """One real number, in the data's type."""
    if np.iscomplexobj(x):
        raise TypeError(f"{name} must be real, but is {x}")
    number = as_array(name, x, dtype)
    require(number.ndim == 0, f"{name} must be one number, but has the shape {number.shape}")
    return number


def as_signed_number(name: str, x: Any, dtype: DTypeLike, *, positive: bool = False) -> Array:
    """`as_number`, above zero or not below it where its value is known; NaN is neither."""
    number, value = as_number(name, x, dtype), known(x)
    allowed = value is None or (float(value) >= jnp.finfo(dtype).tiny if positive else float(value) >= 0)
    require(bool(allowed), f"{name} must {'be above 0' if positive else 'not be negative'}, but is {x}")
    return number


def require_finite(name: str, x: ArrayLike) -> None:
    """Refuse NaN and infinities in an argument as it was given; a tracer, which has no values yet, passes."""
    numbers = known(x)
    if numbers is None:
        return
    bad = int(np.size(numbers) - np.count_nonzero(np.isfinite(numbers)))
    require(bad == 0, f"{name} must be finite, but {bad} of its {np.size(numbers)} entries are NaN or infinite")


def require_indices(name: str, x: ArrayLike, num_codes: int, what: str) -> None:
    """Refuse an index below 0 or from `num_codes` on, where the numbers are known."""
    numbers = known(x)
    if numbers is None or not numbers.size:
        return
    low, high = int(numbers.min()), int(numbers.max())
    require(
        low >= 0 and high < num_codes,
        f"{name} run from {low} to {high}, but {what} {num_codes} codes: give {name} in 0 … {num_codes - 1}",
    )


def nonzero(x: Array) -> Array:
    """Denominators with 1 in place of 0, for a ratio whose numerator is then 0 too."""
    return jnp.where(x == 0, 1.0, x)
