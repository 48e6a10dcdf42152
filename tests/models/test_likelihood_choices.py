"""Each likelihood of the decoder: its mean by quadrature, its scale by maximum likelihood."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.special
import scipy.stats
from jax.test_util import check_grads

from jaxgen.models.likelihood import SCALE_FLOOR, make_likelihood

RNG = np.random.default_rng(5)
LOGITS = [0.0, 1e-6, 1e-3, 0.05, 0.0999, 0.1001, 0.5, 3.0, 30.0]


def moments(logit):
    """Mean and variance of the density proportional to exp(ηx) on [0, 1]."""

    def integral(function):
        return scipy.integrate.quad(lambda x: function(x) * np.exp(logit * (x - (logit > 0))), 0, 1, epsabs=1e-14)[0]

    total = integral(lambda x: 1.0)
    mean = integral(lambda x: x) / total
    return mean, integral(lambda x: (x - mean) ** 2) / total


@pytest.mark.parametrize("logit", [*LOGITS, *(-logit for logit in LOGITS[1:])])
def test_the_continuous_bernoulli_mean_and_its_slope_are_the_density_s_moments(x64, logit):
    mean_fn = make_likelihood("continuous_bernoulli", ()).mean
    value, slope = jax.value_and_grad(mean_fn)(jnp.float64(logit))
    mean, variance = moments(logit)
    np.testing.assert_allclose(value, mean, rtol=0, atol=1e-9)
    np.testing.assert_allclose(slope, variance, rtol=0, atol=2e-8)


def test_means_are_finite_and_in_the_unit_interval_at_extreme_logits():
    logits = jnp.array([-3e38, -1e4, -100.0, 0.0, 100.0, 1e4, 3e38], jnp.float32)
    for name in ("bernoulli", "continuous_bernoulli"):
        mean_fn = make_likelihood(name, ()).mean
        value, slope = mean_fn(logits), jax.vmap(jax.grad(mean_fn))(logits)
        assert np.all((np.asarray(value) >= 0) & (np.asarray(value) <= 1))
        assert np.all(np.isfinite(slope))
        assert np.all(np.diff(value) >= 0)
    np.testing.assert_allclose(mean_fn(logits)[jnp.array([1, 5])], [1e-4, 1 - 1e-4], atol=1e-7)


def test_bernoulli_s_mean_is_its_probability(x64):
    logits = RNG.normal(size=(4, 3)) * 5
    np.testing.assert_allclose(
        make_likelihood("bernoulli", (3,)).mean(jnp.asarray(logits)), scipy.special.expit(logits), rtol=1e-12
    )


@pytest.mark.parametrize("name", ["bernoulli", "continuous_bernoulli"])
def test_draws_have_the_mean_and_the_range_of_their_likelihood(x64, name):
    """Also where the logit's sign, or its being near 0, decides how a draw is made."""
    n, logits = 20_000, np.array([-30.0, -3.0, -0.5, -1e-4, 0.0, 1e-4, 0.5, 3.0, 30.0])
    observed = make_likelihood(name, ())
    x = np.asarray(observed.draw({}, {}, jax.random.key(2), jnp.broadcast_to(jnp.asarray(logits), (n, len(logits)))))
    if name == "bernoulli":
        mean = scipy.special.expit(logits)
        variance = mean * (1 - mean)
        assert set(np.unique(x)) == {0.0, 1.0}
    else:
        mean, variance = np.array([moments(logit) for logit in logits]).T
        assert np.all((x >= 0) & (x <= 1))
        np.testing.assert_allclose(x.var(axis=0), variance, rtol=0.05)
    assert np.all(np.abs(x.mean(axis=0) - mean) < 4.5 * np.sqrt(variance / n) + 1e-9)


@pytest.mark.parametrize(("scale", "size"), [("shared", ()), ("per_dimension", (2, 3))])
def test_a_learned_scale_is_free_above_its_floor(x64, scale, size):
    observed = make_likelihood("gaussian", (2, 3), scale=scale)
    params, statistics = observed.init()
    assert params["log_scale"].shape == size
    mean, targets = RNG.normal(size=(2, 5, 2, 3))
    for offset in (-12.0, -1.0, 3.0):
        params = {"log_scale": jnp.asarray(offset + RNG.normal(size=size))}
        sigma = SCALE_FLOOR + np.exp(params["log_scale"])
        expected = -scipy.stats.norm.logpdf(targets, mean, sigma).reshape(5, -1).sum(axis=1)
        np.testing.assert_allclose(observed.nll(params, statistics, mean, targets), expected, rtol=1e-10)
        np.testing.assert_allclose(observed.terms(params, statistics)["scale"], np.mean(sigma), rtol=1e-10)
    check_grads(lambda p: observed.nll(p, statistics, mean, targets), (params,), order=1, modes=["rev"])


