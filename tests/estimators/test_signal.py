"""Running moments of a learning signal."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.estimators import (
    init_signal_moments,
    signal_scale,
    update_signal_moments,
)

RNG = np.random.default_rng(6)


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


def test_a_decay_may_come_from_a_schedule():
    signals = np.array([1.0, 3.0], np.float32)
    update = jax.jit(lambda decay: update_signal_moments(init_signal_moments(), signals, decay=decay))
    np.testing.assert_allclose(update(0.25), (0.75 * 2, 0.75 * 1), rtol=1e-6)
