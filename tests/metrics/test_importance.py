"""log p(x) by importance sampling: exact weights, quadrature, chunks, memory."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.stats

from jaxgen.metrics.importance import importance_weighted_log_likelihood

RNG = np.random.default_rng(4)
X = np.array([-1.5, 0.2, 3.0])


def normal_logpdf(x, mean, std):
    return -0.5 * ((x - mean) / std) ** 2 - jnp.log(std) - 0.5 * jnp.log(2 * jnp.pi)


def log_likelihood(z):
    """x | z ~ N(sin 2z + z, 0.5): the evidence has no closed form, but it is one integral."""
    return normal_logpdf(X, jnp.sin(2 * z) + z, 0.5)


def log_weights(keys):
    """Of the proposal N(x/2, 1), which is wide enough for every weight to be bounded."""
    z = X / 2 + jax.vmap(lambda key: jax.random.normal(key, (len(X),)))(keys)
    return log_likelihood(z) + normal_logpdf(z, 0.0, 1.0) - normal_logpdf(z, X / 2, 1.0)


@functools.cache
def evidence():
    def joint(z, i):
        mean = np.sin(2 * z) + z
        return scipy.stats.norm.pdf(X[i], mean, 0.5) * scipy.stats.norm.pdf(z)

    return np.log([scipy.integrate.quad(joint, -10, 10, args=(i,), limit=200)[0] for i in range(len(X))])


@functools.cache
def relative_error(num_samples):
    """Standard error of log p(x) by the delta method, from draws that the tests do not use."""
    w = np.exp(np.asarray(jax.jit(log_weights)(jax.random.split(jax.random.key(99), 100_000))))
    return w.std(axis=0) / w.mean(axis=0) / np.sqrt(num_samples)


@pytest.mark.parametrize("max_elements", [1, 3 * 5, 3 * 7, 2**22])
def test_constant_weights_give_the_evidence_exactly_whatever_the_chunks(x64, max_elements):
    exact = np.array([-3.0, 0.5, 700.0])
    estimate = importance_weighted_log_likelihood(
        lambda keys: jnp.broadcast_to(exact, (len(keys), 3)),
        jax.random.key(0),
        num_samples=12,
        max_elements=max_elements,
    )
    np.testing.assert_allclose(estimate, exact, rtol=1e-14)


@pytest.mark.parametrize("per_chunk", [20_000, 512, 9])
def test_a_model_with_a_known_evidence_is_found_by_any_chunks(x64, per_chunk):
    estimate = importance_weighted_log_likelihood(
        log_weights, jax.random.key(1), num_samples=20_000, max_elements=3 * per_chunk
    )
    assert np.all(np.abs(estimate - evidence()) < 5 * relative_error(20_000))


@pytest.mark.parametrize(("num_samples", "per_chunk"), [(10, 4), (4, 4), (3, 4), (9, 4), (5, 1)])
def test_exactly_k_draws_are_counted_each_with_its_own_key(x64, num_samples, per_chunk):
    key = jax.random.key(2)
    keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, np.arange(10))
    drawn = jax.jit(log_weights)(keys)[:num_samples]
    expected = np.log(np.exp(drawn).mean(axis=0))
    estimate = importance_weighted_log_likelihood(log_weights, key, num_samples=num_samples, max_elements=3 * per_chunk)
    np.testing.assert_allclose(estimate, expected, rtol=1e-12)


def test_on_average_the_bound_grows_with_the_samples_and_stays_below_the_evidence(x64):
    keys = jax.random.split(jax.random.key(3), 4000)

    def bound(num_samples):
        def one(key):
            return importance_weighted_log_likelihood(log_weights, key, num_samples=num_samples)

        values = np.asarray(jax.jit(jax.vmap(one))(keys))
        return values.mean(axis=0), values.std(axis=0) / np.sqrt(len(keys))

    means, errors = zip(*(bound(k) for k in (1, 4, 16)))
    for i in range(2):
        assert np.all(means[i + 1] - means[i] > 3 * np.hypot(errors[i], errors[i + 1]))
    assert np.all(means[2] < evidence() + 4 * errors[2])


def test_weights_far_outside_the_range_of_exp_neither_vanish_nor_overflow():
    shift = jnp.array([-1e6, 1e6, 0.0], jnp.float32)
    shifted = importance_weighted_log_likelihood(
        lambda keys: jnp.zeros((len(keys), 3)) + shift, jax.random.key(0), num_samples=5
    )
    np.testing.assert_allclose(shifted, shift, rtol=1e-6)


def test_memory_does_not_grow_with_the_samples():
    batch, dims = 32, 1024

    def temporary_bytes(num_samples):
        def weights(keys):
            draws = jax.vmap(lambda key: jax.random.normal(key, (batch, dims)))(keys)
            return -jnp.square(jnp.sin(draws)).sum(axis=-1)

        def estimate(key):
            return importance_weighted_log_likelihood(weights, key, num_samples=num_samples)

        return jax.jit(estimate).lower(jax.random.key(0)).compile().memory_analysis().temp_size_in_bytes

    few, many = temporary_bytes(200), temporary_bytes(5000)
    assert many <= 1.05 * few
    assert many < 5000 * batch * dims * 4 / 4


def test_a_wide_network_between_draw_and_weight_is_counted():
    """A small draw through a layer of 4096 units: what the layer holds decides how many draws fit, not the draw."""
    batch, width, budget = 16, 4096, 2**20

    def weights(keys):
        draws = jax.vmap(lambda key: jax.random.normal(key, (batch, 2)))(keys)
        hidden = jax.jit(lambda z: jnp.tanh(z @ jnp.ones((2, width))))(draws)  # inside a call of its own
        return -(jnp.square(hidden) @ jnp.ones((width, 8))).sum(axis=-1)  # a product of what is in memory

    def estimate(key):
        return importance_weighted_log_likelihood(weights, key, num_samples=1000, max_elements=budget)

    memory = jax.jit(estimate).lower(jax.random.key(0)).compile().memory_analysis().temp_size_in_bytes
    assert batch * width * 4 < memory < 3 * 4 * budget


def test_no_sample_is_refused():
    with pytest.raises(ValueError, match="num_samples must be at least 1, got 0"):
        importance_weighted_log_likelihood(log_weights, jax.random.key(0), num_samples=0)
