"""Residual blocks."""

import jax.numpy as jnp
from flax import linen as nn
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Float

from jaxgen.nets.convolution import Conv
from jaxgen.nets.mlp import ACTIVATIONS


class ResidualBlock(nn.Module):
    """x + conv1×1(act(conv3×3(act(x)))), as in the VQ-VAE's networks (van den Oord et al., 2017)."""

    activation: str = "relu"

    @nn.compact
    def __call__(self, maps: Float[ArrayLike, "batch h w features"]) -> Float[Array, "batch h w features"]:
        x = jnp.asarray(maps)
        act, features = ACTIVATIONS[self.activation], x.shape[-1]
        hidden = Conv(features, (3, 3))(act(x))
        return x + Conv(features, (1, 1))(act(hidden))
