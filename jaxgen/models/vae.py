"""The variational autoencoder (Kingma and Welling, 2014; Rezende et al., 2014)."""

from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Float, PyTree

from jaxgen.estimators import reparameterize
from jaxgen.losses import (
    free_bits,
    gaussian_nll,
    importance_weighted_bound,
    kl_diagonal_gaussian_per_dimension,
    negative_elbo,
)
from jaxgen.metrics.importance import importance_weighted_log_likelihood
from jaxgen.model import Aux, Batch, Model, Params, device_axis, example_keys
from jaxgen.models.likelihood import LikelihoodName, ScaleName, make_likelihood
from jaxgen.nets import Activation, Network, vector_decoder, vector_encoder

_ACTIVE = 0.01  # variance of the posterior mean over the data above which a latent is active (Burda et al., 2016)
_LOGVAR_BOUND = 14.0


def vae(
    *,
    shape: tuple[int, ...],
    latents: int = 16,
    network: Network = "mlp",
    hidden: tuple[int, ...] = (256, 256),
    activation: Activation = "relu",
    likelihood: LikelihoodName = "bernoulli",
    scale: ScaleName = "fixed",
    fixed_scale: float = 1.0,
    beta: float = 1.0,
    kl_warmup: int = 0,
    free_nats: float = 0.0,
    samples: int = 1,
    bound: Literal["elbo", "iwae"] = "elbo",
    importance_samples: int = 64,
) -> Model:
    """Variational autoencoder: ELBO, β-VAE, σ-VAE or IWAE, with any network and likelihood.

    The loss is E_q[−log p(x|z)] + β KL(q(z|x) ‖ N(0, I)), in nats an example, or the importance-weighted bound.
    Training samples z; encoding and reconstruction use the posterior mean.

    Args:
      shape: Shape of one example, taken from the data.
      latents: Dimensions of z.
      network: Kind of encoder and decoder; conv and resnet need images.
      hidden: Widths of the encoder's layers (mlp) or channels of its stages, each halving the image; the decoder
        mirrors them. Empty makes an mlp linear.
      activation: Activation between layers.
      likelihood: Distribution of the data given z. Bernoulli needs values in [0, 1], best 0 or 1.
      scale: Standard deviation of a Gaussian likelihood: fixed, one learned for all dimensions, one per dimension, or
        the maximum-likelihood one of each batch.
      fixed_scale: Standard deviation of a Gaussian likelihood where it is fixed, in units of the scaled data.
      beta: Weight of the KL term in training and model selection alike.
      kl_warmup: Updates over which the weight of the KL term rises from 0 to beta.
      free_nats: Nats of each latent's KL, averaged over the batch, that are not penalized in training; evaluation and
        the choice of the best checkpoint penalize all.
      samples: Draws of z for each example in the training objective.
      bound: What is maximized: the ELBO, or the tighter importance-weighted bound of the same samples.
      importance_samples: Draws for the estimate of log p(x) in evaluation; 0 leaves it out.

    Returns:
      A model with one player, ``"vae"``.

    Raises:
      ValueError: for numbers out of range, or an image network on data that are not images.
    """
    _check(latents=latents, beta=beta, kl_warmup=kl_warmup, free_nats=free_nats, samples=samples, bound=bound)
    if importance_samples < 0:
        raise ValueError(f"importance_samples must not be negative, got {importance_samples}")
    encoder = vector_encoder(network, hidden, shape, outputs=(2, latents), activation=activation)
    decoder = vector_decoder(network, hidden, shape, activation=activation)
    observed = make_likelihood(likelihood, shape, scale=scale, fixed_scale=fixed_scale)

    def init(key: Array, batch: Batch) -> tuple[Params, PyTree]:
        encoder_key, decoder_key = jax.random.split(key)
        likelihood_params, likelihood_statistics = observed.init()
        params = {
            "encoder": encoder.init(encoder_key, batch["x"]),
            "decoder": decoder.init(decoder_key, jnp.zeros((1, latents))),
            "likelihood": likelihood_params,
        }
        return {"vae": params}, {"updates": jnp.zeros((), jnp.int32), "likelihood": likelihood_statistics}

    def posterior(params: Params, x: ArrayLike) -> tuple[Array, Array]:
        outputs = jnp.asarray(encoder.apply(params["vae"]["encoder"], x))
        mean, raw = outputs[:, 0], outputs[:, 1]
        # exp(logvar) must not overflow: the identity near 0, within ±14 everywhere.
        return mean, _LOGVAR_BOUND * jnp.tanh(raw / _LOGVAR_BOUND)

    def outputs_of(params: Params, z: Float[Array, "*dims latents"]) -> Array:
        flat = jnp.asarray(decoder.apply(params["vae"]["decoder"], z.reshape(-1, latents)))
        return flat.reshape(*z.shape[:-1], *shape)

    def draw(keys: Array, mean: Array, logvar: Array, count: int) -> Float[Array, "count batch latents"]:
        def one(key: Array, mean: Array, logvar: Array) -> Array:
            return reparameterize(key, *(jnp.broadcast_to(a, (count, latents)) for a in (mean, logvar)))

        return jax.vmap(one, out_axes=1)(keys, mean, logvar)

    def nll_of(params: Params, statistics: PyTree, outputs: Array, x: Array) -> Float[Array, "count batch"]:
        def one(outputs: Array) -> Array:
            return observed.nll(params["vae"]["likelihood"], statistics, outputs, x)

        return jax.vmap(one)(outputs)

    def log_weights(
        params: Params, statistics: PyTree, x: Array, mean: Array, logvar: Array, z: Array
    ) -> Float[Array, "count batch"]:
        """log p(x|z) + log p(z) − log q(z|x), one for each draw."""
        log_prior = -jax.vmap(lambda z: gaussian_nll(jnp.zeros_like(z), z))(z)
        log_posterior = -jax.vmap(lambda z: gaussian_nll(mean, z, scale=jnp.exp(logvar / 2)))(z)
        return -nll_of(params, statistics, outputs_of(params, z), x) + log_prior - log_posterior

    def loss(params: Params, statistics: Any, batch: Batch, key: Array, train: bool) -> tuple[Array, Aux]:
        x = batch["x"]
        mean, logvar = posterior(params, x)
        kl_dims = kl_diagonal_gaussian_per_dimension(mean, logvar)
        z = draw(example_keys(key, batch["position"]), mean, logvar, samples)
        outputs = outputs_of(params, z)
        in_use = running = statistics["likelihood"]
        if train:
            in_use, running = observed.observe(running, outputs, jnp.broadcast_to(x, outputs.shape))
        nll, kl = nll_of(params, in_use, outputs, x).mean(axis=0), kl_dims.sum(axis=-1)
        weight = beta * jnp.minimum(1.0, statistics["updates"] / kl_warmup) if kl_warmup and train else beta
        if bound == "iwae":
            objective = -importance_weighted_bound(log_weights(params, in_use, x, mean, logvar, z))
        else:
            penalized = free_bits(kl_dims, floor=free_nats, axis_name=device_axis()) if free_nats else kl
            objective = negative_elbo(nll, penalized, beta=weight)
        terms = {"nll": nll.mean(), "kl": kl.mean(), **observed.terms(params["vae"]["likelihood"], in_use)}
        if kl_warmup:
            terms["kl_weight"] = jnp.asarray(weight)
        return objective.mean(), Aux(terms, {"updates": statistics["updates"] + train, "likelihood": running})

    def evaluate(params: Params, statistics: Any, batch: Batch, key: Array) -> dict[str, Array]:
        x = batch["x"]
        mean, logvar = posterior(params, x)
        in_use = statistics["likelihood"]
        elbo_key, importance_key = jax.random.split(key)
        z = draw(example_keys(elbo_key, batch["position"]), mean, logvar, samples)
        outputs = outputs_of(params, z)
        nll = nll_of(params, in_use, outputs, x).mean(axis=0)
        kl_dims = kl_diagonal_gaussian_per_dimension(mean, logvar)
        kl = kl_dims.sum(axis=-1)
        error = jnp.square(observed.mean(outputs_of(params, mean)) - x).reshape(len(x), -1).sum(axis=-1)
        values = {"nll": nll, "kl": kl, "elbo": -(nll + kl), "squared_error": error}
        if bound == "iwae":
            values["loss"] = -importance_weighted_bound(log_weights(params, in_use, x, mean, logvar, z))
        else:
            values["loss"] = negative_elbo(nll, kl, beta=beta)
        values |= {"kl_dim": kl_dims, "mean_1": mean, "mean_2": jnp.square(mean)}
        if importance_samples:

            def one(key: Array) -> Array:
                return draw(example_keys(key, batch["position"]), mean, logvar, 1)[0]

            def weights(keys: Array) -> Array:
                return log_weights(params, in_use, x, mean, logvar, jax.vmap(one)(keys))

            values["log_px"] = importance_weighted_log_likelihood(
                weights, importance_key, num_samples=importance_samples
            )
        return values

    def summarize(means: dict[str, Any]) -> dict[str, Any]:
        variance = means["mean_2"] - np.square(means["mean_1"])
        kept = {name: value for name, value in means.items() if name not in ("mean_1", "mean_2")}
        return {
            **kept,
            "rate": kept["kl"],
            "distortion": kept["nll"],
            "active_units": np.sum(variance > _ACTIVE),
        }

    def encode(params: Params, statistics: PyTree, x: ArrayLike) -> Float[Array, "batch latents"]:
        return posterior(params, x)[0]

    def decode(params: Params, statistics: PyTree, z: ArrayLike) -> Array:
        return observed.mean(outputs_of(params, jnp.asarray(z)))

    def sample(params: Params, statistics: PyTree, key: Array, n: int) -> Array:
        return decode(params, statistics, jax.random.normal(key, (n, latents)))

    def reconstruct(params: Params, statistics: PyTree, x: ArrayLike) -> Array:
        return decode(params, statistics, encode(params, statistics, x))

    return Model(
        init=init,
        losses={"vae": loss},
        turns={"vae": 1},
        evaluate=evaluate,
        summarize=summarize,
        encode=encode,
        decode=decode,
        sample=sample,
        reconstruct=reconstruct,
        domain=observed.domain,
        latents=latents,
    )


def _check(*, latents: int, beta: float, kl_warmup: int, free_nats: float, samples: int, bound: str) -> None:
    if latents < 1 or samples < 1:
        raise ValueError(f"latents and samples must be at least 1, got {latents} and {samples}")
    if beta < 0 or kl_warmup < 0 or free_nats < 0:
        raise ValueError(f"beta, kl_warmup and free_nats must not be negative, got {beta}, {kl_warmup}, {free_nats}")
    if bound not in ("elbo", "iwae"):
        raise ValueError(f"bound must be elbo or iwae, got {bound!r}")
    if bound == "iwae" and (beta != 1 or kl_warmup or free_nats):
        raise ValueError(
            f"the importance-weighted bound has no KL term of its own: with bound='iwae' leave beta at 1 and "
            f"kl_warmup and free_nats at 0, got {beta}, {kl_warmup}, {free_nats}"
        )
