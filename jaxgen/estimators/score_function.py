"""Unbiased gradients from the score ∇ log q, with baselines that depend on no sample they are subtracted for."""

import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike
from jaxtyping import Float, Num

from jaxgen._checks import as_positive, as_real, as_wide_float, require_axis, require_broadcastable, require_same_shape
from jaxgen.losses.bounds import importance_weighted_bound


def reinforce(
    log_prob: Num[ArrayLike, "*shape"],
    reward: Num[ArrayLike, "..."],
    *,
    baseline: Num[ArrayLike, "..."] = 0.0,
    scale: Num[ArrayLike, "..."] = 1.0,
) -> Float[Array, "*shape"]:
    r"""Score-function surrogate: the value is the reward, the gradient is unbiased for its expectation.

    .. math::
        \frac{r - b}{s}\,\nabla\log q(h) + \nabla r

    The second term is the reward's own gradient, such as that of the decoder; stop it in `reward` where it is
    not wanted. The sign is the reward's: minimize a loss, maximize a bound.

    Args:
        log_prob: log q(h), of any shape, of samples drawn without a gradient.
        reward: r, shaped as `log_prob`, of the same samples.
        baseline: b, broadcasting to `reward`; it must not depend on the sample it is subtracted for: a
            constant, a network of the input alone, or `leave_one_out_baseline`. It gets no gradient.
        scale: s, positive, broadcasting to `reward`, such as `signal_scale`; 1 keeps the gradient unbiased.

    Returns:
        `reward`, in value.

    Raises:
        ValueError: shapes do not match, or a `scale` known at trace time is not positive.
        TypeError: `log_prob` or `reward` is not floating point.

    Reference:
        Williams, Simple Statistical Gradient-Following Algorithms, 1992; Mnih and Gregor, 2014.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> jax.grad(lambda logit: reinforce(jax.nn.log_sigmoid(logit), 3.0, baseline=1.0))(0.0)
        Array(1., dtype=float32, weak_type=True)
    """
    log_prob, reward = as_wide_float("log_prob", log_prob), as_wide_float("reward", reward)
    require_same_shape("log_prob", log_prob, "reward", reward)
    baseline, scale = as_real("baseline", baseline, reward.dtype), as_positive("scale", scale, reward.dtype)
    require_broadcastable("baseline", baseline, "reward", reward.shape)
    require_broadcastable("scale", scale, "reward", reward.shape)
    signal = lax.stop_gradient((reward - baseline) / scale)
    return reward + signal * (log_prob - lax.stop_gradient(log_prob))


def _num_samples(name: str, values: Array, axis: int) -> int:
    """The size of the sample axis, of which leaving one out must leave something."""
    axis = require_axis(name, values, axis)
    if values.shape[axis] < 2:
        raise ValueError(f"{name} needs 2 samples or more on axis {axis}, got shape {values.shape}")
    return values.shape[axis]


def leave_one_out_baseline(rewards: Num[ArrayLike, "*shape"], *, axis: int = 0) -> Float[Array, "*shape"]:
    r"""The mean of the other samples: a baseline that depends on no sample it is subtracted for.

    .. math::
        b_k = \frac{1}{K - 1}\sum_{j \ne k} r_j

    Args:
        rewards: of any shape, K independent samples on `axis`.
        axis: the axis of the samples.

    Returns:
        Shaped as `rewards`.

    Raises:
        ValueError: `axis` does not exist, or holds fewer than two samples.
        TypeError: `rewards` is not floating point.

    Reference:
        Kool, van Hoof and Welling, Buy 4 REINFORCE Samples, Get a Baseline for Free!, 2019.

    Example:
        >>> import jax.numpy as jnp
        >>> leave_one_out_baseline(jnp.array([1.0, 2.0, 6.0]))
        Array([4. , 3.5, 1.5], dtype=float32)
    """
    rewards = as_wide_float("rewards", rewards)
    num_samples = _num_samples("rewards", rewards, axis)
    # Sums of those before and of those after: the sum of all minus its own loses the digits of small rewards beside
    # a large one, and is NaN where one is infinite.
    return (_sum_before(rewards, axis) + jnp.flip(_sum_before(jnp.flip(rewards, axis), axis), axis)) / (num_samples - 1)


def _sum_before(values: Array, axis: int) -> Array:
    """Sum of the entries before each one."""
    axis %= values.ndim
    shifted = jnp.roll(values, 1, axis)
    first = lax.broadcasted_iota(jnp.int32, values.shape, axis) == 0
    return lax.cumsum(jnp.where(first, 0, shifted), axis)


def vimco(
    log_prob: Num[ArrayLike, "*shape"], log_weights: Num[ArrayLike, "..."], *, axis: int = 0
) -> Float[Array, "..."]:
    r"""Surrogate of the importance-weighted bound for discrete latents: its value, with an unbiased gradient.

    .. math::
        \sum_k \left(\hat L - \hat L_{-k}\right)\nabla\log q(h_k) + \nabla\hat L, \qquad
        \hat L = \log\frac{1}{K}\sum_j w_j

    In the baseline L₋ₖ the weight of sample k is replaced by the geometric mean of the other weights. Needs
    memory for K² weights.

    Args:
        log_prob: log q(h_k|x), K samples on `axis`, such as [samples, batch].
        log_weights: log p(x, h_k) − log q(h_k|x), nats, shaped as `log_prob`, differentiable in both models.
        axis: the axis of the samples.

    Returns:
        The bound, without `axis`, nats, to be maximized; −∞ where every weight is zero, which credits no sample.

    Raises:
        ValueError: shapes do not match, `axis` does not exist, or it holds fewer than two samples.
        TypeError: an argument is not floating point.

    Reference:
        Mnih and Rezende, Variational Inference for Monte Carlo Objectives, 2016.

    Example:
        >>> import jax.numpy as jnp
        >>> vimco(jnp.log(jnp.array([0.5, 0.5])), jnp.log(jnp.array([1.0, 3.0]))).round(4)
        Array(0.6931, dtype=float32)
    """
    log_prob, log_weights = as_wide_float("log_prob", log_prob), as_wide_float("log_weights", log_weights)
    require_same_shape("log_prob", log_prob, "log_weights", log_weights)
    num_samples = _num_samples("log_weights", log_weights, axis)
    log_prob, log_weights = jnp.moveaxis(log_prob, axis, 0), jnp.moveaxis(log_weights, axis, 0)
    bound = importance_weighted_bound(log_weights)

    left_out = jnp.eye(num_samples, dtype=bool).reshape((num_samples, num_samples) + (1,) * bound.ndim)
    geometric_mean = leave_one_out_baseline(log_weights)
    replaced = jnp.where(left_out, geometric_mean[:, None], log_weights[None])
    baseline = importance_weighted_bound(replaced, axis=1)
    # Not −∞ + ∞ where no sample has any weight: none is better than the others then.
    signal = lax.stop_gradient(jnp.where(bound == baseline, 0, bound - baseline))
    # Infinite for the only sample of any weight; times the zero below it would hide the bound.
    signal = jnp.minimum(signal, jnp.finfo(signal.dtype).max)
    return bound + jnp.sum(signal * (log_prob - lax.stop_gradient(log_prob)), axis=0)
