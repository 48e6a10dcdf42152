"""EMA codebooks against k-means and their recursion; several devices against one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import quantization as Q
from jaxgen.quantization import EmaCodebook

# Compiled whole: run op by op, a test compiles some twenty programs where one will do.
code_counts = jax.jit(Q.code_counts, static_argnums=1)
codebook_from_ema, init_ema_codebook, nearest_code = map(
    jax.jit, (Q.codebook_from_ema, Q.init_ema_codebook, Q.nearest_code)
)
ema_codebook_update = jax.jit(Q.ema_codebook_update, static_argnames="axis_name")
revive_dead_codes = jax.jit(Q.revive_dead_codes, static_argnames="axis_name")


def normals(seed, *shape, dtype=np.float32):
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def test_indices_outside_the_codebook_count_for_nothing():
    indices, vectors = jnp.array([0, -1, 4, 2, -5]), jnp.asarray(normals(0, 5, 3))
    assert code_counts(indices, 4).tolist() == [1, 0, 1, 0]
    state = ema_codebook_update(init_ema_codebook(normals(1, 4, 3)), vectors, indices, decay=0.0)
    np.testing.assert_allclose(codebook_from_ema(state)[jnp.array([0, 2])], vectors[jnp.array([0, 3])], rtol=1e-6)
    assert float(state.counts.sum()) == pytest.approx(2, abs=1e-5)


def test_a_code_at_the_threshold_lives():
    state = EmaCodebook(jnp.array([1.0, 0.99]), jnp.array([[5.0], [6.0]]))
    revived = revive_dead_codes(jax.random.key(0), state, jnp.array([[7.0]]), threshold=1.0)
    np.testing.assert_allclose(codebook_from_ema(revived), [[5.0], [7.0]], rtol=1e-6)
    # Never below the threshold, or it would be dead again at once.
    np.testing.assert_allclose(revived.counts, [1, 1], rtol=1e-6)


def test_decay_zero_is_one_lloyd_step(x64):
    points = normals(0, 500, 3, dtype=np.float64)
    codebook = points[:20]
    indices = nearest_code(points, codebook)
    state = ema_codebook_update(init_ema_codebook(codebook, count=3.0), points, indices, decay=0.0)
    lloyd = np.stack([points[np.asarray(indices) == k].mean(0) for k in range(20)])
    np.testing.assert_allclose(codebook_from_ema(state), lloyd, rtol=1e-12)
    np.testing.assert_array_equal(state.counts, np.bincount(indices, minlength=20))


def test_running_estimates_follow_their_recursion(x64):
    rng = np.random.default_rng(0)
    counts, sums = rng.uniform(1, 2, 4), rng.normal(size=(4, 2))
    state = EmaCodebook(jnp.asarray(counts), jnp.asarray(sums))
    for step in range(5):
        vectors, indices = rng.normal(size=(2, 6, 2)), rng.integers(0, 4, (2, 6))
        state = ema_codebook_update(state, vectors, indices, decay=0.9)
        one_hot = np.eye(4)[indices.ravel()]
        counts = 0.9 * counts + 0.1 * one_hot.sum(0)
        sums = 0.9 * sums + 0.1 * one_hot.T @ vectors.reshape(-1, 2)
        np.testing.assert_allclose(state.counts, counts, rtol=1e-13, err_msg=str(step))
        np.testing.assert_allclose(state.sums, sums, rtol=1e-12)
        np.testing.assert_allclose(codebook_from_ema(state), sums / counts[:, None], rtol=1e-12)


def test_smoothing_is_laplaces_and_only_in_the_read_out(x64):
    counts, sums = np.array([3.0, 0.5, 0.0]), normals(0, 3, 2, dtype=np.float64)
    state = EmaCodebook(jnp.asarray(counts), jnp.asarray(sums))
    smoothed = (counts + 0.1) / (counts.sum() + 3 * 0.1) * counts.sum()
    np.testing.assert_allclose(codebook_from_ema(state, smoothing=0.1), sums / smoothed[:, None], rtol=1e-12)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_a_code_that_never_counted_lies_at_the_origin(smoothing):
    state = EmaCodebook(jnp.array([0.0, 2.0]), jnp.array([[0.0], [4.0]]))
    assert codebook_from_ema(state, smoothing=smoothing)[0] == 0
    empty = EmaCodebook(jnp.zeros(2), jnp.zeros((2, 1)))
    np.testing.assert_array_equal(codebook_from_ema(empty, smoothing=smoothing), 0)


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.99])
def test_an_unused_code_keeps_its_place_for_ever(decay):
    codebook = normals(0, 4, 3)
    vectors, indices = jnp.asarray(normals(1, 6, 3)), jnp.zeros(6, jnp.int32)
    update = jax.jit(lambda i, state: ema_codebook_update(state, vectors, indices, decay=decay))
    state = jax.lax.fori_loop(0, 20_000, update, init_ema_codebook(codebook))
    np.testing.assert_allclose(codebook_from_ema(state)[1:], codebook[1:], rtol=2e-3)
    np.testing.assert_allclose(state.counts[1:], 1e-6, rtol=0.02)
    np.testing.assert_allclose(codebook_from_ema(state)[0], vectors.mean(0), rtol=1e-4)


def test_several_devices_keep_one_codebook():
    vectors, codebook = normals(0, 4, 25, 3), normals(1, 10, 3)
    state = init_ema_codebook(codebook)

    def update(state, vectors, axis_name=None):
        indices = nearest_code(vectors, codebook_from_ema(state))
        state = ema_codebook_update(state, vectors, indices, decay=0.7, axis_name=axis_name)
        return revive_dead_codes(jax.random.key(3), state, vectors, threshold=2.0, axis_name=axis_name)

    one = jax.jit(update)(state, vectors.reshape(100, 3))
    many = jax.pmap(lambda v: update(state, v, "device"), axis_name="device")(vectors)
    for expected, found in zip(one, many):
        for device in found:
            np.testing.assert_allclose(device, expected, rtol=1e-5, atol=1e-6)
    assert np.any(np.asarray(one.counts) > 2)


def test_no_gradient_reaches_the_encodings():
    def total(vectors):
        state = ema_codebook_update(init_ema_codebook(normals(0, 4, 3)), vectors, jnp.arange(4), decay=0.5)
        return jnp.sum(revive_dead_codes(jax.random.key(0), state, vectors, threshold=1.0).sums)

    assert not np.any(jax.grad(total)(normals(1, 4, 3)))


def test_revival_resets_place_count_and_sum_together():
    counts = jnp.array([6.0, 0.1, 5.0, 0.0, 0.2])
    state = EmaCodebook(counts, counts[:, None] * normals(0, 5, 2))
    vectors = normals(1, 2, 4, 2)
    revived = revive_dead_codes(jax.random.key(0), state, vectors, threshold=0.5)
    places, flat = np.asarray(codebook_from_ema(revived))[[1, 3, 4]], vectors.reshape(8, 2)
    apart = np.linalg.norm(places[:, None] - flat, axis=-1)
    assert apart.min(axis=1).max() < 0.4 * np.sqrt(flat.var(axis=0).mean())
    assert len(np.unique(apart.argmin(axis=1))) == 3
    np.testing.assert_allclose(revived.counts, [6.0, 2.26, 5.0, 2.26, 2.26], rtol=1e-6)
    for before, after in zip(state, revived):
        np.testing.assert_array_equal(np.asarray(after)[[0, 2]], np.asarray(before)[[0, 2]])


def test_revival_draws_every_vector_equally_often():
    state = EmaCodebook(jnp.array([0.0, 4.0]), jnp.array([[0.0], [4.0]]))
    vectors = jnp.arange(4.0)[:, None]
    keys = jax.random.split(jax.random.key(0), 4000)
    places = jax.vmap(lambda key: codebook_from_ema(revive_dead_codes(key, state, vectors, threshold=1.0))[0, 0])
    counts = np.bincount(np.asarray(places(keys)).round().astype(int), minlength=4)
    assert np.all(np.abs(counts - 1000) < 5 * np.sqrt(750))


def test_more_dead_codes_than_vectors_share_them_evenly():
    state = EmaCodebook(jnp.zeros(6), jnp.zeros((6, 1)))
    revived = revive_dead_codes(jax.random.key(0), state, jnp.array([[1.0], [2.0], [3.0]]), threshold=1.0)
    assert sorted(codebook_from_ema(revived).ravel().round().tolist()) == [1, 1, 2, 2, 3, 3]


def test_codes_revived_on_equal_vectors_lie_a_tenth_of_the_spread_about_them(x64):
    """Each is the nearest to its own place: of two on one vector the second would never be chosen."""
    vectors = normals(0, 500, 4, dtype=np.float64)
    vectors[:450] = vectors[0]
    state = EmaCodebook(jnp.zeros(200), jnp.zeros((200, 4)))
    places = np.asarray(codebook_from_ema(revive_dead_codes(jax.random.key(0), state, vectors, threshold=1.0)))
    np.testing.assert_array_equal(nearest_code(places, places), np.arange(200))
    about = places - vectors[nearest_code(places, vectors)]
    equal = np.abs(places - vectors[0]).max(axis=1) < 0.5 * np.sqrt(vectors.var(axis=0).mean())
    assert 150 < equal.sum() < 200
    expected = 0.1 * np.sqrt(vectors.var(axis=0).mean())
    np.testing.assert_allclose(about[equal].std(), expected, rtol=5 / np.sqrt(2 * 4 * equal.sum()))
