"""Negative log-likelihoods, per example and in nats, with every constant.

A `mask` has as many axes as the targets, each equal to theirs or 1; 1 or True means observed. A hidden entry
adds exactly zero to the value and to the gradient, even where the target is NaN. Half-precision inputs are
computed and summed in float32, and the result is float32.
"""

import math

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike
from jaxtyping import Float, Num, Shaped

from jaxgen._checks import (
    as_array,
    as_positive,
    as_positive_number,
    as_real,
    as_wide_float,
    require_broadcastable,
    require_count,
    require_same_shape,
)
from jaxgen.losses._terms import as_observed, as_pair, as_predictions, as_targets, hide, sum_per_example


def gaussian_nll(
    mean: Num[ArrayLike, "batch *dims"],
    targets: Shaped[ArrayLike, "..."],
    *,
    scale: Num[ArrayLike, "..."] = 1.0,
    mask: Shaped[ArrayLike, "..."] | None = None,
) -> Float[Array, " batch"]:
    r"""Negative log-density of a Gaussian with independent dimensions.

    .. math::
        \sum_d \frac{(x_d - \mu_d)^2}{2\sigma_d^2} + \log\sigma_d + \tfrac{1}{2}\log 2\pi

    With σ = 1 this is half the summed squared error plus a constant. A mean over pixels in place of this sum
    would weigh the KL term by the number of pixels.

    Args:
        mean: [batch, *dims], the predicted mean.
        targets: [batch, *dims], the data, in the units of `mean`.
        scale: the standard deviation, positive, of any shape that broadcasts to that of `mean`. A learned one
            is bounded by the network: the gradient in σ grows as 1/σ³, which float32 holds to about σ = 1e-8.
        mask: what is observed; None means all.

    Returns:
        [batch], nats.

    Raises:
        ValueError: shapes do not match, or a `scale` known at trace time is not positive.
        TypeError: `mean` is not floating point.

    Reference:
        Kingma and Welling, Auto-Encoding Variational Bayes, 2014, appendix C.2.

    Example:
        >>> import jax.numpy as jnp
        >>> gaussian_nll(jnp.zeros((1, 3)), jnp.ones((1, 3)), scale=2.0).round(4)
        Array([5.2113], dtype=float32)
    """
    mean, targets = as_targets("mean", as_predictions("mean", mean), "targets", targets)
    given = as_real("scale", scale)
    require_broadcastable("scale", given, "mean", mean.shape)
    # A learned scale is data as the mean is.
    if given.ndim and jnp.issubdtype(given.dtype, jnp.floating):
        mean = mean.astype(jnp.promote_types(mean.dtype, given.dtype))
    scale = jnp.broadcast_to(as_positive("scale", scale, mean.dtype), mean.shape)
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
    r"""Negative log-probability of independent Bernoulli variables, from logits.

    .. math::
        \sum_d \log(1 + e^{\eta_d}) - x_d \eta_d

    For targets strictly between 0 and 1 this is a cross-entropy and no likelihood: use
    `continuous_bernoulli_nll`, or binarize.

    Args:
        logits: [batch, *dims], log-odds η of a one; finite at any size.
        targets: [batch, *dims], in [0, 1]; booleans and integers are accepted.
        mask: what is observed; None means all.

    Returns:
        [batch], nats.

    Raises:
        ValueError: shapes do not match.
        TypeError: `logits` is not floating point.

    Reference:
        Kingma and Welling, Auto-Encoding Variational Bayes, 2014, appendix C.1.

    Example:
        >>> import jax.numpy as jnp
        >>> bernoulli_nll(jnp.array([[0.0, 1e4]]), jnp.array([[1, 1]])).round(4)
        Array([0.6931], dtype=float32)
    """
    logits, targets = as_targets("logits", as_predictions("logits", logits), "targets", targets)
    observed = as_observed(mask, logits.shape)
    logits, targets = hide(observed, logits, targets)
    return sum_per_example(jax.nn.softplus(logits) - targets * logits, observed)


