"""Multi-layer perceptrons."""

import math
from collections.abc import Callable, Sequence

import jax.numpy as jnp
from flax import linen as nn
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Float

#: Activations by the name a command line gives.
ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "relu": nn.relu,
    "tanh": nn.tanh,
    "gelu": nn.gelu,
    "silu": nn.silu,
    "leaky_relu": lambda x: nn.leaky_relu(x, 0.2),
}


class MLP(nn.Module):
    """Dense layers with an activation between; axes after the first are flattened.

    Attributes:
      hidden: widths of the hidden layers; empty makes the map linear.
      shape: shape of one output; the last layer has no activation.
      activation: a name of ``ACTIVATIONS``.
    """

    hidden: Sequence[int]
    shape: Sequence[int]
    activation: str = "relu"

    @nn.compact
    def __call__(self, x: Float[ArrayLike, "batch ..."]) -> Float[Array, "batch ..."]:
        x = jnp.reshape(x, (jnp.shape(x)[0], -1))
        for width in self.hidden:
            x = ACTIVATIONS[self.activation](nn.Dense(width)(x))
        return nn.Dense(math.prod(self.shape))(x).reshape(x.shape[0], *self.shape)
