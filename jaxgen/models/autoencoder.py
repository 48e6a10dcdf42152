"""Autoencoders without a prior on the latents: plain, and denoising (Vincent et al., 2010)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Float, PyTree

from jaxgen.model import Aux, Batch, Model, Params, example_keys
from jaxgen.models.corruption import Corruption, make_corruption
from jaxgen.models.likelihood import Likelihood, LikelihoodName, make_likelihood, squared_error
from jaxgen.nets import Activation, Network, vector_decoder, vector_encoder


def autoencoder(
    *,
    shape: tuple[int, ...],
    latents: int = 16,
    network: Network = "mlp",
    hidden: tuple[int, ...] = (256, 256),
    activation: Activation = "relu",
    likelihood: LikelihoodName = "gaussian",
) -> Model:
    """Autoencoder: an encoder to a narrow code and a decoder back.

    The loss is −log p(x | code): half the summed squared error and a constant with the Gaussian likelihood (σ = 1),
    the binary cross-entropy with the Bernoulli one. Linear (an mlp with no hidden layer), it spans PCA's subspace.

    Args:
      shape: Shape of one example, taken from the data.
      latents: Dimensions of the code.
      network: Kind of encoder and decoder; conv and resnet need images.
      hidden: Widths of the encoder's layers (mlp) or channels of its stages, each halving the image; the decoder
        mirrors them. Empty makes an mlp linear.
      activation: Activation between layers.
      likelihood: Distribution of the data given the code; it decides the reconstruction error.

    Returns:
      A model with one player, ``"autoencoder"``.

    Raises:
      ValueError: for numbers out of range, or an image network on data that are not images.
    """
    return deterministic(
        "autoencoder",
        latents=latents,
        encoder=vector_encoder(network, hidden, shape, outputs=(latents,), activation=activation),
        decoder=vector_decoder(network, hidden, shape, activation=activation),
        observed=make_likelihood(likelihood, shape),
    )


def denoising_autoencoder(
    *,
    shape: tuple[int, ...],
    latents: int = 64,
    network: Network = "mlp",
    hidden: tuple[int, ...] = (256, 256),
    activation: Activation = "relu",
    likelihood: LikelihoodName = "gaussian",
    corruption: Corruption = "gaussian",
    level: float = 0.25,
) -> Model:
    """Denoising autoencoder: the clean example from a corrupted one.

    The loss is −log p(x | code of x̃), with a fresh corruption x̃ of x each time it is seen. Evaluation corrupts too:
    its error is that of denoising. Encoding and reconstruction take what they are given.

    Args:
      shape: Shape of one example, taken from the data.
      latents: Dimensions of the code; it may be wider than the data, since the identity does not denoise.
      network: Kind of encoder and decoder; conv and resnet need images.
      hidden: Widths of the encoder's layers (mlp) or channels of its stages, each halving the image; the decoder
        mirrors them. Empty makes an mlp linear.
      activation: Activation between layers.
      likelihood: Distribution of the data given the code; it decides the reconstruction error.
      corruption: Noise that is added: Gaussian, entries masked to 0, or entries set to 0 or 1.
      level: Standard deviation of the Gaussian noise, in units of the scaled data, or share of corrupted entries.

    Returns:
      A model with one player, ``"autoencoder"``.

    Raises:
      ValueError: for numbers out of range, or an image network on data that are not images.
    """
    return deterministic(
        "autoencoder",
        latents=latents,
        encoder=vector_encoder(network, hidden, shape, outputs=(latents,), activation=activation),
        decoder=vector_decoder(network, hidden, shape, activation=activation),
        observed=make_likelihood(likelihood, shape),
        corrupt=make_corruption(corruption, level),
    )


def deterministic(
    player: str,
    *,
    latents: int,
    encoder: nn.Module,
    decoder: nn.Module,
    observed: Likelihood,
    corrupt: Callable[[Array, Array], Array] | None = None,
) -> Model:
    """A model with one player whose code is a function of the example.

    Args:
      player: its name.
      latents: dimensions of the code.
      encoder: examples to [batch, latents].
      decoder: codes to what the likelihood takes.
      observed: −log p(x | outputs).
      corrupt: ``(keys, x) -> x``, what the encoder has to see through in training and evaluation.

    Raises:
      ValueError: if the code has less than one dimension.
    """
    if latents < 1:
        raise ValueError(f"latents must be at least 1, got {latents}")
    parts = _Parts(player, latents, encoder, decoder, observed, corrupt)
    return Model(
        init=parts.init,
        losses={player: parts.loss},
        turns={player: 1},
        evaluate=parts.evaluate,
        encode=parts.encode,
        decode=parts.decode,
        reconstruct=parts.reconstruct,
        corrupt=None if corrupt is None else lambda key, x: corrupt(jax.random.split(key, len(x)), jnp.asarray(x)),
        domain=observed.domain,
        latents=latents,
        missing=True,
    )


@dataclass(frozen=True)
class _Parts:
    """The arguments of ``deterministic``, and what they compute together."""

    player: str
    latents: int
    encoder: nn.Module
    decoder: nn.Module
    observed: Likelihood
    corrupt: Callable[[Array, Array], Array] | None

    def init(self, key: Array, batch: Batch) -> tuple[Params, PyTree]:
        encoder_key, decoder_key = jax.random.split(key)
        likelihood_params, statistics = self.observed.init()
        params = {
            "encoder": self.encoder.init(encoder_key, batch["x"]),
            "decoder": self.decoder.init(decoder_key, jnp.zeros((1, self.latents))),
            "likelihood": likelihood_params,
        }
        return {self.player: params}, {"likelihood": statistics}

    def code_of(self, params: Params, x: Array, mask: Array | None) -> Float[Array, "batch latents"]:
        seen = x if mask is None else jnp.where(mask, x, 0)
        return jnp.asarray(self.encoder.apply(params[self.player]["encoder"], seen))

    def outputs_of(self, params: Params, code: ArrayLike) -> Array:
        return jnp.asarray(self.decoder.apply(params[self.player]["decoder"], code))

    def forward(self, params: Params, statistics: Any, batch: Batch, key: Array) -> tuple[Array, Array]:
        """Outputs for the corrupted examples, and −log p(x | outputs) of the clean ones, [batch]."""
        x, mask = batch["x"], batch.get("mask")
        given = x if self.corrupt is None else self.corrupt(example_keys(key, batch["position"]), x)
        outputs = self.outputs_of(params, self.code_of(params, given, mask))
        likelihood = params[self.player]["likelihood"]
        return outputs, self.observed.nll(likelihood, statistics["likelihood"], outputs, x, mask=mask)

    def loss(self, params: Params, statistics: Any, batch: Batch, key: Array, train: bool) -> tuple[Array, Aux]:
        _, nll = self.forward(params, statistics, batch, key)
        return nll.mean(), Aux({"nll": nll.mean()}, statistics)

    def evaluate(self, params: Params, statistics: Any, batch: Batch, key: Array) -> dict[str, Array]:
        outputs, nll = self.forward(params, statistics, batch, key)
        error = squared_error(self.observed.mean(outputs), batch["x"], batch.get("mask"))
        return {"loss": nll, "nll": nll, "squared_error": error}

    def encode(self, params: Params, statistics: PyTree, x: ArrayLike) -> Float[Array, "batch latents"]:
        x = jnp.asarray(x)
        return self.code_of(params, x, ~jnp.isnan(x))

    def decode(self, params: Params, statistics: PyTree, code: ArrayLike) -> Array:
        return self.observed.mean(self.outputs_of(params, code))

    def reconstruct(self, params: Params, statistics: PyTree, x: ArrayLike) -> Array:
        return self.decode(params, statistics, self.encode(params, statistics, x))
