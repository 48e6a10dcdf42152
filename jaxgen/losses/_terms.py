"""Predictions, targets and masks of the losses, and the sum over all but the batch that ends each of them."""

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxgen._checks import as_real, as_wide_float, require_same_shape


def as_predictions(name: str, value: ArrayLike) -> Array:
    """`as_wide_float` with a leading batch axis required."""
    array = as_wide_float(name, value)
    if array.ndim == 0:
        raise ValueError(f"{name} must have a leading batch axis, got a scalar; add it with {name}[None]")
    return array


def as_targets(predictions_name: str, predictions: Array, name: str, value: ArrayLike) -> tuple[Array, Array]:
    """Predictions and targets in their common float type; targets may be integers or booleans."""
    targets = as_real(name, value)
    require_same_shape(predictions_name, predictions, name, targets)
    dtype = predictions.dtype
    if jnp.issubdtype(targets.dtype, jnp.floating):
        dtype = jnp.promote_types(dtype, targets.dtype)
    return predictions.astype(dtype), targets.astype(dtype)


def as_pair(name_a: str, a: ArrayLike, name_b: str, b: ArrayLike) -> tuple[Array, Array]:
    """Two predictions of one shape, such as a mean and a log-variance, in their common float type."""
    return as_targets(name_a, as_predictions(name_a, a), name_b, as_predictions(name_b, b))


def as_observed(mask: ArrayLike | None, shape: tuple[int, ...]) -> Array | None:
    """The mask as booleans; each axis equals the targets' or is 1, so that none is matched by accident."""
    if mask is None:
        return None
    observed = as_real("mask", mask).astype(bool)
    fits = observed.ndim == len(shape) and all(m in (1, n) for m, n in zip(observed.shape, shape))
    if not fits:
        raise ValueError(
            f"mask must have as many axes as the targets, each equal or 1, got shapes {observed.shape} and {shape}"
        )
    return observed


def hide(observed: Array | None, *arrays: Array) -> tuple[Array, ...]:
    """Zero the hidden entries of the inputs, so that a NaN there reaches neither value nor gradient."""
    if observed is None:
        return arrays
    return tuple(jnp.where(observed, array, jnp.zeros((), array.dtype)) for array in arrays)


def sum_per_example(terms: Array, observed: Array | None = None) -> Array:
    """Sum of the observed terms over every axis but the first."""
    if observed is not None:
        terms = jnp.where(observed, terms, 0)
    return jnp.sum(terms, axis=tuple(range(1, terms.ndim)))
