"""Mode coverage against brute force, the Gaussian's radial law and scipy's entropy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxgen.metrics import mode_counts, mode_coverage, reverse_kl


def ring(num_modes: int = 8) -> np.ndarray:
    angles = 2 * np.pi * np.arange(num_modes) / num_modes
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def counts_by_loops(samples: np.ndarray, centers: np.ndarray, radius: float) -> list[int]:
    counts = [0] * len(centers)
    for sample in samples:
        distances = [np.linalg.norm(sample - center) for center in centers]
        if min(distances) <= radius:
            counts[int(np.argmin(distances))] += 1
    return counts


@pytest.mark.parametrize("radius", [0.2, 0.8, 3.0, np.inf])
def test_counts_equal_loops_also_where_balls_overlap(x64, radius):
    generator = np.random.default_rng(0)
    samples, centers = generator.normal(size=(600, 3)), generator.normal(size=(7, 3))
    expected = counts_by_loops(samples, centers, radius)
    assert mode_counts(samples, centers, radius=radius).tolist() == expected
    coverage = mode_coverage(samples, centers, radius=radius)
    assert coverage.modes == np.count_nonzero(expected)
    np.testing.assert_allclose(coverage.high_quality, sum(expected) / 600, rtol=1e-12)


def test_true_mixture_covers_every_mode_with_the_radial_share():
    generator = np.random.default_rng(1)
    num_samples = 20_000
    samples = ring()[generator.integers(8, size=num_samples)] + 0.01 * generator.normal(size=(num_samples, 2))
    coverage = mode_coverage(samples.astype(np.float32), ring().astype(np.float32), radius=0.03)
    share = 1 - np.exp(-4.5)
    assert coverage.modes == 8
    assert abs(coverage.high_quality - share) < 4 * np.sqrt(share * (1 - share) / num_samples)


def test_radius_is_closed_and_farther_samples_touch_no_mode():
    centers = jnp.array([[0.0, 0.0], [10.0, 0.0]])
    coverage = mode_coverage(jnp.array([[0.0, 0.5], [9.0, 0.0]]), centers, radius=0.5)
    assert (coverage.modes, coverage.high_quality) == (1, 0.5)


def test_a_sample_that_is_nan_is_of_no_quality():
    samples = jnp.array([[jnp.nan, 0.0], [0.0, 0.0]])
    assert mode_counts(samples, jnp.zeros((1, 2))).tolist() == [1]


def test_float32_keeps_its_digits_far_from_the_origin():
    centers = 1000.0 + jnp.array([[0.0], [1.0]])
    samples = centers + jnp.array([[0.02], [0.04]])
    assert mode_counts(samples, centers, radius=0.03).tolist() == [1, 0]


def test_jit_with_a_traced_radius():
    samples, centers = jnp.array([[0.1], [2.0]]), jnp.array([[0.0], [1.0]])
    coverage = jax.jit(lambda r: mode_coverage(samples, centers, radius=r))(0.3)
    assert (coverage.modes, coverage.high_quality) == (1, 0.5)


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 2**31))
def test_order_of_samples_and_modes_does_not_matter(seed):
    generator = np.random.default_rng(seed)
    samples, centers = generator.normal(size=(40, 2)), generator.normal(size=(5, 2))
    order = generator.permutation(5)
    counts = mode_counts(samples, centers, radius=0.7)
    permuted = mode_counts(generator.permutation(samples), centers[order], radius=0.7)
    np.testing.assert_array_equal(permuted, np.asarray(counts)[order])


def test_reverse_kl_equals_scipy(x64):
    counts, reference = np.array([5, 0, 2, 13]), np.array([1.0, 4.0, 2.0, 3.0])
    np.testing.assert_allclose(reverse_kl(counts), scipy.stats.entropy(counts, np.ones(4)), rtol=1e-12)
    np.testing.assert_allclose(reverse_kl(counts, reference), scipy.stats.entropy(counts, reference), rtol=1e-12)


def test_reverse_kl_at_its_limits():
    divergence = jax.jit(reverse_kl)
    assert divergence(jnp.array([7, 7, 7, 7])) == pytest.approx(0, abs=1e-6)
    assert divergence(jnp.array([0, 9, 0, 0])) == pytest.approx(np.log(4), rel=1e-6)
    assert divergence(jnp.array([1, 1]), jnp.array([1, 0])) == np.inf
    assert np.isnan(divergence(jnp.array([0, 0, 0, 0])))


@pytest.mark.parametrize("radius", [0.0, -1.0, float("nan")])
def test_radius_must_be_positive(radius):
    with pytest.raises(ValueError, match="radius must be positive, got"):
        mode_coverage(jnp.zeros((2, 2)), jnp.zeros((1, 2)), radius=radius)


def test_shapes_that_do_not_match_are_named():
    with pytest.raises(ValueError, match=r"samples and centers .* \(2, 2\) and \(1, 3\)"):
        mode_coverage(jnp.zeros((2, 2)), jnp.zeros((1, 3)), radius=1.0)
    with pytest.raises(ValueError, match=r"samples must have shape .* \(2,\)"):
        mode_counts(jnp.zeros(2), jnp.zeros((1, 2)))
    with pytest.raises(ValueError, match=r"samples must hold at least 1 rows, got shape \(0, 2\)"):
        mode_counts(jnp.zeros((0, 2)), jnp.zeros((1, 2)))
    with pytest.raises(ValueError, match=r"centers must hold at least 1 rows, got shape \(0, 2\)"):
        mode_counts(jnp.zeros((1, 2)), jnp.zeros((0, 2)))
    with pytest.raises(ValueError, match=r"centers must have shape .* \(2,\)"):
        mode_counts(jnp.zeros((1, 2)), jnp.zeros(2))
    with pytest.raises(ValueError, match=r"counts must have shape \[modes\], got \(2, 2\)"):
        reverse_kl(jnp.ones((2, 2)))
    with pytest.raises(ValueError, match=r"reference .* \(3,\) and \(2,\)"):
        reverse_kl(jnp.ones(2), jnp.ones(3))
