"""Flax Linen modules without losses, and the two choices that every family of models offers."""

from collections.abc import Sequence
from typing import Literal

from flax import linen as nn

from jaxgen.nets.conv import ConvDecoder, ConvEncoder, ConvVectorDecoder, ConvVectorEncoder
from jaxgen.nets.grouped import GroupedDecoder
from jaxgen.nets.mlp import ACTIVATIONS, MLP
from jaxgen.nets.normalization import BatchNorm
from jaxgen.nets.pixelcnn import GatedPixelCNN, sample_pixelcnn
from jaxgen.nets.resnet import ResidualBlock
from jaxgen.nets.transformer import CausalTransformer, sample_transformer

Network = Literal["mlp", "conv", "resnet"]
Activation = Literal["relu", "tanh", "gelu", "silu", "leaky_relu"]

_RESIDUAL_BLOCKS = 2


def _blocks(network: str, hidden: Sequence[int], shape: Sequence[int], activation: str) -> int:
    """Residual blocks in each stage, once the choices are known to make sense together."""
    if network not in ("mlp", "conv", "resnet"):
        raise ValueError(f"network must be mlp, conv or resnet, got {network!r}")
    if activation not in ACTIVATIONS:
        raise ValueError(f"activation must be one of {', '.join(ACTIVATIONS)}, got {activation!r}")
    if any(width < 1 for width in hidden):
        raise ValueError(f"hidden must hold widths of at least 1, got {tuple(hidden)}")
    if network == "mlp":
        return 0
    check_stages(network, hidden, shape)
    return _RESIDUAL_BLOCKS if network == "resnet" else 0


def check_stages(network: str, hidden: Sequence[int], shape: Sequence[int]) -> None:
    """Refuses convolutions without a stage, or of what is no image.

    Raises:
      ValueError: naming the network as it was asked for.
    """
    if not hidden:
        raise ValueError(f"hidden must name the channels of at least one stage for network {network!r}, got ()")
    if len(shape) != 3:
        raise ValueError(
            f"network {network!r} needs images [height, width, channels], got examples of shape "
            f"{tuple(shape)}; use network 'mlp'"
        )


def vector_encoder(
    network: Network,
    hidden: Sequence[int],
    shape: Sequence[int],
    *,
    outputs: Sequence[int],
    activation: Activation,
    batch_norm: bool = False,
) -> nn.Module:
    """A network from examples of ``shape`` to arrays of shape ``outputs``.

    Args:
      network: "mlp", or "conv" / "resnet" for images.
      hidden: widths of the dense layers, or channels of the stages that each halve the image.
      shape: of one example.
      outputs: shape of one output.
      activation: between layers.
      batch_norm: whether the convolutions' outputs are normalized over the batch.
    """
    blocks = _blocks(network, hidden, shape, activation)
    if network == "mlp":
        return MLP(hidden, outputs, activation)
    return ConvVectorEncoder(hidden, outputs, blocks, activation, batch_norm)


def vector_decoder(
    network: Network,
    hidden: Sequence[int],
    shape: Sequence[int],
    *,
    activation: Activation,
    batch_norm: bool = False,
) -> nn.Module:
    """A network from vectors to arrays of ``shape``; ``hidden`` is in the encoder's order and run through backwards."""
    blocks = _blocks(network, hidden, shape, activation)
    if network == "mlp":
        return MLP(tuple(reversed(hidden)), shape, activation)
    return ConvVectorDecoder(hidden, shape, blocks, activation, batch_norm)


def grid_encoder(network: Network, hidden: Sequence[int], shape: Sequence[int], *, activation: Activation) -> nn.Module:
    """A network from images to feature maps, halved once for each entry of ``hidden``."""
    if len(shape) != 3:
        raise ValueError(
            f"a grid of codes needs images [height, width, channels], got examples of shape {tuple(shape)}"
        )
    return ConvEncoder(hidden, _blocks(network, hidden, shape, activation), activation)


def grid_decoder(network: Network, hidden: Sequence[int], shape: Sequence[int], *, activation: Activation) -> nn.Module:
    """A network from feature maps back to images of ``shape``."""
    return ConvDecoder(hidden, shape, _blocks(network, hidden, shape, activation), activation)


__all__ = [
    "ACTIVATIONS",
    "MLP",
    "Activation",
    "BatchNorm",
    "CausalTransformer",
    "ConvDecoder",
    "ConvEncoder",
    "ConvVectorDecoder",
    "ConvVectorEncoder",
    "GatedPixelCNN",
    "GroupedDecoder",
    "Network",
    "ResidualBlock",
    "check_stages",
    "grid_decoder",
    "grid_encoder",
    "sample_pixelcnn",
    "sample_transformer",
    "vector_decoder",
    "vector_encoder",
]
