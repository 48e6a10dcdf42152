"""Parzen windows against scikit-learn's kernel density."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.test_util import check_grads
from sklearn.neighbors import KernelDensity

from jaxgen.metrics import parzen_log_likelihood


@pytest.mark.parametrize(("bandwidth", "d"), [(0.1, 1), (0.7, 3), (2.5, 20)])
def test_equals_scikit_learn(x64, bandwidth, d):
    generator = np.random.default_rng(d)
    samples, points = generator.normal(size=(90, d)), generator.normal(size=(300, d)) + 0.5
    expected = KernelDensity(bandwidth=bandwidth).fit(samples).score_samples(points)
    np.testing.assert_allclose(parzen_log_likelihood(samples, points, bandwidth=bandwidth), expected, rtol=1e-9)


def test_one_sample_is_one_gaussian(x64):
    points = np.random.default_rng(0).normal(size=(5, 4))
    expected = scipy.stats.norm(0.3, 0.5).logpdf(points).sum(axis=1)
    actual = parzen_log_likelihood(np.full((1, 4), 0.3), points, bandwidth=0.5)
    np.testing.assert_allclose(actual, expected, rtol=1e-12)


def test_integrates_to_one(x64):
    samples = np.array([[-1.0], [0.2], [0.4]])
    grid = np.linspace(-8, 8, 4001)
    density = np.exp(parzen_log_likelihood(samples, grid[:, None], bandwidth=0.4))
    np.testing.assert_allclose(np.sum(density) * (grid[1] - grid[0]), 1.0, rtol=1e-10)


def test_float32_far_from_the_origin_loses_no_digits():
    generator = np.random.default_rng(1)
    samples, points = generator.integers(-8, 8, size=(2, 20, 6)) / 8.0
    near = parzen_log_likelihood(samples.astype(np.float32), points.astype(np.float32), bandwidth=0.2)
    far = parzen_log_likelihood((samples + 4096).astype(np.float32), (points + 4096).astype(np.float32), bandwidth=0.2)
    np.testing.assert_allclose(far, near, atol=0.05)


def test_float32_resolves_a_narrow_window_in_few_dimensions():
    samples, points = np.random.default_rng(3).normal(size=(2, 50, 2)).astype(np.float32)
    expected = KernelDensity(bandwidth=1e-3).fit(samples).score_samples(points)
    actual = parzen_log_likelihood(samples, points, bandwidth=1e-3)
    np.testing.assert_allclose(actual, expected, rtol=5e-6)


@pytest.mark.parametrize("bandwidth", [1e-3, 1e3])
def test_extremes_are_finite_in_value_and_gradient(bandwidth):
    samples = jnp.asarray(np.random.default_rng(4).normal(size=(50, 6)), jnp.float32)
    points = jnp.array([[0.0] * 6, [100.0, -100.0, 77.7, 1e4, 3.3, 0.1]])
    total = jax.value_and_grad(lambda x: parzen_log_likelihood(samples, x, bandwidth=bandwidth).sum())
    value, gradient = total(points)
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()


def test_gradients_to_samples_points_and_bandwidth(x64):
    samples, points = np.random.default_rng(2).normal(size=(2, 6, 3))

    def total(samples, points, bandwidth):
        return parzen_log_likelihood(samples, points, bandwidth=bandwidth)

    check_grads(total, (samples, points, 0.8), order=1, modes=("rev",))


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 2**31), st.floats(-50, 50))
def test_shift_and_order_do_not_matter(seed, shift):
    generator = np.random.default_rng(seed)
    samples, points = generator.normal(size=(2, 7, 2))
    with jax.enable_x64(True):
        value = parzen_log_likelihood(samples, points, bandwidth=0.5)
        moved = parzen_log_likelihood(generator.permutation(samples) + shift, points + shift, bandwidth=0.5)
        np.testing.assert_allclose(moved, value, rtol=1e-8, atol=1e-9)


def test_memory_stays_within_chunks_also_in_the_gradient():
    points = jax.ShapeDtypeStruct((10_000, 64), jnp.float32)

    def total(samples, points):
        return parzen_log_likelihood(samples, points, bandwidth=0.2).sum()

    compiled = jax.jit(jax.grad(total, (0, 1))).lower(points, points).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < 10_000 * 10_000 * 4 / 4


def test_bad_input():
    with pytest.raises(ValueError, match=r"samples and points .* \(5, 3\) and \(2, 4\)"):
        parzen_log_likelihood(jnp.zeros((5, 3)), jnp.zeros((2, 4)), bandwidth=1.0)
    with pytest.raises(ValueError, match=r"bandwidth must be positive, got -0\.5"):
        parzen_log_likelihood(jnp.zeros((5, 3)), jnp.zeros((2, 3)), bandwidth=-0.5)
    with pytest.raises(ValueError, match=r"points must have shape .* got \(3,\)"):
        parzen_log_likelihood(jnp.zeros((5, 3)), jnp.zeros(3), bandwidth=1.0)
    with pytest.raises(ValueError, match=r"samples must hold at least 1 rows, got shape \(0, 3\)"):
        parzen_log_likelihood(jnp.zeros((0, 3)), jnp.zeros((2, 3)), bandwidth=1.0)
