"""The proximal step against a numerical minimizer of its own definition."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxgen.losses import group_lasso, prox_group_lasso

RNG = np.random.default_rng(5)


@pytest.mark.parametrize("axis", [0, 2, (0, 2), -1])
def test_penalty_is_the_sum_of_norms(x64, axis):
    weights = RNG.normal(size=(3, 4, 5))
    expected = np.sqrt((weights**2).sum(axis=axis)).sum()
    np.testing.assert_allclose(group_lasso(weights, axis=axis), expected, rtol=1e-12)


def test_prox_minimizes_penalty_plus_half_the_squared_distance(x64):
    weights, threshold = RNG.normal(size=(3, 4)), 0.8
    step = prox_group_lasso(weights, threshold, axis=1)

    def objective(flat):
        w = flat.reshape(3, 4)
        return 0.5 * ((w - weights) ** 2).sum() + threshold * np.linalg.norm(w, axis=1).sum()

    best = scipy.optimize.minimize(objective, weights.ravel(), method="Powell", options={"xtol": 1e-10, "ftol": 1e-14})
    np.testing.assert_allclose(step.ravel(), best.x, atol=1e-5)
    assert objective(np.asarray(step).ravel()) <= best.fun + 1e-12


def test_columns_become_exactly_zero_and_the_others_shrink_by_the_threshold(x64):
    weights = np.array([[3.0, 0.3, 1.0], [4.0, 0.4, 0.0]])
    step = prox_group_lasso(weights, 1.0, axis=0)
    np.testing.assert_array_equal(step[:, 1:], 0)
    np.testing.assert_allclose(np.linalg.norm(step[:, 0]), 4.0, rtol=1e-12)


def test_each_group_may_have_its_threshold():
    weights = jnp.array([[3.0, 4.0], [3.0, 4.0]])
    step = prox_group_lasso(weights, jnp.array([[5.0], [1.0]]), axis=1)
    np.testing.assert_allclose(step, [[0, 0], [2.4, 3.2]], rtol=1e-6)
    with pytest.raises(ValueError, match=r"threshold must broadcast to the group norms.*\(2,\) and \(2, 1\)"):
        prox_group_lasso(weights, jnp.ones(2), axis=1)


@given(seed=st.integers(0, 2**32 - 1), threshold=st.floats(0, 3))
@settings(max_examples=15, deadline=None)
def test_prox_is_firmly_non_expansive(seed, threshold):
    a, b = np.random.default_rng(seed).normal(size=(2, 3, 4))
    with jax.enable_x64(True):
        difference = prox_group_lasso(a, threshold, axis=1) - prox_group_lasso(b, threshold, axis=1)
        assert (difference**2).sum() <= (difference * (a - b)).sum() + 1e-12


def test_gradients_at_a_zero_group_are_zero_and_not_nan():
    weights = jnp.array([[0.0, 0.0], [3.0, 4.0]])
    np.testing.assert_allclose(jax.grad(lambda w: group_lasso(w, axis=1))(weights), [[0, 0], [0.6, 0.8]], rtol=1e-6)
    gradient = jax.grad(lambda w: prox_group_lasso(w, 0.1, axis=1).sum())(weights)
    assert np.all(np.isfinite(gradient))


def test_weights_that_are_nan_are_no_zero_group():
    weights = jnp.array([[jnp.nan, 0.0], [3.0, 4.0]])
    assert np.isnan(group_lasso(weights, axis=1))
    np.testing.assert_array_equal(np.isnan(prox_group_lasso(weights, 0.1, axis=1)), [[True, True], [False, False]])


def test_no_threshold_changes_nothing():
    weights = jnp.array([[0.0, 0.0], [3.0, 4.0]])
    np.testing.assert_array_equal(prox_group_lasso(weights, 0.0, axis=1), weights)


@pytest.mark.parametrize("axis", [2, (), (0, -3)])
def test_an_axis_that_does_not_exist_is_refused(axis):
    with pytest.raises(ValueError, match=r"axis .* must name axes of weights, whose shape is \(3, 4\)"):
        group_lasso(jnp.ones((3, 4)), axis=axis)
