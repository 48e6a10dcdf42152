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

    @property
    def num_layers(self) -> int:
        return len(self.hidden) + 1

    @nn.compact
    def __call__(self, x: Float[ArrayLike, "batch ..."], layers: slice = slice(None)) -> Float[Array, "batch ..."]:
        """The outputs, or what some of the layers make of their own input; of none it is the input, flat."""
        h = jnp.asarray(x).reshape(jnp.shape(x)[0], -1)
        for index in range(self.num_layers)[layers]:
            last = index == len(self.hidden)
            # The names are those that Flax would give: files of earlier runs hold them.
            h = nn.Dense(math.prod(self.shape) if last else self.hidden[index], name=f"Dense_{index}")(h)
            h = h.reshape(h.shape[0], *self.shape) if last else ACTIVATIONS[self.activation](h)
        return h
