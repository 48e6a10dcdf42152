"""One small generator for each group of observed variables, all reading the same latents."""

import math
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Float

from jaxgen.nets.mlp import ACTIVATIONS


class GroupedDecoder(nn.Module):
    """x_g = f_g(W_g z), with ``W`` [latents, groups, width] whose columns a group lasso can empty.

    Attributes:
      groups: consecutive entries of the flattened example in each group.
      width: of W_g z.
      hidden: widths of further layers of each f_g.
      shape: of one example.
      activation: a name of ``ACTIVATIONS``.
    """

    groups: Sequence[int]
    width: int
    hidden: Sequence[int]
    shape: Sequence[int]
    activation: str = "relu"

    @nn.compact
    def __call__(self, z: Float[ArrayLike, "batch latents"]) -> Float[Array, "batch ..."]:
        count, widest = len(self.groups), max(self.groups)
        # Variance scaling by the latents that a group reads, not by all groups.
        scale = 1 / math.sqrt(jnp.shape(z)[-1])
        weights = self.param("W", nn.initializers.normal(scale), (jnp.shape(z)[-1], count, self.width))
        h = jnp.einsum("bl,lgw->bgw", jnp.asarray(z), weights)
        for index, width in enumerate((*self.hidden, widest)):
            h = ACTIVATIONS[self.activation](h)
            init = nn.initializers.lecun_normal(batch_axis=0)
            kernel = self.param(f"kernel_{index}", init, (count, h.shape[-1], width))
            bias = self.param(f"bias_{index}", nn.initializers.zeros, (count, width))
            h = jnp.einsum("bgw,gwv->bgv", h, kernel) + bias
        # Groups are padded to the widest; each entry of the example is read off its own group.
        group = np.repeat(np.arange(count), self.groups)
        place = np.concatenate([np.arange(size) for size in self.groups])
        return h[:, group, place].reshape(h.shape[0], *self.shape)
