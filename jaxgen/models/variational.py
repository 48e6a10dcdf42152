"""What all variational autoencoders minimize and report. The families differ in the parts that they compose and in
what they penalize."""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float

from jaxgen.losses import importance_weighted_bound, negative_elbo
from jaxgen.metrics.importance import importance_weighted_log_likelihood
from jaxgen.model import Aux, Batch, Model, Params, example_keys
from jaxgen.models.imputation import impute
from jaxgen.models.latents import Draws
from jaxgen.models.likelihood import squared_error
from jaxgen.models.parts import Parts

#: Variance of the posterior mean over the data above which a latent is active (Burda et al., 2016).
ACTIVE = 0.01

Bound = Literal["elbo", "iwae"]

#: ``(kl [batch, latents], z [count, batch, *latent], batch, key, updates, train) -> (penalty [batch], terms)``: what a
#: family adds to −log p(x|z) in training.
Penalty = Callable[..., tuple[Float[Array, " batch"], dict[str, Array]]]


def variational(
    parts: Parts,
    *,
    penalty: Penalty,
    kl_weight: float = 1.0,
    samples: int = 1,
    bound: Bound = "elbo",
    importance_samples: int = 16,
    figures: Callable[..., dict[str, Array]] | None = None,
) -> Model:
    """A model with one player from the parts of a variational autoencoder.

    Args:
      parts: latent, networks and likelihood.
      penalty: what training adds to −log p(x|z).
      kl_weight: weight of the KL term in the loss that is evaluated, without warm-up and the like.
      samples: draws of z for each example in the objective.
      bound: of log p(x) in the objective; the importance-weighted one takes no penalty.
      importance_samples: draws for the estimate of log p(x) in evaluation; 0 leaves it out.
      figures: ``(z [count, batch, *latent], batch) -> {metric: [batch, ...]}``, what evaluation tells besides of the
        draws that its other figures are from.

    Raises:
      ValueError: if there are fewer samples than one, or importance samples than none.
    """
    if samples < 1 or importance_samples < 0:
        raise ValueError(
            f"samples must be at least 1 and importance_samples not negative, got {samples} and {importance_samples}"
        )
    latent = parts.latent
    return Model(
        init=parts.init,
        losses={parts.player: make_loss(parts, penalty=penalty, samples=samples, bound=bound)},
        turns={parts.player: 1},
        evaluate=make_evaluate(
            parts,
            kl_weight=kl_weight,
            samples=samples,
            bound=bound,
            importance_samples=importance_samples,
            figures=figures,
        ),
        summarize=summarize,
        encode=parts.encode,
        decode=parts.decode,
        sample=parts.sample,
        reconstruct=parts.reconstruct,
        posterior=parts.posterior if latent.gaussian else None,
        impute=partial(impute, parts),
        domain=parts.observed.domain,
        latents=latent.shape[0] if len(latent.shape) == 1 else None,
        condition=parts.condition,
        missing=True,
    )


def make_loss(parts: Parts, *, penalty: Penalty, samples: int, bound: Bound) -> Callable[..., tuple[Array, Aux]]:
    """E_q[−log p(x|z)] + penalty, or the negative importance-weighted bound of the same draws."""
    latent, observed = parts.latent, parts.observed

    def loss(params: Params, statistics: Any, batch: Batch, key: Array, train: bool) -> tuple[Array, Aux]:
        x, mask, told, updates = batch["x"], batch.get("mask"), parts.told_by(batch), statistics["updates"]
        q, p = parts.posterior_of(params, x, mask, told), parts.prior_of(params, told)
        kl_dims = latent.kl(q, p)
        draw_key, penalty_key = jax.random.split(key)
        draws = latent.draw(
            example_keys(draw_key, batch["position"]), q, p, samples, updates=updates if train else None
        )
        outputs = parts.outputs_of(params, draws.z, told)
        in_use = running = statistics["likelihood"]
        if train:
            everywhere = None if mask is None else jnp.broadcast_to(mask, outputs.shape)
            in_use, running = observed.observe(running, outputs, jnp.broadcast_to(x, outputs.shape), mask=everywhere)
        nll_draws = parts.nll_of(params, in_use, outputs, x, mask)
        nll_draws, credited = latent.credit(draws, nll_draws, statistics["latent"])
        nll, kl = nll_draws.mean(axis=0), kl_dims.sum(axis=-1)
        terms = {"nll": nll.mean(), "kl": kl.mean(), **observed.terms(params[parts.player]["likelihood"], in_use)}
        if bound == "iwae":
            # log w = log p(x|z) + log p(z) − log q(z|x)
            objective = -importance_weighted_bound(draws.log_ratio - nll_draws)
        else:
            penalized, more = penalty(kl_dims, draws.z, batch, penalty_key, updates, train)
            objective, terms = negative_elbo(nll, penalized), terms | more
        learned = {"likelihood": running, "latent": credited if train else statistics["latent"]}
        return objective.mean(), Aux(terms, {"updates": updates + train, **learned})

    return loss


def make_evaluate(
    parts: Parts,
    *,
    kl_weight: float,
    samples: int,
    bound: Bound,
    importance_samples: int,
    figures: Callable[..., dict[str, Array]] | None = None,
) -> Callable[..., dict[str, Array]]:
    """The terms of the loss for each example, from exact draws, and log p(x) by importance sampling."""
    latent, observed = parts.latent, parts.observed

    def evaluate(params: Params, statistics: Any, batch: Batch, key: Array) -> dict[str, Array]:
        x, mask, told, in_use = batch["x"], batch.get("mask"), parts.told_by(batch), statistics["likelihood"]
        q, p = parts.posterior_of(params, x, mask, told), parts.prior_of(params, told)
        elbo_key, importance_key = jax.random.split(key)

        def weigh(key: Array, count: int) -> tuple[Draws, Array]:
            draws = latent.draw(example_keys(key, batch["position"]), q, p, count)
            return draws, parts.nll_of(params, in_use, parts.outputs_of(params, draws.z, told), x, mask)

        def log_weights(keys: Array) -> Float[Array, "draws batch"]:
            draws, nll = jax.vmap(lambda key: weigh(key, 1))(keys)
            return (draws.log_ratio - nll)[:, 0]

        draws, nll_draws = weigh(elbo_key, samples)
        nll, kl_dims, code = nll_draws.mean(axis=0), latent.kl(q, p), latent.code(q)
        kl = kl_dims.sum(axis=-1)
        error = squared_error(observed.mean(parts.outputs_of(params, code, told)), x, mask)
        values = {"nll": nll, "kl": kl, "elbo": -(nll + kl), "squared_error": error}
        if bound == "iwae":
            values["loss"] = -importance_weighted_bound(draws.log_ratio - nll_draws)
        else:
            values["loss"] = negative_elbo(nll, kl, beta=kl_weight)
        values |= {"kl_dim": kl_dims, "mean_1": code, "mean_2": jnp.square(code)}
        if importance_samples:
            values["log_px"] = importance_weighted_log_likelihood(
                log_weights, importance_key, num_samples=importance_samples
            )
        return values if figures is None else values | figures(draws.z, batch)

    return evaluate


def summarize(means: dict[str, Any]) -> dict[str, Any]:
    """Rate, distortion and active units from means over a split."""
    variance = means["mean_2"] - np.square(means["mean_1"])
    kept = {name: value for name, value in means.items() if name not in ("mean_1", "mean_2")}
    return {**kept, "rate": kept["kl"], "distortion": kept["nll"], "active_units": np.sum(variance > ACTIVE)}
