"""Convolutional networks that halve an image at each stage, and their mirror image."""

from collections.abc import Sequence

import jax.numpy as jnp
from flax import linen as nn
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Float

from jaxgen.nets.convolution import Conv, ConvTranspose
from jaxgen.nets.mlp import ACTIVATIONS, MLP
from jaxgen.nets.normalization import BatchNorm
from jaxgen.nets.resnet import ResidualBlock


class ConvEncoder(nn.Module):
    """Image to feature map: each stage halves height and width (rounded up), then refines.

    Attributes:
      channels: of each stage.
      blocks: residual blocks after each stage.
      activation: a name of ``ACTIVATIONS``.
      batch_norm: whether batch normalization follows each stage's convolution, except the first stage's.
    """

    channels: Sequence[int]
    blocks: int = 0
    activation: str = "relu"
    batch_norm: bool = False

    @nn.compact
    def __call__(self, images: Float[ArrayLike, "batch height width channels"]) -> Float[Array, "batch h w features"]:
        x = jnp.asarray(images)
        for stage, width in enumerate(self.channels):
            normal = self.batch_norm and stage > 0
            x = Conv(width, (4, 4), strides=(2, 2), use_bias=not normal)(x)
            x = BatchNorm()(x) if normal else x
            for _ in range(self.blocks):
                x = ResidualBlock(self.activation)(x)
            x = ACTIVATIONS[self.activation](x)
        return x


class ConvDecoder(nn.Module):
    """Feature map to image: each stage refines, then doubles height and width; the last is cut to ``shape``.

    Attributes:
      channels: of each stage, in the order of the encoder; the decoder runs through them backwards.
      shape: [height, width, channels] of the output, which has no activation.
      blocks: residual blocks before each stage.
      activation: a name of ``ACTIVATIONS``.
      batch_norm: whether batch normalization follows each stage's convolution, except the one that makes the output.
    """

    channels: Sequence[int]
    shape: Sequence[int]
    blocks: int = 0
    activation: str = "relu"
    batch_norm: bool = False

    @nn.compact
    def __call__(self, maps: Float[ArrayLike, "batch h w features"]) -> Float[Array, "batch height width channels"]:
        height, width, outputs = self.shape
        x = jnp.asarray(maps)
        for stage in range(len(self.channels) - 1, -1, -1):
            for _ in range(self.blocks):
                x = ResidualBlock(self.activation)(x)
            features = self.channels[stage - 1] if stage else outputs
            normal = self.batch_norm and stage > 0
            x = ConvTranspose(features, use_bias=not normal)(x)
            # An odd size was rounded up on the way down; the surplus row and column go again.
            x = x[:, : -(-height // 2**stage), : -(-width // 2**stage)]
            x = BatchNorm()(x) if normal else x
            x = ACTIVATIONS[self.activation](x) if stage else x
        return x


class ConvVectorEncoder(nn.Module):
    """A ``ConvEncoder`` read out to vectors of ``shape``."""

    channels: Sequence[int]
    shape: Sequence[int]
    blocks: int = 0
    activation: str = "relu"
    batch_norm: bool = False

    @nn.compact
    def __call__(self, x: Float[ArrayLike, "batch height width channels"]) -> Float[Array, "batch ..."]:
        x = ConvEncoder(self.channels, self.blocks, self.activation, self.batch_norm)(x)
        return MLP((), self.shape)(x)


class ConvVectorDecoder(nn.Module):
    """A ``ConvDecoder`` fed from vectors."""

    channels: Sequence[int]
    shape: Sequence[int]
    blocks: int = 0
    activation: str = "relu"
    batch_norm: bool = False

    @nn.compact
    def __call__(self, z: Float[ArrayLike, "batch ..."]) -> Float[Array, "batch height width channels"]:
        halved = 2 ** len(self.channels)
        height, width = -(-self.shape[0] // halved), -(-self.shape[1] // halved)
        x = jnp.reshape(z, (jnp.shape(z)[0], -1))
        x = nn.Dense(height * width * self.channels[-1], use_bias=not self.batch_norm)(x)
        x = jnp.reshape(x, (-1, height, width, self.channels[-1]))
        x = BatchNorm()(x) if self.batch_norm else x
        x = ACTIVATIONS[self.activation](x)
        return ConvDecoder(self.channels, self.shape, self.blocks, self.activation, self.batch_norm)(x)
