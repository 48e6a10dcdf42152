"""Bounds on the log-likelihood, put together from per-example terms."""

import math

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike
from jaxtyping import Float, Num

from jaxgen.losses._checks import (
    as_float,
    as_predictions,
    as_targets,
    require_broadcastable,
    require_non_negative,
    sum_per_example,
)


def negative_elbo(
    nll: Num[ArrayLike, " batch"], kl: Num[ArrayLike, "..."], *, beta: Num[ArrayLike, "..."] = 1.0
) -> Float[Array, " batch"]:
    """nll + beta · kl per example."""
    nll, kl = as_targets("kl", kl, "nll", as_predictions("nll", nll))
    require_non_negative("beta", beta)
    require_broadcastable("beta", jnp.asarray(beta), "nll", nll.shape)
    return nll + beta * kl


def importance_weighted_bound(log_weights: Num[ArrayLike, "..."], *, axis: int = 0) -> Float[Array, "..."]:
    """logsumexp over samples minus log K."""
    log_weights = as_float("log_weights", log_weights)
    if not -log_weights.ndim <= axis < log_weights.ndim:
        raise ValueError(f"axis {axis} is not an axis of log_weights, whose shape is {log_weights.shape}")
    num_samples = log_weights.shape[axis]
    if num_samples < 1:
        raise ValueError(
            f"log_weights needs at least one sample on axis {axis}, got shape {log_weights.shape}"
        )
    return jax.nn.logsumexp(log_weights, axis=axis) - math.log(num_samples)


def free_bits(
    kl_per_dimension: Num[ArrayLike, "batch *latents"],
    *,
    floor: float,
    per_example: bool = False,
    axis_name: str | None = None,
) -> Float[Array, " batch"]:
    """KL with a floor under each latent, below which it costs nothing more to lower it."""
    kl = as_predictions("kl_per_dimension", kl_per_dimension)
    require_non_negative("floor", floor)
    if per_example:
        return sum_per_example(jnp.maximum(kl, floor))
    mean_kl = jnp.mean(lax.stop_gradient(kl), axis=0)
    if axis_name is not None:
        mean_kl = lax.pmean(mean_kl, axis_name)
    return sum_per_example(jnp.where(mean_kl > floor, kl, jnp.asarray(floor, kl.dtype)))
