"""Objectives as pure functions of arrays: one value an example, summed over every axis but the batch.

What is the logarithm of a probability is in nats. The maximum mean discrepancy alone is one number of two whole sets.

Arrays are positional and may be NumPy's or JAX's; hyperparameters are keywords. Float64 inputs give float64
results, half-precision ones are computed and summed in float32.
"""

from jaxgen.losses.adversarial import (
    gradient_penalty,
    hinge_discriminator_loss,
    hinge_generator_loss,
    least_squares_discriminator_loss,
    least_squares_generator_loss,
    minimax_discriminator_loss,
    minimax_generator_loss,
    non_saturating_generator_loss,
    r1_penalty,
    wasserstein_discriminator_loss,
    wasserstein_generator_loss,
)
from jaxgen.losses.bounds import free_bits, importance_weighted_bound, negative_elbo
from jaxgen.losses.divergence import (
    KLDecomposition,
    kl_between_diagonal_gaussians,
    kl_categorical_uniform,
    kl_decomposition,
    kl_diagonal_gaussian,
    kl_diagonal_gaussian_per_dimension,
    kl_isotropic_gaussian,
    kl_one_hot_uniform,
    maximum_mean_discrepancy,
)
from jaxgen.losses.likelihood import (
    bernoulli_nll,
    bits_per_dim,
    categorical_nll,
    continuous_bernoulli_nll,
    discretized_logistic_nll,
    gaussian_nll,
    optimal_gaussian_scale,
)
from jaxgen.losses.quantization import codebook_loss, commitment_loss
from jaxgen.losses.sparsity import group_lasso, prox_group_lasso

__all__ = [
    # likelihood
    "gaussian_nll",
    "bernoulli_nll",
    "continuous_bernoulli_nll",
    "categorical_nll",
    "discretized_logistic_nll",
    "optimal_gaussian_scale",
    "bits_per_dim",
    # divergence
    "kl_diagonal_gaussian",
    "kl_diagonal_gaussian_per_dimension",
    "kl_isotropic_gaussian",
    "kl_between_diagonal_gaussians",
    "kl_categorical_uniform",
    "kl_one_hot_uniform",
    "maximum_mean_discrepancy",
    "KLDecomposition",
    "kl_decomposition",
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
    "gradient_penalty",
    "r1_penalty",
    # sparsity
    "group_lasso",
    "prox_group_lasso",
]
