"""What is an array at all: the check that comes before all others."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import DTypeLike


def as_array(name: str, value: Any, dtype: DTypeLike | None = None) -> Array:
    """The argument as an array; what is none, such as None or text, is refused by its name."""
    try:
        if isinstance(value, str | bytes):  # jnp.asarray would read a number out of it.
            raise TypeError
        with np.errstate(over="ignore"):
            return jnp.asarray(value, dtype)
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be an array or a number, got {value!r:.60}") from None
