"""One row a loss: how it is called, and at which inputs it must stay finite."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen import losses as L

BATCH = 4


class Case(NamedTuple):
    function: object
    floats: tuple[tuple[int, ...], ...]
    """Shapes of the float arguments, differentiated."""
    integers: tuple[int, ...] | None = None
    """Shape of a last argument of integers below 5."""
    extremes: tuple[tuple[float, float], ...] = ((-1e4, 1e4),)
    """For each float argument, or for all, values at which float32 must stay finite."""
    couples_examples: bool = False


LATENTS, IMAGE = (BATCH, 3), (BATCH, 2, 3)
LOGVAR = (-60.0, 20.0)
GAUSSIAN = ((-1e4, 1e4), LOGVAR)


def smooth_critic(x):
    return jnp.sqrt(1 + jnp.square(x)).sum(axis=1)


CASES = {
    "gaussian_nll": Case(L.gaussian_nll, (IMAGE, IMAGE)),
    "gaussian_nll, learned scale": Case(
        lambda m, x, s: L.gaussian_nll(m, x, scale=jnp.exp(s)),
        (IMAGE, IMAGE, IMAGE),
        extremes=(*GAUSSIAN[:1],) * 3,
    ),
    "bernoulli_nll": Case(L.bernoulli_nll, (IMAGE, IMAGE)),
    "continuous_bernoulli_nll": Case(L.continuous_bernoulli_nll, (IMAGE, IMAGE)),
    "categorical_nll": Case(L.categorical_nll, ((*IMAGE, 5),), integers=IMAGE),
    "discretized_logistic_nll": Case(
        lambda m, s, k: L.discretized_logistic_nll(m, s, k, num_levels=5),
        (IMAGE, IMAGE),
        integers=IMAGE,
        extremes=GAUSSIAN,
    ),
    "optimal_gaussian_scale": Case(
        lambda m, x: L.optimal_gaussian_scale(m, x)[None], (IMAGE, IMAGE), couples_examples=True
    ),
    "bits_per_dim": Case(lambda nll: L.bits_per_dim(nll, 10), ((BATCH,),)),
    "kl_diagonal_gaussian": Case(L.kl_diagonal_gaussian, (LATENTS, LATENTS), extremes=GAUSSIAN),
    "kl_diagonal_gaussian_per_dimension": Case(
        L.kl_diagonal_gaussian_per_dimension, (LATENTS, LATENTS), extremes=GAUSSIAN
    ),
    "kl_isotropic_gaussian": Case(
        lambda m, s: L.kl_isotropic_gaussian(m, jnp.exp(s)),
        (LATENTS, (BATCH,)),
        extremes=((-1e4, 1e4), (-30, 10)),
    ),
    "kl_between_diagonal_gaussians": Case(
        L.kl_between_diagonal_gaussians, (LATENTS,) * 4, extremes=(*GAUSSIAN, *GAUSSIAN)
    ),
    "kl_categorical_uniform": Case(L.kl_categorical_uniform, ((BATCH, 2, 5),)),
    "maximum_mean_discrepancy": Case(
        lambda x, y: L.maximum_mean_discrepancy(x, y)[None], (LATENTS, LATENTS), couples_examples=True
    ),
    "maximum_mean_discrepancy, rbf": Case(
        lambda x, y: L.maximum_mean_discrepancy(x, y, kernel="rbf", unbiased=False)[None],
        (LATENTS, LATENTS),
        couples_examples=True,
    ),
    "kl_decomposition": Case(
        lambda z, m, v: jnp.stack(L.kl_decomposition(z, m, v, dataset_size=9), axis=-1) @ jnp.arange(3.0),
        (LATENTS,) * 3,
        extremes=((-1e4, 1e4), *GAUSSIAN),
        couples_examples=True,
    ),
    "negative_elbo": Case(lambda n, k: L.negative_elbo(n, k, beta=2.0), ((BATCH,), (BATCH,))),
    "importance_weighted_bound": Case(lambda w: L.importance_weighted_bound(w, axis=1), (LATENTS,)),
    "free_bits": Case(lambda k: L.free_bits(jnp.abs(k), floor=0.5), (LATENTS,), couples_examples=True),
    "codebook_loss": Case(lambda e: L.codebook_loss(jnp.ones_like(e), e), (IMAGE,)),
    "commitment_loss": Case(lambda z: L.commitment_loss(z, jnp.ones_like(z)), (IMAGE,)),
    "minimax_discriminator_loss": Case(L.minimax_discriminator_loss, ((BATCH,), (BATCH,))),
    "minimax_generator_loss": Case(L.minimax_generator_loss, ((BATCH,),)),
    "non_saturating_generator_loss": Case(L.non_saturating_generator_loss, ((BATCH,),)),
    "hinge_discriminator_loss": Case(L.hinge_discriminator_loss, ((BATCH, 2), (BATCH, 2))),
    "hinge_generator_loss": Case(L.hinge_generator_loss, ((BATCH, 2),)),
    "least_squares_discriminator_loss": Case(L.least_squares_discriminator_loss, ((BATCH,), (BATCH,))),
    "least_squares_generator_loss": Case(L.least_squares_generator_loss, ((BATCH,),)),
    "wasserstein_discriminator_loss": Case(L.wasserstein_discriminator_loss, ((BATCH,), (BATCH,))),
    "wasserstein_generator_loss": Case(L.wasserstein_generator_loss, ((BATCH,),)),
    "gradient_penalty": Case(
        lambda x, y: L.gradient_penalty(smooth_critic, x, y, jax.random.key(0)),
        (LATENTS, LATENTS),
        couples_examples=True,  # the share u belongs to the position in the batch
    ),
    "r1_penalty": Case(lambda x: L.r1_penalty(smooth_critic, x), (LATENTS,)),
    "group_lasso": Case(lambda w: L.group_lasso(w, axis=1)[None], (LATENTS,), couples_examples=True),
    "prox_group_lasso": Case(lambda w: L.prox_group_lasso(w, 0.1, axis=1), (LATENTS,)),
}
WITHOUT_ARRAYS = {"kl_one_hot_uniform", "KLDecomposition"}


def arguments(case, dtype=np.float64, seed=0):
    rng = np.random.default_rng(seed)
    floats = [rng.normal(size=shape).astype(dtype) for shape in case.floats]
    return floats, [] if case.integers is None else [rng.integers(0, 5, case.integers)]
