"""The forward pass that all variational autoencoders share: a latent, networks and a likelihood, and what they compute
together."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Float, PyTree

from jaxgen.model import Batch, Condition, Params
from jaxgen.models.condition import join, vectors
from jaxgen.models.latents import Latent
from jaxgen.models.likelihood import Likelihood


@dataclass(frozen=True)
class Parts:
    """The parts of a variational autoencoder.

    Attributes:
      player: whose parameters these are.
      latent: z, its posterior and its prior.
      encoder: examples, joined with the condition, to the posterior's ``latent.outputs``.
      decoder: latents, joined with the condition, to the outputs that the likelihood takes.
      observed: −log p(x | outputs).
      condition: what encoder and decoder are told.
      prior: the condition to ``latent.outputs`` of p(z | condition); without it the prior is the latent's own.
      spatial: whether the encoder takes images, so that the condition is joined as channels.
    """

    player: str
    latent: Latent
    encoder: nn.Module
    decoder: nn.Module
    observed: Likelihood
    condition: Condition | None = None
    prior: nn.Module | None = None
    spatial: bool = False

    def init(self, key: Array, batch: Batch) -> tuple[Params, PyTree]:
        encoder_key, decoder_key, prior_key = jax.random.split(key, 3)
        told = self.told_by(batch)
        likelihood_params, likelihood_statistics = self.observed.init()
        params = {
            "encoder": self.encoder.init(encoder_key, self.seen(batch["x"], None, told)),
            "decoder": self.decoder.init(
                decoder_key, join(jnp.zeros((1, *self.latent.shape)), None if told is None else told[:1])
            ),
            "likelihood": likelihood_params,
        }
        if self.prior is not None:
            params["prior"] = self.prior.init(prior_key, told)
        statistics = {"likelihood": likelihood_statistics, "latent": self.latent.init()}
        return {self.player: params}, {"updates": jnp.zeros((), jnp.int32), **statistics}

    def told_by(self, batch: Batch) -> Array | None:
        return None if self.condition is None else vectors(self.condition, batch[self.condition.name])

    def tell(self, values: ArrayLike | None) -> Array | None:
        return vectors(self.condition, values)

    def seen(self, x: Array, mask: Array | None, told: Array | None) -> Array:
        """What the encoder sees: zero where nothing was observed, since NaN · 0 is NaN."""
        x = jnp.asarray(x) if mask is None else jnp.where(mask, x, 0)
        return x if told is None else join(x if self.spatial else x.reshape(len(x), -1), told, spatial=self.spatial)

    def posterior_of(self, params: Params, x: Array, mask: Array | None, told: Array | None) -> PyTree:
        """q(z|x)."""
        outputs = self.encoder.apply(params[self.player]["encoder"], self.seen(x, mask, told))
        return self.latent.posterior(jnp.asarray(outputs))

    def prior_of(self, params: Params, told: Array | None) -> PyTree:
        """p(z)."""
        if self.prior is None:
            return self.latent.standard
        return self.latent.posterior(jnp.asarray(self.prior.apply(params[self.player]["prior"], told)))

    def outputs_of(self, params: Params, z: Float[Array, "*dims batch latent"], told: Array | None) -> Array:
        """What the likelihood takes, with the leading axes of ``z``."""
        dims = z.shape[: -len(self.latent.shape)]
        joined = join(z, told)
        flat = self.decoder.apply(params[self.player]["decoder"], joined.reshape(-1, *joined.shape[len(dims) :]))
        flat = jnp.asarray(flat)
        return flat.reshape(*dims, *flat.shape[1:])

    def nll_of(
        self, params: Params, statistics: PyTree, outputs: Array, x: Array, mask: Array | None
    ) -> Float[Array, "count batch"]:
        """−log p(x|z) for each draw of z, over what was observed; the statistics are the likelihood's."""

        def one(outputs: Array) -> Array:
            return self.observed.nll(params[self.player]["likelihood"], statistics, outputs, x, mask=mask)

        return jax.vmap(one)(outputs)

    def posterior(
        self, params: Params, statistics: PyTree, x: ArrayLike, *, condition: ArrayLike | None = None
    ) -> PyTree:
        return self.posterior_of(params, jnp.asarray(x), ~jnp.isnan(x), self.tell(condition))

    def encode(self, params: Params, statistics: PyTree, x: ArrayLike, *, condition: ArrayLike | None = None) -> Array:
        return self.latent.code(self.posterior(params, statistics, x, condition=condition))

    def decode(self, params: Params, statistics: PyTree, z: ArrayLike, *, condition: ArrayLike | None = None) -> Array:
        return self.observed.mean(self.outputs_of(params, jnp.asarray(z), self.tell(condition)))

    def sample(
        self, params: Params, statistics: PyTree, key: Array, n: int, *, condition: ArrayLike | None = None
    ) -> Array:
        z = self.latent.sample(key, self.prior_of(params, self.tell(condition)), n)
        return self.decode(params, statistics, z, condition=condition)

    def reconstruct(
        self, params: Params, statistics: PyTree, x: ArrayLike, *, condition: ArrayLike | None = None
    ) -> Array:
        code = self.encode(params, statistics, x, condition=condition)
        return self.decode(params, statistics, code, condition=condition)
