"""Categorical samples by Gumbel noise: exact without a gradient, relaxed with one."""

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Float, Int, Num

from jaxgen._checks import as_array, as_positive_number, as_wide_float
from jaxgen.estimators.quantized import straight_through


def _classes(logits: ArrayLike) -> Array:
    values = as_wide_float("logits", logits)
    if values.ndim < 1 or values.shape[-1] < 1:
        raise ValueError(f"logits must have classes on the last axis, got shape {values.shape}")
    return values


def _gumbel(key: Array, logits: Array) -> Array:
    """Standard Gumbel noise; "high" resolves the upper tail, so that classes rarer than 1e-7 can win."""
    return jax.random.gumbel(key, logits.shape, logits.dtype, mode="high")


def gumbel_argmax(key: Array, logits: Num[ArrayLike, "*shape classes"]) -> Int[Array, "*shape"]:
    r"""An exact categorical sample over the last axis.

    .. math::
        \arg\max_k\ (\eta_k + g_k), \qquad g_k = -\log(-\log u_k)

    Args:
        key: a key, used once.
        logits: [..., classes], unnormalized log-probabilities; −∞ excludes a class.

    Returns:
        [...], integers in [0, classes).

    Raises:
        ValueError: there is no class.
        TypeError: `logits` is not floating point.

    Reference:
        Maddison, Tarlow and Minka, A* Sampling, 2014.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> gumbel_argmax(jax.random.key(0), jnp.array([[0.0, 1e4], [1e4, 0.0]]))
        Array([1, 0], dtype=int32)
    """
    logits = _classes(logits)
    return jnp.argmax(logits + _gumbel(key, logits), axis=-1)


def gumbel_softmax(
    key: Array,
    logits: Num[ArrayLike, "*shape"],
    *,
    temperature: Num[ArrayLike, ""] = 1.0,
    hard: bool = False,
) -> Float[Array, "*shape"]:
    r"""A relaxed one-hot sample over the last axis, through which gradients flow.

    .. math::
        \mathrm{softmax}\left(\frac{\eta + g}{\tau}\right), \qquad g_k = -\log(-\log u_k)

    As τ → 0 the bias of its gradient vanishes and the variance grows. A bound evaluated with a relaxed sample
    is none: evaluate with `gumbel_argmax`. The same key gives `gumbel_argmax` the same winner.

    Args:
        key: a key, used once.
        logits: [..., classes], unnormalized log-probabilities. A Bernoulli variable has the two logits (0,
            η).
        temperature: τ, positive; it may come from a schedule.
        hard: exactly one-hot in the forward pass, with the gradient of the relaxed sample.

    Returns:
        [..., classes], not negative, with sum one.

    Raises:
        ValueError: there is no class, or a `temperature` known at trace time is not positive.
        TypeError: `logits` is not floating point.

    Reference:
        Jang, Gu and Poole, Categorical Reparameterization with Gumbel-Softmax, 2017; Maddison, Mnih and Teh,
        2017.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> gumbel_softmax(jax.random.key(0), jnp.array([0.0, 50.0]), temperature=0.5, hard=True)
        Array([0., 1.], dtype=float32)
    """
    dtype = jnp.result_type(as_array("logits", logits))
    logits = _classes(logits)
    temperature = as_positive_number("temperature", temperature, logits.dtype)
    relaxed = jax.nn.softmax((logits + _gumbel(key, logits)) / temperature, axis=-1)
    if hard:
        winner = jax.nn.one_hot(jnp.argmax(relaxed, axis=-1), logits.shape[-1], dtype=logits.dtype)
        relaxed = straight_through(relaxed, winner)
    return relaxed.astype(dtype)
