"""Divergences between posterior and prior, in nats, with every constant.

Half-precision inputs are computed and summed in float32, and the result is float32.
"""

import math
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike
from jaxtyping import Float, Num

from jaxgen._checks import as_positive, as_positive_number, as_real, require_count, require_same_shape
from jaxgen.losses._terms import as_pair, as_predictions, sum_per_example


def kl_diagonal_gaussian_per_dimension(
    mean: Num[ArrayLike, "batch *latents"], logvar: Num[ArrayLike, "..."]
) -> Float[Array, "batch *latents"]:
    r"""KL of each latent to a standard normal: what free bits and the count of active units start from.

    .. math::
        \tfrac{1}{2}\left(\mu^2 + \sigma^2 - 1 - \log\sigma^2\right)

    Args:
        mean: [batch, *latents], μ.
        logvar: [batch, *latents], log σ²; finite in float32 from −60 to 80.

    Returns:
        [batch, *latents], nats.

    Raises:
        ValueError: shapes do not match.
        TypeError: an argument is not floating point.

    Reference:
        Kingma and Welling, Auto-Encoding Variational Bayes, 2014, appendix B.

    Example:
        >>> import jax.numpy as jnp
        >>> kl_diagonal_gaussian_per_dimension(jnp.array([[0.0, 2.0]]), jnp.zeros((1, 2)))
        Array([[0., 2.]], dtype=float32)
    """
    mean, logvar = as_pair("mean", mean, "logvar", logvar)
    # expm1, since exp(logvar) − 1 − logvar cancels near the prior.
    return 0.5 * (jnp.square(mean) + jnp.expm1(logvar) - logvar)


def kl_diagonal_gaussian(
    mean: Num[ArrayLike, "batch *latents"], logvar: Num[ArrayLike, "..."]
) -> Float[Array, " batch"]:
    r"""KL of a diagonal Gaussian to the standard normal.

    .. math::
        \tfrac{1}{2}\sum_d \left(\mu_d^2 + \sigma_d^2 - 1 - \log\sigma_d^2\right)

    Args:
        mean: [batch, *latents], μ.
        logvar: [batch, *latents], log σ².

    Returns:
        [batch], nats, never negative.

    Raises:
        ValueError: shapes do not match.
        TypeError: an argument is not floating point.

    Reference:
        Kingma and Welling, Auto-Encoding Variational Bayes, 2014, appendix B.

    Example:
        >>> import jax.numpy as jnp
        >>> kl_diagonal_gaussian(jnp.ones((2, 3)), jnp.zeros((2, 3)))
        Array([1.5, 1.5], dtype=float32)
    """
    return sum_per_example(kl_diagonal_gaussian_per_dimension(mean, logvar))


def kl_isotropic_gaussian(
    mean: Num[ArrayLike, "batch *latents"], scale: Num[ArrayLike, "..."]
) -> Float[Array, " batch"]:
    r"""KL to the standard normal of a Gaussian with one scale for all its d dimensions.

    .. math::
        \tfrac{1}{2}\left(\|\mu\|^2 + d\sigma^2 - d\right) - d\log\sigma

    Args:
        mean: [batch, *latents], μ.
        scale: σ, positive, a scalar or [batch].

    Returns:
        [batch], nats, never negative.

    Raises:
        ValueError: `scale` is neither a scalar nor [batch], or is known at trace time not to be positive.
        TypeError: `mean` is not floating point.

    Reference:
        Doersch, Tutorial on Variational Autoencoders, 2016, section 2.2, with Σ = σ²I.

    Example:
        >>> import jax.numpy as jnp
        >>> round(kl_isotropic_gaussian(jnp.zeros((1, 4)), 0.5).item(), 4)
        1.2726
    """
    mean = as_predictions("mean", mean)
    given = as_real("scale", scale)
    if given.shape not in ((), mean.shape[:1]):
        raise ValueError(f"scale must be a scalar or [batch], got shape {given.shape} for mean {mean.shape}")
    scale = as_positive("scale", scale, jnp.promote_types(mean.dtype, given.dtype) if given.ndim else mean.dtype)
    num_latents = math.prod(mean.shape[1:])
    # σ² − 1 − 2 log σ through expm1, which keeps its digits near σ = 1.
    log_scale = jnp.log(scale)
    return 0.5 * sum_per_example(jnp.square(mean)) + num_latents * (0.5 * jnp.expm1(2 * log_scale) - log_scale)


