"""Gumbel noise: exact categorical samples, and relaxed ones with their temperature."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from jaxgen import estimators

# Compiled whole: run op by op, a test compiles some twenty programs where one will do.
gumbel_argmax = jax.jit(estimators.gumbel_argmax)
gumbel_softmax = jax.jit(estimators.gumbel_softmax, static_argnames="hard")
RNG = np.random.default_rng(6)


def log_q(phi, state):
    """log-probability of binary latents with logits phi."""
    return jnp.sum(state * phi - jax.nn.softplus(phi), axis=-1)


def test_gumbel_softmax_loses_bias_and_gains_variance_as_the_temperature_falls(x64):
    phi = jnp.array([0.7, -0.4])

    def score(y):
        return (y[0] - 0.3) ** 2 + 2 * y[0] * y[1] ** 2

    states = jnp.array(list(itertools.product([0.0, 1.0], repeat=2)))
    exact = jax.jit(jax.grad(lambda p: jnp.sum(jnp.exp(log_q(p, states)) * jax.vmap(score)(states))))(phi)
    keys = jax.random.split(jax.random.key(0), 100_000)

    @jax.jit
    def moments(temperature):
        def one(key):
            def relaxed(p):
                pair = jnp.stack([jnp.zeros(2), p], axis=-1)
                return score(gumbel_softmax(key, pair, temperature=temperature)[:, 1])

            return jax.grad(relaxed)(phi)

        gradients = jax.vmap(one)(keys)
        return gradients.mean(axis=0), gradients.std(axis=0)

    results = [moments(t) for t in (2.0, 0.5, 0.05)]
    biases = [float(jnp.abs(mean - exact).max()) for mean, _ in results]
    deviations = [float(std.max()) for _, std in results]
    assert biases[0] > biases[1] > biases[2]
    assert biases[2] < 4 * deviations[2] / np.sqrt(100_000)
    assert biases[0] > 20 * deviations[0] / np.sqrt(100_000)
    assert deviations[0] < deviations[1] < deviations[2]


def test_gumbel_argmax_draws_the_categorical_distribution():
    logits = jnp.array([0.0, 1.0, -2.0, -jnp.inf, 3.0])
    draws = gumbel_argmax(jax.random.key(0), jnp.broadcast_to(logits + 50, (100_000, 5)))
    assert draws.dtype == jnp.int32
    counts = np.bincount(draws, minlength=5)
    probs = np.asarray(jax.nn.softmax(logits), np.float64)
    assert counts[3] == 0
    seen = probs > 0
    assert scipy.stats.chisquare(counts[seen], probs[seen] / probs[seen].sum() * 100_000).pvalue > 1e-3


def test_relaxed_sample_follows_its_argmax_and_hardens():
    key, logits = jax.random.key(3), jnp.asarray(RNG.normal(size=(50, 4)), jnp.float32)
    winners = np.eye(4)[gumbel_argmax(key, logits)]
    relaxed = gumbel_softmax(key, logits, temperature=0.7)
    hard = gumbel_softmax(key, logits, temperature=0.7, hard=True)
    np.testing.assert_array_equal(np.eye(4)[np.argmax(relaxed, axis=-1)], winners)
    np.testing.assert_allclose(relaxed.sum(axis=-1), 1, rtol=1e-6)
    np.testing.assert_array_equal(hard, winners)
    np.testing.assert_allclose(gumbel_softmax(key, logits, temperature=1e-3), winners, atol=1e-3)
    weights = jnp.asarray(RNG.normal(size=(50, 4)), jnp.float32)
    slope = jax.jit(
        jax.grad(lambda e, hard: (weights * gumbel_softmax(key, e, temperature=0.7, hard=hard)).sum()),
        static_argnums=1,
    )
    soft_slope, hard_slope = slope(logits, False), slope(logits, True)
    np.testing.assert_array_equal(hard_slope, soft_slope)
    assert np.abs(soft_slope).max() > 0.01


def test_relaxed_log_odds_have_the_temperature_in_them(x64):
    # log y₁/y₀ = (η + logistic noise)/τ: its mean and variance are η/τ and π²/(3τ²).
    y = gumbel_softmax(jax.random.key(5), jnp.broadcast_to(jnp.array([0.0, 0.8]), (50_000, 2)), temperature=2.0)
    odds = np.log(np.asarray(y)[:, 1] / np.asarray(y)[:, 0])
    statistic = scipy.stats.kstest(odds * 2.0, scipy.stats.logistic(0.8).cdf)
    assert statistic.pvalue > 1e-3


@pytest.mark.parametrize("hard", [False, True])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16], ids=["float32", "bfloat16"])
def test_gumbel_softmax_is_finite_at_extremes(hard, dtype):
    logits = jnp.array([[1e4, -1e4, 0.0], [0.0, 0.0, 0.0], [-1e4, -1e4, -1e4]], dtype)
    keys = jax.random.split(jax.random.key(0), 200)

    @jax.jit
    @jax.value_and_grad
    def total(e, temperature):
        draw = jax.vmap(lambda k: gumbel_softmax(k, e, temperature=temperature, hard=hard))(keys)
        return (draw * jnp.arange(3.0)).sum()

    for temperature in (1e-3, 1.0, 50.0):
        value, gradient = total(logits, temperature)
        assert np.isfinite(value)
        assert jnp.all(jnp.isfinite(gradient))


def test_noise_is_finite_in_millions_of_draws():
    # Uniform floats hit 0 exactly about once in 2²³.
    sample = gumbel_softmax(jax.random.key(1), jnp.zeros((2**22, 2)))
    assert np.all(np.isfinite(sample))


def test_noise_resolves_classes_rarer_than_the_steps_of_uniform_floats():
    # The largest of 2²² draws come from u within 5e-5 of 1, where float32 has 400 steps: 200 draws would collide.
    sample = np.sort(gumbel_softmax(jax.random.key(2), jnp.zeros(2**22)))
    assert len(np.unique(sample[-200:])) == 200
    assert sample[0] > 0


def test_an_annealed_temperature_is_traced_once():
    traces = []

    @jax.jit
    def step(temperature):
        traces.append(1)
        return gumbel_softmax(jax.random.key(0), jnp.array([0.0, 1.0]), temperature=temperature)

    sharp, soft = step(0.01), step(50.0)
    assert len(traces) == 1
    assert sharp.max() > soft.max()
