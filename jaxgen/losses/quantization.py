"""The two terms of the vector-quantization loss, taken on encodings and codes before the straight-through step."""

import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike
from jaxtyping import Float, Num

from jaxgen.losses._checks import as_predictions, as_targets, sum_per_example


def codebook_loss(
    encodings: Num[ArrayLike, "batch *dims"], codes: Num[ArrayLike, "..."]
) -> Float[Array, " batch"]:
    """‖sg(z) − e‖²: pulls the codes to the encodings."""
    encodings, codes = as_targets("codes", codes, "encodings", as_predictions("encodings", encodings))
    return sum_per_example(jnp.square(lax.stop_gradient(encodings) - codes))


def commitment_loss(
    encodings: Num[ArrayLike, "batch *dims"], codes: Num[ArrayLike, "..."]
) -> Float[Array, " batch"]:
    """‖z − sg(e)‖²: pulls the encodings to the codes."""
    encodings, codes = as_targets("codes", codes, "encodings", as_predictions("encodings", encodings))
    return sum_per_example(jnp.square(encodings - lax.stop_gradient(codes)))
