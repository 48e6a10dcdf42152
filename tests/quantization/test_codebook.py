"""Nearest codes against brute force; EMA codebooks against k-means; several devices against one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import entropy

from jaxgen.quantization import (
    EmaCodebook,
    code_counts,
    codebook_from_ema,
    ema_codebook_update,
    init_ema_codebook,
    lookup,
    nearest_code,
    perplexity,
    revive_dead_codes,
    usage,
)


def brute_force(vectors, codebook):
    vectors, codebook = np.asarray(vectors, np.float64), np.asarray(codebook, np.float64)
    return np.argmin(np.sum((vectors[..., None, :] - codebook) ** 2, axis=-1), axis=-1)


def normals(seed, *shape, dtype=np.float32):
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


@pytest.mark.parametrize("codes", [1, 63, 64, 65, 200])
@pytest.mark.parametrize("chunk_size", [None, 1, 7, 8, 1000])  # 30 are chunks of 8 only if two overlap
def test_nearest_code_is_brute_force(codes, chunk_size):
    vectors, codebook = normals(0, 3, 10, 5), normals(1, codes, 5)
    found = nearest_code(vectors, codebook, chunk_size=chunk_size)
    assert found.dtype == jnp.int32
    np.testing.assert_array_equal(found, brute_force(vectors, codebook))


@pytest.mark.parametrize("codes", [64, 65, 127, 200])
def test_every_code_is_nearest_to_itself(codes):
    codebook = normals(codes, codes, 3)
    np.testing.assert_array_equal(nearest_code(codebook, codebook), np.arange(codes))


@pytest.mark.parametrize("dim", [1, 3, 17, 64, 300])
def test_no_index_lies_beyond_the_codebook(dim):
    # Codes are searched in blocks: near the last code, whatever fills its block must not win.
    codebook = normals(dim, 65, dim)
    vectors = codebook[-1] + 1e-3 * normals(dim + 1, 2000, dim)
    np.testing.assert_array_equal(nearest_code(vectors, codebook), 64)
    # In the middle every true score is positive, so that a zero there would win.
    middle = codebook.mean(axis=0, keepdims=True)
    np.testing.assert_array_equal(nearest_code(middle, codebook), brute_force(middle, codebook))
    far = np.array([np.inf, -np.inf, np.nan, 1e38], np.float32)[:, None] * np.ones(dim, np.float32)
    assert np.all(nearest_code(far, codebook) < 65)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 199))
def test_ties_take_the_lowest_index(seed, first):
    codebook = np.random.default_rng(seed).integers(-2, 3, (200, 3)).astype(np.float32)
    vectors = np.random.default_rng(seed + 1).integers(-2, 3, (20, 3)).astype(np.float32)
    codebook[150] = codebook[first]
    # Integers and a mean of zero leave no rounding, so that equal distances are equal numbers.
    codebook = np.concatenate([codebook, -codebook])
    np.testing.assert_array_equal(nearest_code(vectors, codebook), brute_force(vectors, codebook))


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10**6))
def test_permuted_codes_permute_indices(seed):
    vectors, codebook = normals(seed, 50, 4), normals(seed + 1, 100, 4)
    order = np.random.default_rng(seed).permutation(100)
    found = nearest_code(vectors, codebook[order])
    np.testing.assert_array_equal(order[found], nearest_code(vectors, codebook))


def test_vectors_far_from_the_origin_keep_their_codes():
    vectors, codebook = normals(0, 500, 8) + np.float32(1e4), normals(1, 300, 8) + np.float32(1e4)
    np.testing.assert_array_equal(nearest_code(vectors, codebook), brute_force(vectors, codebook))


def test_half_precision_inputs_are_compared_in_float32():
    vectors, codebook = normals(0, 400, 64).astype(jnp.bfloat16), normals(1, 500, 64).astype(jnp.bfloat16)
    np.testing.assert_array_equal(nearest_code(vectors, codebook), brute_force(vectors, codebook))


def test_float64_is_searched_in_float64(x64):
    # The last two codes differ by less than float32 resolves.
    codebook = jnp.array([[0.0], [1.0 + 1e-6], [1.0]])
    assert nearest_code(jnp.array([[1.0]]), codebook).tolist() == [2]


def test_no_array_of_all_scores():
    text = str(jax.make_jaxpr(lambda v, c: nearest_code(v, c, chunk_size=10))(normals(0, 100, 4), normals(1, 70, 4)))
    assert "f32[10,72]" in text
    assert "f32[100,70]" not in text
    assert "f32[100,72]" not in text
    assert ",70,4]" not in text


def test_nearest_code_under_vmap_and_grad():
    vectors, codebooks = normals(0, 3, 20, 4), normals(1, 3, 70, 4)
    found = jax.vmap(nearest_code)(vectors, codebooks)
    np.testing.assert_array_equal(found, np.stack([brute_force(*pair) for pair in zip(vectors, codebooks)]))
    gradient = jax.grad(lambda v: jnp.sum(v * nearest_code(v, codebooks[0])[:, None]))(vectors[0])
    np.testing.assert_array_equal(gradient, np.repeat(found[0][:, None], 4, axis=1))


@pytest.mark.parametrize(
    ("vectors", "codebook", "chunk_size", "error", "message"),
    [
        (
            np.ones((3, 2), np.float32),
            np.ones((0, 2), np.float32),
            None,
            ValueError,
            r"at least one code.*\(0, 2\)",
        ),
        (np.ones((3, 2), np.float32), np.ones((4, 3), np.float32), None, ValueError, r"\(3, 2\).*\(4, 3\)"),
        (np.ones((3, 2), np.float32), np.ones((4, 2), np.float32), 0, ValueError, "chunk_size.*0"),
    ],
)
def test_nearest_code_refuses(vectors, codebook, chunk_size, error, message):
    with pytest.raises(error, match=message):
        nearest_code(vectors, codebook, chunk_size=chunk_size)


def test_lookup_gathers_and_its_gradient_counts():
    codebook = normals(0, 5, 3)
    indices = np.array([[4, 0], [4, 4]])
    np.testing.assert_array_equal(lookup(codebook, indices), codebook[indices])
    gradient = jax.grad(lambda c: lookup(c, indices).sum())(codebook)
    np.testing.assert_array_equal(gradient, np.repeat([[1.0], [0], [0], [0], [3]], 3, axis=1))
    with pytest.raises(ValueError, match="5 codes, got 0 to 5"):
        lookup(codebook, np.array([0, 5]))
    with pytest.raises(ValueError, match="5 codes, got -1 to 2"):
        lookup(codebook, np.array([-1, 2]))
    assert np.isnan(jax.jit(lookup)(codebook, np.array([0, 5]))[1]).all()


def test_lookup_is_no_product_with_one_hot_rows():
    program = str(jax.make_jaxpr(lookup)(normals(0, 70, 4), np.zeros(100, np.int32)))
    assert "gather" in program
    assert "dot_general" not in program
    assert "[100,70]" not in program


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

    one = update(state, vectors.reshape(100, 3))
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
    places = np.asarray(codebook_from_ema(revived))
    chosen = [np.flatnonzero(np.all(np.abs(vectors.reshape(8, 2) - places[k]) < 1e-6, axis=1)) for k in (1, 3, 4)]
    assert [len(c) for c in chosen] == [1, 1, 1]
    assert len(set(np.concatenate(chosen))) == 3
    np.testing.assert_allclose(revived.counts, [6.0, 2.26, 5.0, 2.26, 2.26], rtol=1e-6)
    for before, after in zip(state, revived):
        np.testing.assert_array_equal(np.asarray(after)[[0, 2]], np.asarray(before)[[0, 2]])


def test_revival_draws_every_vector_equally_often():
    state = EmaCodebook(jnp.array([0.0, 4.0]), jnp.array([[0.0], [4.0]]))
    vectors = jnp.arange(4.0)[:, None]
    keys = jax.random.split(jax.random.key(0), 4000)
    places = jax.vmap(lambda key: codebook_from_ema(revive_dead_codes(key, state, vectors, threshold=1.0))[0, 0])
    counts = np.bincount(np.asarray(places(keys)).astype(int), minlength=4)
    assert np.all(np.abs(counts - 1000) < 5 * np.sqrt(750))


def test_more_dead_codes_than_vectors_share_them_evenly():
    state = EmaCodebook(jnp.zeros(6), jnp.zeros((6, 1)))
    revived = revive_dead_codes(jax.random.key(0), state, jnp.array([[1.0], [2.0], [3.0]]), threshold=1.0)
    assert sorted(codebook_from_ema(revived).ravel().tolist()) == [1, 1, 2, 2, 3, 3]


def test_counts_perplexity_and_usage(x64):
    indices = np.random.default_rng(0).integers(0, 7, (5, 30))
    counts = code_counts(indices, 10)
    np.testing.assert_array_equal(counts, np.bincount(indices.ravel(), minlength=10))
    rows = np.random.default_rng(1).uniform(0, 3, (4, 9)) * (np.arange(9) > 2)
    np.testing.assert_allclose(perplexity(rows), np.exp(entropy(rows, axis=-1)), rtol=1e-12)
    np.testing.assert_allclose(usage(rows), np.full(4, 6 / 9))
    assert float(usage(np.array([0.1, 1.0, 2.0, 0.0]), threshold=0.5)) == 0.5
    assert float(perplexity(np.zeros(5))) == 0.0


def test_perplexity_of_extreme_counts_has_a_finite_gradient():
    counts = jnp.array([0.0, 1e-30, 1e30, 5.0])
    assert np.isfinite(perplexity(counts))
    assert np.all(np.isfinite(jax.grad(perplexity)(counts)))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("jit", [False, True])
def test_a_count_that_is_no_number_comes_out_of_the_perplexity(bad, jit):
    counts = np.array([[1.0, bad, 2.0], [2.0, 2.0, 0.0]], np.float32)
    found = (jax.jit(perplexity) if jit else perplexity)(counts)
    np.testing.assert_allclose(found, [np.nan, 2.0], rtol=1e-6)


@pytest.mark.parametrize("measure", [perplexity, usage])
def test_a_negative_count_is_refused_where_it_is_seen_and_nan_where_it_is_not(measure):
    counts = np.array([[3.0, -1.0], [1.0, 1.0]], np.float32)
    with pytest.raises(ValueError, match="counts must not be negative, got -1"):
        measure(counts)
    np.testing.assert_array_equal(np.isnan(jax.jit(measure)(counts)), [True, False])
    np.testing.assert_array_equal(np.isnan(measure(np.array([[np.nan, 1], [1, 1]], np.float32))), [True, False])


def test_narrow_indices_count_and_look_up_in_a_wide_codebook():
    indices = np.array([200, 7, 200], np.uint8)
    np.testing.assert_array_equal(code_counts(indices, 300), np.bincount(indices, minlength=300))
    codebook = normals(0, 300, 2)
    np.testing.assert_array_equal(lookup(codebook, indices), codebook[indices])


STATE = EmaCodebook(np.ones(4, np.float32), np.ones((4, 3), np.float32))
FLOATS, INTEGERS = np.ones((5, 3), np.float32), np.ones((5, 3), np.int32)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: nearest_code(INTEGERS, FLOATS), TypeError, "vectors must be floating point, got int32"),
        (lambda: nearest_code(FLOATS, INTEGERS), TypeError, "codebook must be floating point, got int32"),
        (lambda: nearest_code(FLOATS, FLOATS[0]), ValueError, r"codebook must be \[codes, dim\].*\(3,\)"),
        (lambda: nearest_code(np.float32(1), FLOATS), ValueError, r"vectors \(\) and codebook \(5, 3\)"),
        (lambda: lookup(FLOATS, np.ones(2)), TypeError, "indices must be integers, got float"),
        (lambda: lookup(FLOATS[:0], np.zeros(0, int)), ValueError, r"at least one code.*\(0, 3\)"),
        (lambda: init_ema_codebook(FLOATS, count=0.0), ValueError, "count must be positive, got 0"),
        (
            lambda: ema_codebook_update(STATE, INTEGERS, INTEGERS[:, 0], decay=0.5),
            TypeError,
            "vectors must be floating",
        ),
        (lambda: codebook_from_ema(STATE, smoothing=-0.1), ValueError, "smoothing must not be negative, got -0.1"),
        (
            lambda: revive_dead_codes(jax.random.key(0), STATE, FLOATS, threshold=-1.0),
            ValueError,
            "threshold must not be negative, got -1",
        ),
        (
            lambda: revive_dead_codes(jax.random.key(0), STATE, FLOATS[:0], threshold=1.0),
            ValueError,
            r"vectors \(0, 3\) must be one or more",
        ),
        (lambda: code_counts(INTEGERS, 0), ValueError, "num_codes must be at least 1, got 0"),
        (lambda: perplexity(FLOATS[:, :0]), ValueError, r"at least one code, got shape \(5, 0\)"),
        (lambda: usage(np.float32(1)), ValueError, r"at least one code, got shape \(\)"),
        (lambda: usage(FLOATS, threshold=-1), ValueError, "threshold must not be negative, got -1"),
        (lambda: usage(FLOATS, threshold=FLOATS), ValueError, r"threshold must be one number.* \(5, 3\)"),
        (lambda: usage(1j * FLOATS), TypeError, "counts must be real, got complex64"),
        (lambda: perplexity(1j * FLOATS), TypeError, "counts must be real, got complex64"),
        (lambda: perplexity(None), TypeError, "counts must be an array or a number, got None"),
        (lambda: code_counts(FLOATS, 3), TypeError, "indices must be integers, got float32"),
        (lambda: code_counts(INTEGERS == 1, 3), TypeError, "indices must be integers, got bool"),
        (lambda: code_counts(INTEGERS, 2.5), TypeError, "num_codes must be an integer, got 2.5"),
        (lambda: nearest_code(FLOATS, FLOATS, chunk_size=1.5), TypeError, "chunk_size must be an integer, got 1.5"),
        (lambda: nearest_code(FLOATS[:, :0], FLOATS[:, :0]), ValueError, r"one dimension, got shape \(5, 0\)"),
        (lambda: init_ema_codebook(INTEGERS), TypeError, "codebook must be floating point, got int32"),
        (lambda: init_ema_codebook(FLOATS[0]), ValueError, r"codebook must be \[codes, dim\].* \(3,\)"),
        (lambda: init_ema_codebook(FLOATS[None]), ValueError, r"codebook must be \[codes, dim\].* \(1, 5, 3\)"),
        (lambda: init_ema_codebook(np.float32(1)), ValueError, r"codebook must be \[codes, dim\].* \(\)"),
        (lambda: init_ema_codebook(FLOATS[:, :0]), ValueError, r"at least one code.* \(5, 0\)"),
        (lambda: init_ema_codebook(FLOATS, count=np.nan), ValueError, "count must be positive, got nan"),
        (lambda: init_ema_codebook(FLOATS, count=FLOATS[0]), ValueError, r"count must be one number.* \(3,\)"),
        (
            lambda: ema_codebook_update(STATE, FLOATS, FLOATS[:, 0], decay=0.5),
            TypeError,
            "indices must be integers, got float32",
        ),
        (
            lambda: ema_codebook_update(STATE, FLOATS, INTEGERS[:, 0], decay=FLOATS[0]),
            ValueError,
            r"decay must be one number, got an array of shape \(3,\)",
        ),
        (
            lambda: ema_codebook_update(STATE._replace(counts=FLOATS[:2, 0]), FLOATS, INTEGERS[:, 0], decay=0.5),
            ValueError,
            r"state must have counts \[codes\] .* \(2,\) and \(4, 3\)",
        ),
        (lambda: codebook_from_ema(STATE._replace(counts=FLOATS)), ValueError, r"state .* \(5, 3\) and \(4, 3\)"),
        (lambda: codebook_from_ema(STATE, smoothing=np.nan), ValueError, "smoothing must not be negative, got nan"),
        (
            lambda: revive_dead_codes(jax.random.key(0), STATE, np.float32(1), threshold=1),
            ValueError,
            r"vectors \(\) must be one or more vectors",
        ),
    ],
)
def test_bad_input_is_refused_without_the_checks_of_shapes_too(call, error, message, refuses):
    refuses(error, call, message)


def test_ema_refuses():
    state = init_ema_codebook(normals(0, 4, 3))
    with pytest.raises(ValueError, match=r"\(5, 3\).*\(4,\)"):
        ema_codebook_update(state, normals(1, 5, 3), np.zeros(4, np.int32), decay=0.9)
    with pytest.raises(ValueError, match=r"decay.*1\.5"):
        ema_codebook_update(state, normals(1, 5, 3), np.zeros(5, np.int32), decay=1.5)
    with pytest.raises(ValueError, match=r"\(5, 2\).*dim 3"):
        revive_dead_codes(jax.random.key(0), state, normals(1, 5, 2), threshold=1.0)
    with pytest.raises(ValueError, match="at least one code"):
        init_ema_codebook(np.ones((0, 3), np.float32))
