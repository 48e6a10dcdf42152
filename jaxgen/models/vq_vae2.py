"""VQ-VAE-2: two grids of codes, the finer one quantized in the light of the coarser (Razavi et al., 2019)."""

import math
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array
from jaxtyping import Float, Int, PyTree

from jaxgen.model import Model
from jaxgen.models.likelihood import LikelihoodName, ScaleName, make_likelihood
from jaxgen.models.quantizers import Quantized, Quantizer
from jaxgen.models.vq_vae import VectorQuantizerName, check_halves, make_quantizer, quantized_autoencoder
from jaxgen.nets import Activation, grid_decoder, grid_encoder
from jaxgen.nets.convolution import Conv


def vq_vae2(
    *,
    shape: tuple[int, ...],
    quantizer: VectorQuantizerName = "ema",
    num_codes: int = 64,
    code_dim: int = 16,
    network: Literal["conv", "resnet"] = "conv",
    hidden: tuple[int, ...] = (64,),
    activation: Activation = "relu",
    likelihood: LikelihoodName = "gaussian",
    scale: ScaleName = "optimal",
    fixed_scale: float = 1.0,
    commitment: float = 0.25,
    decay: float = 0.99,
    revival: float = 0.01,
) -> Model:
    """VQ-VAE-2: a coarse and a fine grid of codes; the fine encoder is told what the coarse codes say already.

    The bottom grid is the image halved by each stage of ``hidden``, the top grid is half of that again; each has a
    codebook of its own. The loss is −log p(x|top, bottom) and the commitment of both, as of ``vq_vae``. An example's
    code is one row of numbers, the places of the top grid before those of the bottom one, whose codes are numbered
    after the top's. A side that a stage cannot halve is rounded up, and the decoder cuts what is too much.

    Args:
      shape: Shape of one image, taken from the data.
      quantizer: A codebook of running means (ema), the same with the gradient turned as the code is (rotation), or a
        codebook learned by gradient, on each level.
      num_codes: Entries of each level's codebook.
      code_dim: Dimensions of each entry.
      network: Kind of encoders and decoders.
      hidden: Channels of the bottom encoder's stages, each halving the image; the decoder mirrors them.
      activation: Activation between layers.
      likelihood: Distribution of the data given the codes.
      scale: Standard deviation of a Gaussian likelihood.
      fixed_scale: Standard deviation of a Gaussian likelihood where it is fixed.
      commitment: Weight β of the term that keeps encodings near their codes, whatever the scale of the likelihood.
      decay: Decay of the codebooks' running averages, and of the counts by which dead codes are known.
      revival: Codes whose running count falls below this many vectors are put back among the encodings; 0 never.

    Returns:
      A model with one player, ``"vq_vae2"``.

    Raises:
      ValueError: for numbers out of range, an unknown quantizer, or data that are not images.
    """
    if not hidden:
        raise ValueError("hidden must name the channels of at least one stage, got ()")
    if quantizer not in ("ema", "rotation", "gradient"):
        raise ValueError(f"quantizer must be ema, rotation or gradient, got {quantizer!r}")
    level = make_quantizer(
        quantizer, num_codes=num_codes, code_dim=code_dim, commitment=commitment, decay=decay, revival=revival
    )
    encoder = grid_encoder(network, hidden, shape, activation=activation)
    bottom = tuple(-(-size // 2 ** len(hidden)) for size in shape[:2])
    maps, half = (*bottom, hidden[-1]), hidden[-1:]
    quantized = two_levels(
        level,
        upper=nn.Sequential([grid_encoder(network, half, maps, activation=activation), Conv(level.outputs, (1, 1))]),
        lower=Conv(level.outputs, (1, 1)),
        unfold=nn.Sequential([Conv(hidden[-1], (3, 3)), grid_decoder(network, half, maps, activation=activation)]),
        maps=maps,
    )
    decoder = grid_decoder(network, hidden, shape, activation=activation)
    check_halves(shape, stages=len(hidden) + 1)
    return quantized_autoencoder(
        "vq_vae2",
        encoder=encoder,
        decoder=nn.Sequential([Conv(hidden[-1], (3, 3)), decoder]),
        observed=make_likelihood(likelihood, shape, scale=scale, fixed_scale=fixed_scale),
        grid=bottom,
        quantizer=quantized,
    )


def two_levels(
    level: Quantizer, *, upper: nn.Module, lower: nn.Module, unfold: nn.Module, maps: tuple[int, int, int]
) -> Quantizer:
    """A quantizer of feature maps on two grids, of which the decoder sees the finer codes beside the unfolded coarser.

    Args:
      level: what each level quantizes with, by a codebook of its own.
      upper: feature maps to the encodings of the top grid, of half the height and width, rounded up.
      lower: feature maps joined with the unfolded top codes to the encodings of the bottom grid.
      unfold: top codes to maps of the shape ``maps``.
      maps: height, width and channels of the feature maps.
    """
    height, width, channels = maps
    grids = ((-(-height // 2), -(-width // 2)), (height, width))
    num_top = math.prod(grids[0])

    def joined(maps: Array, unfolded: Array) -> Array:
        return jnp.concatenate([maps, unfolded], axis=-1)

    def flat(top: Array, bottom: Array) -> Int[Array, "batch places"]:
        return jnp.concatenate([index.reshape(len(index), -1) for index in (top, bottom)], axis=1)

    def init(key: Array) -> tuple[PyTree, PyTree]:
        keys = jax.random.split(key, 5)
        (top, top_state), (bottom, bottom_state) = level.init(keys[0]), level.init(keys[1])
        features, codes = jnp.zeros((1, *maps)), jnp.zeros((1, *grids[0], level.dim))
        params = {
            "top": top,
            "bottom": bottom,
            "upper": upper.init(keys[2], features),
            "lower": lower.init(keys[3], joined(features, features)),
            "unfold": unfold.init(keys[4], codes),
        }
        return params, {"top": top_state, "bottom": bottom_state}

    def above(params: Any, features: Array) -> Array:
        return jnp.asarray(upper.apply(params["upper"], features))

    def unfolded_of(params: Any, codes: Array) -> Float[Array, "batch h w channels"]:
        return jnp.asarray(unfold.apply(params["unfold"], codes))

    def below(params: Any, features: Array, unfolded: Array) -> Array:
        return jnp.asarray(lower.apply(params["lower"], joined(features, unfolded)))

    def quantize(params: Any, state: Any, features: Array, key: Array, position: Array, train: bool) -> Quantized:
        top_key, bottom_key = jax.random.split(key)
        top = level.quantize(params["top"], state["top"], above(params, features), top_key, position, train)
        unfolded = unfolded_of(params, top.codes)
        encodings = below(params, features, unfolded)
        bottom = level.quantize(params["bottom"], state["bottom"], encodings, bottom_key, position, train)
        return Quantized(
            codes=joined(bottom.codes, unfolded),
            index=flat(top.index, bottom.index),
            penalty=top.penalty + bottom.penalty,
            terms={name: term + bottom.terms[name] for name, term in top.terms.items()},
            statistics={"top": top.statistics, "bottom": bottom.statistics},
        )

    def encode(params: Any, state: Any, features: Array) -> Int[Array, "batch places"]:
        top = level.encode(params["top"], state["top"], above(params, features))
        unfolded = unfolded_of(params, level.lookup(params["top"], state["top"], top))
        return flat(top, level.encode(params["bottom"], state["bottom"], below(params, features, unfolded)))

    def lookup(params: Any, state: Any, index: Array) -> Float[Array, "batch h w dim"]:
        top, bottom = (
            part.reshape(len(index), *grid)
            for part, grid in zip((index[:, :num_top], index[:, num_top:]), grids, strict=True)
        )
        unfolded = unfolded_of(params, level.lookup(params["top"], state["top"], top))
        return joined(level.lookup(params["bottom"], state["bottom"], bottom), unfolded)

    return Quantizer(
        outputs=channels,
        dim=level.dim + channels,
        num_codes=level.num_codes,
        stages=(),
        init=init,
        quantize=quantize,
        encode=encode,
        lookup=lookup,
        grids=grids,
        drawn=level.drawn,
    )
