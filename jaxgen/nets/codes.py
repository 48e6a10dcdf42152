"""What the networks over grids of codes are given, checked."""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Float

from jaxgen._checks import as_indices, as_positive_number, require, require_indices


def check_codes(codes: ArrayLike, num_codes: int) -> Array:
    """Codes [batch, h, w] as integers.

    Raises:
      ValueError: another number of axes, or a code outside the codebook where it is known.
      TypeError: codes that are not integers.
    """
    array = as_indices("codes", codes)
    require(array.ndim == 3, f"codes must be [batch, height, width], got the shape {array.shape}")
    require_indices("codes", codes, num_codes, "the network has")
    return array


def check_label(label: ArrayLike | None, classes: int, batch: int) -> Array | None:
    """Labels [batch] of a conditional network, ``None`` for any other.

    Raises:
      ValueError: a label where there are no classes, none where there are, or one that is no class.
      TypeError: labels that are not integers.
    """
    if label is None or not classes:
        if label is not None or classes:
            raise ValueError(
                f"this network is conditional on {classes} classes: give a label for each example"
                if classes
                else "this network is not conditional: leave label out, or build it with classes"
            )
        return None
    array = as_indices("label", label)
    require(array.shape == (batch,), f"label must be [batch], here ({batch},), got the shape {array.shape}")
    require_indices("label", label, classes, "there are", noun="classes")
    return jnp.asarray(array)


def among_own(
    logits: Array, codebooks: Sequence[int], num_codes: int, place: ArrayLike | None = None
) -> Float[Array, "*batch codes"]:
    """Logits without the codes that cannot stand at a place, of codebooks that are numbered through.

    Args:
      logits: [batch, h, w, codes], or [batch, codes] at one ``place``.
      codebooks: of which codebook the code of each place is, row by row; empty where there is one.
      num_codes: of all codebooks together, as many of each.
      place: number of the place, row by row.
    """
    if not codebooks:
        return logits
    book = np.arange(num_codes) * (1 + max(codebooks)) // num_codes
    own = jnp.asarray(np.asarray(codebooks)[:, None] == book)
    own = own.reshape(*logits.shape[1:]) if place is None else own[place]
    return jnp.where(own, logits, jnp.finfo(logits.dtype).min)


def check_temperature(temperature: ArrayLike) -> None:
    """Raises a ValueError unless it is one positive number, as far as it is known."""
    as_positive_number("temperature", temperature, jnp.result_type(float))
