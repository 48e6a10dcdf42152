"""Adversarial losses at the known optimum of a fixed generator, and critics of known slope."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
from jax.test_util import check_grads

from jaxgen.losses import (
    gradient_penalty,
    hinge_discriminator_loss,
    hinge_generator_loss,
    least_squares_discriminator_loss,
    least_squares_generator_loss,
    minimax_discriminator_loss,
    minimax_generator_loss,
    non_saturating_generator_loss,
    r1_penalty,
    wasserstein_discriminator_loss,
    wasserstein_generator_loss,
)

RNG = np.random.default_rng(4)
P, Q = np.array([0.5, 0.3, 0.15, 0.05]), np.array([0.1, 0.2, 0.3, 0.4])


def expected_loss(discriminator_loss, logits):
    """The exact expectation over x ~ p and G(z) ~ q for discriminators on four points."""
    real, fake = np.repeat(np.arange(4), 4), np.tile(np.arange(4), 4)
    return (P[real] * Q[fake] * discriminator_loss(logits[real], logits[fake])).sum()


def minimized(discriminator_loss):
    objective = jax.jit(jax.value_and_grad(lambda e: expected_loss(discriminator_loss, e)))
    return scipy.optimize.minimize(lambda e: objective(e), np.zeros(4), jac=True, tol=1e-12)


def test_best_discriminator_is_the_share_of_the_data_and_gives_the_divergence(x64):
    best = minimized(minimax_discriminator_loss)
    np.testing.assert_allclose(jax.nn.sigmoid(best.x), P / (P + Q), atol=1e-6)
    middle = (P + Q) / 2
    jensen_shannon = 0.5 * (P * np.log(P / middle)).sum() + 0.5 * (Q * np.log(Q / middle)).sum()
    np.testing.assert_allclose(-best.fun, -np.log(4) + 2 * jensen_shannon, rtol=1e-10)


def test_best_least_squares_discriminator_is_the_share_of_the_data(x64):
    best = minimized(least_squares_discriminator_loss)
    np.testing.assert_allclose(best.x, P / (P + Q), atol=1e-7)
    middle = (P + Q) / 2
    # ½ Σ pq/(p+q) = ¼(1 − χ²) in Pearson's divergence of p from the middle.
    np.testing.assert_allclose(best.fun, 0.5 * (P * Q / (2 * middle)).sum(), rtol=1e-10)


def test_best_hinge_discriminator_is_a_sign_and_gives_the_total_variation(x64):
    value = expected_loss(hinge_discriminator_loss, np.sign(P - Q))
    np.testing.assert_allclose(value, 2 - np.abs(P - Q).sum(), rtol=1e-12)
    slope = jax.grad(lambda e: expected_loss(hinge_discriminator_loss, e))(np.sign(P - Q) * 0.999)
    assert np.all(slope * np.sign(P - Q) < 0)
    beyond = jax.grad(lambda e: hinge_discriminator_loss(e, -e).sum())(jnp.array([1.5, 7.0]))
    np.testing.assert_array_equal(beyond, 0)


def test_critic_with_the_optimal_potential_gives_the_earth_movers_distance(x64):
    # On the line 0, 1, 2, 3 the mass of p moves right: D(x) = −x is optimal, W = Σ |F_p − F_q|.
    value = expected_loss(wasserstein_discriminator_loss, -np.arange(4.0))
    np.testing.assert_allclose(-value, np.abs(np.cumsum(P) - np.cumsum(Q)).sum(), rtol=1e-12)


def test_generators_losses_are_functions_of_the_probability(x64):
    logits = RNG.normal(size=(5, 2)) * 3
    d = 1 / (1 + np.exp(-logits))
    np.testing.assert_allclose(minimax_generator_loss(logits), np.log(1 - d).sum(axis=1), rtol=1e-9)
    np.testing.assert_allclose(non_saturating_generator_loss(logits), -np.log(d).sum(axis=1), rtol=1e-9)
    np.testing.assert_allclose(least_squares_generator_loss(logits), 0.5 * ((logits - 1) ** 2).sum(axis=1))
    np.testing.assert_allclose(hinge_generator_loss(logits), -logits.sum(axis=1))
    np.testing.assert_allclose(wasserstein_generator_loss(logits), -logits.sum(axis=1))


@pytest.mark.parametrize("logit", [-1e4, 1e4])
def test_gradients_stay_alive_where_the_discriminator_is_sure(logit):
    def slope(loss):
        return jax.grad(lambda e: loss(e).sum())(jnp.array([logit], jnp.float32))[0]

    loses = float(logit < 0)
    np.testing.assert_allclose(slope(non_saturating_generator_loss), -loses)
    np.testing.assert_allclose(slope(minimax_generator_loss), loses - 1)
    np.testing.assert_allclose(slope(lambda e: minimax_discriminator_loss(e, -e)), -2 * loses)


def test_gradient_penalty_of_a_quadratic_critic_lies_between_the_ends(x64):
    # D(x) = ½ x², slope x: on the segment from 2 to 4, (x̂ − 1)² with x̂ = 4 − 2(1 − u).
    real, fake = np.full((4000, 1), 4.0), np.full((4000, 1), 2.0)
    penalty = gradient_penalty(lambda x: 0.5 * (x**2).sum(axis=1), real, fake, jax.random.key(0), target=1.0)
    points = 1 + np.sqrt(penalty)
    assert points.min() >= 2
    assert points.max() <= 4
    # Uniform on [2, 4]: mean 3, variance 1/3.
    np.testing.assert_allclose([points.mean(), points.var()], [3, 1 / 3], atol=0.04)


def test_gradient_penalty_mixes_whole_examples(x64):
    # Between (0, 0) and (1, 1) one share an example keeps x̂ on the diagonal, where this critic is flat.
    penalty = gradient_penalty(
        lambda x: (x[:, 0] - x[:, 1]) ** 2, np.ones((50, 2)), np.zeros((50, 2)), jax.random.key(1), target=3.0
    )
    np.testing.assert_allclose(penalty, 9, rtol=1e-12)


def test_critics_are_given_the_type_of_their_examples():
    seen = []

    def critic(x):
        seen.append(x.dtype)
        return x.sum(axis=1)

    half = jnp.ones((2, 3), jnp.bfloat16)
    slope = gradient_penalty(critic, half, half, jax.random.key(0), target=0.0)
    assert seen == [jnp.bfloat16]
    assert slope.dtype == r1_penalty(critic, half).dtype == jnp.float32


def test_penalties_are_differentiable_in_the_critic(x64):
    real, fake = RNG.normal(size=(2, 3, 4))
    weights = RNG.normal(size=(4, 5))

    def critic(w, x):
        return jnp.tanh(x @ w).sum(axis=1)

    def total(w):
        slope = gradient_penalty(lambda x: critic(w, x), real, fake, jax.random.key(0))
        return (slope + r1_penalty(lambda x: critic(w, x), real)).sum()

    check_grads(total, (weights,), order=1, modes=["rev"])


def test_r1_is_the_squared_slope_of_each_example(x64):
    real, weights = RNG.normal(size=(3, 4)), RNG.normal(size=(4, 5))
    expected = (((1 - np.tanh(real @ weights) ** 2) @ weights.T) ** 2).sum(axis=1)
    result = r1_penalty(lambda x: jnp.tanh(x @ weights).sum(axis=1), real)
    np.testing.assert_allclose(result, expected, rtol=1e-10)
    np.testing.assert_allclose(r1_penalty(lambda x: jnp.tanh(x @ weights), real), expected, rtol=1e-10)


def test_a_flat_critic_has_a_finite_gradient():
    x = jnp.ones((2, 3))
    value, gradient = jax.value_and_grad(
        lambda w: gradient_penalty(lambda x: (w * x).sum(axis=1), x, x, jax.random.key(0)).sum()
    )(jnp.zeros(3))
    np.testing.assert_array_equal(value, 2)
    np.testing.assert_array_equal(gradient, 0)


def test_a_slope_that_is_nan_is_not_flat():
    x = jnp.ones((2, 3))
    penalty = gradient_penalty(lambda x: jnp.array([jnp.nan, 1.0]) * x.sum(axis=1), x, x, jax.random.key(0))
    np.testing.assert_array_equal(np.isnan(penalty), [True, False])


def test_a_critic_that_forgets_the_batch_is_refused():
    with pytest.raises(ValueError, match=r"critic must map a batch.*\(2, 3\) to \(\)"):
        r1_penalty(lambda x: x.sum(), jnp.ones((2, 3)))
