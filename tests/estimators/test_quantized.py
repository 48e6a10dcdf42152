"""Gradients past a quantizer: straight through, and by the rotation trick."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import estimators

# Compiled whole: run op by op, a test compiles some twenty programs where one will do.
rotation_trick, straight_through = jax.jit(estimators.rotation_trick), jax.jit(estimators.straight_through)
jacobian_of = jax.jit(jax.jacobian(estimators.rotation_trick))
RNG = np.random.default_rng(6)


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
    jacobian = jacobian_of(z, e)
    ratio = np.linalg.norm(e) / np.linalg.norm(z)
    jacobian = np.asarray(jacobian)
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
    to_z, to_e = (np.asarray(g) for g in jax.vjp(rotation_trick, z, e)[1](weights))
    np.testing.assert_array_equal(to_e, 0)
    for row in range(4):
        jacobian = np.asarray(jacobian_of(z[row], e[row]))
        np.testing.assert_allclose(to_z[row], jacobian.T @ weights[row], rtol=1e-10)


@pytest.mark.parametrize(("z", "e"), [([0.0, 0.0], [1.0, 0.0]), ([1.0, 2.0], [0.0, 0.0]), ([1.0, 2.0], [-2.0, -4.0])])
def test_where_no_rotation_is_defined_the_gradient_is_straight_through(z, e):
    z, e = jnp.array(z), jnp.array(e)
    np.testing.assert_array_equal(rotation_trick(z, e), e)
    np.testing.assert_array_equal(jacobian_of(z, e), np.eye(2))


def scaled_pair(magnitude_z, magnitude_e):
    z, e = RNG.normal(size=(2, 5))
    return (z * magnitude_z).astype(np.float32), (e * magnitude_e).astype(np.float32)


@pytest.mark.parametrize(
    ("z_size", "e_size"),
    [(1.0, 1.0), (1e25, 1.0), (1.0, 1e25), (1e25, 1e25), (1e-25, 1e-25), (1e-25, 1e-5), (1e37, 1e37), (1e-35, 1e-35)],
)
def test_rotation_trick_in_float32_is_that_of_float64_at_any_size(z_size, e_size):
    z, e = scaled_pair(z_size, e_size)
    value, jacobian = rotation_trick(z, e), jacobian_of(z, e)
    np.testing.assert_array_equal(value, e)
    with jax.enable_x64(True):
        exact = jacobian_of(z.astype(np.float64), e.astype(np.float64))
    # Float64 itself is held against the closed form: no square leaves its range here.
    unit_z, unit_e = (v.astype(np.float64) / np.linalg.norm(v.astype(np.float64)) for v in (z, e))
    middle = (unit_z + unit_e) / np.linalg.norm(unit_z + unit_e)
    rotation = np.eye(5) - 2 * np.outer(middle, middle) + 2 * np.outer(unit_e, unit_z)
    ratio = np.linalg.norm(e.astype(np.float64)) / np.linalg.norm(z.astype(np.float64))
    np.testing.assert_allclose(exact, ratio * rotation, rtol=1e-10, atol=1e-10 * ratio)
    np.testing.assert_allclose(jacobian, exact, rtol=1e-4, atol=1e-5 * ratio)


@pytest.mark.parametrize(("z_size", "e_size"), [(1e-25, 1e25), (1e-37, 1e38)])
@pytest.mark.parametrize("weight", [1.0, 1e-3])
def test_rotation_trick_stays_finite_where_the_ratio_of_sizes_is_no_float32(z_size, e_size, weight):
    z, e = np.array([1.0, 2.0, -1.0], np.float32), np.array([1.0, -0.2, 0.5], np.float32)
    z_small, e_large = z * np.float32(z_size), e * np.float32(e_size)
    np.testing.assert_array_equal(rotation_trick(z_small, e_large), e_large)
    cotangent = np.full(3, weight, np.float32)
    gradient = np.asarray(jax.vjp(lambda z: rotation_trick(z, e_large), z_small)[1](cotangent)[0])
    # Capped in size, right in direction.
    exact = np.asarray(jax.vjp(lambda z: rotation_trick(z, e), z)[1](np.ones(3, np.float32))[0])
    np.testing.assert_allclose(gradient / np.max(np.abs(gradient)), exact / np.max(np.abs(exact)), rtol=1e-4)


def test_nearly_opposite_directions_within_rounding_are_straight_through():
    # What remains of ẑ + ê has no direction that float32 knows: a reflection by it would be noise.
    z, e = np.array([1.0, 1e-4], np.float32), np.array([-2.0, 1e-4], np.float32)
    np.testing.assert_array_equal(jacobian_of(z, e), np.eye(2))
