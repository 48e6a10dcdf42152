"""The vector-quantized variational autoencoder (van den Oord, Vinyals and Kavukcuoglu, 2017)."""

import math
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Int, PyTree

from jaxgen.estimators import straight_through
from jaxgen.losses import commitment_loss, kl_one_hot_uniform
from jaxgen.model import Aux, Batch, Model, Params, device_axis, over_devices
from jaxgen.models.likelihood import Likelihood, LikelihoodName, ScaleName, make_likelihood, squared_error
from jaxgen.nets import Activation, grid_decoder, grid_encoder
from jaxgen.quantization import (
    codebook_from_ema,
    ema_codebook_update,
    init_ema_codebook,
    lookup,
    nearest_code,
    perplexity,
    revive_dead_codes,
    usage,
)

_PLAYER = "vq_vae"


def vq_vae(
    *,
    shape: tuple[int, ...],
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
    """Vector-quantized VAE: images as grids of codes, with a codebook of running averages.

    The loss is −log p(x|e) + commitment ‖z − sg(e)‖², in nats and squared units an example; the codebook is learned
    without a gradient, as running means of the encodings that chose each code.

    Args:
      shape: Shape of one image, taken from the data.
      num_codes: Entries of the codebook.
      code_dim: Dimensions of each entry.
      network: Kind of encoder and decoder.
      hidden: Channels of the encoder's stages, each halving the image; the decoder mirrors them.
      activation: Activation between layers.
      likelihood: Distribution of the data given the codes.
      scale: Standard deviation of a Gaussian likelihood.
      fixed_scale: Standard deviation of a Gaussian likelihood where it is fixed.
      commitment: Weight of the term that keeps encodings near their codes.
      decay: Decay of the codebook's running averages.
      revival: Codes whose running count falls below this many vectors are put back among the encodings; 0 never.

    Returns:
      A model with one player, ``"vq_vae"``.

    Raises:
      ValueError: for numbers out of range, or data that are not images.
    """
    if num_codes < 1 or code_dim < 1:
        raise ValueError(f"num_codes and code_dim must be at least 1, got {num_codes} and {code_dim}")
    if commitment < 0 or revival < 0 or not 0 <= decay <= 1:
        raise ValueError(
            f"commitment and revival must not be negative and decay must lie in [0, 1], "
            f"got {commitment}, {revival}, {decay}"
        )
    if not hidden:
        raise ValueError("hidden must name the channels of at least one stage, got ()")
    encoder = nn.Sequential([grid_encoder(network, hidden, shape, activation=activation), nn.Conv(code_dim, (1, 1))])
    decoder = nn.Sequential([nn.Conv(hidden[-1], (3, 3)), grid_decoder(network, hidden, shape, activation=activation)])
    observed = make_likelihood(likelihood, shape, scale=scale, fixed_scale=fixed_scale)
    grid = tuple(-(-size // 2 ** len(hidden)) for size in shape[:2])
    parts = _Parts(encoder, decoder, observed, grid, num_codes, code_dim, commitment, decay, revival)
    return Model(
        init=parts.init,
        losses={_PLAYER: parts.loss},
        turns={_PLAYER: 1},
        evaluate=parts.evaluate,
        summarize=parts.summarize,
        encode=parts.encode,
        decode=parts.decode,
        sample=parts.sample,
        reconstruct=parts.reconstruct,
        domain=observed.domain,
    )


@dataclass(frozen=True)
class _Parts:
    """Networks, a likelihood, a grid of codes, and what they compute together; the numbers are the factory's."""

    encoder: nn.Module
    decoder: nn.Module
    observed: Likelihood
    grid: tuple[int, ...]
    num_codes: int
    code_dim: int
    commitment: float
    decay: float
    revival: float

    def init(self, key: Array, batch: Batch) -> tuple[Params, PyTree]:
        encoder_key, decoder_key, codebook_key = jax.random.split(key, 3)
        likelihood_params, likelihood_statistics = self.observed.init()
        params = {
            "encoder": self.encoder.init(encoder_key, batch["x"]),
            "decoder": self.decoder.init(decoder_key, jnp.zeros((1, *self.grid, self.code_dim))),
            "likelihood": likelihood_params,
        }
        codebook = init_ema_codebook(jax.random.normal(codebook_key, (self.num_codes, self.code_dim)))
        if self.revival:
            # Counted as dead, every code starts on an encoding of the first batch.
            codebook = jax.tree.map(lambda a: self.revival / 2 * a, codebook)
        return {_PLAYER: params}, {"codebook": codebook, "likelihood": likelihood_statistics}

    def encodings_of(self, params: Params, x: ArrayLike) -> Array:
        return jnp.asarray(self.encoder.apply(params[_PLAYER]["encoder"], x))

    def outputs_of(self, params: Params, codes: Array) -> Array:
        return jnp.asarray(self.decoder.apply(params[_PLAYER]["decoder"], codes))

    def quantize(self, params: Params, codebook: Array, x: ArrayLike) -> tuple[Array, Int[Array, "batch h w"], Array]:
        encodings = self.encodings_of(params, x)
        index = nearest_code(encodings, codebook)
        return encodings, index, lookup(codebook, index)

    def loss(self, params: Params, statistics: Any, batch: Batch, key: Array, train: bool) -> tuple[Array, Aux]:
        x, state, axis = batch["x"], statistics["codebook"], device_axis()
        if train and self.revival:
            encodings = self.encodings_of(params, x)
            state = revive_dead_codes(key, state, encodings, threshold=self.revival, axis_name=axis)
        encodings, index, codes = self.quantize(params, codebook_from_ema(state), x)
        outputs = self.outputs_of(params, straight_through(encodings, codes))
        in_use = running = statistics["likelihood"]
        if train:
            in_use, running = self.observed.observe(running, outputs, x)
            # The batch was quantized with the old codebook; only now does it move.
            state = ema_codebook_update(state, encodings, index, decay=self.decay, axis_name=axis)
        nll = self.observed.nll(params[_PLAYER]["likelihood"], in_use, outputs, x)
        committed = commitment_loss(encodings, codes)
        terms = {
            "nll": nll.mean(),
            "commitment": committed.mean(),
            **self.use_of_codes(index),
            **self.observed.terms(params[_PLAYER]["likelihood"], in_use),
        }
        return (nll + self.commitment * committed).mean(), Aux(terms, {"codebook": state, "likelihood": running})

    def use_of_codes(self, index: Int[Array, "batch h w"]) -> dict[str, Array]:
        counts = over_devices(jax.lax.psum, jnp.bincount(index.ravel(), length=self.num_codes))
        return {"perplexity": perplexity(counts), "usage": usage(counts)}

    def evaluate(self, params: Params, statistics: Any, batch: Batch, key: Array) -> dict[str, Array]:
        x = batch["x"]
        encodings, index, codes = self.quantize(params, codebook_from_ema(statistics["codebook"]), x)
        outputs = self.outputs_of(params, codes)
        nll = self.observed.nll(params[_PLAYER]["likelihood"], statistics["likelihood"], outputs, x)
        committed = commitment_loss(encodings, codes)
        return {
            "loss": nll + self.commitment * committed,
            "nll": nll,
            "commitment": committed,
            "squared_error": squared_error(self.observed.mean(outputs), x),
            "code_frequency": jax.vmap(lambda i: jnp.bincount(i.ravel(), length=self.num_codes) / i.size)(index),
        }

    def summarize(self, means: dict[str, Any]) -> dict[str, Any]:
        frequency = means["code_frequency"]
        rate = math.prod(self.grid) * kl_one_hot_uniform(self.num_codes)
        return {
            **{name: value for name, value in means.items() if name != "code_frequency"},
            "perplexity": perplexity(frequency),
            "usage": usage(frequency),
            "dead_codes": np.sum(frequency == 0),
            # Without a learned prior every code costs log K: −log p(x) ≤ distortion + rate.
            "rate": rate,
            "elbo": -(means["nll"] + rate),
        }

    def encode(self, params: Params, statistics: Any, x: ArrayLike) -> Int[Array, "batch h w"]:
        return self.quantize(params, codebook_from_ema(statistics["codebook"]), x)[1]

    def decode(self, params: Params, statistics: Any, index: Int[ArrayLike, "batch h w"]) -> Array:
        codes = lookup(codebook_from_ema(statistics["codebook"]), index)
        return self.observed.mean(self.outputs_of(params, codes))

    def sample(self, params: Params, statistics: PyTree, key: Array, n: int) -> Array:
        """Codes drawn uniformly: a demonstration of why a prior over codes is needed."""
        return self.decode(params, statistics, jax.random.randint(key, (n, *self.grid), 0, self.num_codes))

    def reconstruct(self, params: Params, statistics: PyTree, x: ArrayLike) -> Array:
        return self.decode(params, statistics, self.encode(params, statistics, x))