def _log_continuous_bernoulli_normalizer(logits: Array) -> Array:
    """log C(η) = log(η / tanh(η/2)); its series near η = 0, where the closed form is 0/0."""
    near_zero = jnp.abs(logits) < 0.2
    square = jnp.square(jnp.where(near_zero, logits, 0) / 2)
    series = math.log(2) + square * (1 / 3 + square * (-7 / 90 + square * (62 / 2835 - square * 127 / 18900)))
    # The unused branch must be finite too: its gradient is multiplied by zero, and 0 · ∞ is NaN.
    size = jnp.abs(jnp.where(near_zero, 1, logits))
    return jnp.where(near_zero, series, jnp.log(size) - jnp.log(jnp.tanh(size / 2)))


def continuous_bernoulli_nll(
    logits: Num[ArrayLike, "batch *dims"],
    targets: Shaped[ArrayLike, "..."],
    *,
    mask: Shaped[ArrayLike, "..."] | None = None,
) -> Float[Array, " batch"]:
    r"""Negative log-density of independent continuous Bernoulli variables, for grey values in [0, 1].

    .. math::
        \sum_d \log(1 + e^{\eta_d}) - x_d \eta_d - \log\frac{\eta_d}{\tanh(\eta_d / 2)}

    It is a density: it may be negative. Its mean is not the sigmoid of the logit.

    Args:
        logits: [batch, *dims], η; value and gradient are finite at 0 and at any size.
        targets: [batch, *dims], in [0, 1].
        mask: what is observed; None means all.

    Returns:
        [batch], nats.

    Raises:
        ValueError: shapes do not match.
        TypeError: `logits` is not floating point.

    Reference:
        Loaiza-Ganem and Cunningham, The continuous Bernoulli, 2019.

    Example:
        >>> import jax.numpy as jnp
        >>> round(continuous_bernoulli_nll(jnp.array([[3.0]]), jnp.array([[0.9]])).item(), 4)
        -0.8497
    """
    logits, targets = as_targets("logits", as_predictions("logits", logits), "targets", targets)
    observed = as_observed(mask, logits.shape)
    logits, targets = hide(observed, logits, targets)
    terms = jax.nn.softplus(logits) - targets * logits - _log_continuous_bernoulli_normalizer(logits)
    return sum_per_example(terms, observed)


def _wide(integers: Array) -> Array:
    """At least 32 bits: 256 wraps to 0 in uint8, so that no pixel would lie below the number of levels."""
    return integers.astype(jnp.int32) if integers.dtype.itemsize < 4 else integers


def categorical_nll(
    logits: Num[ArrayLike, "batch *dims"],
    labels: Num[ArrayLike, "..."],
    *,
    mask: Shaped[ArrayLike, "..."] | None = None,
) -> Float[Array, " batch"]:
    r"""Negative log-probability of independent categorical variables.

    .. math::
        \sum_d \log\sum_k e^{\eta_{dk}} - \eta_{d x_d}

    Args:
        logits: [batch, *dims, classes], unnormalized log-probabilities, the classes on the last axis.
        labels: [batch, *dims], integers in [0, classes); any other unmasked label gives NaN, not a wrong
            class.
        mask: what is observed, shaped as `labels`; None means all.

    Returns:
        [batch], nats.

    Raises:
        ValueError: `labels` does not have the shape of `logits` without its last axis, or there is no class.
        TypeError: `logits` is not floating point, or `labels` are not integers.

    Reference:
        Bishop, Pattern Recognition and Machine Learning, 2006, section 4.3.4.

    Example:
        >>> import jax.numpy as jnp
        >>> categorical_nll(jnp.zeros((2, 3, 4)), jnp.array([[0, 1, 2], [3, 3, 3]])).round(4)
        Array([4.1589, 4.1589], dtype=float32)
    """
    logits, labels = as_predictions("logits", logits), as_array("labels", labels)
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise TypeError(f"labels must be integers, got {labels.dtype}; use jnp.argmax on one-hot labels")
    labels = _wide(labels)
    if logits.ndim < 2 or labels.shape != logits.shape[:-1]:
        raise ValueError(
            f"labels must have the shape of logits without the last axis (the classes), got logits "
            f"{logits.shape} and labels {labels.shape}"
        )
    num_classes = logits.shape[-1]
    if num_classes < 1:
        raise ValueError(f"logits must have at least one class on the last axis, got shape {logits.shape}")
    observed = as_observed(mask, labels.shape)
    if observed is not None:
        (logits,) = hide(observed[..., None], logits)
    valid = (labels >= 0) & (labels < num_classes)
    index = jnp.clip(labels, 0, num_classes - 1)[..., None]
    chosen = jnp.take_along_axis(logits, index, axis=-1, mode="promise_in_bounds")[..., 0]
    terms = jax.nn.logsumexp(logits, axis=-1) - chosen
    return sum_per_example(jnp.where(valid, terms, jnp.nan), observed)


