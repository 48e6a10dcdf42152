"""Bounds on the log-likelihood, put together from per-example terms.

A KL weight that warms up is an argument here and a schedule elsewhere: `optax.linear_schedule(0.0, 1.0,
steps)` or `optax.cosine_decay_schedule` gives `beta` (or the floor of `free_bits`) at a step.
"""

import math

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike
from jaxtyping import Float, Num

from jaxgen._checks import as_non_negative, as_non_negative_number, as_wide_float, require_axis, require_broadcastable
from jaxgen.losses._terms import as_pair, as_predictions, sum_per_example


def negative_elbo(
    nll: Num[ArrayLike, " batch"], kl: Num[ArrayLike, "..."], *, beta: Num[ArrayLike, "..."] = 1.0
) -> Float[Array, " batch"]:
    r"""Negative evidence lower bound, or the objective of a β-VAE.

    .. math::
        -\log p(x|z) + \beta\,\mathrm{KL}(q(z|x)\,\|\,p(z))

    Both terms are sums over their dimensions, in nats. A mean over pixels in the first is a hidden β. With β
    ≠ 1 it is an objective and no longer a bound: report it with β = 1.

    Args:
        nll: [batch], reconstruction term.
        kl: [batch], divergence from the prior.
        beta: weight of the KL, not negative, a scalar or [batch]; it may come from a schedule.

    Returns:
        [batch], nats, to be minimized.

    Raises:
        ValueError: shapes do not match, or a `beta` known at trace time is negative.
        TypeError: an argument is not floating point.

    Reference:
        Kingma and Welling, Auto-Encoding Variational Bayes, 2014; Higgins et al., β-VAE, 2017.

    Example:
        >>> import jax.numpy as jnp
        >>> negative_elbo(jnp.array([90.0, 80.0]), jnp.array([10.0, 20.0]), beta=0.5)
        Array([95., 90.], dtype=float32)
    """
    nll, kl = as_pair("nll", nll, "kl", kl)
    if nll.ndim != 1:
        raise ValueError(f"nll and kl must be [batch], got shape {nll.shape}; sum each over its other axes first")
    beta = as_non_negative("beta", beta, kl.dtype)
    require_broadcastable("beta", beta, "nll", nll.shape)
    return nll + beta * kl


def importance_weighted_bound(log_weights: Num[ArrayLike, "..."], *, axis: int = 0) -> Float[Array, "..."]:
    r"""Importance-weighted lower bound on log p(x): per example, before any mean over examples.

    .. math::
        \log\frac{1}{K}\sum_{k=1}^{K} w_k, \qquad w_k = \frac{p(x, z_k)}{q(z_k|x)}

    With K = 1 it is the evidence lower bound; it grows with K towards log p(x). With many samples, combine
    chunks with `jnp.logaddexp` of their sums (the bound of a chunk plus the logarithm of its size).

    Args:
        log_weights: log p(x, z) − log q(z|x), nats, K samples on `axis`, such as [samples, batch].
        axis: the axis of the samples.

    Returns:
        `log_weights` without `axis`, nats, to be maximized; −∞ where every weight is zero, with the gradient 1/K
        of any equal weights.

    Raises:
        ValueError: `axis` does not exist, or holds no sample.
        TypeError: `log_weights` is not floating point.

    Reference:
        Burda, Grosse and Salakhutdinov, Importance Weighted Autoencoders, 2016.

    Example:
        >>> import jax.numpy as jnp
        >>> importance_weighted_bound(jnp.log(jnp.array([[1.0], [3.0]]))).round(4)
        Array([0.6931], dtype=float32)
    """
    log_weights = as_wide_float("log_weights", log_weights)
    axis = require_axis("log_weights", log_weights, axis)
    num_samples = log_weights.shape[axis]
    if num_samples < 1:
        raise ValueError(f"log_weights needs a sample or more on axis {axis}, got shape {log_weights.shape}")
    # Weights that are all zero are equal: their bound is their mean, in value and in gradient, where 0/0 is none.
    empty = jnp.all(log_weights == -jnp.inf, axis=axis, keepdims=True)
    bound = jax.nn.logsumexp(jnp.where(empty, 0, log_weights), axis=axis) - math.log(num_samples)
    return jnp.where(jnp.squeeze(empty, axis), jnp.mean(log_weights, axis=axis), bound)


def free_bits(
    kl_per_dimension: Num[ArrayLike, "batch *latents"],
    *,
    floor: Num[ArrayLike, ""],
    per_example: bool = False,
    axis_name: str | None = None,
) -> Float[Array, " batch"]:
    r"""KL with a floor under each latent, so that the first nats of every latent are free.

    .. math::
        \sum_l \max\left(\lambda,\ \frac{1}{B}\sum_b \mathrm{KL}_{bl}\right)

    The floor applies to the mean over the batch, as published: an example may go below as long as the batch
    does not. The values returned are per example (those of a latent under the floor are λ for every example),
    and their *mean over the batch* is the formula, in value and gradient. For groups of latents sum the KL
    within each first.

    Args:
        kl_per_dimension: [batch, *latents], nats, such as `kl_diagonal_gaussian_per_dimension`.
        floor: λ, nats per latent, not negative.
        per_example: apply the floor to each example's KL in place of the batch mean.
        axis_name: the mapped axis over whose devices the batch mean is taken; None outside a map.

    Returns:
        [batch], nats.

    Raises:
        ValueError: a `floor` known at trace time is negative.
        TypeError: `kl_per_dimension` is not floating point.

    Reference:
        Kingma et al., Improved Variational Inference with Inverse Autoregressive Flow, 2016, appendix C.8.

    Example:
        >>> import jax.numpy as jnp
        >>> free_bits(jnp.array([[0.0, 1.0], [0.2, 3.0]]), floor=0.5)
        Array([1.5, 3.5], dtype=float32)
    """
    kl = as_predictions("kl_per_dimension", kl_per_dimension)
    floor = as_non_negative_number("floor", floor, kl.dtype)
    if per_example:
        return sum_per_example(jnp.maximum(kl, floor))
    mean_kl = jnp.mean(lax.stop_gradient(kl), axis=0)
    if axis_name is not None:
        mean_kl = lax.pmean(mean_kl, axis_name)
    # Not mean_kl > floor: a KL that is NaN must show.
    return sum_per_example(jnp.where(mean_kl <= floor, floor, kl))
