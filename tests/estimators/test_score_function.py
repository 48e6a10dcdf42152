"""The score function against exact enumeration of a small discrete model: expectations where averages would do."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxgen import estimators
from jaxgen.estimators import (
    gumbel_argmax,
    init_signal_moments,
    reinforce,
    signal_scale,
    update_signal_moments,
)
from jaxgen.losses import importance_weighted_bound

# Compiled whole: run op by op, a test compiles some twenty programs where one will do.
leave_one_out_baseline = jax.jit(estimators.leave_one_out_baseline, static_argnames="axis")
vimco = jax.jit(estimators.vimco, static_argnames="axis")

RNG = np.random.default_rng(6)
PHI, THETA = RNG.normal(size=3), RNG.normal(size=3)
STATES = np.array(list(itertools.product([0.0, 1.0], repeat=3)))


def log_q(phi, state):
    """log-probability of binary latents with logits phi."""
    return jnp.sum(state * phi - jax.nn.softplus(phi), axis=-1)


def reward(theta, state):
    """Any function that no latent enters linearly."""
    return jnp.cos(state @ theta) + 3 * state[..., 0] * state[..., 1] - 5.0


def exact_gradient(value_of_state, num_samples=1):
    """Gradient of the exact expectation over `num_samples` independent states."""

    def expectation(phi, theta):
        chosen = jnp.array(list(itertools.product(range(len(STATES)), repeat=num_samples)))
        states = jnp.asarray(STATES)[chosen]  # [outcomes, samples, latents]
        probs = jnp.exp(log_q(phi, states).sum(axis=1))
        return jnp.sum(probs * jax.vmap(lambda s: value_of_state(phi, theta, s))(states))

    return jax.jit(jax.grad(expectation, argnums=(0, 1)))(PHI, THETA)


def expected_estimate(surrogate, num_samples=1):
    """Exact expectation of the surrogate's gradient: every outcome, weighed by its probability."""
    chosen = np.array(list(itertools.product(range(len(STATES)), repeat=num_samples)))
    states = STATES[chosen]
    probs = np.exp(log_q(PHI, states).sum(axis=1))

    def weighted(phi, theta):
        return jnp.sum(probs * jax.vmap(lambda s: surrogate(phi, theta, s))(jnp.asarray(states)))

    return jax.jit(jax.grad(weighted, argnums=(0, 1)))(PHI, THETA)