def kl_between_diagonal_gaussians(
    mean_q: Num[ArrayLike, "batch *latents"],
    logvar_q: Num[ArrayLike, "..."],
    mean_p: Num[ArrayLike, "..."],
    logvar_p: Num[ArrayLike, "..."],
) -> Float[Array, " batch"]:
    r"""KL(q ‖ p) between two diagonal Gaussians.

    .. math::
        \tfrac{1}{2}\sum_d \left(\log\frac{\sigma_p^2}{\sigma_q^2}
        + \frac{\sigma_q^2 + (\mu_q - \mu_p)^2}{\sigma_p^2} - 1\right)

    Args:
        mean_q: [batch, *latents], the posterior's mean.
        logvar_q: [batch, *latents], the posterior's log-variance.
        mean_p: [batch, *latents], the prior's mean.
        logvar_p: [batch, *latents], the prior's log-variance.

    Returns:
        [batch], nats, never negative.

    Raises:
        ValueError: shapes do not match.
        TypeError: an argument is not floating point.

    Reference:
        Sohn, Lee and Yan, Learning Structured Output Representation using Deep Conditional Generative Models,
        2015, whose prior is learned.

    Example:
        >>> import jax.numpy as jnp
        >>> zeros, ones = jnp.zeros((1, 2)), jnp.ones((1, 2))
        >>> kl_between_diagonal_gaussians(zeros, zeros, ones, zeros)
        Array([1.], dtype=float32)
    """
    mean_q, logvar_q = as_pair("mean_q", mean_q, "logvar_q", logvar_q)
    mean_p, logvar_p = as_pair("mean_p", mean_p, "logvar_p", logvar_p)
    require_same_shape("mean_q", mean_q, "mean_p", mean_p)
    log_ratio = logvar_q - logvar_p
    distance = jnp.square((mean_q - mean_p) * jnp.exp(-0.5 * logvar_p))
    return 0.5 * sum_per_example(jnp.expm1(log_ratio) - log_ratio + distance)


def kl_categorical_uniform(logits: Num[ArrayLike, "batch *dims"]) -> Float[Array, " batch"]:
    r"""KL of independent categorical latents to the uniform distribution.

    .. math::
        \sum_l \sum_k q_{lk} \left(\log q_{lk} + \log K\right)

    Args:
        logits: [batch, *latents, classes], unnormalized log-probabilities; −∞ excludes a class.

    Returns:
        [batch], nats, between 0 and latents · log K.

    Raises:
        ValueError: there is no class axis besides the batch, or it is empty.
        TypeError: `logits` is not floating point.

    Reference:
        Jang, Gu and Poole, Categorical Reparameterization with Gumbel-Softmax, 2017.

    Example:
        >>> import jax.numpy as jnp
        >>> kl_categorical_uniform(jnp.array([[[0.0, 0.0], [100.0, 0.0]]])).round(4)
        Array([0.6931], dtype=float32)
    """
    logits = as_predictions("logits", logits)
    if logits.ndim < 2 or logits.shape[-1] < 1:
        raise ValueError(f"logits must be [batch, latents, classes] with a class or more, got {logits.shape}")
    log_probs = jax.nn.log_softmax(logits, axis=-1)
    probs = jnp.exp(log_probs)
    # 0 · log 0 = 0 for an excluded class.
    surprise = jnp.where(probs > 0, log_probs, 0) + math.log(logits.shape[-1])
    # Rounding leaves a sum just below zero, for a uniform choice; the gradient is that of the sum.
    total = sum_per_example(probs * surprise)
    return total + lax.stop_gradient(jnp.maximum(-total, 0))


def kl_one_hot_uniform(num_codes: int) -> float:
    r"""KL of a deterministic choice among K codes to the uniform distribution: the VQ-VAE's constant.

    .. math::
        \log K

    Args:
        num_codes: K, at least 1.

    Returns:
        Nats for one latent; multiply by the number of latents.

    Raises:
        ValueError: `num_codes` is below 1.

    Reference:
        van den Oord, Vinyals and Kavukcuoglu, Neural Discrete Representation Learning, 2017, section 3.1.

    Example:
        >>> round(kl_one_hot_uniform(512), 4)
        6.2383
    """
    return math.log(require_count("num_codes", num_codes))


