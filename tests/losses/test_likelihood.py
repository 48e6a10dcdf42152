"""Likelihoods against scipy's densities, quadrature and enumeration of the levels."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
import scipy.special
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from losses.compiled import (
    bernoulli_nll,
    bits_per_dim,
    categorical_nll,
    continuous_bernoulli_nll,
    discretized_logistic_nll,
    gaussian_nll,
    optimal_gaussian_scale,
)

RNG = np.random.default_rng(0)
SHAPE = (4, 3, 2)


@pytest.mark.parametrize("scale_shape", [(), (2,), (3, 1), (4, 1, 1), SHAPE])
def test_gaussian_is_the_density_of_scipy(x64, scale_shape):
    mean, targets, scale = RNG.normal(size=SHAPE), RNG.normal(size=SHAPE), RNG.uniform(0.1, 3, scale_shape)
    expected = -scipy.stats.norm.logpdf(targets, mean, scale).sum(axis=(1, 2))
    np.testing.assert_allclose(gaussian_nll(mean, targets, scale=scale), expected, rtol=1e-12)


@pytest.mark.parametrize("wide", ["mean", "targets", "scale"])
def test_one_argument_in_float64_makes_the_result_so(x64, wide):
    x, dtypes = RNG.normal(size=(2, 3)), dict.fromkeys(("mean", "targets", "scale"), np.float32) | {wide: np.float64}
    mean, targets, scale = (values.astype(t) for values, t in zip((x, x + 1, np.abs(x) + 1), dtypes.values()))
    nll = gaussian_nll(mean, targets, scale=scale)
    assert nll.dtype == jnp.float64
    np.testing.assert_allclose(nll, -scipy.stats.norm.logpdf(targets, mean, scale).sum(axis=1), rtol=1e-6)
    # A Python number has no precision of its own.
    assert gaussian_nll(x.astype(np.float32), x.astype(np.float32), scale=2.0).dtype == jnp.float32


def test_gaussian_counts_every_dimension_in_the_log_scale(x64):
    nll = gaussian_nll(np.zeros((1, 10)), np.zeros((1, 10)), scale=np.e)
    np.testing.assert_allclose(nll, 10 * (1 + 0.5 * np.log(2 * np.pi)), rtol=1e-12)


def test_optimal_scale_minimizes_the_likelihood(x64):
    mean, targets = RNG.normal(size=SHAPE), RNG.normal(size=SHAPE)
    mask = RNG.uniform(size=SHAPE) < 0.7

    def total(log_scale):
        log_density = scipy.stats.norm.logpdf(targets, mean, np.exp(log_scale))
        return -(log_density * mask).sum()

    best = np.exp(scipy.optimize.minimize_scalar(total, bracket=(-2, 1), options={"xtol": 1e-10}).x)
    np.testing.assert_allclose(optimal_gaussian_scale(mean, targets, mask=mask), best, rtol=1e-7)
    # A mask of whole examples counts all their entries.
    shown = optimal_gaussian_scale(mean, targets, mask=np.array([1, 0, 0, 1]).reshape(4, 1, 1))
    np.testing.assert_allclose(shown, np.sqrt(((targets - mean)[[0, 3]] ** 2).mean()), rtol=1e-12)


def test_likelihood_at_the_optimal_scale_has_its_closed_form(x64):
    mean, targets = RNG.normal(size=SHAPE), RNG.normal(size=SHAPE)
    scale = optimal_gaussian_scale(mean, targets)
    mean_nll = gaussian_nll(mean, targets, scale=scale).mean()
    np.testing.assert_allclose(mean_nll, 6 / 2 * (1 + np.log(2 * np.pi * scale**2)), rtol=1e-12)
    slope = jax.grad(lambda s: gaussian_nll(mean, targets, scale=s).mean())(scale)
    np.testing.assert_allclose(slope, 0, atol=1e-12)


def test_optimal_scale_stops_at_its_floor_with_a_finite_gradient():
    x = jnp.ones((2, 3))
    value, gradient = jax.value_and_grad(lambda m: optimal_gaussian_scale(m, x, floor=0.01))(x)
    np.testing.assert_allclose(value, 0.01, rtol=1e-6)
    np.testing.assert_array_equal(gradient, 0)
    nothing, gradient = jax.value_and_grad(
        lambda m: optimal_gaussian_scale(m, x * np.nan, mask=np.zeros((2, 3)), floor=0.5)
    )(x)
    np.testing.assert_allclose(nothing, 0.5, rtol=1e-6)
    np.testing.assert_array_equal(gradient, 0)


def test_optimal_scale_on_four_devices_is_that_of_the_whole_batch():
    mean, targets = RNG.normal(size=(2, 4, 2, 3)).astype(np.float32)
    # Unequal counts: a mean of the devices' means would be wrong.
    mask = np.arange(24).reshape(4, 2, 3) < 17
    spread = jax.pmap(lambda m, t, o: optimal_gaussian_scale(m, t, mask=o, axis_name="d"), axis_name="d")
    whole = optimal_gaussian_scale(mean.reshape(8, 3), targets.reshape(8, 3), mask=mask.reshape(8, 3))
    np.testing.assert_allclose(spread(mean, targets, mask), np.full(4, whole), rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.float64, np.int32, bool])
def test_bernoulli_is_the_mass_of_scipy(x64, dtype):
    logits, targets = RNG.normal(size=SHAPE) * 3, RNG.integers(0, 2, SHAPE).astype(dtype)
    expected = -scipy.stats.bernoulli.logpmf(targets, scipy.special.expit(logits)).sum(axis=(1, 2))
    np.testing.assert_allclose(bernoulli_nll(logits, targets), expected, rtol=1e-10)


def test_bernoulli_interpolates_grey_targets(x64):
    logits, grey = RNG.normal(size=SHAPE), RNG.uniform(size=SHAPE)
    p = scipy.special.expit(logits)
    expected = -(grey * np.log(p) + (1 - grey) * np.log1p(-p)).sum(axis=(1, 2))
    np.testing.assert_allclose(bernoulli_nll(logits, grey), expected, rtol=1e-10)


def test_bernoulli_gradient_is_alive_at_any_logit():
    logits = jnp.array([[1e4], [-1e4], [1e4], [-1e4]])
    targets = jnp.array([[1.0], [0.0], [0.0], [1.0]])
    np.testing.assert_array_equal(bernoulli_nll(logits, targets), [0, 0, 1e4, 1e4])
    gradient = jax.grad(lambda e: bernoulli_nll(e, targets).sum())(logits)
    np.testing.assert_array_equal(gradient[:, 0], [0, 0, 1, -1])
    np.testing.assert_allclose(jax.grad(lambda e: bernoulli_nll(e, jnp.ones((1, 1))).sum())(jnp.zeros((1, 1))), -0.5)


@pytest.mark.parametrize("logit", [0.0, 1e-8, 1e-3, -0.05, 0.1999, 0.2001, -1.0, 5.0, -20.0])
def test_continuous_bernoulli_integrates_to_one_and_its_gradient_to_zero(x64, logit):
    nodes, weights = np.polynomial.legendre.leggauss(40)
    x, weights = (nodes[:, None] + 1) / 2, weights / 2
    logits = np.full_like(x, logit)
    density = np.exp(-continuous_bernoulli_nll(logits, x))
    np.testing.assert_allclose(weights @ density, 1, atol=1e-9)
    # Where a density integrates to one, the expectation of d(nll)/dη vanishes.
    slope = jax.grad(lambda e: continuous_bernoulli_nll(e, x).sum())(logits)
    np.testing.assert_allclose((weights * density) @ slope, 0, atol=1e-9)


def test_continuous_bernoulli_is_accurate_in_float32_around_zero():
    logits = np.concatenate([-np.geomspace(1e-6, 3, 60), [0], np.geomspace(1e-6, 3, 60)])[:, None]
    targets = np.full_like(logits, 0.3)
    gradient = jax.grad(lambda e: continuous_bernoulli_nll(e, targets.astype(np.float32)).sum())
    away = np.where(np.abs(logits) < 1e-3, 1, logits)
    mean = np.where(np.abs(logits) < 1e-3, 0.5 + logits / 12, 1 / (1 - np.exp(-away)) - 1 / away)
    np.testing.assert_allclose(gradient(logits.astype(np.float32)), mean - targets, atol=3e-6)


def test_continuous_bernoulli_is_finite_at_logits_of_any_size():
    # η = ±1e20: the density at the better end is η itself, and at the other end e^−η of it.
    logits = jnp.array([[1e20], [-1e20], [1e20], [-1e20]])
    targets = jnp.array([[1.0], [0.0], [0.0], [1.0]])
    value, gradient = jax.vjp(lambda e: continuous_bernoulli_nll(e, targets), logits)
    np.testing.assert_allclose(value, [-np.log(1e20), -np.log(1e20), 1e20, 1e20], rtol=1e-6)
    np.testing.assert_allclose(gradient(jnp.ones(4))[0][:, 0], [0, 0, 1, -1], atol=1e-6)


def test_categorical_is_the_mass_of_scipy(x64):
    logits, labels = RNG.normal(size=(4, 3, 5)) * 3, RNG.integers(0, 5, (4, 3))
    log_probs = scipy.special.log_softmax(logits, axis=-1)
    expected = -np.take_along_axis(log_probs, labels[..., None], -1).sum(axis=(1, 2))
    np.testing.assert_allclose(categorical_nll(logits, labels), expected, rtol=1e-12)
    np.testing.assert_allclose(categorical_nll(logits[:, 0], labels[:, 0]), -log_probs[np.arange(4), 0, labels[:, 0]])


def test_categorical_refuses_labels_outside_the_classes():
    logits, labels = jnp.zeros((4, 3)), np.array([-1, 3, 2, -1])
    result = categorical_nll(logits, labels, mask=np.array([1, 1, 1, 0]))
    np.testing.assert_allclose(result, [np.nan, np.nan, np.log(3), 0], rtol=1e-6)


@pytest.mark.parametrize("num_levels", [2, 3, 256])
@pytest.mark.parametrize("log_scale", [-60.0, -7.0, -1.0, 0.0, 3.0, 20.0])
def test_discretized_logistic_sums_to_one_over_its_levels(x64, num_levels, log_scale):
    levels = np.arange(num_levels)[:, None]
    for mean in (-0.73, 0.1, 4.0):
        nll = discretized_logistic_nll(
            np.full(levels.shape, mean), np.full(levels.shape, log_scale), levels, num_levels=num_levels
        )
        np.testing.assert_allclose(np.exp(-nll).sum(), 1, rtol=1e-10)


def test_discretized_logistic_is_a_difference_of_distribution_functions(x64):
    levels = np.tile(np.arange(16), (2, 1))
    mean, log_scale = RNG.normal(size=(2, 16)) * 0.5, RNG.normal(size=(2, 16)) - 1
    centre, half = -1 + 2 * levels / 15, 1 / 15
    cdf = scipy.stats.logistic(mean, np.exp(log_scale)).cdf
    upper = np.where(levels == 15, 1, cdf(centre + half))
    lower = np.where(levels == 0, 0, cdf(centre - half))
    expected = -np.log(upper - lower).sum(axis=1)
    nll = discretized_logistic_nll(mean, log_scale, levels, num_levels=16)
    np.testing.assert_allclose(nll, expected, rtol=1e-9)


def test_discretized_logistic_marks_levels_out_of_range():
    zeros = jnp.zeros((3, 1))
    nll = discretized_logistic_nll(zeros, zeros, np.array([[-1], [4], [3]]), num_levels=4)
    np.testing.assert_array_equal(np.isnan(nll), [True, True, False])


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32, np.uint32])
def test_integers_of_any_width_hold_every_level_and_class(dtype):
    # 256 is 0 in uint8, in which images come.
    levels = np.arange(256)[:, None].astype(dtype)
    zeros = jnp.zeros(levels.shape)
    np.testing.assert_allclose(np.exp(-discretized_logistic_nll(zeros, zeros, levels)).sum(), 1, rtol=1e-5)
    np.testing.assert_allclose(categorical_nll(jnp.zeros((256, 300)), levels[:, 0]), np.log(300), rtol=1e-6)


def test_bits_per_dim_adds_eight_bits_for_dequantized_and_seven_for_centred_data(x64):
    # A uniform density on the data's range costs 8 bits a dimension, whatever the scaling.
    np.testing.assert_allclose(bits_per_dim(np.zeros(2), 12, bin_width=1 / 256), 8, rtol=1e-12)
    np.testing.assert_allclose(bits_per_dim(np.array([12 * np.log(2)]), 12, bin_width=2 / 256), 8, rtol=1e-12)
    np.testing.assert_allclose(bits_per_dim(np.array([12 * np.log(256)]), 12), 8, rtol=1e-12)


MASKABLE = {
    "gaussian": (gaussian_nll, lambda r, s: (r.normal(size=s), r.normal(size=s))),
    "bernoulli": (bernoulli_nll, lambda r, s: (r.normal(size=s), r.uniform(size=s))),
    "continuous bernoulli": (continuous_bernoulli_nll, lambda r, s: (r.normal(size=s), r.uniform(size=s))),
    "categorical": (categorical_nll, lambda r, s: (r.normal(size=(*s, 4)), r.integers(0, 4, s))),
    "discretized logistic": (
        discretized_logistic_nll,
        lambda r, s: (r.normal(size=s), r.normal(size=s), r.integers(0, 256, s)),
    ),
}


@cache
def value_and_gradients(name):
    """One compiled function for each loss: [batch] values and the gradients of their sum."""
    loss = MASKABLE[name][0]

    @jax.jit
    def compiled(predictions, targets, mask):
        def total(predictions):
            values = loss(*predictions, targets, mask=mask)
            return values.sum(), values

        gradients, values = jax.grad(total, has_aux=True)(predictions)
        return values, gradients

    return compiled


@pytest.mark.parametrize("name", MASKABLE)
@given(seed=st.integers(0, 2**32 - 1), observed=st.floats(0, 1))
@settings(max_examples=8, deadline=None)
def test_hidden_entries_add_exactly_nothing(name, seed, observed):
    draw = MASKABLE[name][1]
    rng = np.random.default_rng(seed)
    *predictions, targets = draw(rng, (3, 5))
    mask = rng.uniform(size=(3, 5)) < observed
    shown = [mask.reshape(3, 5, *[1] * (p.ndim - 2)) for p in predictions]
    spoiled = [np.where(s, p, np.nan) for s, p in zip(shown, predictions)]
    spoiled_targets = np.where(mask, targets, np.nan if targets.dtype.kind == "f" else -1)
    with jax.enable_x64(True):
        value, gradients = value_and_gradients(name)(spoiled, spoiled_targets, mask)
        # The oracle: every entry alone, as a batch of single dimensions without any mask.
        entries = [p.reshape(15, 1, *p.shape[2:]) for p in predictions]
        alone, slopes = value_and_gradients(name)(entries, targets.reshape(15, 1), None)
    expected = np.where(mask, np.reshape(alone, (3, 5)), 0).sum(axis=1)
    np.testing.assert_allclose(value, expected, rtol=1e-10, atol=1e-12)
    for gradient, slope, visible in zip(gradients, slopes, shown):
        np.testing.assert_allclose(
            gradient, np.where(visible, np.reshape(slope, gradient.shape), 0), rtol=1e-8, atol=1e-12
        )
        assert np.all(np.asarray(gradient)[~np.broadcast_to(visible, gradient.shape)] == 0)


@pytest.mark.parametrize("name", MASKABLE)
def test_nothing_observed_costs_nothing(name):
    *predictions, targets = MASKABLE[name][1](RNG, (3, 5))
    predictions = [jnp.asarray(p, jnp.float32) for p in predictions]
    value, gradients = value_and_gradients(name)(predictions, targets, np.zeros((3, 1)))
    np.testing.assert_array_equal(value, 0)
    for gradient in gradients:
        np.testing.assert_array_equal(gradient, 0)


def test_hidden_entries_spare_the_scale_too():
    targets, mask = np.array([[1.0, np.nan]], np.float32), np.array([[1, 0]])
    gradient = jax.grad(lambda s: gaussian_nll(jnp.zeros((1, 2)), targets, scale=s, mask=mask).sum())(
        jnp.array([1.0, jnp.nan])
    )
    np.testing.assert_array_equal(gradient, [0, 0])
