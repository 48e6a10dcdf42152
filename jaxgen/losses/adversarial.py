"""Losses of the two players of a generative adversarial network, from logits, per example, each to be minimized."""

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Float, Num

from jaxgen.losses._checks import as_predictions, as_targets, sum_per_example


def _real_and_fake(real_logits: ArrayLike, fake_logits: ArrayLike) -> tuple[Array, Array]:
    real = as_predictions("real_logits", real_logits)
    return as_targets("fake_logits", as_predictions("fake_logits", fake_logits), "real_logits", real)


def minimax_discriminator_loss(
    real_logits: Num[ArrayLike, "batch *dims"], fake_logits: Num[ArrayLike, "..."]
) -> Float[Array, " batch"]:
    """−log D(x) − log(1 − D(G(z)))."""
    real, fake = _real_and_fake(real_logits, fake_logits)
    return sum_per_example(jax.nn.softplus(-real) + jax.nn.softplus(fake))


def minimax_generator_loss(fake_logits: Num[ArrayLike, "batch *dims"]) -> Float[Array, " batch"]:
    """log(1 − D(G(z)))."""
    return sum_per_example(-jax.nn.softplus(as_predictions("fake_logits", fake_logits)))


def non_saturating_generator_loss(fake_logits: Num[ArrayLike, "batch *dims"]) -> Float[Array, " batch"]:
    """−log D(G(z))."""
    return sum_per_example(jax.nn.softplus(-as_predictions("fake_logits", fake_logits)))


def hinge_discriminator_loss(
    real_logits: Num[ArrayLike, "batch *dims"], fake_logits: Num[ArrayLike, "..."]
) -> Float[Array, " batch"]:
    """max(0, 1 − D(x)) + max(0, 1 + D(G(z)))."""
    real, fake = _real_and_fake(real_logits, fake_logits)
    return sum_per_example(jax.nn.relu(1 - real) + jax.nn.relu(1 + fake))


def hinge_generator_loss(fake_logits: Num[ArrayLike, "batch *dims"]) -> Float[Array, " batch"]:
    """−D(G(z))."""
    return sum_per_example(-as_predictions("fake_logits", fake_logits))


def least_squares_discriminator_loss(
    real_logits: Num[ArrayLike, "batch *dims"], fake_logits: Num[ArrayLike, "..."]
) -> Float[Array, " batch"]:
    """½(D(x) − 1)² + ½D(G(z))²."""
    real, fake = _real_and_fake(real_logits, fake_logits)
    return sum_per_example(0.5 * jnp.square(real - 1) + 0.5 * jnp.square(fake))


def least_squares_generator_loss(fake_logits: Num[ArrayLike, "batch *dims"]) -> Float[Array, " batch"]:
    """½(D(G(z)) − 1)²."""
    return sum_per_example(0.5 * jnp.square(as_predictions("fake_logits", fake_logits) - 1))


def wasserstein_discriminator_loss(
    real_logits: Num[ArrayLike, "batch *dims"], fake_logits: Num[ArrayLike, "..."]
) -> Float[Array, " batch"]:
    """D(G(z)) − D(x)."""
    real, fake = _real_and_fake(real_logits, fake_logits)
    return sum_per_example(fake - real)


def wasserstein_generator_loss(fake_logits: Num[ArrayLike, "batch *dims"]) -> Float[Array, " batch"]:
    """−D(G(z))."""
    return sum_per_example(-as_predictions("fake_logits", fake_logits))