def _squared_distances(x: Array, y: Array) -> Array:
    """[n, m] by one matrix product; centred first: far from the origin the product loses digits."""
    center = lax.stop_gradient((jnp.mean(x, axis=0) + jnp.mean(y, axis=0)) / 2)
    x, y = x - center, y - center
    inner = jnp.matmul(x, y.T, precision=lax.Precision.HIGHEST)
    squares = jnp.sum(jnp.square(x), axis=1)[:, None] + jnp.sum(jnp.square(y), axis=1)[None, :]
    return jnp.maximum(squares - 2 * inner, 0)


def maximum_mean_discrepancy(
    x: Num[ArrayLike, "n *dim"],
    y: Num[ArrayLike, "..."],
    *,
    kernel: Literal["imq", "rbf"] = "imq",
    bandwidth: Num[ArrayLike, ""] | None = None,
    unbiased: bool = True,
) -> Float[Array, ""]:
    r"""Squared maximum mean discrepancy between two samples.

    .. math::
        \frac{\sum_{i \ne j} k(x_i, x_j)}{n(n-1)} + \frac{\sum_{i \ne j} k(y_i, y_j)}{m(m-1)}
        - \frac{2}{nm}\sum_{i,j} k(x_i, y_j)

    With r² the squared distance and h the bandwidth, "rbf" is exp(−r²/2h²) and "imq" is 1/(1 + r²/2h²), the
    inverse multiquadric of the Wasserstein autoencoder with C = 2h². Over several devices gather the samples
    first.

    Args:
        x: [n, dim], such as samples of the aggregate posterior.
        y: [m, dim], such as samples of the prior.
        kernel: "imq", whose heavy tails still pull distant points, or "rbf".
        bandwidth: h, positive; None is √dim, which makes 2h² the expected squared distance of two standard
            normal draws. It depends on no data, so that the estimate stays unbiased.
        unbiased: drop the diagonal; the estimate may then be negative. False keeps it and divides by n² and
            m².

    Returns:
        A scalar.

    Raises:
        ValueError: `x` and `y` are not [n, dim] and [m, dim], too few samples, an unknown kernel, or a
            bandwidth known at trace time not to be positive.
        TypeError: an argument is not floating point.

    Reference:
        Gretton et al., A Kernel Two-Sample Test, 2012; Tolstikhin et al., Wasserstein Auto-Encoders, 2018.

    Example:
        >>> import jax.numpy as jnp
        >>> x = jnp.array([[0.0], [1.0]])
        >>> round(maximum_mean_discrepancy(x, x + 5.0, kernel="rbf", bandwidth=1.0).item(), 4)
        1.2129
    """
    x, y = as_predictions("x", x), as_predictions("y", y)
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1] or x.shape[1] < 1:
        raise ValueError(f"x and y must be [n, dim] and [m, dim], got {x.shape} and {y.shape}; dim must not be 0")
    needed = 2 if unbiased else 1
    if min(x.shape[0], y.shape[0]) < needed:
        raise ValueError(f"x and y need at least {needed} samples each, got {x.shape[0]} and {y.shape[0]}")
    if kernel not in ("imq", "rbf"):
        raise ValueError(f'kernel must be "imq" or "rbf", got {kernel!r}')
    if bandwidth is None:
        bandwidth = math.sqrt(x.shape[1])
    width = as_positive_number("bandwidth", bandwidth, jnp.promote_types(x.dtype, y.dtype))

    def gram(a: Array, b: Array) -> Array:
        # Twice by the width, which XLA would make once by its square: that underflows, and 0/0 is no kernel.
        relative = 0.5 * lax.optimization_barrier(_squared_distances(a, b) / width) / width
        return jnp.exp(-relative) if kernel == "rbf" else 1 / (1 + relative)

    def within(a: Array) -> Array:
        matrix, n = gram(a, a), a.shape[0]
        return (jnp.sum(matrix) - jnp.trace(matrix)) / (n * (n - 1)) if unbiased else jnp.mean(matrix)

    return within(x) + within(y) - 2 * jnp.mean(gram(x, y))


class KLDecomposition(NamedTuple):
    """The three terms of the aggregate KL, each [batch] in nats; they sum to log q(z|x) − log p(z)."""

    mutual_information: Array
    total_correlation: Array
    dimension_wise_kl: Array


