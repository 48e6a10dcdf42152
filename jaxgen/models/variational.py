"""What all variational autoencoders share: one forward pass, one evaluation, composed from a latent, networks and a
likelihood. The families differ in what they compose and in what they penalize."""

from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Float, PyTree

from jaxgen.losses import importance_weighted_bound, negative_elbo
from jaxgen.metrics.importance import importance_weighted_log_likelihood
from jaxgen.model import Aux, Batch, Condition, Model, Params, example_keys
from jaxgen.models.condition import join, vectors
from jaxgen.models.imputation import make_impute
from jaxgen.models.latents import Draws, Gaussian, Latent
from jaxgen.models.likelihood import Likelihood

#: Variance of the posterior mean over the data above which a latent is active (Burda et al., 2016).
ACTIVE = 0.01

Bound = Literal["elbo", "iwae"]

#: ``(kl [batch, latents], z [count, batch, *latent], batch, key, updates, train) -> (penalty [batch], terms)``: what a
#: family adds to −log p(x|z) in training.
Penalty = Callable[..., tuple[Float[Array, " batch"], dict[str, Array]]]


def variational(
    player: str,
    *,
    shape: tuple[int, ...],
    latent: Latent,
    encoder: nn.Module,
    decoder: nn.Module,
    observed: Likelihood,
    penalty: Penalty,
    kl_weight: float = 1.0,
    samples: int = 1,
    bound: Bound = "elbo",
    importance_samples: int = 16,
    condition: Condition | None = None,
    prior: nn.Module | None = None,
    spatial: bool = False,
) -> Model:
    """A model with one player from the parts of a variational autoencoder.

    Args:
      player: its name.
      shape: of one example.
      latent: z, its posterior and its prior.
      encoder: examples, joined with the condition, to the posterior's ``latent.outputs``.
      decoder: latents, joined with the condition, to the outputs of ``shape`` that the likelihood takes.
      observed: −log p(x | outputs).
      penalty: what training adds to −log p(x|z).
      kl_weight: weight of the KL term in the loss that is evaluated, without warm-up and the like.
      samples: draws of z for each example in the objective.
      bound: of log p(x) in the objective; the importance-weighted one takes no penalty.
      importance_samples: draws for the estimate of log p(x) in evaluation; 0 leaves it out.
      condition: what encoder and decoder are told.
      prior: the condition to ``latent.outputs`` of p(z | condition); without it the prior is the latent's own.
      spatial: whether the encoder takes images, so that the condition is joined as channels.

    Raises:
      ValueError: if there are fewer samples than one, or importance samples than none.
    """
    if samples < 1 or importance_samples < 0:
        raise ValueError(
            f"samples must be at least 1 and importance_samples not negative, got {samples} and {importance_samples}"
        )

    def init(key: Array, batch: Batch) -> tuple[Params, PyTree]:
        encoder_key, decoder_key = jax.random.split(key)
        told = told_by(batch)
        likelihood_params, likelihood_statistics = observed.init()
        params = {
            "encoder": encoder.init(encoder_key, seen(batch["x"], None, told)),
            "decoder": decoder.init(
                decoder_key, join(jnp.zeros((1, *latent.shape)), None if told is None else told[:1])
            ),
            "likelihood": likelihood_params,
        }
        if prior is not None:
            params["prior"] = prior.init(jax.random.fold_in(encoder_key, 1), told)
        statistics = {"likelihood": likelihood_statistics, "latent": latent.init()}
        return {player: params}, {"updates": jnp.zeros((), jnp.int32), **statistics}

    def told_by(batch: Batch) -> Array | None:
        return None if condition is None else vectors(condition, batch[condition.name])

    def seen(x: Array, mask: Array | None, told: Array | None) -> Array:
        """What the encoder sees: zero where nothing was observed, since NaN · 0 is NaN."""
        x = jnp.asarray(x) if mask is None else jnp.where(mask, x, 0)
        return x if told is None else join(x if spatial else x.reshape(len(x), -1), told, spatial=spatial)

    def posterior_of(params: Params, x: Array, mask: Array | None, told: Array | None) -> PyTree:
        return latent.posterior(jnp.asarray(encoder.apply(params[player]["encoder"], seen(x, mask, told))))

    def prior_of(params: Params, told: Array | None) -> PyTree:
        if prior is None:
            return latent.standard
        return latent.posterior(jnp.asarray(prior.apply(params[player]["prior"], told)))

    def outputs_of(params: Params, z: Float[Array, "*dims batch latent"], told: Array | None) -> Array:
        dims = z.shape[: -len(latent.shape)]
        joined = join(z, told)
        flat = jnp.asarray(decoder.apply(params[player]["decoder"], joined.reshape(-1, *joined.shape[len(dims) :])))
        return flat.reshape(*dims, *flat.shape[1:])

    def nll_of(params: Params, statistics: PyTree, outputs: Array, x: Array, mask: Array | None) -> Array:
        """−log p(x|z), [count, batch], over what was observed."""

        def one(outputs: Array) -> Array:
            return observed.nll(params[player]["likelihood"], statistics, outputs, x, mask=mask)

        return jax.vmap(one)(outputs)

    def loss(params: Params, statistics: Any, batch: Batch, key: Array, train: bool) -> tuple[Array, Aux]:
        x, mask, told, updates = batch["x"], batch.get("mask"), told_by(batch), statistics["updates"]
        q, p = posterior_of(params, x, mask, told), prior_of(params, told)
        kl_dims = latent.kl(q, p)
        draws = latent.draw(example_keys(key, batch["position"]), q, p, samples, updates=updates if train else None)
        outputs = outputs_of(params, draws.z, told)
        in_use = running = statistics["likelihood"]
        if train:
            everywhere = None if mask is None else jnp.broadcast_to(mask, outputs.shape)
            in_use, running = observed.observe(running, outputs, jnp.broadcast_to(x, outputs.shape), mask=everywhere)
        nll_draws = nll_of(params, in_use, outputs, x, mask)
        nll_draws, credited = latent.credit(draws, nll_draws, statistics["latent"])
        nll, kl = nll_draws.mean(axis=0), kl_dims.sum(axis=-1)
        terms = {"nll": nll.mean(), "kl": kl.mean(), **observed.terms(params[player]["likelihood"], in_use)}
        if bound == "iwae":
            objective = -importance_weighted_bound(draws.log_ratio - nll_draws)
        else:
            penalized, more = penalty(kl_dims, draws.z, batch, key, updates, train)
            objective, terms = negative_elbo(nll, penalized), terms | more
        learned = {"likelihood": running, "latent": credited if train else statistics["latent"]}
        return objective.mean(), Aux(terms, {"updates": updates + train, **learned})

    def evaluate(params: Params, statistics: Any, batch: Batch, key: Array) -> dict[str, Array]:
        x, mask, told, in_use = batch["x"], batch.get("mask"), told_by(batch), statistics["likelihood"]
        q, p = posterior_of(params, x, mask, told), prior_of(params, told)
        elbo_key, importance_key = jax.random.split(key)

        def weigh(key: Array, count: int) -> tuple[Draws, Array]:
            draws = latent.draw(example_keys(key, batch["position"]), q, p, count)
            return draws, nll_of(params, in_use, outputs_of(params, draws.z, told), x, mask)

        draws, nll_draws = weigh(elbo_key, samples)
        nll, kl_dims, code = nll_draws.mean(axis=0), latent.kl(q, p), latent.code(q)
        kl = kl_dims.sum(axis=-1)
        error = jnp.square(observed.mean(outputs_of(params, code, told)) - x)
        error = error if mask is None else jnp.where(mask, error, 0)
        values = {"nll": nll, "kl": kl, "elbo": -(nll + kl), "squared_error": error.reshape(len(x), -1).sum(axis=-1)}
        if bound == "iwae":
            values["loss"] = -importance_weighted_bound(draws.log_ratio - nll_draws)
        else:
            values["loss"] = negative_elbo(nll, kl, beta=kl_weight)
        values |= {"kl_dim": kl_dims, "mean_1": code, "mean_2": jnp.square(code)}
        if importance_samples:

            def weights(keys: Array) -> Array:
                draws, nll = jax.vmap(lambda key: weigh(key, 1))(keys)
                return (draws.log_ratio - nll)[:, 0]

            values["log_px"] = importance_weighted_log_likelihood(
                weights, importance_key, num_samples=importance_samples
            )
        return values

    def hidden(x: ArrayLike) -> tuple[Array, Array]:
        return jnp.asarray(x), ~jnp.isnan(x)

    def posterior(params: Params, statistics: PyTree, x: ArrayLike, *, condition: ArrayLike | None = None) -> PyTree:
        return posterior_of(params, *hidden(x), tell(condition))

    def encode(params: Params, statistics: PyTree, x: ArrayLike, *, condition: ArrayLike | None = None) -> Array:
        return latent.code(posterior(params, statistics, x, condition=condition))

    def decode(params: Params, statistics: PyTree, z: ArrayLike, *, condition: ArrayLike | None = None) -> Array:
        return observed.mean(outputs_of(params, jnp.asarray(z), tell(condition)))

    def sample(params: Params, statistics: PyTree, key: Array, n: int, *, condition: ArrayLike | None = None) -> Array:
        told = tell(condition)
        z = latent.sample(key, prior_of(params, told), n)
        return observed.mean(outputs_of(params, z, told))

    def reconstruct(params: Params, statistics: PyTree, x: ArrayLike, *, condition: ArrayLike | None = None) -> Array:
        return decode(params, statistics, encode(params, statistics, x, condition=condition), condition=condition)

    def tell(values: ArrayLike | None) -> Array | None:
        return vectors(condition, values)

    impute = make_impute(
        posterior=posterior_of,
        prior=prior_of,
        latent=latent,
        outputs=outputs_of,
        nll=nll_of,
        observed=observed,
        player=player,
        tell=tell,
    )
    return Model(
        init=init,
        losses={player: loss},
        turns={player: 1},
        evaluate=evaluate,
        summarize=summarize,
        encode=encode,
        decode=decode,
        sample=sample,
        reconstruct=reconstruct,
        posterior=posterior if isinstance(latent.standard, Gaussian) else None,
        impute=impute,
        domain=observed.domain,
        latents=latent.shape[0] if len(latent.shape) == 1 else None,
        condition=condition,
        missing=True,
    )


def summarize(means: dict[str, Any]) -> dict[str, Any]:
    """Rate, distortion and active units from means over a split."""
    variance = means["mean_2"] - np.square(means["mean_1"])
    kept = {name: value for name, value in means.items() if name not in ("mean_1", "mean_2")}
    return {**kept, "rate": kept["kl"], "distortion": kept["nll"], "active_units": np.sum(variance > ACTIVE)}
