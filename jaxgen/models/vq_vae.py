"""The vector-quantized variational autoencoder (van den Oord, Vinyals and Kavukcuoglu, 2017)."""

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
from jaxgen.model import Aux, Batch, Model, Params, device_axis
from jaxgen.models.likelihood import LikelihoodName, ScaleName, make_likelihood
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

    def init(key: Array, batch: Batch) -> tuple[Params, PyTree]:
        encoder_key, decoder_key, codebook_key = jax.random.split(key, 3)
        likelihood_params, likelihood_statistics = observed.init()
        params = {
            "encoder": encoder.init(encoder_key, batch["x"]),
            "decoder": decoder.init(decoder_key, jnp.zeros((1, *grid, code_dim))),
            "likelihood": likelihood_params,
        }
        codebook = init_ema_codebook(jax.random.normal(codebook_key, (num_codes, code_dim)))
        if revival:
            # Counted as dead, every code starts on an encoding of the first batch.
            codebook = jax.tree.map(lambda a: revival / 2 * a, codebook)
        return {"vq_vae": params}, {"codebook": codebook, "likelihood": likelihood_statistics}

    def outputs_of(params: Params, codes: Array) -> Array:
        return jnp.asarray(decoder.apply(params["vq_vae"]["decoder"], codes))

    def quantize(params: Params, codebook: Array, x: ArrayLike) -> tuple[Array, Int[Array, "batch h w"], Array]:
        encodings = jnp.asarray(encoder.apply(params["vq_vae"]["encoder"], x))
        index = nearest_code(encodings, codebook)
        return encodings, index, lookup(codebook, index)

    def loss(params: Params, statistics: Any, batch: Batch, key: Array, train: bool) -> tuple[Array, Aux]:
        x, state, axis = batch["x"], statistics["codebook"], device_axis()
        if train and revival:
            encodings = jnp.asarray(encoder.apply(params["vq_vae"]["encoder"], x))
            state = revive_dead_codes(key, state, encodings, threshold=revival, axis_name=axis)
        encodings, index, codes = quantize(params, codebook_from_ema(state), x)
        outputs = outputs_of(params, straight_through(encodings, codes))
        in_use = running = statistics["likelihood"]
        if train:
            in_use, running = observed.observe(running, outputs, x)
            # The batch was quantized with the old codebook; only now does it move.
            state = ema_codebook_update(state, encodings, index, decay=decay, axis_name=axis)
        nll = observed.nll(params["vq_vae"]["likelihood"], in_use, outputs, x)
        committed = commitment_loss(encodings, codes)
        counts = jnp.bincount(index.ravel(), length=num_codes)
        counts = jax.lax.psum(counts, axis) if axis else counts
        terms = {
            "nll": nll.mean(),
            "commitment": committed.mean(),
            "perplexity": perplexity(counts),
            "usage": usage(counts),
            **observed.terms(params["vq_vae"]["likelihood"], in_use),
        }
        return (nll + commitment * committed).mean(), Aux(terms, {"codebook": state, "likelihood": running})

    def evaluate(params: Params, statistics: Any, batch: Batch, key: Array) -> dict[str, Array]:
        x = batch["x"]
        encodings, index, codes = quantize(params, codebook_from_ema(statistics["codebook"]), x)
        outputs = outputs_of(params, codes)
        nll = observed.nll(params["vq_vae"]["likelihood"], statistics["likelihood"], outputs, x)
        committed = commitment_loss(encodings, codes)
        frequency = jax.vmap(lambda i: jnp.bincount(i.ravel(), length=num_codes) / i.size)(index)
        error = jnp.square(observed.mean(outputs) - x).reshape(len(x), -1).sum(axis=-1)
        return {
            "loss": nll + commitment * committed,
            "nll": nll,
            "commitment": committed,
            "squared_error": error,
            "code_frequency": frequency,
        }

    def summarize(means: dict[str, Any]) -> dict[str, Any]:
        frequency = means["code_frequency"]
        rate = grid[0] * grid[1] * kl_one_hot_uniform(num_codes)
        return {
            **{name: value for name, value in means.items() if name != "code_frequency"},
            "perplexity": perplexity(frequency),
            "usage": usage(frequency),
            "dead_codes": np.sum(frequency == 0),
            # Without a learned prior every code costs log K: −log p(x) ≤ distortion + rate.
            "rate": rate,
            "elbo": -(means["nll"] + rate),
        }

    def encode(params: Params, statistics: Any, x: ArrayLike) -> Int[Array, "batch h w"]:
        return quantize(params, codebook_from_ema(statistics["codebook"]), x)[1]

    def decode(params: Params, statistics: Any, index: Int[ArrayLike, "batch h w"]) -> Array:
        return observed.mean(outputs_of(params, lookup(codebook_from_ema(statistics["codebook"]), index)))

    def sample(params: Params, statistics: PyTree, key: Array, n: int) -> Array:
        """Codes drawn uniformly: a demonstration of why a prior over codes is needed."""
        return decode(params, statistics, jax.random.randint(key, (n, *grid), 0, num_codes))

    def reconstruct(params: Params, statistics: PyTree, x: ArrayLike) -> Array:
        return decode(params, statistics, encode(params, statistics, x))

    return Model(
        init=init,
        losses={"vq_vae": loss},
        turns={"vq_vae": 1},
        evaluate=evaluate,
        summarize=summarize,
        encode=encode,
        decode=decode,
        sample=sample,
        reconstruct=reconstruct,
        domain=observed.domain,
    )