def discretized_logistic_nll(
    mean: Num[ArrayLike, "batch *dims"],
    log_scale: Num[ArrayLike, "..."],
    targets: Num[ArrayLike, "..."],
    *,
    num_levels: int = 256,
    mask: Shaped[ArrayLike, "..."] | None = None,
) -> Float[Array, " batch"]:
    r"""Negative log-probability of integer levels under a logistic density integrated over each level's bin.

    .. math::
        &-\sum_d \log\left[\sigma\!\left(\frac{x_d + h - \mu_d}{s_d}\right)
        - \sigma\!\left(\frac{x_d - h - \mu_d}{s_d}\right)\right], \\
        &x = -1 + \frac{2k}{L - 1}, \qquad h = \frac{1}{L - 1}

    The lowest bin reaches to −∞ and the highest to +∞, so that the L levels sum to one.

    Args:
        mean: [batch, *dims], μ on the scale where the levels span [−1, 1].
        log_scale: [batch, *dims], log s; bound it smoothly in the network, float32 holds out to ±60.
        targets: [batch, *dims], integer levels k in [0, num_levels); any other unmasked level gives NaN.
        num_levels: L, at least 2.
        mask: what is observed; None means all.

    Returns:
        [batch], nats.

    Raises:
        ValueError: shapes do not match, or `num_levels` is below 2.
        TypeError: `mean` or `log_scale` is not floating point, or `targets` are not integers.

    Reference:
        Salimans et al., PixelCNN++, 2017, section 2.1.

    Example:
        >>> import jax.numpy as jnp
        >>> levels = jnp.arange(4)[:, None]
        >>> nll = discretized_logistic_nll(jnp.full((4, 1), 0.2), jnp.zeros((4, 1)), levels, num_levels=4)
        >>> jnp.exp(-nll).sum().round(4)
        Array(1., dtype=float32)
    """
    num_levels = require_count("num_levels", num_levels, least=2)
    mean, log_scale = as_pair("mean", mean, "log_scale", log_scale)
    levels = as_array("targets", targets)
    if not jnp.issubdtype(levels.dtype, jnp.integer):
        raise TypeError(f"targets must be integer levels from 0 to {num_levels - 1}, got {levels.dtype}")
    require_same_shape("mean", mean, "targets", levels)
    levels = _wide(levels)
    observed = as_observed(mask, mean.shape)
    mean, log_scale = hide(observed, mean, log_scale)
    half_bin = 1 / (num_levels - 1)
    inverse_scale = jnp.exp(-log_scale)
    centred = 2 * half_bin * levels.astype(mean.dtype) - 1 - mean
    below_upper_edge = jax.nn.log_sigmoid((centred + half_bin) * inverse_scale)
    above_lower_edge = jax.nn.log_sigmoid((half_bin - centred) * inverse_scale)
    # σ(a) − σ(b) = σ(a) σ(−b) (1 − exp(b − a)), and a − b is the bin's width: nothing cancels in the tails.
    width = jnp.log(-jnp.expm1(-2 * half_bin * inverse_scale))
    lowest, highest = levels == 0, levels == num_levels - 1
    log_prob = jnp.where(highest, 0, below_upper_edge) + jnp.where(lowest, 0, above_lower_edge)
    log_prob = log_prob + jnp.where(lowest | highest, 0, width)
    valid = (levels >= 0) & (levels < num_levels)
    return sum_per_example(jnp.where(valid, -log_prob, jnp.nan), observed)


