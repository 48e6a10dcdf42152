"""What arguments may be, in one wording for one mistake; every check runs at call time, under `jit` while tracing."""

import operator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer
from jax.typing import ArrayLike, DTypeLike


def require(condition: bool, message: str) -> None:
    """Raise a ValueError with the message unless the condition holds."""
    if not condition:
        raise ValueError(message)


def as_array(name: str, value: Any, dtype: DTypeLike | None = None) -> Array:
    """The argument as an array; what is none, such as None or text, is refused by its name."""
    try:
        with np.errstate(over="ignore"):
            return jnp.asarray(value, dtype)
    except (TypeError, ValueError, OverflowError):
        raise TypeError(f"{name} must be an array or a number, got {value!r:.60}") from None


def _type_of(name: str, value: Any) -> Any:
    if hasattr(value, "dtype"):
        return value.dtype
    try:
        dtype = np.asarray(value).dtype
        return as_array(name, value).dtype if dtype.hasobject else dtype
    except (TypeError, ValueError):  # A list of tracers, or one that is ragged.
        return as_array(name, value).dtype


def require_real(name: str, value: Any) -> None:
    """Numbers or booleans, none of them complex; text, None and keys are not."""
    dtype = _type_of(name, value)
    if jnp.issubdtype(dtype, jnp.complexfloating):
        raise TypeError(f"{name} must be real, got {dtype} of shape {as_array(name, value).shape}")
    if not (jnp.issubdtype(dtype, jnp.number) or jnp.issubdtype(dtype, jnp.bool_)):
        raise TypeError(f"{name} must be an array or a number, got {value!r:.60}")


def as_real(name: str, value: Any, dtype: DTypeLike | None = None) -> Array:
    """The argument as an array, of its own real type or of the data's: a scale or a weight may be an integer."""
    require_real(name, value)
    return as_array(name, value, dtype)


def as_widened(name: str, value: Any) -> Array:
    """Real numbers of any type as floats of at least 32 bits: in fewer, or in integers, sums round or wrap."""
    array = as_real(name, value)
    is_floating = jnp.issubdtype(array.dtype, jnp.floating)
    return array.astype(jnp.promote_types(array.dtype, jnp.float32) if is_floating else jnp.result_type(float))


def as_float(name: str, value: Any) -> Array:
    """The argument as a float array of its own type; integers are refused: predictions and vectors are never any."""
    array = as_array(name, value)
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise TypeError(
            f"{name} must be floating point, got {array.dtype} of shape {array.shape}; "
            f"convert with {name}.astype(jnp.float32) if these really are {name}"
        )
    return array


def as_wide_float(name: str, value: Any) -> Array:
    """`as_float` in at least 32 bits."""
    array = as_float(name, value)
    return array.astype(jnp.promote_types(array.dtype, jnp.float32))


def as_indices(name: str, value: Any) -> Array:
    """The argument as integers of 32 bits or more: fewer could not be compared with the size of a codebook."""
    array = as_array(name, value)
    if not jnp.issubdtype(array.dtype, jnp.integer):
        raise TypeError(f"{name} must be integers, got {array.dtype} of shape {array.shape}")
    return array.astype(jnp.int32) if array.dtype.itemsize < 4 else array


def known(value: Any) -> np.ndarray | None:
    """The numbers of an argument as it was given; None for a tracer or an array on other hosts.

    Not of what `as_array` made of it: under `jit` that is a tracer, even of a constant.
    """
    parts = jax.tree.leaves(value)
    if any(isinstance(x, Tracer) or (isinstance(x, Array) and not x.is_fully_addressable) for x in parts):
        return None
    return np.asarray(value)


def as_positive(name: str, value: Any, dtype: DTypeLike) -> Array:
    """The argument in the data's type, every number above zero there where the numbers are known; NaN is not."""
    array, numbers = as_real(name, value, dtype), known(value)
    if numbers is not None and not np.all(numbers >= float(jnp.finfo(dtype).tiny)):
        vanishes = f", which is 0 in {jnp.dtype(dtype)}" if np.min(numbers) > 0 else ""
        raise ValueError(f"{name} must be positive, got {np.min(numbers)}{vanishes}")
    return array


