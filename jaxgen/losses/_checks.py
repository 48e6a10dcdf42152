"""Shape, type and value checks shared by the losses and the estimators; all of them run at trace time."""

import operator
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer
from jax.typing import ArrayLike, DTypeLike

from jaxgen._arrays import as_array


def as_float(name: str, value: ArrayLike) -> Array:
    """The argument as a float array of at least 32 bits; integers are refused: a prediction is never one."""
    array = as_array(name, value)
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise TypeError(
            f"{name} must be floating point, got {array.dtype} of shape {array.shape}; "
            f"convert with {name}.astype(jnp.float32) if these really are {name}"
        )
    return array.astype(jnp.promote_types(array.dtype, jnp.float32))


def as_real(name: str, value: Any, dtype: DTypeLike | None = None) -> Array:
    """The argument as an array, of its own real type or of the data's: a scale or a weight may be an integer."""
    if np.iscomplexobj(value):
        raise TypeError(f"{name} must be real, got {getattr(value, 'dtype', 'complex')} of shape {np.shape(value)}")
    return as_array(name, value, dtype)


def as_real_scalar(name: str, value: Any, dtype: DTypeLike | None = None) -> Array:
    """`as_real` of one number: an array would broadcast, against the examples or against anything."""
    number = as_real(name, value, dtype)
    if number.ndim:
        raise ValueError(f"{name} must be one number, got an array of shape {number.shape}")
    return number


def as_predictions(name: str, value: ArrayLike) -> Array:
    """`as_float` with a leading batch axis required."""
    array = as_float(name, value)
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


def require_same_shape(name_a: str, a: Array, name_b: str, b: Array) -> None:
    """Two arrays of one shape: broadcasting would hide a mistake."""
    if a.shape != b.shape:
        raise ValueError(f"{name_a} and {name_b} must have the same shape, got {a.shape} and {b.shape}")


def require_broadcastable(name: str, value: Array, target_name: str, shape: tuple[int, ...]) -> None:
    """The argument must broadcast to `shape` without enlarging it."""
    try:
        broadcast = np.broadcast_shapes(value.shape, shape)
    except ValueError:
        broadcast = None
    if broadcast != shape:
        raise ValueError(f"{name} must broadcast to {target_name}, got shapes {value.shape} and {shape}")


def require_count(name: str, value: Any, *, least: int = 1) -> int:
    """A whole number of at least `least`, known while tracing: a count, a size or a seed."""
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an integer known while tracing, got {value!r:.60}") from None
    if number < least:
        raise ValueError(f"{name} must be at least {least}, got {number}")
    return number


def require_axis(name: str, array: Array, axis: Any) -> int:
    """One axis of the array, counted from its start."""
    try:
        index = operator.index(axis)
    except TypeError:
        raise TypeError(f"axis must be an integer, got {axis!r}") from None
    if not -array.ndim <= index < array.ndim:
        raise ValueError(f"axis {index} is not an axis of {name}, whose shape is {array.shape}")
    return index % array.ndim


def _concrete_value(name: str, value: ArrayLike) -> np.ndarray | None:
    """The numbers, where they are known while tracing; None for a tracer or an array on other hosts."""
    if isinstance(value, Tracer):
        return None
    if isinstance(value, Array) and not value.is_fully_addressable:
        return None
    numbers = np.asarray(value)
    if numbers.dtype.kind in "OSU":
        raise TypeError(f"{name} must be an array or a number, got {value!r:.60}")
    if numbers.dtype.kind == "c":
        raise TypeError(f"{name} must be real, got {numbers.dtype} of shape {numbers.shape}")
    return numbers


def as_positive(name: str, value: Any, dtype: DTypeLike) -> Array:
    """The argument in the data's type, every number above zero there where the numbers are known; NaN is not."""
    numbers = _concrete_value(name, value)
    if numbers is not None and not np.all(numbers >= float(jnp.finfo(dtype).tiny)):
        vanishes = f", which is 0 in {jnp.dtype(dtype)}" if np.min(numbers) > 0 else ""
        raise ValueError(f"{name} must be positive, got {np.min(numbers)}{vanishes}")
    return as_real(name, value, dtype)


def as_positive_scalar(name: str, value: Any, dtype: DTypeLike) -> Array:
    """`as_positive` of one number."""
    as_real_scalar(name, value)
    return as_positive(name, value, dtype)


def as_non_negative(name: str, value: Any, dtype: DTypeLike) -> Array:
    """The argument in the data's type, no number below zero where the numbers are known; NaN is refused too."""
    numbers = _concrete_value(name, value)
    if numbers is not None and not np.all(numbers >= 0):
        raise ValueError(f"{name} must not be negative, got {np.min(numbers)}")
    return as_real(name, value, dtype)


def as_non_negative_scalar(name: str, value: Any, dtype: DTypeLike) -> Array:
    """`as_non_negative` of one number."""
    as_real_scalar(name, value)
    return as_non_negative(name, value, dtype)


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
