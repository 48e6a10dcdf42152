"""The vector-quantized variational autoencoder (van den Oord, Vinyals and Kavukcuoglu, 2017)."""

import functools
import math
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Float, Int, PyTree

from jaxgen._checks import known, require
from jaxgen.estimators import rotation_trick
from jaxgen.losses import kl_one_hot_uniform
from jaxgen.model import Aux, Batch, Codes, Model, Params, over_devices
from jaxgen.models.likelihood import Likelihood, LikelihoodName, ScaleName, make_likelihood, squared_error
from jaxgen.models.quantizers import (
    Quantized,
    Quantizer,
    ema_quantizer,
    finite_scalar_quantizer,
    gradient_quantizer,
    gumbel_quantizer,
    residual_quantizer,
)
from jaxgen.nets import Activation, grid_decoder, grid_encoder
from jaxgen.nets.convolution import Conv
from jaxgen.places import first_codes, misplaced
from jaxgen.quantization import code_counts, perplexity, usage

VectorQuantizerName = Literal["ema", "gradient", "rotation"]
QuantizerName = Literal[VectorQuantizerName, "finite_scalar", "residual", "gumbel"]


def vq_vae(
    *,
    shape: tuple[int, ...],
    quantizer: QuantizerName = "ema",
    num_codes: int = 64,
    code_dim: int = 16,
    levels: tuple[int, ...] = (8, 6, 5),
    stages: int = 4,
    network: Literal["conv", "resnet"] = "conv",
    hidden: tuple[int, ...] = (64,),
    activation: Activation = "relu",
    likelihood: LikelihoodName = "gaussian",
    scale: ScaleName = "optimal",
    fixed_scale: float = 1.0,
    commitment: float = 0.25,
    decay: float = 0.99,
    revival: float = 0.01,
    temperature: float = 1.0,
) -> Model:
    """Vector-quantized VAE: images as grids of codes, with any of six quantizers.

    The loss is −log p(x|e) + commitment ‖z − sg(e)‖²/σ² in nats an example: z are encodings, e their codes, sg stops
    the gradient, and σ is the scale of a Gaussian likelihood, 1 of any other. The narrower it is, the closer encodings
    must keep to their codes. With a scale per dimension 1/σ² is the mean of the pixels' own, which those that hardly
    vary dominate: a few constant ones make the commitment heavy. Where the codebook is learned by gradient, ‖sg(z) −
    e‖²/σ² is added. Such terms grow as the likelihood gets better, so that the best checkpoint is the one of the least
    −log p(x|e), or −log p(x|e) + KL where codes are drawn: of the highest bound on log p(x) under uniform codes. Codes
    start beside encodings of the first batch, and count for so little there that the first batches move them as k-means
    would. Those of several stages are numbered through, each stage's after the last one's; perplexity is the mean of
    the stages', usage and dead codes are of all codes together. A side that a stage cannot halve is rounded up, and the
    decoder cuts what is too much.

    Args:
      shape: Shape of one image, taken from the data.
      quantizer: A codebook of running means (ema), the same with the gradient turned as the code is (rotation), a
        codebook learned by gradient, each channel rounded to levels (finite_scalar), the sum of several codes
        (residual), or a code drawn from the encoder's logits, at the cost of their KL to uniform (gumbel).
      num_codes: Entries of the codebook, or of each stage's.
      code_dim: Dimensions of each entry.
      levels: Levels of each channel of the finite scalar quantizer; their product is the number of codes.
      stages: Codes that the residual quantizer adds up at each place.
      network: Kind of encoder and decoder.
      hidden: Channels of the encoder's stages, each halving the image; the decoder mirrors them.
      activation: Activation between layers.
      likelihood: Distribution of the data given the codes.
      scale: Standard deviation of a Gaussian likelihood.
      fixed_scale: Standard deviation of a Gaussian likelihood where it is fixed.
      commitment: Weight β of the term that keeps encodings near their codes, whatever the scale of the likelihood.
      decay: Decay of the codebook's running averages, and of the counts by which dead codes are known.
      revival: Codes whose running count falls below this many vectors are put back among the encodings; 0 never.
      temperature: Of the relaxation through which the gumbel quantizer is trained.

    Returns:
      A model with one player, ``"vq_vae"``.

    Raises:
      ValueError: for numbers out of range, an unknown quantizer, or data that are not images.
    """
    if not hidden:
        raise ValueError("hidden must name the channels of at least one stage, got ()")
    quantized = make_quantizer(
        quantizer,
        num_codes=num_codes,
        code_dim=code_dim,
        levels=levels,
        stages=stages,
        commitment=commitment,
        decay=decay,
        revival=revival,
        temperature=temperature,
    )
    encoder = grid_encoder(network, hidden, shape, activation=activation)
    decoder = grid_decoder(network, hidden, shape, activation=activation)
    check_halves(shape, stages=len(hidden))
    return quantized_autoencoder(
        "vq_vae",
        encoder=nn.Sequential([encoder, Conv(quantized.outputs, (1, 1))]),
        decoder=nn.Sequential([Conv(hidden[-1], (3, 3)), decoder]),
        observed=make_likelihood(likelihood, shape, scale=scale, fixed_scale=fixed_scale),
        grid=tuple(-(-size // 2 ** len(hidden)) for size in shape[:2]),
        quantizer=quantized,
    )


def check_halves(shape: tuple[int, ...], *, stages: int) -> None:
    """Refuses a network whose stages would halve a single pixel.

    Raises:
      ValueError: with how many stages there may be.
    """
    most = math.ceil(math.log2(min(shape[:2])))
    if stages > most:
        raise ValueError(
            f"images of {shape[0]}×{shape[1]} can be halved {most} times before a side is one pixel, but the network "
            f"halves them {stages} times; name fewer stages in hidden"
        )


def make_quantizer(
    name: QuantizerName,
    *,
    num_codes: int,
    code_dim: int,
    commitment: float,
    decay: float,
    revival: float,
    levels: tuple[int, ...] = (2,),
    stages: int = 1,
    temperature: float = 1.0,
) -> Quantizer:
    """The quantizer of a name; the numbers are those of ``vq_vae``.

    Raises:
      ValueError: for numbers out of range, or an unknown name.
    """
    if num_codes < 1 or code_dim < 1 or stages < 1:
        raise ValueError(f"num_codes, code_dim and stages must be at least 1, got {num_codes}, {code_dim} and {stages}")
    if commitment < 0 or revival < 0 or not 0 <= decay <= 1:
        raise ValueError(
            f"commitment and revival must not be negative and decay must lie in [0, 1], "
            f"got {commitment}, {revival}, {decay}"
        )
    if not levels or min(levels) < 2:
        raise ValueError(f"levels must be one or more counts of at least 2, got {levels}")
    if not temperature > 0:
        raise ValueError(f"temperature must be positive, got {temperature}")
    running = functools.partial(ema_quantizer, num_codes, code_dim, commitment=commitment, decay=decay, revival=revival)
    if name == "ema":
        return running()
    if name == "rotation":
        return running(through=rotation_trick)
    if name == "gradient":
        return gradient_quantizer(num_codes, code_dim, commitment=commitment, decay=decay, revival=revival)
    if name == "residual":
        return residual_quantizer(
            num_codes, code_dim, stages=stages, commitment=commitment, decay=decay, revival=revival
        )
    if name == "finite_scalar":
        return finite_scalar_quantizer(levels)
    if name == "gumbel":
        return gumbel_quantizer(num_codes, code_dim, temperature=temperature)
    raise ValueError(f"quantizer must be ema, gradient, rotation, finite_scalar, residual or gumbel, got {name!r}")


def quantized_autoencoder(
    player: str,
    *,
    encoder: nn.Module,
    decoder: nn.Module,
    observed: Likelihood,
    grid: tuple[int, ...],
    quantizer: Quantizer,
) -> Model:
    """A model with one player whose code is a grid of indices.

    Args:
      player: its name.
      encoder: examples to [batch, *grid, quantizer.outputs].
      decoder: codes [batch, *grid, quantizer.dim] to what the likelihood takes.
      observed: −log p(x | outputs).
      grid: height and width of the codes.
      quantizer: encodings to codes.
    """
    parts = _Parts(player, encoder, decoder, observed, grid, quantizer)
    return Model(
        init=parts.init,
        losses={player: parts.loss},
        turns={player: 1},
        evaluate=parts.evaluate,
        summarize=parts.summarize,
        encode=parts.encode,
        decode=parts.decode,
        sample=parts.sample,
        reconstruct=parts.reconstruct,
        # A drawn code has no penalty: its loss is the bound. Any other costs the same whatever it is.
        objective="loss" if quantizer.drawn else "nll",
        domain=observed.domain,
        codes=Codes(parts.all_codes, grids=parts.grids, stages=math.prod(quantizer.stages)),
    )


@dataclass(frozen=True)
class _Parts:
    """The arguments of ``quantized_autoencoder``, and what they compute together."""

    player: str
    encoder: nn.Module
    decoder: nn.Module
    observed: Likelihood
    grid: tuple[int, ...]
    quantizer: Quantizer

    @property
    def grids(self) -> tuple[tuple[int, int], ...]:
        """Height and width of each level's places; the codes of one place lie side by side."""
        height, width = self.grid
        return self.quantizer.grids or ((height, width * math.prod(self.quantizer.stages)),)

    @property
    def index_shape(self) -> tuple[int, ...]:
        """Of one example's codes."""
        if self.quantizer.grids:
            return (sum(map(math.prod, self.quantizer.grids)),)
        return (*self.grid, *self.quantizer.stages)

    @property
    def first_codes(self) -> Int[np.ndarray, "..."]:
        """Number of the first code of each index's own codebook, where those of all codebooks are counted through."""
        levels, stages = self.quantizer.grids, self.quantizer.stages
        shape = self.index_shape if levels else stages
        return first_codes(self.all_codes, grids=levels, stages=math.prod(stages), shape=shape)

    @property
    def all_codes(self) -> int:
        """Codes of all codebooks together."""
        return self.quantizer.num_codes * max(1, len(self.quantizer.grids)) * math.prod(self.quantizer.stages)

    def figures(self, counts: ArrayLike) -> dict[str, Array]:
        """Use of the codes of all codebooks; the perplexity, which is one codebook's, is the mean over them."""
        by_codebook = jnp.reshape(jnp.asarray(counts), (-1, self.quantizer.num_codes))
        return {"perplexity": perplexity(by_codebook).mean(), "usage": usage(counts)}

    def init(self, key: Array, batch: Batch) -> tuple[Params, PyTree]:
        encoder_key, decoder_key, codebook_key = jax.random.split(key, 3)
        likelihood_params, likelihood_statistics = self.observed.init()
        codebook_params, codebook = self.quantizer.init(codebook_key)
        params = {
            "encoder": self.encoder.init(encoder_key, batch["x"]),
            "decoder": self.decoder.init(decoder_key, jnp.zeros((1, *self.grid, self.quantizer.dim))),
            "codebook": codebook_params,
            "likelihood": likelihood_params,
        }
        return {self.player: params}, {"codebook": codebook, "likelihood": likelihood_statistics}

    def encodings_of(self, params: Params, x: ArrayLike) -> Array:
        return jnp.asarray(self.encoder.apply(params[self.player]["encoder"], x))

    def outputs_of(self, params: Params, codes: Array) -> Array:
        return jnp.asarray(self.decoder.apply(params[self.player]["decoder"], codes))

    def quantize(self, params: Params, statistics: Any, batch: Batch, key: Array, *, train: bool) -> Quantized:
        encodings, position = self.encodings_of(params, batch["x"]), batch["position"]
        codebook = params[self.player]["codebook"]
        return self.quantizer.quantize(codebook, statistics["codebook"], encodings, key, position, train)

    def loss(self, params: Params, statistics: Any, batch: Batch, key: Array, train: bool) -> tuple[Array, Aux]:
        x, own = batch["x"], params[self.player]["likelihood"]
        quantized = self.quantize(params, statistics, batch, key, train=train)
        outputs = self.outputs_of(params, quantized.codes)
        in_use = running = statistics["likelihood"]
        if train:
            in_use, running = self.observed.observe(running, outputs, x)
        nll = self.observed.nll(own, in_use, outputs, x)
        counts = over_devices(jax.lax.psum, code_counts(quantized.index + self.first_codes, self.all_codes))
        terms = {
            "nll": nll.mean(),
            **{name: term.mean() for name, term in quantized.terms.items()},
            **self.figures(counts),
            **self.observed.terms(own, in_use),
        }
        after = {"codebook": quantized.statistics, "likelihood": running}
        return self.objective(nll, quantized, own, in_use).mean(), Aux(terms, after)

    def objective(self, nll: Array, quantized: Quantized, own: Any, in_use: Any) -> Float[Array, " batch"]:
        """In nats: else the narrower a Gaussian, the less would its encodings be held, and the further they drift."""
        return nll + quantized.terms.get("kl", 0.0) + quantized.penalty * self.observed.precision(own, in_use)

    def evaluate(self, params: Params, statistics: Any, batch: Batch, key: Array) -> dict[str, Array]:
        x, own = batch["x"], params[self.player]["likelihood"]
        quantized = self.quantize(params, statistics, batch, key, train=False)
        outputs = self.outputs_of(params, quantized.codes)
        nll = self.observed.nll(own, statistics["likelihood"], outputs, x)
        return {
            "loss": self.objective(nll, quantized, own, statistics["likelihood"]),
            "nll": nll,
            **quantized.terms,
            "squared_error": squared_error(self.observed.mean(outputs), x),
            "code_frequency": jax.vmap(lambda i: code_counts(i, self.all_codes) / i.size)(
                quantized.index + self.first_codes
            ),
        }

    def summarize(self, means: dict[str, Any]) -> dict[str, Any]:
        frequency = means["code_frequency"]
        # Without a learned prior every code costs log K, less where it was drawn: −log p(x) ≤ distortion + rate.
        uniform = math.prod(self.index_shape) * kl_one_hot_uniform(self.quantizer.num_codes)
        rate = means["kl"] if self.quantizer.drawn else uniform
        return {
            **{name: value for name, value in means.items() if name != "code_frequency"},
            **self.figures(frequency),
            "dead_codes": np.sum(frequency == 0),
            "rate": rate,
            "elbo": -(means["nll"] + rate),
        }

    def encode(self, params: Params, statistics: Any, x: ArrayLike) -> Int[Array, "batch ..."]:
        encodings = self.encodings_of(params, x)
        index = self.quantizer.encode(params[self.player]["codebook"], statistics["codebook"], encodings)
        return index + self.first_codes

    def decode(self, params: Params, statistics: Any, index: Int[ArrayLike, "batch ..."]) -> Array:
        self.check_shape(np.shape(index))
        seen, stages = known(index), math.prod(self.quantizer.stages)
        problem = None if seen is None else misplaced(seen, self.all_codes, grids=self.grids, stages=stages)
        require(problem is None, f"index holds {problem}; give codes as encode makes them")
        of_stage = jnp.asarray(index) - self.first_codes
        codes = self.quantizer.lookup(params[self.player]["codebook"], statistics["codebook"], of_stage)
        return self.observed.mean(self.outputs_of(params, codes))

    def check_shape(self, shape: tuple[int, ...]) -> None:
        """A decoder of one grid takes one of any size."""
        if self.quantizer.grids:
            good, expected = shape[1:] == self.index_shape, ("batch", *self.index_shape)
        else:
            good = len(shape) >= 3 and shape[3:] == self.quantizer.stages
            expected = ("batch", "height", "width", *self.quantizer.stages)
        if not good:
            raise ValueError(f"index must be [{', '.join(map(str, expected))}], got the shape {shape}")

    def sample(self, params: Params, statistics: PyTree, key: Array, n: int) -> Array:
        """Codes drawn uniformly: a demonstration of why a prior over codes is needed."""
        index = jax.random.randint(key, (n, *self.index_shape), 0, self.quantizer.num_codes)
        return self.decode(params, statistics, index + self.first_codes)

    def reconstruct(self, params: Params, statistics: PyTree, x: ArrayLike) -> Array:
        return self.decode(params, statistics, self.encode(params, statistics, x))