def as_non_negative(name: str, value: Any, dtype: DTypeLike) -> Array:
    """The argument in the data's type, no number below zero where the numbers are known; NaN is refused too."""
    array, numbers = as_real(name, value, dtype), known(value)
    if numbers is not None and not np.all(numbers >= 0):
        raise ValueError(f"{name} must not be negative, got {np.min(numbers)}")
    return array


def as_number(name: str, value: Any, dtype: DTypeLike | None = None) -> Array:
    """`as_real` of one number: an array would broadcast, against the examples or against anything."""
    number = as_real(name, value, dtype)
    require(number.ndim == 0, f"{name} must be one number, got an array of shape {number.shape}")
    return number


def as_positive_number(name: str, value: Any, dtype: DTypeLike) -> Array:
    """`as_positive` of one number."""
    as_number(name, value)
    return as_positive(name, value, dtype)


def as_non_negative_number(name: str, value: Any, dtype: DTypeLike) -> Array:
    """`as_non_negative` of one number."""
    as_number(name, value)
    return as_non_negative(name, value, dtype)


def as_counts(name: str, value: Any) -> Array:
    """Counts in floats of at least 32 bits; a negative one is refused where it is seen, and NaN where it is not."""
    counts, numbers = as_widened(name, value), known(value)
    if numbers is not None and np.any(numbers < 0):
        raise ValueError(f"{name} must not be negative, got {np.nanmin(numbers)}")
    return jnp.where(counts < 0, jnp.nan, counts)


def require_count(name: str, value: Any, *, least: int = 1) -> int:
    """A whole number of at least `least`, known while tracing: a count, a size or a seed; no boolean."""
    if isinstance(value, bool):
        raise TypeError(f"{name} must be an integer, got {value}")
    try:
        number = operator.index(value)
    except TypeError:
        when = " known while tracing" if isinstance(value, Tracer) else ""
        raise TypeError(f"{name} must be an integer{when}, got {value!r:.60}") from None
    require(number >= least, f"{name} must be at least {least}, got {number}")
    return number


def require_finite(name: str, value: Any) -> None:
    """Refuse NaN and infinities, which a count or a comparison would hide; a tracer has no values yet and passes."""
    numbers = known(value)
    if numbers is None:
        return
    bad = numbers.size - int(np.count_nonzero(np.isfinite(numbers)))
    require(bad == 0, f"{name} must be finite, got {bad} of {numbers.size} values that are NaN or infinite")


def require_indices(name: str, value: Any, size: int, what: str, *, noun: str = "codes") -> None:
    """Refuse an index below 0 or from `size` on, where the numbers are known."""
    numbers = known(value)
    if numbers is None or not numbers.size:
        return
    low, high = int(numbers.min()), int(numbers.max())
    require(
        low >= 0 and high < size,
        f"{name} must lie in 0 … {size - 1}, since {what} {size} {noun}, got {low} to {high}",
    )


def require_same_shape(name_a: str, a: ArrayLike, name_b: str, b: ArrayLike) -> None:
    """Two arrays of one shape: broadcasting would hide a mistake."""
    shapes = np.shape(a), np.shape(b)
    require(shapes[0] == shapes[1], f"{name_a} and {name_b} must have the same shape, got {shapes[0]} and {shapes[1]}")


def require_broadcastable(name: str, value: Array, target_name: str, shape: tuple[int, ...]) -> None:
    """The argument must broadcast to `shape` without enlarging it."""
    try:
        broadcast = np.broadcast_shapes(value.shape, shape)
    except ValueError:
        broadcast = None
    require(broadcast == shape, f"{name} must broadcast to {target_name}, got shapes {value.shape} and {shape}")


def require_axis(name: str, array: Array, axis: Any) -> int:
    """One axis of the array, counted from its start."""
    try:
        index = operator.index(axis)
    except TypeError:
        raise TypeError(f"axis must be an integer, got {axis!r}") from None
    require(-array.ndim <= index < array.ndim, f"axis {index} is not an axis of {name}, whose shape is {array.shape}")
    return index % array.ndim
