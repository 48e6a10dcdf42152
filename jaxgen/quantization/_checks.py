"""Checks at call time, shared by this package's functions."""

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer
from jax.typing import ArrayLike


def require(condition: bool, message: str) -> None:
    """Raise a ValueError with the message unless the condition holds."""
    if not condition:
        raise ValueError(message)


def as_float(name: str, x: ArrayLike) -> Array:
    """The argument as an array, refused unless its type is floating."""
    x = jnp.asarray(x)
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise TypeError(f"{name} must be floating, but is {x.dtype}: convert it first")
    return x


def is_concrete(x: ArrayLike) -> bool:
    """Whether values can be looked at: not under `jit`, `grad` or `vmap`."""
    return not isinstance(x, Tracer)


def require_finite(name: str, x: ArrayLike) -> None:
    """Refuse NaN and infinities; under `jit`, where there are no values yet, do nothing."""
    if not is_concrete(x):
        return
    bad = int(np.size(x) - np.count_nonzero(np.isfinite(np.asarray(x))))
    require(bad == 0, f"{name} must be finite, but {bad} of its {np.size(x)} entries are NaN or infinite")


def nonzero(x: Array) -> Array:
    """Denominators with 1 in place of 0, for a ratio whose numerator is then 0 too."""
    return jnp.where(x == 0, 1.0, x)