def kl_decomposition(
    z: Num[ArrayLike, "batch *latents"],
    mean: Num[ArrayLike, "..."],
    logvar: Num[ArrayLike, "..."],
    *,
    dataset_size: int,
    estimator: Literal["weighted", "stratified"] = "weighted",
) -> KLDecomposition:
    r"""Mutual information, total correlation and dimension-wise KL of the aggregate posterior.

    .. math::
        \log\frac{q(z|x)}{p(z)} = \log\frac{q(z|x)}{q(z)} + \log\frac{q(z)}{\prod_d q(z_d)}
        + \sum_d \log\frac{q(z_d)}{p(z_d)}

    q(z) is estimated over the batch of size M from a data set of size N. Take "stratified" for figures: it weighs
    the example's own posterior by 1/N and the others by (N−1)/(N(M−1)), unbiased for q(z) and exact where the batch
    is the data set. Take "weighted", Σ_j q(z|x_j)/(NM), to train β-TCVAE as published: each of its log densities is
    too low by log M where posteriors are apart to log N where they overlap, which moves gradients little but makes no
    figures (64 of 1000 overlapping posteriors with 3 latents: a mutual information of 9.0 nats where "stratified" has
    2.4, a dimension-wise KL of −20.5 where it has 0.1). After the logarithm both are biased, and the total correlation
    can be negative. Over several devices gather z, mean and logvar first.

    Args:
        z: [batch, latents], one sample of each posterior.
        mean: [batch, latents], the posteriors' means.
        logvar: [batch, latents], the posteriors' log-variances.
        dataset_size: N, not below the batch size.
        estimator: "stratified" for figures, "weighted" for β-TCVAE's training objective.

    Returns:
        `KLDecomposition`, three [batch] arrays in nats whose means are the terms.

    Raises:
        ValueError: shapes do not match or are not [batch, latents], `dataset_size` is below the batch size,
            an unknown estimator, or "stratified" with a single example.
        TypeError: an argument is not floating point.

    Reference:
        Chen et al., Isolating Sources of Disentanglement in Variational Autoencoders, 2018, appendix C.

    Example:
        >>> import jax.numpy as jnp
        >>> zeros = jnp.zeros((4, 2))
        >>> terms = kl_decomposition(zeros, zeros, zeros, dataset_size=4, estimator="stratified")
        >>> bool(jnp.allclose(terms.total_correlation, 0, atol=1e-5))
        True
    """
    mean, logvar = as_pair("mean", mean, "logvar", logvar)
    z, mean = as_pair("z", z, "mean", mean)
    if z.ndim != 2:
        raise ValueError(f"z must be [batch, latents], got shape {z.shape}; flatten the latents first")
    batch_size = z.shape[0]
    if batch_size < 1:
        raise ValueError(f"z must hold an example or more, got shape {z.shape}")
    dataset_size = require_count("dataset_size", dataset_size)
    if dataset_size < batch_size:
        raise ValueError(f"dataset_size must be at least the batch size {batch_size}, got {dataset_size}")
    if estimator not in ("weighted", "stratified"):
        raise ValueError(f'estimator must be "weighted" or "stratified", got {estimator!r}')
    if estimator == "stratified" and batch_size < 2:
        raise ValueError(f"the stratified estimator needs 2 examples or more, got z of shape {z.shape}")

    def log_normal(values: Array, center: Array, log_variance: Array) -> Array:
        distance = jnp.square((values - center) * jnp.exp(-0.5 * log_variance))
        return -0.5 * (distance + log_variance + math.log(2 * math.pi))

    # [sample, posterior, latent]
    log_q = log_normal(z[:, None], mean[None], logvar[None])
    if estimator == "weighted":
        log_weight = jnp.full((batch_size, batch_size), -math.log(dataset_size * batch_size), z.dtype)
    else:
        others = math.log((dataset_size - 1) / (dataset_size * (batch_size - 1)))
        log_weight = jnp.where(jnp.eye(batch_size, dtype=bool), -math.log(dataset_size), others)
    log_posterior = jnp.sum(log_normal(z, mean, logvar), axis=-1)
    log_prior = jnp.sum(log_normal(z, jnp.zeros_like(z), jnp.zeros_like(z)), axis=-1)
    log_aggregate = jax.nn.logsumexp(jnp.sum(log_q, axis=-1) + log_weight, axis=1)
    log_marginals = jnp.sum(jax.nn.logsumexp(log_q + log_weight[..., None], axis=1), axis=-1)
    return KLDecomposition(
        mutual_information=log_posterior - log_aggregate,
        total_correlation=log_aggregate - log_marginals,
        dimension_wise_kl=log_marginals - log_prior,
    )
