"""What a conditional model is told besides the example: a class, or any vector."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer
from jax.typing import ArrayLike
from jaxtyping import Float

from jaxgen.model import Condition


def condition_of(name: str, num_classes: int | None, size: int | None) -> Condition:
    """What a factory's arguments ask for, as far as the data has it.

    Raises:
      ValueError: for another name, or where the data has no such array.
    """
    if name not in ("label", "vector"):
        raise ValueError(f"condition must be label or vector, got {name!r}")
    if name == "label":
        if not num_classes:
            raise ValueError("the data has no labels to condition on; add labels, or take condition vector")
        return Condition("label", num_classes, classes=True)
    if not size:
        raise ValueError("the data has no array `condition` [examples, width]; add it, or take condition label")
    return Condition("condition", size, classes=False)


def vectors(condition: Condition | None, values: ArrayLike | None) -> Float[Array, "batch size"] | None:
    """The condition as the networks see it: a class as a one-hot vector, any other as it is.

    Args:
      condition: of the model; ``None`` where it has none.
      values: [batch] classes, or [batch, size].

    Raises:
      ValueError: where a condition is missing or not wanted, of another width, or an unseen class.
    """
    if condition is None:
        if values is not None:
            raise ValueError("this model takes no condition: leave it out")
        return None
    if values is None:
        raise ValueError(f"this model is conditional: give `{condition.name}` for each example")
    array = jnp.asarray(values)
    if condition.classes:
        if array.ndim != 1 or not jnp.issubdtype(array.dtype, jnp.integer):
            raise ValueError(f"classes must be integers [batch], got {array.dtype} of shape {array.shape}")
        if not isinstance(values, Tracer) and array.size:
            # NumPy's own: a traced function's constant is no tracer, but its jnp.min would be.
            known = np.asarray(values)
            low, high = int(known.min()), int(known.max())
            if low < 0 or high >= condition.size:
                raise ValueError(f"classes must lie in 0 … {condition.size - 1}, got {low} … {high}")
        return jax.nn.one_hot(array, condition.size)
    if array.ndim != 2 or array.shape[1] != condition.size:
        raise ValueError(f"`{condition.name}` must have shape [batch, {condition.size}], got {array.shape}")
    return array.astype(jnp.promote_types(array.dtype, jnp.float32))


def join(x: Array, told: Float[Array, "batch size"] | None, *, spatial: bool = False) -> Array:
    """The condition beside each example: as further channels of an image, or as further entries of a vector.

    Args:
      x: [..., *dims]; ``spatial`` for images [batch, height, width, channels], else the last axis is joined.
      told: broadcast over leading axes of ``x`` and, for images, over height and width.

    Raises:
      ValueError: for another number of examples than are told something.
    """
    if told is None:
        return x
    count = x.shape[0] if spatial else x.shape[-2]
    if len(told) != count:
        raise ValueError(f"there must be one condition for each example, got {len(told)} for {count} examples")
    if spatial:
        told = told[:, None, None, :]
    return jnp.concatenate([x, jnp.broadcast_to(told, (*x.shape[:-1], told.shape[-1]))], axis=-1)
