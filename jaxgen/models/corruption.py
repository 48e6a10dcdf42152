"""What a denoising autoencoder has to undo."""

from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, Key

Corruption = Literal["none", "gaussian", "masking", "salt_and_pepper"]


def make_corruption(name: Corruption, level: float) -> Callable[[Key[Array, " batch"], Array], Array]:
    """``(keys [batch], x [batch, ...]) -> x``, one draw for each example.

    - "gaussian": x + level · ε with ε ~ N(0, I);
    - "masking": each entry is 0 with probability ``level``;
    - "salt_and_pepper": each entry is, with probability ``level``, 0 or 1 by a fair coin;
    - "none": x as it is.

    Raises:
      ValueError: for an unknown name, a negative level, or a probability above 1.
    """
    if name not in ("none", "gaussian", "masking", "salt_and_pepper"):
        raise ValueError(f"corruption must be none, gaussian, masking or salt_and_pepper, got {name!r}")
    if level < 0 or (name in ("masking", "salt_and_pepper") and level > 1):
        raise ValueError(
            f"the level of {name} corruption must not be negative, and a probability at most 1, got {level}"
        )

    def one(key: Key[Array, ""], x: Float[Array, "..."]) -> Array:
        if name == "gaussian":
            return x + level * jax.random.normal(key, x.shape, x.dtype)
        # One uniform number decides both: below level it is hidden, and by which half of that, what replaces it.
        uniform = jax.random.uniform(key, x.shape)
        value = (uniform < level / 2).astype(x.dtype) if name == "salt_and_pepper" else jnp.zeros_like(x)
        return jnp.where(uniform < level, value, x)

    return (lambda keys, x: x) if name == "none" else jax.vmap(one)
