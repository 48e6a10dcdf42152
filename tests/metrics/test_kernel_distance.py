"""The kernel distance against loops, and its expectation against exact enumeration."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.test_util import check_grads

from jaxgen.metrics import kernel_distance


def by_loops(x: np.ndarray, y: np.ndarray) -> float:
    def kernel(a, b):
        return (float(a @ b) / len(a) + 1) ** 3

    def mean_of_pairs(points):
        return np.mean([kernel(a, b) for a, b in itertools.permutations(points, 2)])

    cross = np.mean([kernel(a, b) for a in x for b in y])
    return mean_of_pairs(x) + mean_of_pairs(y) - 2 * cross


@pytest.mark.parametrize(("n", "m", "d"), [(2, 2, 1), (7, 4, 3), (30, 50, 5), (300, 260, 2)])
def test_equals_loops(x64, n, m, d):
    generator = np.random.default_rng(n)
    x, y = generator.normal(size=(n, d)), generator.normal(size=(m, d)) + 1
    np.testing.assert_allclose(kernel_distance(x, y), by_loops(x, y), rtol=1e-10)


def test_unbiased_by_enumeration(x64):
    x_values, y_values = np.array([0.0, 1.0]), np.array([-1.0, 0.5, 2.0])
    estimates = [
        kernel_distance(np.array(x)[:, None], np.array(y)[:, None])
        for x in itertools.product(x_values, repeat=2)
        for y in itertools.product(y_values, repeat=2)
    ]

    def mean_kernel(a, b):
        return np.mean((np.multiply.outer(a, b) + 1) ** 3)

    population = mean_kernel(x_values, x_values) + mean_kernel(y_values, y_values)
    population -= 2 * mean_kernel(x_values, y_values)
    np.testing.assert_allclose(np.mean(estimates), population, rtol=1e-10)


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 2**31))
def test_symmetric_and_blind_to_order_and_rotation(seed):
    generator = np.random.default_rng(seed)
    x, y = generator.normal(size=(6, 3)), generator.normal(size=(8, 3))
    basis = np.linalg.qr(generator.normal(size=(3, 3)))[0]
    with jax.enable_x64(True):
        value = kernel_distance(x, y)
        np.testing.assert_allclose(kernel_distance(y, x), value, atol=1e-10)
        moved = kernel_distance(generator.permutation(x) @ basis, y @ basis)
        np.testing.assert_allclose(moved, value, atol=1e-10)


def test_float32_is_close_to_float64_on_the_features_of_a_network():
    x, y = np.maximum(np.random.default_rng(1).normal(size=(2, 400, 512)), 0).astype(np.float32)
    y = 1.05 * y
    single = kernel_distance(x, y)
    with jax.enable_x64(True):
        double = kernel_distance(x.astype(np.float64), y.astype(np.float64))
    assert single.dtype == jnp.float32
    assert abs(float(single) - float(double)) < 2e-6


def test_gradient(x64):
    x, y = np.random.default_rng(2).normal(size=(2, 4, 3))
    check_grads(kernel_distance, (x, y), order=1, modes=("rev",))


def test_memory_stays_within_chunks():
    features = jax.ShapeDtypeStruct((10_000, 64), jnp.float32)
    compiled = jax.jit(kernel_distance).lower(features, features).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < 10_000 * 10_000 * 4 / 5


def test_bad_input():
    with pytest.raises(ValueError, match=r"x and y must have equal dimensions, .* \(2, 3\) and \(2, 4\)"):
        kernel_distance(jnp.zeros((2, 3)), jnp.zeros((2, 4)))
    with pytest.raises(ValueError, match=r"y must hold at least 2 rows, got shape \(1, 3\)"):
        kernel_distance(jnp.zeros((2, 3)), jnp.zeros((1, 3)))
    with pytest.raises(ValueError, match=r"x must have shape .* got \(2, 2, 2\)"):
        kernel_distance(jnp.zeros((2, 2, 2)), jnp.zeros((2, 4)))
