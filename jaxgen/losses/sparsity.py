"""The group lasso and its proximal step, which makes whole groups of weights exactly zero."""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Float, Num

from jaxgen._checks import as_non_negative, as_wide_float, require_broadcastable


def _group_norms(weights: Array, axis: int | Sequence[int]) -> Array:
    """Norms with `axis` kept as 1; the gradient at a zero group is zero, a subgradient, and not NaN."""
    given = tuple(axis) if isinstance(axis, Sequence) else (axis,)
    axes = {a % weights.ndim for a in given if isinstance(a, (int, np.integer)) and -weights.ndim <= a < weights.ndim}
    if not axes or len(axes) < len(given):
        raise ValueError(f"axis {axis} must name axes of weights, whose shape is {weights.shape}, each once")
    axes = tuple(sorted(axes))
    squares = jnp.sum(jnp.square(weights), axis=axes, keepdims=True)
    zero = squares == 0
    return jnp.where(zero, 0, jnp.sqrt(jnp.where(zero, 1, squares)))


def group_lasso(weights: Num[ArrayLike, "..."], *, axis: int | Sequence[int]) -> Float[Array, ""]:
    r"""Sum of the norms of groups of weights.

    .. math::
        \sum_g \|W_g\|_2

    As a penalty it is better not differentiated but applied by `prox_group_lasso` after the gradient step: a
    gradient makes groups small, the proximal step makes them zero. Here the gradient at a zero group is zero.

    Args:
        weights: of any shape, such as [latents, groups, hidden].
        axis: the axis or axes inside a group; the others index the groups.

    Returns:
        A scalar.

    Raises:
        ValueError: `axis` is empty or does not exist.
        TypeError: `weights` is not floating point.

    Reference:
        Yuan and Lin, Model selection and estimation in regression with grouped variables, 2006.

    Example:
        >>> import jax.numpy as jnp
        >>> group_lasso(jnp.array([[3.0, 4.0], [0.0, 0.0], [6.0, 8.0]]), axis=1)
        Array(15., dtype=float32)
    """
    return jnp.sum(_group_norms(as_wide_float("weights", weights), axis))


def prox_group_lasso(
    weights: Num[ArrayLike, "*shape"], threshold: Num[ArrayLike, "..."], *, axis: int | Sequence[int]
) -> Float[Array, "*shape"]:
    r"""Proximal step of the group lasso: block soft-thresholding.

    .. math::
        W_g \leftarrow \max\left(0,\ 1 - \frac{t}{\|W_g\|}\right) W_g

    Groups of norm up to t become exactly zero. After a gradient step of size η under the penalty λ, t = ηλ,
    with the step size really used: a step of Adam is not its learning rate.

    Args:
        weights: of any shape, after the gradient step.
        threshold: t, not negative, a scalar or an array that broadcasts to the group norms with `axis` kept
            as 1.
        axis: the axis or axes inside a group; the others index the groups.

    Returns:
        The weights, in their shape and type.

    Raises:
        ValueError: `axis` is empty or does not exist, or a `threshold` known at trace time is negative.
        TypeError: `weights` is not floating point.

    Reference:
        Ainsworth et al., oi-VAE: Output Interpretable VAEs for Nonlinear Group Factor Analysis, 2018, section
        3.

    Example:
        >>> import jax.numpy as jnp
        >>> prox_group_lasso(jnp.array([[3.0, 4.0], [0.3, 0.4]]), 1.0, axis=1)
        Array([[2.4, 3.2],
               [0. , 0. ]], dtype=float32)
    """
    values = as_wide_float("weights", weights)
    norms = _group_norms(values, axis)
    threshold = as_non_negative("threshold", threshold, values.dtype)
    require_broadcastable("threshold", threshold, "the group norms", norms.shape)
    dead = norms <= threshold
    shrinkage = jnp.where(dead, 0, 1 - threshold / jnp.where(dead, 1, norms))
    return (shrinkage * values).astype(jnp.asarray(weights).dtype)
