"""Batch normalization that learns where its running statistics may change, and nowhere else."""

import jax.numpy as jnp
from flax import linen as nn
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Float

from jaxgen.model import device_axis

#: How much of the running mean and variance a training pass keeps.
MOMENTUM = 0.9


class BatchNorm(nn.Module):
    r"""Each feature in units of its spread over the batch, then scaled and shifted as is learned.

    .. math::
        \hat x = \gamma \, \frac{x - \mu}{\sqrt{\sigma^2 + \epsilon}} + \beta

    In a training pass, which is one that may change the collection ``batch_stats``, :math:`\mu` and :math:`\sigma^2`
    are those of the batch, of all devices together, and the running ones take in a tenth of them. In any other pass
    they are the running ones, so that what becomes of an example depends on no other.

    Reference: Ioffe and Szegedy, Batch Normalization, 2015.
    """

    @nn.compact
    def __call__(self, x: Float[ArrayLike, "batch *axes features"]) -> Float[Array, "batch *axes features"]:
        learns = self.is_mutable_collection("batch_stats")
        return nn.BatchNorm(use_running_average=not learns, momentum=MOMENTUM, axis_name=device_axis())(jnp.asarray(x))