def assert_equal_gradients(estimate, exact):
    for ours, truth in zip(estimate, exact):
        np.testing.assert_allclose(ours, truth, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("baseline", [0.0, -3.7])
def test_reinforce_is_unbiased_in_both_parameters(x64, baseline):
    estimate = expected_estimate(
        lambda phi, theta, s: reinforce(log_q(phi, s), reward(theta, s), baseline=baseline).mean()
    )
    assert_equal_gradients(estimate, exact_gradient(lambda phi, theta, s: reward(theta, s).mean()))


@pytest.mark.parametrize("num_samples", [2, 3])
def test_leaving_one_out_is_unbiased_and_a_mean_of_all_is_not(x64, num_samples):
    def surrogate(phi, theta, s, baseline_fn):
        rewards = reward(theta, s)
        return reinforce(log_q(phi, s), rewards, baseline=baseline_fn(rewards)).mean()

    exact = exact_gradient(lambda phi, theta, s: reward(theta, s).mean())
    left_out = expected_estimate(lambda *a: surrogate(*a, leave_one_out_baseline), num_samples)
    assert_equal_gradients(left_out, exact)
    biased = expected_estimate(lambda *a: surrogate(*a, jnp.mean), num_samples)
    np.testing.assert_allclose(biased[0], exact[0] * (1 - 1 / num_samples), rtol=1e-9)


@pytest.mark.parametrize("num_samples", [2, 3])
def test_vimco_is_unbiased_for_the_importance_weighted_bound(x64, num_samples):
    def log_weights(phi, theta, s):
        return reward(theta, s) - log_q(phi, s)

    estimate = expected_estimate(lambda phi, theta, s: vimco(log_q(phi, s), log_weights(phi, theta, s)), num_samples)
    exact = exact_gradient(lambda phi, theta, s: importance_weighted_bound(log_weights(phi, theta, s)), num_samples)
    assert_equal_gradients(estimate, exact)


def test_vimco_credits_each_sample_against_the_geometric_mean_of_the_others(x64):
    log_prob, log_weights = RNG.normal(size=(2, 3, 4))
    value, pull = jax.vjp(lambda lp: vimco(lp, log_weights), log_prob)
    signal = np.asarray(pull(np.ones(4))[0])
    bound = np.log(np.exp(log_weights).mean(axis=0))
    np.testing.assert_allclose(value, bound, rtol=1e-12)
    for k in range(3):
        others = np.delete(log_weights, k, axis=0)
        without = np.log((np.exp(others).sum(axis=0) + np.exp(others.mean(axis=0))) / 3)
        np.testing.assert_allclose(signal[k], bound - without, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(vimco(log_prob.T, log_weights.T, axis=-1), bound, rtol=1e-12)


def test_reinforce_with_ten_latents_hits_the_exact_gradient_within_its_error(x64):
    logits, samples = RNG.normal(size=10), 100_000
    weights = RNG.normal(size=(10, 10)) / 3
    states = np.array(list(itertools.product([0.0, 1.0], repeat=10)))

    def score(s):
        return jnp.sum(jnp.tanh(s @ weights), axis=-1) + 2

    exact = jax.jit(jax.grad(lambda phi: jnp.sum(jnp.exp(log_q(phi, states)) * score(states))))(logits)
    two_classes = jnp.broadcast_to(jnp.stack([jnp.zeros(10), logits], axis=-1), (samples, 10, 2))
    drawn = jax.jit(gumbel_argmax)(jax.random.key(0), two_classes).astype(jnp.float64)

    @jax.jit
    @jax.vmap
    def gradient_of(s, b):
        return jax.grad(lambda phi: reinforce(log_q(phi, s), score(s), baseline=b))(logits)

    plain = np.asarray(gradient_of(drawn, jnp.zeros(samples)))
    left_out = np.asarray(gradient_of(drawn, leave_one_out_baseline(jax.jit(score)(drawn))))
    for gradients in (plain, left_out):
        error = gradients.std(axis=0) / np.sqrt(samples)
        assert np.all(np.abs(gradients.mean(axis=0) - exact) < 4 * error)
    assert np.all(left_out.var(axis=0) < plain.var(axis=0))


def test_reinforce_returns_the_reward_and_scales_the_score_alone(x64):
    def objective(phi, theta):
        return reinforce(phi, theta**2, baseline=1.0, scale=4.0)

    value, (to_phi, to_theta) = jax.value_and_grad(objective, argnums=(0, 1))(0.3, 3.0)
    np.testing.assert_allclose([value, to_phi, to_theta], [9, (9 - 1) / 4, 6], rtol=1e-12)


def test_a_learned_baseline_gets_no_gradient_from_the_score(x64):
    gradient = jax.grad(lambda b: reinforce(jnp.ones(3), jnp.ones(3), baseline=b).sum())(jnp.ones(3))
    np.testing.assert_array_equal(gradient, 0)


@given(seed=st.integers(0, 2**32 - 1), shift=st.floats(-10, 10))
@settings(max_examples=10, deadline=None)
def test_leave_one_out_is_the_mean_of_the_others(seed, shift):
    rewards = np.random.default_rng(seed).normal(size=(4, 3)) + shift
    with jax.enable_x64(True):
        baseline = leave_one_out_baseline(rewards)
        along_last = leave_one_out_baseline(rewards.T, axis=-1)
    for k in range(4):
        np.testing.assert_allclose(baseline[k], np.delete(rewards, k, axis=0).mean(axis=0), atol=1e-12)
    np.testing.assert_array_equal(along_last, np.asarray(baseline).T)


def test_a_scaled_signal_divides_the_gradient_of_the_sampler_alone(x64):
    moments = update_signal_moments(init_signal_moments(), np.array([-10.0, 10.0]), decay=0.0)
    estimate = expected_estimate(
        lambda phi, theta, s: reinforce(log_q(phi, s), reward(theta, s), scale=signal_scale(moments)).mean()
    )
    to_phi, to_theta = exact_gradient(lambda phi, theta, s: reward(theta, s).mean())
    assert_equal_gradients(estimate, (to_phi / 10, to_theta))
