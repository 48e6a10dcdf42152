"""Bounds on a model whose evidence is known in closed form, and free bits against their definition."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from losses.compiled import (
    free_bits,
    gaussian_nll,
    importance_weighted_bound,
    kl_diagonal_gaussian,
    negative_elbo,
)

RNG = np.random.default_rng(2)


def test_elbo_with_the_exact_posterior_is_the_evidence(x64):
    # z ~ N(0, 1), x | z ~ N(z, 1): x ~ N(0, 2), z | x ~ N(x/2, 1/2), and E[nll] is closed-form.
    x = RNG.normal(size=(5, 1)) * 2
    mean, logvar = x / 2, np.full_like(x, np.log(0.5))
    expected_nll = gaussian_nll(mean, x) + 0.5 * np.exp(logvar).sum(axis=1)
    evidence = -scipy.stats.norm.logpdf(x[:, 0], 0, np.sqrt(2))
    np.testing.assert_allclose(negative_elbo(expected_nll, kl_diagonal_gaussian(mean, logvar)), evidence, rtol=1e-10)


def test_beta_weighs_the_divergence_alone(x64):
    nll, kl = RNG.uniform(size=(2, 4))
    np.testing.assert_allclose(negative_elbo(nll, kl, beta=3.0), nll + 3 * kl, rtol=1e-14)
    np.testing.assert_array_equal(negative_elbo(nll, kl, beta=0.0), nll)
    betas = np.arange(4.0)
    np.testing.assert_allclose(negative_elbo(nll, kl, beta=betas), nll + betas * kl, rtol=1e-14)


def test_a_traced_beta_follows_its_schedule():
    @jax.jit
    def objective(step):
        return negative_elbo(jnp.ones(1), jnp.ones(1), beta=jnp.minimum(step / 10, 1.0))[0]

    np.testing.assert_allclose([objective(0.0), objective(5.0), objective(20.0)], [1, 1.5, 2])


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_importance_weighted_bound_is_the_log_of_the_mean_weight(x64, axis):
    log_weights = RNG.normal(size=(3, 4, 5)) * 5
    expected = np.log(np.exp(log_weights).mean(axis=axis))
    np.testing.assert_allclose(importance_weighted_bound(log_weights, axis=axis), expected, rtol=1e-12)


def test_importance_weighted_bound_grows_with_samples_to_the_evidence(x64):
    # Posterior N(0, 1) in place of N(x/2, 1/2): weights are p(x|z), and their mean is p(x).
    x = 1.0
    z = RNG.normal(size=(200_000,))
    log_weights = scipy.stats.norm.logpdf(x, z, 1)
    bounds = [importance_weighted_bound(log_weights.reshape(k, -1)).mean() for k in (1, 5, 50, 5000)]
    evidence = scipy.stats.norm.logpdf(x, 0, np.sqrt(2))
    assert np.all(np.diff(bounds) > 0)
    np.testing.assert_allclose(bounds[0], -0.5 * np.log(2 * np.pi) - 1, atol=0.01)
    np.testing.assert_allclose(bounds[-1], evidence, atol=0.003)


@pytest.mark.parametrize("samples", [1, 4])
def test_bound_of_no_weight_at_all_is_minus_infinity_with_the_gradient_of_equal_weights(samples):
    for level in (-jnp.inf, -7.0):
        value, gradient = jax.value_and_grad(importance_weighted_bound)(jnp.full(samples, level))
        assert value == level
        np.testing.assert_allclose(gradient, np.full(samples, 1 / samples), rtol=1e-6)
    some, gradient = jax.value_and_grad(importance_weighted_bound)(jnp.array([-jnp.inf, 0.0]))
    np.testing.assert_allclose(some, -np.log(2), rtol=1e-6)
    np.testing.assert_array_equal(gradient, [0, 1])


@given(seed=st.integers(0, 2**32 - 1), shift=st.floats(-1e3, 1e3))
@settings(max_examples=20, deadline=None)
def test_importance_weighted_bound_shifts_permutes_and_merges(seed, shift):
    rng = np.random.default_rng(seed)
    log_weights = rng.normal(size=(6, 3)) * 10
    with jax.enable_x64(True):
        bound = importance_weighted_bound(log_weights)
        shifted = importance_weighted_bound(log_weights + shift)
        permuted = importance_weighted_bound(rng.permutation(log_weights))
        one, two = importance_weighted_bound(log_weights[:2]), importance_weighted_bound(log_weights[2:])
        np.testing.assert_allclose(shifted, bound + shift, atol=1e-9)
        np.testing.assert_allclose(permuted, bound, atol=1e-12)
        merged = np.logaddexp(one + np.log(2), two + np.log(4)) - np.log(6)
        np.testing.assert_allclose(merged, bound, atol=1e-12)
        assert np.all(bound >= log_weights.mean(axis=0) - 1e-12)


def test_bound_survives_weights_that_no_float_holds():
    value, gradient = jax.value_and_grad(lambda w: importance_weighted_bound(w))(jnp.array([-1e4, 1e4, 1e4]))
    np.testing.assert_allclose(value, 1e4 + np.log(2 / 3), rtol=1e-6)
    np.testing.assert_allclose(gradient, [0, 0.5, 0.5], atol=1e-6)


def test_free_bits_put_the_floor_under_the_mean_of_the_batch(x64):
    kl = RNG.exponential(size=(6, 2, 5)) * np.array([0.05, 0.5, 1, 2, 3])
    kl[0] = 0
    expected = np.maximum(kl.mean(axis=0), 0.7).sum()
    result = free_bits(kl, floor=0.7)
    assert result.shape == (6,)
    np.testing.assert_allclose(result.mean(), expected, rtol=1e-12)
    gradient = jax.grad(lambda k: free_bits(k, floor=0.7).mean())(kl)
    np.testing.assert_allclose(gradient, np.broadcast_to((kl.mean(axis=0) > 0.7) / 6, kl.shape), rtol=1e-12)


def test_free_bits_per_example_floor_each_entry(x64):
    kl = RNG.exponential(size=(6, 5))
    expected = np.maximum(kl, 0.7).sum(axis=1)
    np.testing.assert_allclose(free_bits(kl, floor=0.7, per_example=True), expected, rtol=1e-12)


@pytest.mark.parametrize("per_example", [False, True])
def test_a_divergence_that_is_nan_shows_through_the_floor(per_example):
    kl = jnp.array([[0.1, 1.0], [jnp.nan, 1.0]])
    assert np.isnan(free_bits(kl, floor=0.5, per_example=per_example).mean())


@pytest.mark.parametrize("per_example", [False, True])
def test_no_free_bits_is_the_plain_divergence(x64, per_example):
    kl = RNG.exponential(size=(6, 5))
    np.testing.assert_allclose(free_bits(kl, floor=0.0, per_example=per_example), kl.sum(axis=1), rtol=1e-12)


def test_free_bits_on_four_devices_see_the_whole_batch():
    kl = RNG.exponential(size=(4, 2, 5)).astype(np.float32) * np.arange(4)[:, None, None]
    spread = jax.pmap(lambda k: free_bits(k, floor=1.5, axis_name="d"), axis_name="d")(kl)
    whole = free_bits(kl.reshape(8, 5), floor=1.5)
    np.testing.assert_allclose(spread.reshape(8), whole, rtol=1e-6)
