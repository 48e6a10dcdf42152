"""Estimators against exact enumeration of small discrete models: expectations where averages would do."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.test_util import check_grads

from jaxgen.estimators import (
    gumbel_argmax,
    gumbel_softmax,
    init_signal_moments,
    leave_one_out_baseline,
    reinforce,
    reparameterize,
    rotation_trick,
    signal_scale,
    straight_through,
    update_signal_moments,
    vimco,
)
from jaxgen.losses import importance_weighted_bound

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
    value, signal = jax.value_and_grad(lambda lp: vimco(lp, log_weights).sum())(log_prob)
    bound = np.log(np.exp(log_weights).mean(axis=0))
    np.testing.assert_allclose(value, bound.sum(), rtol=1e-12)
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

    exact = jax.grad(lambda phi: jnp.sum(jnp.exp(log_q(phi, states)) * score(states)))(logits)
    two_classes = jnp.broadcast_to(jnp.stack([jnp.zeros(10), logits], axis=-1), (samples, 10, 2))
    drawn = gumbel_argmax(jax.random.key(0), two_classes).astype(jnp.float64)

    def estimates(baseline):
        def one(s, b):
            return jax.grad(lambda phi: reinforce(log_q(phi, s), score(s), baseline=b))(logits)

        return jax.jit(jax.vmap(one))(drawn, baseline)

    plain = estimates(jnp.zeros(samples))
    left_out = estimates(leave_one_out_baseline(score(drawn)))
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
    odds = jnp.log(y[:, 1] / y[:, 0])
    statistic = scipy.stats.kstest(np.asarray(odds * 2.0), scipy.stats.logistic(0.8).cdf)
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


def test_reparameterized_sample_is_the_affine_image_of_its_noise(x64):
    key, mean, logvar = jax.random.key(0), RNG.normal(size=(2, 3)), RNG.normal(size=(2, 3))
    noise = reparameterize(key, np.zeros((2, 3)), np.zeros((2, 3)))
    np.testing.assert_allclose(reparameterize(key, mean, logvar), mean + np.exp(logvar / 2) * noise, rtol=1e-12)
    check_grads(lambda m, v: reparameterize(key, m, v), (mean, logvar), order=1, modes=["rev"])
    many = reparameterize(key, np.full(20_000, 1.5), np.full(20_000, 2.0))
    assert scipy.stats.kstest(np.asarray(many), scipy.stats.norm(1.5, np.e).cdf).pvalue > 1e-3


def test_every_entry_has_noise_of_its_own(x64):
    zeros = np.zeros((3, 4, 5))
    assert len(np.unique(reparameterize(jax.random.key(0), zeros, zeros))) == 60
    assert len(np.unique(gumbel_softmax(jax.random.key(0), zeros))) == 60


def test_noise_resolves_classes_rarer_than_the_steps_of_uniform_floats():
    # The largest of 2²² draws come from u within 5e-5 of 1, where float32 has 400 steps: 200 draws would collide.
    sample = np.sort(gumbel_softmax(jax.random.key(2), jnp.zeros(2**22)))
    assert len(np.unique(sample[-200:])) == 200
    assert sample[0] > 0


@pytest.mark.parametrize("logvar", [-60.0, 20.0])
def test_reparameterize_is_finite_at_extremes(logvar):
    gradient = jax.grad(lambda v: reparameterize(jax.random.key(0), jnp.full(9, 1e4), v).sum())(jnp.full(9, logvar))
    assert np.all(np.isfinite(gradient))


def test_straight_through_has_the_exact_value_and_the_identity_as_gradient():
    z = jnp.asarray(RNG.normal(size=(5, 4)) * 1e7, jnp.float32)
    e = jnp.asarray(RNG.normal(size=(5, 4)), jnp.float32)
    np.testing.assert_array_equal(straight_through(z, e), e)
    to_z, to_e = jax.grad(lambda z, e: (straight_through(z, e) * e).sum(), argnums=(0, 1))(z, e)
    np.testing.assert_array_equal(to_z, e)
    np.testing.assert_array_equal(to_e, straight_through(z, e))


def test_rotation_trick_turns_the_encoding_into_the_code_and_nothing_else(x64):
    z, e = RNG.normal(size=(2, 5))
    np.testing.assert_array_equal(rotation_trick(z, e), e)
    jacobian = jax.jit(jax.jacobian(rotation_trick))(z, e)
    ratio = np.linalg.norm(e) / np.linalg.norm(z)
    rotation = jacobian / ratio
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(5), atol=1e-12)
    np.testing.assert_allclose(np.linalg.det(rotation), 1, rtol=1e-12)
    np.testing.assert_allclose(jacobian @ z, e, rtol=1e-10)
    plane, _ = np.linalg.qr(np.stack([z, e], axis=1))
    across = RNG.normal(size=5)
    across -= plane @ (plane.T @ across)
    np.testing.assert_allclose(rotation @ across, across, atol=1e-12)


def test_rotation_trick_gives_the_codes_no_gradient_and_batches(x64):
    z, e, weights = RNG.normal(size=(3, 4, 5))
    to_z, to_e = jax.grad(lambda z, e: (weights * rotation_trick(z, e)).sum(), argnums=(0, 1))(z, e)
    np.testing.assert_array_equal(to_e, 0)
    for row in range(4):
        jacobian = jax.jacobian(rotation_trick)(z[row], e[row])
        np.testing.assert_allclose(to_z[row], jacobian.T @ weights[row], rtol=1e-10)


@pytest.mark.parametrize(("z", "e"), [([0.0, 0.0], [1.0, 0.0]), ([1.0, 2.0], [0.0, 0.0]), ([1.0, 2.0], [-2.0, -4.0])])
def test_where_no_rotation_is_defined_the_gradient_is_straight_through(z, e):
    z, e = jnp.array(z), jnp.array(e)
    np.testing.assert_array_equal(rotation_trick(z, e), e)
    np.testing.assert_array_equal(jax.jit(jax.jacobian(rotation_trick))(z, e), np.eye(2))


def test_signal_moments_average_batches_and_never_amplify(x64):
    moments, batches = init_signal_moments(), RNG.normal(size=(3, 50)) * 4 + 2
    for batch in batches:
        moments = update_signal_moments(moments, batch, decay=0.8)
    weights = 0.2 * 0.8 ** np.array([2, 1, 0])
    np.testing.assert_allclose(moments.mean, weights @ batches.mean(axis=1), rtol=1e-6)
    np.testing.assert_allclose(moments.variance, weights @ batches.var(axis=1), rtol=1e-6)
    np.testing.assert_allclose(signal_scale(moments), np.sqrt(moments.variance), rtol=1e-6)
    assert signal_scale(update_signal_moments(init_signal_moments(), batches[0] * 1e-3)) == 1


def test_signal_moments_pass_no_gradient_to_the_signals():
    gradient = jax.grad(lambda s: sum(update_signal_moments(init_signal_moments(), s)))(jnp.array([1.0, 3.0]))
    np.testing.assert_array_equal(gradient, 0)


def test_signal_moments_on_four_devices_are_those_of_the_whole_batch():
    signals = (RNG.normal(size=(4, 6)) + np.arange(4)[:, None]).astype(np.float32)
    update = jax.pmap(lambda s: update_signal_moments(init_signal_moments(), s, axis_name="d"), axis_name="d")
    spread, whole = update(signals), update_signal_moments(init_signal_moments(), signals)
    np.testing.assert_allclose(spread.mean, np.full(4, whole.mean), rtol=1e-5)
    np.testing.assert_allclose(spread.variance, np.full(4, whole.variance), rtol=1e-5)


def test_a_scaled_signal_divides_the_gradient_of_the_sampler_alone(x64):
    moments = update_signal_moments(init_signal_moments(), np.array([-10.0, 10.0]), decay=0.0)
    estimate = expected_estimate(
        lambda phi, theta, s: reinforce(log_q(phi, s), reward(theta, s), scale=signal_scale(moments)).mean()
    )
    to_phi, to_theta = exact_gradient(lambda phi, theta, s: reward(theta, s).mean())
    assert_equal_gradients(estimate, (to_phi / 10, to_theta))


BF16 = jnp.ones((3, 2), jnp.bfloat16)
RESULTS = {
    "reparameterize": lambda x: reparameterize(jax.random.key(0), x, x),
    "gumbel_softmax": lambda x: gumbel_softmax(jax.random.key(0), x, hard=True),
    "straight_through": lambda x: straight_through(x, x),
    "rotation_trick": lambda x: rotation_trick(x, x),
}


@pytest.mark.parametrize("name", RESULTS)
def test_results_have_the_type_of_the_inputs(name):
    assert RESULTS[name](BF16).dtype == jnp.bfloat16
    with jax.enable_x64(True):
        assert RESULTS[name](np.ones((3, 2))).dtype == jnp.float64


INTEGERS, FLOATS = np.ones((3, 2), np.int32), np.ones((3, 2), np.float32)

REFUSED = {
    "integer logvar": (TypeError, lambda k: reparameterize(k, FLOATS, INTEGERS), "logvar must be floating point"),
    "integer encodings": (TypeError, lambda k: straight_through(INTEGERS, FLOATS), "encodings must be floating"),
    "integer codes": (TypeError, lambda k: rotation_trick(FLOATS, INTEGERS), "codes must be floating"),
    "integer log-probability": (TypeError, lambda k: reinforce(INTEGERS, FLOATS), "log_prob must be floating"),
    "integer reward": (TypeError, lambda k: reinforce(FLOATS, INTEGERS), "reward must be floating"),
    "integer rewards": (TypeError, lambda k: leave_one_out_baseline(INTEGERS), "rewards must be floating"),
    "integer weights": (TypeError, lambda k: vimco(FLOATS, INTEGERS), "log_weights must be floating"),
    "integer signals": (
        TypeError,
        lambda k: update_signal_moments(init_signal_moments(), INTEGERS),
        "signals must be floating",
    ),
    "scale that enlarges": (
        ValueError,
        lambda k: reinforce(FLOATS[0], FLOATS[0], scale=FLOATS),
        r"scale must broadcast to reward, got shapes \(3, 2\) and \(2,\)",
    ),
    "negative scale": (ValueError, lambda k: reinforce(FLOATS, FLOATS, scale=-2.0), "scale must be positive, got -2"),
    "shapes of vimco": (ValueError, lambda k: vimco(FLOATS, FLOATS[:2]), r"\(3, 2\) and \(2, 2\)"),
    "scalar vector": (
        ValueError,
        lambda k: rotation_trick(np.float32(1), np.float32(2)),
        "vectors on the last axis, got a scalar",
    ),
    "integer mean": (
        TypeError,
        lambda k: reparameterize(k, INTEGERS, FLOATS),
        "mean must be floating point, got int32",
    ),
    "shapes of a Gaussian": (
        ValueError,
        lambda k: reparameterize(k, FLOATS, FLOATS[:1]),
        r"\(3, 2\) and \(1, 2\)",
    ),
    "integer logits": (TypeError, lambda k: gumbel_argmax(k, INTEGERS), "logits must be floating point"),
    "integer relaxed logits": (
        TypeError,
        lambda k: gumbel_softmax(k, INTEGERS),
        "logits must be floating point",
    ),
    "no class": (
        ValueError,
        lambda k: gumbel_softmax(k, FLOATS[:, :0]),
        r"classes on the last axis.*\(3, 0\)",
    ),
    "negative temperature": (
        ValueError,
        lambda k: gumbel_softmax(k, FLOATS, temperature=-0.5),
        "temperature must be positive, got -0.5",
    ),
    "zero temperature": (
        ValueError,
        lambda k: gumbel_softmax(k, FLOATS, temperature=0.0),
        "temperature .* got 0",
    ),
    "codes of another shape": (
        ValueError,
        lambda k: straight_through(FLOATS, FLOATS[0]),
        r"\(3, 2\) and \(2,\)",
    ),
    "rotated shapes": (ValueError, lambda k: rotation_trick(FLOATS, FLOATS[0]), r"\(3, 2\) and \(2,\)"),
    "reward of another shape": (ValueError, lambda k: reinforce(FLOATS, FLOATS[0]), r"\(3, 2\) and \(2,\)"),
    "baseline that enlarges": (
        ValueError,
        lambda k: reinforce(FLOATS[0], FLOATS[0], baseline=FLOATS),
        r"baseline must broadcast to reward, got shapes \(3, 2\) and \(2,\)",
    ),
    "scale": (ValueError, lambda k: reinforce(FLOATS, FLOATS, scale=0.0), "scale must be positive, got 0"),
    "one sample": (
        ValueError,
        lambda k: leave_one_out_baseline(FLOATS[:1]),
        "needs 2 samples or more on axis 0",
    ),
    "one sample of vimco": (ValueError, lambda k: vimco(FLOATS[:1], FLOATS[:1]), r"2 samples .*\(1, 2\)"),
    "no such axis": (
        ValueError,
        lambda k: vimco(FLOATS, FLOATS, axis=2),
        "axis 2 is not an axis of log_weights",
    ),
    "decay": (
        ValueError,
        lambda k: update_signal_moments(init_signal_moments(), FLOATS, decay=1.0),
        "decay .* got 1",
    ),
    "no signal": (
        ValueError,
        lambda k: update_signal_moments(init_signal_moments(), FLOATS[:0]),
        "must not be empty",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_bad_input_is_refused_with_its_value(name, monkeypatch):
    # As users call it: the shapes of signatures are checked in tests alone.
    monkeypatch.setattr("jaxtyping.config.jaxtyping_disable", True)
    error, call, message = REFUSED[name]
    with pytest.raises(error, match=message):
        call(jax.random.key(0))


def test_an_annealed_temperature_is_traced_once():
    traces = []

    @jax.jit
    def step(temperature):
        traces.append(1)
        return gumbel_softmax(jax.random.key(0), jnp.array([0.0, 1.0]), temperature=temperature)

    sharp, soft = step(0.01), step(50.0)
    assert len(traces) == 1
    assert sharp.max() > soft.max()
