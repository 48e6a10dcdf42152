"""Hyperparameters and samples at the edges of their types, and what is no number at all."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.estimators import (
    gumbel_softmax,
    init_signal_moments,
    leave_one_out_baseline,
    reinforce,
    reparameterize,
    rotation_trick,
    straight_through,
    update_signal_moments,
    vimco,
)
from jaxgen.losses import importance_weighted_bound

KEY = jax.random.key(0)
X, Y = np.random.default_rng(12).normal(size=(2, 4, 3)).astype(np.float32)

CALLS = {
    "temperature": lambda n: gumbel_softmax(KEY, X, temperature=n),
    "baseline": lambda n: reinforce(X, Y, baseline=n),
    "scale": lambda n: jax.grad(lambda x: reinforce(x, Y, scale=n).sum())(X),
    "decay": lambda n: update_signal_moments(init_signal_moments(), X, decay=n).variance,
}


@pytest.mark.parametrize("name", CALLS)
def test_a_wide_number_leaves_the_data_their_type(x64, name):
    moments = init_signal_moments()
    assert moments.mean.dtype == np.float64
    if name == "decay":
        moments = type(moments)(*(m.astype(np.float32) for m in moments))
        assert update_signal_moments(moments, X, decay=np.float64(0.5)).variance.dtype == np.float32
    else:
        assert CALLS[name](np.float64(0.5)).dtype == np.float32


@pytest.mark.parametrize("given", [np.float16, jnp.bfloat16, np.float64, jnp.float32])
@pytest.mark.parametrize("name", CALLS)
def test_a_number_counts_for_its_value_whatever_its_type(name, given):
    np.testing.assert_array_equal(CALLS[name](given(0.5)), CALLS[name](0.5))


def test_a_temperature_in_float64_divides_in_the_type_of_the_logits(x64):
    logits = np.random.default_rng(14).normal(size=(500, 3)).astype(np.float32)
    expected = gumbel_softmax(KEY, logits, temperature=np.float32(0.3))
    np.testing.assert_array_equal(gumbel_softmax(KEY, logits, temperature=jnp.asarray(0.3)), expected)


def test_the_mean_of_the_others_keeps_small_rewards_beside_a_large_one():
    np.testing.assert_array_equal(leave_one_out_baseline(np.array([1e8, 1, 2], np.float32))[0], 1.5)
    rewards = np.array([[3.0, -np.inf], [1.0, 0.0], [2.0, 2.0]], np.float32)
    np.testing.assert_array_equal(leave_one_out_baseline(rewards), [[1.5, 1], [2.5, -np.inf], [2, -np.inf]])
    np.testing.assert_array_equal(leave_one_out_baseline(rewards.T, axis=-1).T, leave_one_out_baseline(rewards))


@pytest.mark.parametrize("weights", [[-np.inf, 0, 0], [-np.inf, -np.inf, 0], [0, -np.inf, 1]])
def test_vimco_has_the_value_of_its_bound_where_some_samples_weigh_nothing(weights):
    weights = jnp.asarray(weights, jnp.float32)[:, None]
    value, pull = jax.vjp(jax.jit(vimco), jnp.zeros((3, 1)), weights)
    to_prob, to_weights = pull(jnp.ones(1))
    np.testing.assert_array_equal(value, jax.jit(importance_weighted_bound)(weights))
    np.testing.assert_allclose(to_weights, jax.nn.softmax(weights, axis=0), rtol=1e-6)
    assert np.all(np.isfinite(to_prob))


def test_vimco_of_samples_without_any_weight_is_minus_infinity_and_credits_none():
    # Beside it an example of equal weights, whose samples earn no credit and share the gradient alike: the limit.
    weights = jnp.array([[-jnp.inf, -5.0]] * 3)
    value, pull = jax.vjp(jax.jit(vimco), jnp.zeros((3, 2)), weights)
    np.testing.assert_allclose(value, [-np.inf, -5], rtol=1e-6)
    to_prob, to_weights = pull(jnp.ones(2))
    np.testing.assert_allclose(to_prob, np.zeros((3, 2)), atol=1e-6)
    np.testing.assert_allclose(to_weights, np.full((3, 2), 1 / 3), rtol=1e-6)


def test_vimco_credits_the_sample_without_weight_against_the_others():
    weights = jnp.array([-jnp.inf, 0.0, 0.0])
    to_prob = jax.jit(jax.grad(vimco))(jnp.zeros(3), weights)
    # By hand: L = log 2/3; with the mean of the others in place of the first, L = 0; of another, log 1/3.
    np.testing.assert_allclose(to_prob, [np.log(2 / 3), np.log(2), np.log(2)], rtol=1e-6)


REFUSED = {
    "mean": (lambda: reparameterize(KEY, "mean", X), "mean must be an array"),
    "logvar": (lambda: reparameterize(KEY, X, None), "logvar must be an array"),
    "logits": (lambda: gumbel_softmax(KEY, "logits"), "logits must be an array"),
    "encodings": (lambda: straight_through(None, X), "encodings must be an array"),
    "codes": (lambda: straight_through(X, "codes"), "codes must be an array"),
    "codes of a rotation": (lambda: rotation_trick(X, "codes"), "codes must be an array"),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.usefixtures("as_users_call")
def test_what_is_no_number_is_refused_by_name(name):
    call, message = REFUSED[name]
    with pytest.raises(TypeError, match=message):
        call()


def test_lists_of_numbers_are_arrays(as_users_call):
    np.testing.assert_array_equal(straight_through([0.4, 1.2], [0.0, 1.0]), [0, 1])
    np.testing.assert_array_equal(gumbel_softmax(KEY, [0.0, 50.0], hard=True), [0, 1])
    np.testing.assert_allclose(reparameterize(KEY, [1.0, 2.0], [-60.0, -60.0]), [1, 2])
