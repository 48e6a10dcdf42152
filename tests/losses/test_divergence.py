"""Divergences against numpyro, quadrature, loops over pairs and exact enumeration of the data set."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
import scipy.integrate
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxgen.losses import kl_one_hot_uniform
from losses.compiled import (
    kl_between_diagonal_gaussians,
    kl_categorical_uniform,
    kl_decomposition,
    kl_diagonal_gaussian,
    kl_diagonal_gaussian_per_dimension,
    kl_isotropic_gaussian,
    maximum_mean_discrepancy,
)

RNG = np.random.default_rng(1)


def test_kl_to_the_standard_normal_is_the_integral(x64):
    mean, logvar = np.array([[0.3, -1.2, 0.0]]), np.array([[0.5, -2.0, 0.0]])

    def integral(m, lv):
        q, p = scipy.stats.norm(m, np.exp(lv / 2)), scipy.stats.norm(0, 1)
        return scipy.integrate.quad(lambda z: q.pdf(z) * (q.logpdf(z) - p.logpdf(z)), -15, 15, epsabs=1e-11)[0]

    expected = [integral(m, lv) for m, lv in zip(mean[0], logvar[0])]
    np.testing.assert_allclose(kl_diagonal_gaussian_per_dimension(mean, logvar)[0], expected, atol=1e-9)
    np.testing.assert_allclose(kl_diagonal_gaussian(mean, logvar), [sum(expected)], atol=1e-9)


def test_kl_between_gaussians_is_that_of_numpyro(x64):
    mean_q, logvar_q, mean_p, logvar_p = RNG.normal(size=(4, 5, 2, 3))
    q = dist.Normal(mean_q, np.exp(logvar_q / 2)).to_event(2)
    p = dist.Normal(mean_p, np.exp(logvar_p / 2)).to_event(2)
    result = kl_between_diagonal_gaussians(mean_q, logvar_q, mean_p, logvar_p)
    np.testing.assert_allclose(result, dist.kl_divergence(q, p), rtol=1e-10)


def test_kl_of_one_scale_counts_every_dimension(x64):
    mean, scale = RNG.normal(size=(4, 2, 3)), RNG.uniform(0.1, 3, 4)
    logvar = np.broadcast_to(2 * np.log(scale)[:, None, None], mean.shape)
    np.testing.assert_allclose(kl_isotropic_gaussian(mean, scale), kl_diagonal_gaussian(mean, logvar), rtol=1e-12)
    # 50 dimensions at σ = 1/e: (50/2)(e⁻² − 1) + 50.
    np.testing.assert_allclose(
        kl_isotropic_gaussian(np.zeros((1, 50)), np.exp(-1.0)), 25 * (np.exp(-2) - 1) + 50, rtol=1e-12
    )


@given(seed=st.integers(0, 2**32 - 1), shift=st.floats(-5, 5))
@settings(max_examples=15, deadline=None)
def test_kl_between_gaussians_is_non_negative_and_ignores_a_common_shift(seed, shift):
    mean_q, logvar_q, mean_p, logvar_p = np.random.default_rng(seed).normal(size=(4, 3, 2))
    with jax.enable_x64(True):
        kl = kl_between_diagonal_gaussians(mean_q, logvar_q, mean_p, logvar_p)
        shifted = kl_between_diagonal_gaussians(mean_q + shift, logvar_q, mean_p + shift, logvar_p)
        itself = kl_between_diagonal_gaussians(mean_q, logvar_q, mean_q, logvar_q)
        # Scaling both by e leaves the divergence as it is.
        scaled = kl_between_diagonal_gaussians(mean_q * np.e, logvar_q + 2, mean_p * np.e, logvar_p + 2)
        assert np.all(kl >= 0)
        np.testing.assert_allclose(shifted, kl, rtol=1e-8, atol=1e-10)
        np.testing.assert_allclose(scaled, kl, rtol=1e-8, atol=1e-10)
        np.testing.assert_array_equal(itself, 0)


def test_kl_keeps_its_digits_near_the_prior():
    # exp(v) − 1 − v = v²/2 + …; in float32 the naive form is wrong by half at v = 1e-3.
    kl = kl_diagonal_gaussian(jnp.zeros((1, 1)), jnp.full((1, 1), 1e-3))
    np.testing.assert_allclose(kl, 1e-6 / 4, rtol=2e-4)


def test_categorical_kl_is_that_of_scipy(x64):
    logits = RNG.normal(size=(4, 3, 5)) * 2
    probs = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    expected = scipy.stats.entropy(probs, np.full_like(probs, 0.2), axis=-1).sum(axis=-1)
    np.testing.assert_allclose(kl_categorical_uniform(logits), expected, rtol=1e-10)
    np.testing.assert_allclose(kl_categorical_uniform(logits + 7), expected, rtol=1e-10)


def test_categorical_kl_at_its_ends(x64):
    np.testing.assert_allclose(kl_categorical_uniform(np.zeros((1, 3, 8))), 0, atol=1e-14)
    certain = np.full((1, 3, 8), -1e4)
    certain[..., 2] = 0
    np.testing.assert_allclose(kl_categorical_uniform(certain), 3 * np.log(8), rtol=1e-14)
    np.testing.assert_allclose(kl_one_hot_uniform(8), np.log(8), rtol=1e-14)


def test_categorical_kl_lets_a_class_be_excluded():
    logits = jnp.array([[[0.0, 0.0, -jnp.inf]]])
    value, gradient = jax.value_and_grad(lambda e: kl_categorical_uniform(e).sum())(logits)
    np.testing.assert_allclose(value, np.log(3 / 2), rtol=1e-6)
    np.testing.assert_allclose(gradient, 0, atol=1e-7)


def mmd_by_loops(x, y, kernel, bandwidth, unbiased):
    def k(a, b):
        r2 = ((a - b) ** 2).sum()
        return np.exp(-r2 / (2 * bandwidth**2)) if kernel == "rbf" else 1 / (1 + r2 / (2 * bandwidth**2))

    def mean(a, b, same):
        values = [k(p, q) for i, p in enumerate(a) for j, q in enumerate(b) if not (same and unbiased and i == j)]
        return np.mean(values)

    return mean(x, x, True) + mean(y, y, True) - 2 * mean(x, y, False)


@pytest.mark.parametrize("unbiased", [True, False])
@pytest.mark.parametrize("kernel", ["imq", "rbf"])
def test_mmd_is_its_sum_over_pairs(x64, kernel, unbiased):
    x, y = RNG.normal(size=(6, 3)), RNG.normal(size=(4, 3)) + 0.5
    expected = mmd_by_loops(x, y, kernel, 0.7, unbiased)
    result = maximum_mean_discrepancy(x, y, kernel=kernel, bandwidth=0.7, unbiased=unbiased)
    np.testing.assert_allclose(result, expected, rtol=1e-10)
    default = maximum_mean_discrepancy(x, y, kernel=kernel, unbiased=unbiased)
    np.testing.assert_allclose(default, mmd_by_loops(x, y, kernel, np.sqrt(3), unbiased), rtol=1e-10)


def test_mmd_of_gaussians_is_unbiased_around_its_integral(x64):
    # One dimension, x ~ N(0, 1), y ~ N(δ, 1), kernel h: E k = h/√(h²+2) · exp(−δ²/(2(h²+2))).
    h, shift, repeats, n = 1.3, 0.8, 4000, 5
    expected = 2 * h / np.sqrt(h**2 + 2) * (1 - np.exp(-(shift**2) / (2 * (h**2 + 2))))
    x, y = RNG.normal(size=(repeats, n, 1)), RNG.normal(size=(repeats, n, 1)) + shift
    estimates = jax.vmap(lambda a, b: maximum_mean_discrepancy(a, b, kernel="rbf", bandwidth=h))(x, y)
    assert abs(estimates.mean() - expected) < 4 * estimates.std() / np.sqrt(repeats)
    assert estimates.min() < 0


@given(seed=st.integers(0, 2**32 - 1), kernel=st.sampled_from(["imq", "rbf"]))
@settings(max_examples=15, deadline=None)
def test_mmd_ignores_order_and_common_shifts(seed, kernel):
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(2, 5, 3))
    with jax.enable_x64(True):
        value = maximum_mean_discrepancy(x, y, kernel=kernel)
        swapped = maximum_mean_discrepancy(y, rng.permutation(x), kernel=kernel)
        moved = maximum_mean_discrepancy(x + 100, y + 100, kernel=kernel)
        same = maximum_mean_discrepancy(x, rng.permutation(x), kernel=kernel, unbiased=False)
        np.testing.assert_allclose(swapped, value, atol=1e-12)
        np.testing.assert_allclose(moved, value, atol=1e-10)
        np.testing.assert_allclose(same, 0, atol=1e-12)


def test_mmd_far_from_the_origin_keeps_its_digits_in_float32():
    # Eighths stay exact when 4096 is added.
    x, y = RNG.integers(-16, 17, size=(2, 8, 3)).astype(np.float32) / 8
    here, there = maximum_mean_discrepancy(x, y), maximum_mean_discrepancy(x + 4096, y + 4096)
    np.testing.assert_allclose(there, here, atol=2e-6)


def log_normal(z, mean, logvar):
    return scipy.stats.norm.logpdf(z, mean, np.exp(logvar / 2))


def test_decomposition_over_the_whole_data_set_is_exact(x64):
    num_data = 7
    mean, logvar = RNG.normal(size=(num_data, 2)), RNG.normal(size=(num_data, 2))
    z = mean + np.exp(logvar / 2) * RNG.normal(size=mean.shape)
    terms = kl_decomposition(z, mean, logvar, dataset_size=num_data, estimator="stratified")
    density = np.exp(log_normal(z[:, None], mean, logvar))
    log_q = np.log(density.prod(axis=-1).mean(axis=1))
    log_marginals = np.log(density.mean(axis=1)).sum(axis=-1)
    log_posterior = log_normal(z, mean, logvar).sum(axis=-1)
    log_prior = log_normal(z, 0, 0).sum(axis=-1)
    np.testing.assert_allclose(terms.mutual_information, log_posterior - log_q, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(terms.total_correlation, log_q - log_marginals, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(terms.dimension_wise_kl, log_marginals - log_prior, rtol=1e-10, atol=1e-12)


def test_weighted_decomposition_divides_by_batch_and_data_set(x64):
    mean, logvar, noise = RNG.normal(size=(3, 5, 2))
    z = mean + np.exp(logvar / 2) * noise
    terms = kl_decomposition(z, mean, logvar, dataset_size=100)
    density = np.exp(log_normal(z[:, None], mean, logvar))
    log_q = np.log(density.prod(axis=-1).sum(axis=1) / 500)
    log_marginals = np.log(density.sum(axis=1) / 500).sum(axis=-1)
    log_posterior = log_normal(z, mean, logvar).sum(axis=-1)
    np.testing.assert_allclose(terms.mutual_information, log_posterior - log_q, rtol=1e-10)
    np.testing.assert_allclose(terms.total_correlation, log_q - log_marginals, rtol=1e-10)


def test_stratified_aggregate_is_unbiased_over_all_minibatches(x64):
    # Every minibatch of 3 out of 5 that holds example 0: the mean of the estimates of q(z_0) is q(z_0).
    from itertools import combinations

    mean, logvar = RNG.normal(size=(2, 5, 1))
    estimates = []
    for others in combinations(range(1, 5), 2):
        rows = np.array([0, *others])
        terms = kl_decomposition(mean[rows], mean[rows], logvar[rows], dataset_size=5, estimator="stratified")
        log_posterior = log_normal(mean[0], mean[0], logvar[0]).sum()
        estimates.append(np.exp(log_posterior - terms.mutual_information[0]))
    exact = np.exp(log_normal(mean[0], mean, logvar)).prod(axis=-1).mean()
    np.testing.assert_allclose(np.mean(estimates), exact, rtol=1e-12)


@pytest.mark.parametrize("estimator", ["weighted", "stratified"])
def test_decomposition_adds_up_and_its_mean_is_the_kl(x64, estimator):
    mean, logvar = RNG.normal(size=(2, 400, 2)) * 0.5
    z = mean + np.exp(logvar / 2) * RNG.normal(size=mean.shape)
    terms = kl_decomposition(z, mean, logvar, dataset_size=5000, estimator=estimator)
    total = sum(terms)
    expected = log_normal(z, mean, logvar).sum(axis=-1) - log_normal(z, 0, 0).sum(axis=-1)
    np.testing.assert_allclose(total, expected, rtol=1e-9, atol=1e-10)
    kl = kl_diagonal_gaussian(mean, logvar)
    assert abs(total.mean() - kl.mean()) < 4 * np.std(expected - kl) / np.sqrt(400)
