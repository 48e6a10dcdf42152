"""Nearest codes against brute force, and the codes of given indices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxgen import quantization as Q

# Compiled whole: run op by op, a test compiles some twenty programs where one will do.
nearest_code, lookup = jax.jit(Q.nearest_code, static_argnames="chunk_size"), Q.lookup


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
