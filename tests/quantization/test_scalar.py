"""Scalar quantizers against published tables, SciPy's quadrature and enumeration."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from jaxgen.quantization import lloyd_max, lloyd_max_from_samples, optimal_scalar_quantizer, quantize_scalar

LINE = (-np.inf, np.inf)
LAPLACE = stats.laplace(scale=np.sqrt(0.5)).pdf
TABLE = [
    (stats.norm.pdf, 2, 0.363380, 0.363380227632),
    (stats.norm.pdf, 4, 0.117482, None),
    (stats.norm.pdf, 8, 0.0345478, None),
    (stats.norm.pdf, 16, 0.00950101, None),
    (LAPLACE, 2, 0.500000, 0.5),
    (LAPLACE, 4, 0.176195, None),
    (LAPLACE, 8, 0.0544760, None),
    (LAPLACE, 16, 0.0153725, None),
]


@pytest.mark.parametrize(("density", "num_levels", "published", "exact"), TABLE)
def test_lloyd_max_reaches_the_published_tables(x64, density, num_levels, published, exact):
    quantizer = lloyd_max(density, num_levels, support=LINE)
    assert float(quantizer.distortion) == pytest.approx(published, rel=5e-6)
    if exact is not None:
        assert float(quantizer.distortion) == pytest.approx(exact, abs=1e-11)
    assert float(quantizer.distortion) >= num_levels**-2.0 or density is LAPLACE


@pytest.mark.parametrize(
    ("density", "support", "num_levels"),
    [
        (stats.norm.pdf, LINE, 5),
        (stats.expon.pdf, (0, np.inf), 6),
        (stats.beta(2, 5).pdf, (0, 1), 7),
        (LAPLACE, LINE, 3),
    ],
)
def test_levels_are_centroids_and_boundaries_midpoints(x64, density, support, num_levels):
    levels, boundaries, distortion = (np.asarray(x) for x in lloyd_max(density, num_levels, support=support))
    np.testing.assert_allclose(boundaries, (levels[1:] + levels[:-1]) / 2, rtol=1e-12)
    edges, total = np.concatenate([support[:1], boundaries, support[1:]]), 0.0

    def integral(f, low, high):
        points = [low, *([0.0] if low < 0 < high else []), high]
        return sum(integrate.quad(f, *pair, epsabs=1e-13, epsrel=1e-13)[0] for pair in itertools.pairwise(points))

    for level, low, high in zip(levels, edges[:-1], edges[1:]):
        mass = integral(density, low, high)
        np.testing.assert_allclose(level, integral(lambda x: x * density(x), low, high) / mass, atol=1e-8)
        total += integral(lambda x, level=level: (x - level) ** 2 * density(x), low, high)
    np.testing.assert_allclose(distortion, total, rtol=1e-8)


def test_uniform_density_is_cut_evenly_even_inside_a_larger_support(x64):
    # The jumps lie inside panels of the first grid, so that quadrature has to find them.
    quantizer = lloyd_max(stats.uniform(0.2371, 0.5).pdf, 5, support=(0.0, 1.0))
    np.testing.assert_allclose(quantizer.levels, 0.2371 + 0.5 * (np.arange(5) + 0.5) / 5, atol=1e-9)
    np.testing.assert_allclose(quantizer.distortion, 0.1**2 / 12, rtol=1e-8)


def test_a_level_in_a_gap_of_the_density_stays_finite(x64):
    # Uniform on two pieces of unequal mass; on the way a level has the gap as its cell.
    weight = 4.38971285e-4

    def density(x):
        left, right = stats.uniform(4.0, 0.0625).pdf(x), stats.uniform(4.75, 0.125).pdf(x)
        return weight * left + (1 - weight) * right

    levels, boundaries, distortion = map(np.asarray, lloyd_max(density, 9, support=(0.0, 8.25)))
    assert np.all(np.diff(levels) > 0)
    grid = np.concatenate(
        [4.0 + 0.0625 * (np.arange(4000) + 0.5) / 4000, 4.75 + 0.125 * (np.arange(4000) + 0.5) / 4000]
    )
    mass = np.repeat([weight, 1 - weight], 4000) / 4000
    expected = np.sum(mass * (grid - levels[np.searchsorted(boundaries, grid)]) ** 2)
    np.testing.assert_allclose(distortion, expected, rtol=1e-3)


def test_one_level_is_the_mean_and_the_variance(x64):
    quantizer = lloyd_max(stats.gamma(3).pdf, 1, support=(0, np.inf))
    np.testing.assert_allclose(quantizer.levels, [3.0], rtol=1e-10)
    np.testing.assert_allclose(quantizer.distortion, 3.0, rtol=1e-10)
    assert quantizer.boundaries.shape == (0,)


@pytest.mark.parametrize(("mean", "scale"), [(1000.0, 1.0), (-3.0, 1e-4), (0.0, 1e5)])
def test_shift_and_scale_carry_over(x64, mean, scale):
    unit = lloyd_max(stats.norm.pdf, 6, support=LINE)
    moved = lloyd_max(stats.norm(mean, scale).pdf, 6, support=(mean - 12 * scale, mean + 12 * scale))
    np.testing.assert_allclose((moved.levels - mean) / scale, unit.levels, atol=1e-7)
    np.testing.assert_allclose(moved.distortion / scale**2, unit.distortion, rtol=1e-7)


def test_many_levels_follow_panter_and_dite(x64):
    # The limit for a unit Gaussian is (π √3 / 2) / K².
    quantizer = lloyd_max(stats.norm.pdf, 1024, support=LINE)
    assert float(quantizer.distortion) * 1024**2 == pytest.approx(np.pi * np.sqrt(3) / 2, rel=3e-3)


def test_a_jax_density_is_integrated_in_float64():
    density = lambda x: jnp.exp(-(x**2) / 2) / jnp.sqrt(2 * jnp.pi)  # noqa: E731
    with jax.enable_x64(True):
        assert float(lloyd_max(density, 4, support=LINE).distortion) == pytest.approx(0.11748184783, abs=1e-10)


def test_a_density_is_asked_in_float64_where_jax_is_in_float32():
    seen = set()

    def density(x):
        seen.add(jnp.asarray(x).dtype)
        return stats.norm.pdf(x)

    assert lloyd_max(density, 4, support=LINE).levels.dtype == jnp.float32
    assert seen == {jnp.dtype("float64")}


@pytest.mark.parametrize(
    ("density", "num_levels", "support", "message"),
    [
        (stats.norm.pdf, 0, LINE, "num_levels.*0"),
        (lambda x: 2 * stats.norm.pdf(x), 2, LINE, "integrates to 2"),
        (stats.norm.pdf, 2, (0.0, np.inf), "integrates to 0.5"),
        (lambda x: stats.norm.pdf(x) * np.sign(x), 2, LINE, "not negative"),
        (lambda x: np.full_like(x, np.nan), 2, (0.0, 1.0), "finite"),
        (lambda x: 1.0, 2, (0.0, 1.0), r"density must keep the shape \(.*\), but returned \(\)"),
        (stats.cauchy.pdf, 2, LINE, "second moment"),
        (stats.uniform.pdf, 2, (1.0, 0.0), "low < high"),
    ],
)
def test_lloyd_max_refuses(density, num_levels, support, message):
    with pytest.raises(ValueError, match=message):
        lloyd_max(density, num_levels, support=support)


def enumerated_optimum(samples, num_levels):
    ordered = np.sort(samples)
    best = np.inf
    for cuts in itertools.combinations(range(1, len(ordered)), num_levels - 1):
        cells = np.split(ordered, cuts)
        best = min(best, sum(np.sum((cell - cell.mean()) ** 2) for cell in cells))
    return best / len(ordered)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 5), st.booleans())
def test_dynamic_program_is_the_enumerated_optimum(seed, num_levels, repeated):
    rng = np.random.default_rng(seed)
    samples = rng.integers(0, 8, 12).astype(float) if repeated else rng.normal(size=11) ** 3 + 50
    if len(np.unique(samples)) < num_levels:
        return
    with jax.enable_x64(True):
        quantizer = optimal_scalar_quantizer(samples, num_levels)
    expected = enumerated_optimum(samples, num_levels)
    np.testing.assert_allclose(quantizer.distortion, expected, rtol=1e-10, atol=1e-12)
    nearest = np.min((samples[:, None] - np.asarray(quantizer.levels)) ** 2, axis=1).mean()
    np.testing.assert_allclose(nearest, expected, rtol=1e-10, atol=1e-12)


def test_dynamic_program_keeps_its_digits_far_from_the_origin(x64):
    samples = np.random.default_rng(1).integers(0, 1000, 300) / 8
    here, there = optimal_scalar_quantizer(samples, 12), optimal_scalar_quantizer(samples + 2.0**30, 12)
    np.testing.assert_allclose(there.distortion, here.distortion, rtol=1e-9)
    np.testing.assert_allclose(there.levels - 2.0**30, here.levels, atol=1e-6)


def test_dynamic_program_never_loses_to_lloyd_and_both_near_the_density(x64):
    samples = np.random.default_rng(0).normal(size=20_000)
    optimum, local = optimal_scalar_quantizer(samples, 8), lloyd_max_from_samples(samples, 8)
    assert float(optimum.distortion) <= float(local.distortion) * (1 + 1e-12)
    # The Gaussian is log-concave, so that the local optimum of many samples is close to the global one.
    np.testing.assert_allclose(local.distortion, optimum.distortion, rtol=1e-3)
    np.testing.assert_allclose(optimum.distortion, 0.0345478, rtol=0.03)


def test_lloyd_can_stay_in_a_local_optimum_that_the_program_leaves(x64):
    rng = np.random.default_rng(3)
    samples = np.concatenate([rng.normal(m, 0.05, n) for m, n in ((0, 20), (1, 500), (8, 500), (30, 3))])
    optimum, local = optimal_scalar_quantizer(samples, 4), lloyd_max_from_samples(samples, 4)
    assert float(optimum.distortion) == pytest.approx(0.05**2, rel=0.1)
    assert float(optimum.distortion) <= float(local.distortion) * (1 + 1e-12)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 12))
def test_samples_quantizer_is_a_fixed_point(seed, num_levels):
    samples = np.random.default_rng(seed).standard_t(2, size=60)
    with jax.enable_x64(True):
        levels, boundaries, distortion = map(np.asarray, lloyd_max_from_samples(samples, num_levels))
    cell = np.searchsorted(boundaries, samples)
    np.testing.assert_allclose(levels, [samples[cell == k].mean() for k in range(num_levels)], rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(distortion, np.mean((samples - np.asarray(levels)[cell]) ** 2), rtol=1e-9, atol=1e-12)


def test_a_sample_on_a_boundary_belongs_to_the_level_below(x64):
    # Lloyd's iteration on these ends with a boundary on a sample if it counted that sample above.
    samples = np.array([0.0, 1.0, 3.0, 4.0, 6.0])
    quantizer = lloyd_max_from_samples(samples, 3)
    _, cell = quantize_scalar(samples, quantizer)
    np.testing.assert_allclose(quantizer.levels, [samples[cell == k].mean() for k in range(3)], rtol=1e-12)


def test_quantize_scalar_takes_the_nearest_level():
    quantizer = lloyd_max(stats.norm.pdf, 8, support=LINE)
    values = np.random.default_rng(0).normal(size=(5, 40)).astype(np.float32)
    levels, indices = quantize_scalar(values, quantizer)
    np.testing.assert_array_equal(indices, np.argmin(np.abs(values[..., None] - quantizer.levels), axis=-1))
    np.testing.assert_array_equal(levels, np.asarray(quantizer.levels)[indices])
    assert quantize_scalar(quantizer.boundaries, quantizer)[1].tolist() == list(range(7))


@pytest.mark.parametrize("fit", [lloyd_max_from_samples, optimal_scalar_quantizer])
@pytest.mark.parametrize(
    ("samples", "num_levels", "message"),
    [
        (np.array([1.0, 1.0, 2.0]), 3, "2 distinct"),
        (np.array([1.0, np.nan]), 1, "finite"),
        (np.array([1.0, 2.0]), 0, "num_levels.*0"),
    ],
)
def test_samples_quantizers_refuse(fit, samples, num_levels, message):
    with pytest.raises(ValueError, match=message):
        fit(samples, num_levels)
