"""Divergences between posterior and prior, per example and in nats."""

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Float, Num

from jaxgen.losses._checks import as_predictions, as_targets, sum_per_example


def kl_diagonal_gaussian_per_dimension(
    mean: Num[ArrayLike, "batch *latents"], logvar: Num[ArrayLike, "..."]
) -> Float[Array, "batch *latents"]:
    """KL of each latent dimension to a standard normal, for free bits and for counting active units."""
    mean, logvar = as_targets("logvar", logvar, "mean", as_predictions("mean", mean))
    # expm1, since exp(logvar) − 1 − logvar cancels near the prior.
    return 0.5 * (jnp.square(mean) + jnp.expm1(logvar) - logvar)


def kl_diagonal_gaussian(
    mean: Num[ArrayLike, "batch *latents"], logvar: Num[ArrayLike, "..."]
) -> Float[Array, " batch"]:
    """KL(N(mean, diag exp(logvar)) ‖ N(0, I))."""
    return sum_per_example(kl_diagonal_gaussian_per_dimension(mean, logvar))