def optimal_gaussian_scale(
    mean: Num[ArrayLike, "batch *dims"],
    targets: Shaped[ArrayLike, "..."],
    *,
    mask: Shaped[ArrayLike, "..."] | None = None,
    floor: Num[ArrayLike, ""] = 1e-6,
    axis_name: str | None = None,
) -> Float[Array, ""]:
    r"""The maximum-likelihood scale shared by all entries of a batch: the root of the mean squared error.

    .. math::
        \sigma^\star = \sqrt{\frac{1}{BD}\sum_{b,d} (x_{bd} - \mu_{bd})^2}

    `gaussian_nll` at this scale is (D/2)(1 + log 2πσ²) on average. The gradient through the scale vanishes
    there, so that it may be kept or stopped. Constant pixels drive σ to 0 and the likelihood to infinity:
    dequantize, or raise `floor`.

    Args:
        mean: [batch, *dims], the predicted mean.
        targets: [batch, *dims], the data.
        mask: what is observed; None means all. With nothing observed the scale is `floor`.
        floor: the smallest scale returned, positive, in the units of the data.
        axis_name: the mapped axis over whose devices errors and counts are added; None outside a map.

    Returns:
        A scalar, in the units of the data.

    Raises:
        ValueError: shapes do not match, or `floor` is not positive.
        TypeError: `mean` is not floating point.

    Reference:
        Rybkin, Daniilidis and Levine, Simple and Effective VAE Training with Calibrated Decoders, 2021,
        section 4.

    Example:
        >>> import jax.numpy as jnp
        >>> optimal_gaussian_scale(jnp.zeros((1, 4)), jnp.array([[1.0, -1.0, 3.0, -5.0]]))
        Array(3., dtype=float32)
    """
    mean, targets = as_targets("mean", as_predictions("mean", mean), "targets", targets)
    floor = as_positive_number("floor", floor, mean.dtype)
    observed = as_observed(mask, mean.shape)
    mean, targets = hide(observed, mean, targets)
    total = jnp.sum(jnp.square(targets - mean))
    count = jnp.asarray(mean.size, mean.dtype)
    if observed is not None:
        count = jnp.sum(jnp.broadcast_to(observed, mean.shape), dtype=mean.dtype)
    if axis_name is not None:
        total, count = lax.psum((total, count), axis_name)
    mean_square = total / jnp.maximum(count, 1)
    # The root has no derivative at zero, and the square of a small floor would underflow.
    exact = mean_square == 0
    return jnp.maximum(jnp.where(exact, 0, jnp.sqrt(jnp.where(exact, 1, mean_square))), floor)


def bits_per_dim(
    nll: Num[ArrayLike, "*shape"], num_dims: int, *, bin_width: Num[ArrayLike, ""] = 1.0
) -> Float[Array, "*shape"]:
    r"""Nats per example as bits per dimension of the discrete data.

    .. math::
        \frac{\mathrm{nll} - D \log w}{D \log 2}

    A discrete likelihood has w = 1. A density of 8-bit data needs the width of one level in its own units:
    1/256 for (x + u)/256, which adds 8 bits, and 2/256 for data scaled to [−1, 1], which adds 7.

    Args:
        nll: negative log-likelihoods or bounds, nats per example, of any shape.
        num_dims: D, the number of dimensions of one example, at least 1.
        bin_width: w, the width of one level in the units of the modelled data.

    Returns:
        Bits per dimension, shaped as `nll`.

    Raises:
        ValueError: `num_dims` is below 1 or `bin_width` is not positive.
        TypeError: `nll` is not floating point.

    Reference:
        Theis, van den Oord and Bethge, A note on the evaluation of generative models, 2016, section 3.1.

    Example:
        >>> import jax.numpy as jnp
        >>> bits_per_dim(jnp.zeros(1), 784, bin_width=1 / 256)
        Array([8.], dtype=float32)
    """
    num_dims = require_count("num_dims", num_dims)
    nll = as_wide_float("nll", nll)
    bin_width = as_positive_number("bin_width", bin_width, nll.dtype)
    return (nll - num_dims * jnp.log(bin_width)) / (num_dims * math.log(2))
