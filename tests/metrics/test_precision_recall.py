"""Precision and recall against loops over every pair."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxgen.metrics import precision_recall


def share_by_loops(points: np.ndarray, support: np.ndarray, k: int) -> float:
    inside = np.zeros(len(points), bool)
    for index, center in enumerate(support):
        others = np.delete(support, index, axis=0)
        radius = np.sort(np.linalg.norm(others - center, axis=1))[k - 1]
        inside |= np.linalg.norm(points - center, axis=1) <= radius
    return float(inside.mean())


@pytest.mark.parametrize("k", [1, 4])
def test_equals_loops(x64, k):
    generator = np.random.default_rng(k)
    real, fake = generator.normal(size=(300, 3)), 0.6 * generator.normal(size=(270, 3)) + 1
    actual = precision_recall(real, fake, k=k)
    np.testing.assert_allclose(actual.precision, share_by_loops(fake, real, k), rtol=1e-12)
    np.testing.assert_allclose(actual.recall, share_by_loops(real, fake, k), rtol=1e-12)
    assert actual.recall < actual.precision < 1


def test_ties_count_as_so_many_neighbours():
    """Neighbours of 0 at distances 1, 1, 10: the second is at 1, not at 10."""
    real = jnp.array([[0.0], [1.0], [-1.0], [10.0]])
    fake = jnp.array([[5.0], [-5.0], [2.5], [0.5]])
    # Balls for k = 2: 0±1, 1±2, −1±2 and 10±10; to its third neighbour, 0±10 would hold −5 too.
    assert precision_recall(real, fake, k=2).precision == 0.75


def test_balls_are_closed():
    real, fake = jnp.arange(4.0)[:, None], jnp.array([[4.0], [-1.0], [4.001], [-1.001]])
    assert precision_recall(real, fake, k=1).precision == 0.5


def test_equal_sets_are_perfect_and_far_sets_are_nothing():
    x = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    assert precision_recall(x, x) == (1, 1)
    assert precision_recall(x, x + 100) == (0, 0)


def test_a_narrow_generator_is_precise_with_little_recall():
    generator = np.random.default_rng(1)
    real = generator.normal(size=(500, 2)).astype(np.float32)
    fake = (0.1 * generator.normal(size=(500, 2))).astype(np.float32)
    precision, recall = precision_recall(real, fake)
    assert precision > 0.95
    assert recall < 0.1
    assert precision_recall(fake, real) == (recall, precision)


def test_float32_far_from_the_origin_gives_the_same_shares():
    real, fake = np.random.default_rng(2).integers(-64, 64, size=(2, 60, 6)) / 64.0
    near = precision_recall(real.astype(np.float32), fake.astype(np.float32))
    far = precision_recall((real + 8192).astype(np.float32), (fake + 8192).astype(np.float32))
    np.testing.assert_allclose(far, near, atol=0.02)


@settings(deadline=None, max_examples=10)
@given(st.integers(0, 2**31))
def test_order_scale_and_shift_do_not_matter(seed):
    generator = np.random.default_rng(seed)
    real, fake = generator.normal(size=(2, 30, 3))
    with jax.enable_x64(True):
        value = precision_recall(real, fake)
        moved = precision_recall(generator.permutation(real) * 7 + 3, generator.permutation(fake) * 7 + 3)
        np.testing.assert_allclose(moved, value, rtol=1e-12)


def test_memory_stays_within_chunks():
    features = jax.ShapeDtypeStruct((10_000, 64), jnp.float32)
    compiled = jax.jit(precision_recall).lower(features, features).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < 10_000 * 10_000 * 4 / 5


@pytest.mark.parametrize("k", [0, 4])
def test_k_must_leave_a_neighbour(k):
    with pytest.raises(ValueError, match=rf"k must be .* less than the number of points \(4\), got {k}"):
        precision_recall(jnp.zeros((9, 2)), jnp.zeros((4, 2)), k=k)


def test_bad_shapes():
    with pytest.raises(ValueError, match=r"real and fake .* \(9, 2\) and \(9, 3\)"):
        precision_recall(jnp.zeros((9, 2)), jnp.zeros((9, 3)))
    with pytest.raises(ValueError, match=r"real must have shape .* got \(9,\)"):
        precision_recall(jnp.zeros(9), jnp.zeros((9, 2)))
    with pytest.raises(ValueError, match=r"fake must have shape .* got \(9,\)"):
        precision_recall(jnp.zeros((9, 2)), jnp.zeros(9))
