"""Objectives as pure functions of arrays: per example, in nats, summed over every axis but the batch."""

from jaxgen.losses.adversarial import (
    hinge_discriminator_loss,
    hinge_generator_loss,
    least_squares_discriminator_loss,
    least_squares_generator_loss,
    minimax_discriminator_loss,
    minimax_generator_loss,
    non_saturating_generator_loss,
    wasserstein_discriminator_loss,
    wasserstein_generator_loss,
)
from jaxgen.losses.bounds import free_bits, importance_weighted_bound, negative_elbo
from jaxgen.losses.divergence import kl_diagonal_gaussian, kl_diagonal_gaussian_per_dimension
from jaxgen.losses.likelihood import (
    bernoulli_nll,
    bits_per_dim,
    continuous_bernoulli_nll,
    gaussian_nll,
    optimal_gaussian_scale,
)
from jaxgen.losses.quantization import codebook_loss, commitment_loss

__all__ = [
    # likelihood
    "gaussian_nll",
    "bernoulli_nll",
    "continuous_bernoulli_nll",
    "optimal_gaussian_scale",
    "bits_per_dim",
    # divergence
    "kl_diagonal_gaussian",
    "kl_diagonal_gaussian_per_dimension",
    # bounds
    "negative_elbo",
    "importance_weighted_bound",
    "free_bits",
    # quantization
    "codebook_loss",
    "commitment_loss",
    # adversarial
    "minimax_discriminator_loss",
    "minimax_generator_loss",
    "non_saturating_generator_loss",
    "hinge_discriminator_loss",
    "hinge_generator_loss",
    "least_squares_discriminator_loss",
    "least_squares_generator_loss",
    "wasserstein_discriminator_loss",
    "wasserstein_generator_loss",
]
