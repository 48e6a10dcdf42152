"""The exact gradients against finite differences and quadrature in NumPy; the measurement on noise that is known."""

import itertools

import gradient_estimators as experiment
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from figures import within
from gradient_estimators import Moments, Truth
from scipy.integrate import quad
from scipy.special import expit, log_expit, logsumexp
from scipy.stats import logistic

TOY = experiment.make_toy()
ETA = TOY.logits.astype(np.float64)
STATES = np.array(list(itertools.product([0.0, 1.0], repeat=len(ETA))))


def log_px(states):
    """log p(x|z) in float64, by probabilities."""
    probs = expit(np.tanh((2 * states - 1) @ TOY.inner.astype(np.float64)) @ TOY.outer.astype(np.float64))
    return np.log(np.where(TOY.image == 1, probs, 1 - probs)).sum(axis=-1)


def log_q(eta):
    return np.where(STATES == 1, log_expit(eta), log_expit(-eta)).sum(axis=-1)


def differences(function, at, step):
    """Central differences of a function of one vector."""
    steps = step * np.eye(len(at))
    return np.array([(function(at + s) - function(at - s)) / (2 * step) for s in steps])


def test_the_exact_gradient_is_that_of_the_enumerated_likelihood():
    rewards = log_px(STATES)
    expected = differences(lambda eta: np.exp(log_q(eta)) @ rewards, ETA, 1e-5)
    np.testing.assert_allclose(experiment.exact_gradient(TOY), expected, rtol=1e-4, atol=2e-6)


def test_the_exact_gradient_of_the_bound_is_that_of_all_pairs():
    rewards = log_px(STATES)

    def bound(eta):
        log_prob = log_q(eta)
        weights = rewards - log_prob
        pairs = logsumexp(np.stack(np.broadcast_arrays(weights[:, None], weights)), axis=0) - np.log(2)
        return np.exp(log_prob) @ pairs @ np.exp(log_prob)

    expected = differences(bound, ETA, 1e-5)
    np.testing.assert_allclose(experiment.exact_bound_gradient(TOY), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("temperature", [0.3, 2.0])
def test_the_hard_sample_is_expected_where_quadrature_puts_it(temperature):
    expected = []
    for i, eta in enumerate(ETA):
        others = STATES[STATES[:, i] == 0]
        weights = np.exp(log_q(ETA)[STATES[:, i] == 0] - log_expit(-eta))
        step = 1e-6 * np.eye(len(ETA))[i]
        slopes = [
            weights @ (log_px(corner + step) - log_px(corner - step)) / 2e-6
            for corner in (others, others + np.eye(len(ETA))[i])
        ]

        def derivative(u, eta=eta):
            return logistic.pdf(u / temperature) / temperature * logistic.pdf(u - eta)

        sides = quad(derivative, -np.inf, 0)[0], quad(derivative, 0, np.inf)[0]
        expected.append(np.dot(slopes, sides))
    np.testing.assert_allclose(experiment.hard_gradient(TOY, temperature), expected, rtol=2e-4, atol=1e-5)


def test_without_temperature_the_hard_sample_is_a_trapezoid_rule():
    """Exact for a likelihood that is quadratic in every latent; not for this one."""
    limit, exact = experiment.hard_gradient(TOY, 0.0), experiment.exact_gradient(TOY)
    np.testing.assert_allclose(limit, experiment.hard_gradient(TOY, 1e-3), rtol=1e-2, atol=1e-3)
    gap = float(jnp.linalg.norm(limit - exact) / jnp.linalg.norm(exact))
    nearly_linear = TOY._replace(inner=TOY.inner / 30, outer=TOY.outer / 30)
    linear_gap = experiment.hard_gradient(nearly_linear, 0.0) / experiment.exact_gradient(nearly_linear) - 1
    assert gap > 0.1
    assert np.all(np.abs(linear_gap) < 0.01)


def test_moments_of_known_noise_are_measured():
    mean, scale = jnp.array([2.0, -1.0]), jnp.array([0.5, 3.0])

    def surrogate(logits, key, shift):
        return logits @ (mean + shift + scale * jax.random.normal(key, (2,)))

    args = jnp.zeros(2), jax.random.key(0), 1.0
    found = experiment.measure(surrogate, jnp.array([50.0, 50.0]), *args, num_gradients=39_001)
    assert found.count == 40_000
    error = np.asarray(scale) / 200
    assert np.all(np.abs(found.mean - [3.0, 0.0]) < 4 * error)
    np.testing.assert_allclose(found.variance, [0.25, 9.0], rtol=0.03)
    assert found.standard_errors([3.0, 0.0]) < 4
    assert found.standard_errors([3.0, 0.2]) == pytest.approx(abs(found.mean[1] - 0.2) / 0.015, rel=0.02)


def test_bias_is_the_distance_without_the_noise_of_the_mean():
    moments = Moments(np.array([3.0, 5.0]), np.array([400.0, 500.0]), 100)
    assert moments.bias([0.0, 1.0]) == pytest.approx(4.0, rel=1e-12)
    assert moments.bias([3.0, 5.0]) == 0.0
    assert moments.standard_errors([0.0, 1.0]) == pytest.approx(4 / np.sqrt(5), rel=1e-12)


def test_a_power_of_the_temperature_is_found_for_each_seed():
    values = np.stack([3 * experiment.TEMPERATURES**1.5, experiment.TEMPERATURES**-1.0])
    np.testing.assert_allclose(experiment.power(values, slice(0, 5)), [1.5, -1.0], rtol=1e-12)


def test_every_estimator_is_held_against_the_gradient_that_it_estimates(monkeypatch):
    monkeypatch.setattr(experiment, "SCORE_DRAWS", 40_000)
    monkeypatch.setattr(experiment, "RELAXED_DRAWS", 40_000)
    hard = jnp.stack([experiment.hard_gradient(TOY, temperature) for temperature in experiment.TEMPERATURES])
    truth = Truth(experiment.exact_gradient(TOY), experiment.exact_bound_gradient(TOY), hard)
    measured = experiment.measure_all(TOY, truth, seeds=1)
    errors = [figure for figure in experiment.figures(measured, truth) if figure.unit == "s.e."]
    assert len(errors) == 5
    assert all(within(figure) for figure in errors)
    (soft,), (soft_variance,) = experiment.relative(measured["soft"], truth.likelihood)
    (hard_bias,), _ = experiment.relative(measured["hard"], truth.likelihood)
    assert soft[-1] > 3 * soft[3]
    assert hard_bias[0] > 2 * soft[0]
    assert np.all(np.diff(soft_variance) < 0)
    variances = [experiment.relative(measured[name], truth.likelihood)[1].item() for name in experiment.SCORE]
    # The mean of three others is a noisier baseline than the exact mean; either beats none.
    assert variances[1] < variances[2] < variances[0] / 5
