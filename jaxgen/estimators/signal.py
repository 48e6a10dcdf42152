"""Running moments of a learning signal, by which NVIL centres and scales it."""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike
from jaxtyping import Float, Num

from jaxgen._checks import as_number, as_wide_float, known, require


class SignalMoments(NamedTuple):
    """Running mean and variance of a learning signal, both scalars."""

    mean: Array
    variance: Array


def init_signal_moments() -> SignalMoments:
    r"""Moments before any batch: the first signals are neither centred nor scaled.

    .. math::
        m = 0, \qquad v = 0

    Returns:
        Mean and variance, two scalars.

    Example:
        >>> init_signal_moments()
        SignalMoments(mean=Array(0., dtype=float32), variance=Array(0., dtype=float32))
    """
    return SignalMoments(jnp.zeros(()), jnp.zeros(()))


def update_signal_moments(
    moments: SignalMoments,
    signals: Num[ArrayLike, "..."],
    *,
    decay: Num[ArrayLike, ""] = 0.8,
    axis_name: str | None = None,
) -> SignalMoments:
    r"""Running moments of the learning signal after a batch.

    .. math::
        m \leftarrow \gamma m + (1 - \gamma)\,\bar r, \qquad
        v \leftarrow \gamma v + (1 - \gamma)\,\frac{1}{n}\sum_i (r_i - \bar r)^2

    Use the moments of *earlier* batches as baseline and scale of this one, then update: a baseline that has
    seen its own sample biases the gradient.

    Args:
        moments: the moments so far.
        signals: of any shape, rewards minus any learned baseline.
        decay: γ in [0, 1); it may come from a schedule.
        axis_name: the mapped axis over whose devices the batch is spread; None outside a map.

    Returns:
        The moments, without a gradient.

    Raises:
        ValueError: a `decay` known at trace time is outside [0, 1), a moment is no scalar, or there is no signal.
        TypeError: `signals` is not floating point.

    Reference:
        Mnih and Gregor, Neural Variational Inference and Learning in Belief Networks, 2014, algorithm 1.

    Example:
        >>> import jax.numpy as jnp
        >>> update_signal_moments(init_signal_moments(), jnp.array([1.0, 3.0]), decay=0.5)
        SignalMoments(mean=Array(1., dtype=float32), variance=Array(0.5, dtype=float32))
    """
    signals = lax.stop_gradient(as_wide_float("signals", signals))
    gamma = as_number("decay", decay, signals.dtype)
    value = known(decay)
    require(value is None or bool(0 <= value < 1), f"decay must lie in [0, 1), got {decay}")
    moments = SignalMoments(*(as_number(f"moments.{name}", m) for name, m in moments._asdict().items()))
    if signals.size < 1:
        raise ValueError(f"signals must not be empty, got shape {signals.shape}")
    mean = jnp.mean(signals)
    if axis_name is not None:
        mean = lax.pmean(mean, axis_name)
    variance = jnp.mean(jnp.square(signals - mean))
    if axis_name is not None:
        variance = lax.pmean(variance, axis_name)
    return SignalMoments(gamma * moments.mean + (1 - gamma) * mean, gamma * moments.variance + (1 - gamma) * variance)


def signal_scale(moments: SignalMoments) -> Float[Array, ""]:
    r"""What `reinforce` divides the learning signal by; small signals are not blown up.

    .. math::
        \max(1, \sqrt{v})

    Args:
        moments: running moments of earlier batches.

    Returns:
        A scalar, at least one.

    Reference:
        Mnih and Gregor, Neural Variational Inference and Learning in Belief Networks, 2014, algorithm 1.

    Example:
        >>> import jax.numpy as jnp
        >>> signal_scale(SignalMoments(jnp.zeros(()), jnp.array(9.0))).item()
        3.0
    """
    return jnp.sqrt(jnp.maximum(moments.variance, 1))
