"""Negative log-likelihoods, per example and in nats, with every constant."""

import math

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike
from jaxtyping import Float, Num, Shaped

from jaxgen.losses._checks import (
    as_float,
    as_observed,
    as_predictions,
    as_targets,
    hide,
    require_broadcastable,
    require_positive,
    sum_per_example,
)


def gaussian_nll(
    mean: Num[ArrayLike, "batch *dims"],
    targets: Shaped[ArrayLike, "..."],
    *,
    scale: Num[ArrayLike, "..."] = 1.0,
    mask: Shaped[ArrayLike, "..."] | None = None,
) -> Float[Array, " batch"]:
    """Negative log-density of a Gaussian with independent dimensions."""
    mean, targets = as_targets("targets", targets, "mean", as_predictions("mean", mean))
    require_positive("scale", scale)
    scale = jnp.asarray(scale)
    require_broadcastable("scale", scale, "mean", mean.shape)
    dtype = mean.dtype
    if jnp.issubdtype(scale.dtype, jnp.floating) and not scale.weak_type:
        dtype = jnp.promote_types(dtype, scale.dtype)
    scale = jnp.broadcast_to(scale.astype(dtype), mean.shape)
    observed = as_observed(mask, mean.shape)
    mean, targets = hide(observed, mean, targets)
    if observed is not None:
        scale = jnp.where(observed, scale, 1)
    terms = 0.5 * jnp.square((targets - mean) / scale) + jnp.log(scale) + 0.5 * math.log(2 * math.pi)
    return sum_per_example(terms, observed)


def bernoulli_nll(
    logits: Num[ArrayLike, "batch *dims"],
    targets: Shaped[ArrayLike, "..."],
    *,
    mask: Shaped[ArrayLike, "..."] | None = None,
) -> Float[Array, " batch"]:
    """Negative log-probability of independent Bernoulli variables; softplus(η) − xη."""
    logits, targets = as_targets("targets", targets, "logits", as_predictions("logits", logits))
    observed = as_observed(mask, logits.shape)
    logits, targets = hide(observed, logits, targets)
    return sum_per_example(jax.nn.softplus(logits) - targets * logits, observed)


def _log_continuous_bernoulli_normalizer(logits: Array) -> Array:
    """log C(η) = log(η / tanh(η/2)); near η = 0 its series, where the closed form is 0/0 and its gradient cancels."""
    near_zero = jnp.abs(logits) < 0.2
    x2 = jnp.square(jnp.where(near_zero, logits, 0) / 2)
    series = math.log(2) + x2 * (1 / 3 + x2 * (-7 / 90 + x2 * (62 / 2835 - x2 * 127 / 18900)))
    size = jnp.abs(jnp.where(near_zero, 1, logits))
    return jnp.where(near_zero, series, jnp.log(size) - jnp.log(jnp.tanh(size / 2)))


def continuous_bernoulli_nll(
    logits: Num[ArrayLike, "batch *dims"],
    targets: Shaped[ArrayLike, "..."],
    *,
    mask: Shaped[ArrayLike, "..."] | None = None,
) -> Float[Array, " batch"]:
    """Negative log-density of independent continuous Bernoulli variables on [0, 1]."""
    logits, targets = as_targets("targets", targets, "logits", as_predictions("logits", logits))
    observed = as_observed(mask, logits.shape)
    logits, targets = hide(observed, logits, targets)
    terms = jax.nn.softplus(logits) - targets * logits - _log_continuous_bernoulli_normalizer(logits)
    return sum_per_example(terms, observed)


def optimal_gaussian_scale(
    mean: Num[ArrayLike, "batch *dims"],
    targets: Shaped[ArrayLike, "..."],
    *,
    mask: Shaped[ArrayLike, "..."] | None = None,
    floor: float = 1e-6,
    axis_name: str | None = None,
) -> Float[Array, ""]:
    """The maximum-likelihood scale shared by all entries: the root of the mean squared error."""
    mean, targets = as_targets("targets", targets, "mean", as_predictions("mean", mean))
    require_positive("floor", floor)
    observed = as_observed(mask, mean.shape)
    mean, targets = hide(observed, mean, targets)
    total = jnp.sum(jnp.square(targets - mean))
    count = jnp.asarray(mean.size, mean.dtype)
    if observed is not None:
        count = jnp.sum(jnp.broadcast_to(observed, mean.shape), dtype=mean.dtype)
    if axis_name is not None:
        total, count = lax.psum((total, count), axis_name)
    variance = total / jnp.maximum(count, 1)
    return jnp.sqrt(jnp.maximum(variance, floor**2))


def bits_per_dim(
    nll: Num[ArrayLike, "*shape"], num_dims: int, *, bin_width: float = 1.0
) -> Float[Array, "*shape"]:
    """Nats per example to bits per dimension."""
    if num_dims < 1:
        raise ValueError(f"num_dims must be at least 1, got {num_dims}")
    require_positive("bin_width", bin_width)
    return (as_float("nll", nll) - num_dims * math.log(bin_width)) / (num_dims * math.log(2))