def test_a_learned_scale_stops_at_the_floor_with_finite_gradients():
    observed = make_likelihood("gaussian", (2,), scale="shared")
    exact = np.zeros((3, 2), np.float32)

    def total(log_scale):
        return observed.nll({"log_scale": log_scale}, {}, exact, exact).sum()

    value, slope = jax.value_and_grad(total)(jnp.float32(-1e4))
    np.testing.assert_allclose(value, 6 * (np.log(SCALE_FLOOR) + np.log(2 * np.pi) / 2), rtol=1e-5)
    assert slope == 0


def test_the_fixed_scale_is_used_and_not_logged(x64):
    observed = make_likelihood("gaussian", (4,), fixed_scale=0.3)
    mean, targets = RNG.normal(size=(2, 5, 4))
    expected = -scipy.stats.norm.logpdf(targets, mean, 0.3).sum(axis=1)
    np.testing.assert_allclose(observed.nll({}, {}, mean, targets), expected, rtol=1e-12)
    assert observed.init() == ({}, {})
    assert observed.terms({}, {}) == {}
    np.testing.assert_allclose(observed.precision({}, {}), 1 / 0.3**2, rtol=1e-12)
    assert make_likelihood("bernoulli", (4,)).precision({}, {}) == 1


def test_the_optimal_scale_is_the_batch_s_in_training_and_a_running_one_elsewhere(x64):
    observed = make_likelihood("gaussian", (4,), scale="optimal")
    _, statistics = observed.init()
    running = 0.0
    for batch, size in enumerate((0.5, 2.0, 3.0, *(1.0,) * 120)):
        mean, targets = RNG.normal(size=(2, 6, 4)) * size
        variance = np.mean((mean - targets) ** 2)
        decay = min(0.9, batch / (batch + 1))
        running = decay * running + (1 - decay) * variance
        of_batch, statistics = observed.observe(statistics, jnp.asarray(mean), jnp.asarray(targets))
        np.testing.assert_allclose(observed.terms({}, of_batch)["scale"], np.sqrt(variance), rtol=1e-10)
        np.testing.assert_allclose(observed.terms({}, statistics)["scale"], np.sqrt(running), rtol=1e-10)
        for state, sigma in ((of_batch, np.sqrt(variance)), (statistics, np.sqrt(running))):
            expected = -scipy.stats.norm.logpdf(targets, mean, sigma).sum(axis=1)
            np.testing.assert_allclose(observed.nll({}, state, mean, targets), expected, rtol=1e-10)
    best = float(np.mean(observed.nll({}, of_batch, mean, targets)))
    np.testing.assert_allclose(best, 4 / 2 * (1 + np.log(2 * np.pi * variance)), rtol=1e-10)
    assert observed.precision({}, of_batch) == 1 / of_batch["variance"]
    for other in (0.97, 1.03):
        assert np.mean(observed.nll({}, {"variance": of_batch["variance"] * other}, mean, targets)) > best


def test_a_perfect_reconstruction_leaves_the_optimal_scale_at_its_floor():
    observed = make_likelihood("gaussian", (2,), scale="optimal")
    exact = jnp.ones((3, 2))

    def loss(mean):
        state, _ = observed.observe(observed.init()[1], mean, exact)
        return observed.nll({}, state, mean, exact).sum(), observed.terms({}, state)["scale"]

    (value, scale), slope = jax.value_and_grad(loss, has_aux=True)(exact)
    np.testing.assert_allclose(scale, SCALE_FLOOR, rtol=1e-6)
    np.testing.assert_allclose(value, 6 * (np.log(SCALE_FLOOR) + np.log(2 * np.pi) / 2), rtol=1e-5)
    np.testing.assert_array_equal(slope, 0)


def test_what_the_observations_may_be():
    assert make_likelihood("bernoulli", (2,)).domain == "binary"
    assert make_likelihood("continuous_bernoulli", (2,)).domain == "unit"
    assert make_likelihood("gaussian", (2,)).domain == "real"


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("gaussian", {"fixed_scale": 0.0}, "fixed_scale must be positive, got 0.0"),
        ("gaussian", {"fixed_scale": float("nan")}, "fixed_scale must be positive, got nan"),
        ("gaussian", {"scale": "learned"}, "fixed, shared, per_dimension or optimal, got 'learned'"),
        ("poisson", {}, "bernoulli, continuous_bernoulli, gaussian or mixed, got 'poisson'"),
    ],
)
def test_unknown_choices_are_refused(name, options, message):
    # Without the hook's own check of the annotation, as a user would call it.
    with pytest.raises(ValueError, match=message):
        inspect.unwrap(make_likelihood)(name, (2,), **options)
