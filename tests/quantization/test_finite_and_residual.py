"""Finite scalar quantization by enumeration of its codes; residual quantization against NumPy."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.quantization import (
    finite_scalar_codes,
    finite_scalar_indices,
    finite_scalar_quantize,
    kmeans,
    residual_kmeans,
    residual_lookup,
    residual_nearest_codes,
)

# Compiled whole: run op by op, a test compiles some twenty programs where one will do.
codes_of = jax.jit(finite_scalar_codes, static_argnames="levels")
indices_of = jax.jit(finite_scalar_indices, static_argnames="levels")
quantized_of = jax.jit(finite_scalar_quantize, static_argnames="levels")


@pytest.mark.parametrize("levels", [(2,), (3, 4), (5, 2, 3), (8, 5, 5)])
def test_indices_count_every_code_once_and_invert(levels):
    # A code's digits, the first varying fastest.
    digits = np.array([d[::-1] for d in itertools.product(*(range(n) for n in levels[::-1]))])
    codes = digits / (np.array(levels) // 2) - 1
    np.testing.assert_allclose(codes_of(np.arange(np.prod(levels)), levels=levels), codes, atol=1e-7)
    indices = indices_of(codes.astype(np.float32), levels=levels)
    assert indices.dtype == jnp.int32
    np.testing.assert_array_equal(indices, np.arange(np.prod(levels)))


@pytest.mark.parametrize("count", [*range(2, 10), 1002, 1003])
def test_each_level_is_reached_and_nothing_else(count):
    grid = np.arctanh(np.linspace(-1, 1, 4003)[1:-1])[:, None].astype(np.float32)
    codes = np.asarray(quantized_of(grid, levels=(count,)))[:, 0]
    expected = np.asarray(codes_of(np.arange(count), levels=(count,)))[:, 0]
    np.testing.assert_array_equal(np.unique(codes), expected)
    assert np.all(np.diff(codes) >= 0)
    # Extremes stay at the outermost level, in value and gradient.
    extreme = jnp.array([[-1e30], [1e30]])
    value, pull = jax.vjp(lambda z: quantized_of(z, levels=(count,)), extreme)
    np.testing.assert_array_equal(value[:, 0], expected[[0, -1]])
    assert not np.any(pull(jnp.ones((2, 1)))[0])


def test_finite_gradient_is_that_of_the_bound_alone(x64):
    levels, z = (4, 5, 2), np.random.default_rng(0).normal(size=(6, 3))
    half_range = np.array([3, 4, 1]) * 1.001 / 2
    shift = np.arctanh(np.array([0.5, 0.0, 0.0]) / half_range)
    expected = half_range / np.cosh(z + shift) ** 2 / np.array([2, 2, 1])
    value, pull = jax.vjp(lambda z: quantized_of(z, levels=levels), z)
    np.testing.assert_allclose(pull(np.ones((6, 3)))[0], expected, rtol=1e-10)
    bounded = half_range * np.tanh(z + shift) - np.array([0.5, 0.0, 0.5])
    np.testing.assert_array_equal(value, np.round(bounded) / np.array([2, 2, 1]))


def test_of_two_levels_the_sign_decides():
    z = np.random.default_rng(0).normal(size=(1000, 2)).astype(np.float32)
    z[0] = 0
    codes = quantized_of(z, levels=(2, 2))
    np.testing.assert_array_equal(codes, np.where(z < 0, -1, 0))
    np.testing.assert_array_equal(indices_of(codes, levels=(2, 2)), (z >= 0) @ np.array([1, 2]))


def test_finite_refuses(as_users_call):
    with pytest.raises(TypeError, match="encodings must be floating point, got int"):
        finite_scalar_quantize(np.ones((2, 2), int), levels=(3, 3))
    with pytest.raises(TypeError, match="codes must be floating point, got int"):
        finite_scalar_indices(np.ones((2, 2), int), levels=(3, 3))
    with pytest.raises(ValueError, match=r"levels must be one or more counts .* got \(\)"):
        finite_scalar_quantize(np.ones((2, 0), np.float32), levels=())
    for size in (3, 1):  # also where it would broadcast
        message = rf"\(2, {size}\) must have as last dimension the number of levels, 2"
        with pytest.raises(ValueError, match=f"encodings {message}"):
            finite_scalar_quantize(np.ones((2, size), np.float32), levels=(3, 3))
        with pytest.raises(ValueError, match=f"codes {message}"):
            finite_scalar_indices(np.ones((2, size), np.float32), levels=(3, 3))
    with pytest.raises(ValueError, match=r"\(3, 1\)"):
        finite_scalar_quantize(np.ones((2, 2), np.float32), levels=(3, 1))
    for indices in (np.ones((2, 2), np.float32), np.ones(2, bool)):
        with pytest.raises(TypeError, match=f"indices must be integers, got {indices.dtype}"):
            finite_scalar_codes(indices, levels=(3, 3))
    with pytest.raises(ValueError, match=r"since levels \(3, 3\) make 9 codes, got -1 to 9"):
        finite_scalar_codes(np.array([-1, 9]), levels=(3, 3))
    for levels in (3, (3, 2.5)):
        with pytest.raises(TypeError, match="levels must be integers, one for each dimension, got"):
            finite_scalar_codes(np.arange(2), levels=levels)
    for outside in (1.5, np.nan):
        with pytest.raises(ValueError, match=r"codes must lie in \[-1, 1\]"):
            finite_scalar_indices(np.array([[0, outside]], np.float32), levels=(3, 3))
    with pytest.raises(ValueError, match="int32"):
        finite_scalar_codes(np.arange(2), levels=(2,) * 31)


def greedy(vectors, codebooks):
    residual, indices = vectors.copy(), []
    for codebook in codebooks:
        nearest = np.argmin(((residual[:, None] - codebook) ** 2).sum(-1), axis=1)
        residual -= codebook[nearest]
        indices.append(nearest)
    return np.stack(indices, axis=-1), vectors - residual


def test_residual_codes_are_greedy_search(x64):
    rng = np.random.default_rng(0)
    vectors, codebooks = rng.normal(size=(40, 3)), rng.normal(size=(4, 9, 3)) / np.arange(1, 5)[:, None, None]
    indices, quantized = greedy(vectors, codebooks)
    found = jax.jit(residual_nearest_codes)(vectors.reshape(5, 8, 3), codebooks)
    np.testing.assert_array_equal(np.reshape(found, (40, 4)), indices)
    value, pull = jax.vjp(jax.jit(lambda c: residual_lookup(c, indices)), codebooks)
    np.testing.assert_allclose(value, quantized, rtol=1e-12, atol=1e-12)
    gradient = np.asarray(pull(np.ones((40, 3)))[0])
    np.testing.assert_allclose(gradient[..., 0], [np.bincount(i, minlength=9) for i in indices.T])


def test_first_stage_is_k_means_and_more_stages_lower_the_error():
    points = np.random.default_rng(1).normal(size=(500, 4)).astype(np.float32)
    key = jax.random.key(0)
    codebooks = residual_kmeans(key, points, 8, num_stages=3)
    first = kmeans(jax.random.split(key, 3)[0], points, 8)
    np.testing.assert_array_equal(codebooks[0], first.centroids)
    indices = residual_nearest_codes(points, codebooks)
    codebooks, indices = np.asarray(codebooks), np.asarray(indices)
    coarse = [jax.jit(residual_lookup)(codebooks[:s], indices[:, :s]) for s in (1, 2, 3)]
    errors = [float(np.sum((points - np.asarray(c)) ** 2)) for c in coarse]
    np.testing.assert_allclose(errors[0], first.inertia, rtol=1e-4)
    # Three bits a stage on four dimensions: the rate–distortion bound is a factor of 2^(−2·3/4) a stage.
    assert 2**-1.5 < errors[1] / errors[0] < 0.75
    assert 2**-1.5 < errors[2] / errors[1] < 0.75


@pytest.mark.parametrize("outside", [-1, 3])
def test_a_residual_index_outside_its_codebook_is_refused_and_under_jit_is_nan(outside):
    codebooks, indices = np.ones((2, 3, 1), np.float32), np.array([[0, 1], [0, outside]], np.int8)
    message = f"indices must lie in 0 … 2, since each codebook has 3 codes, got {min(outside, 0)} to {max(outside, 1)}"
    with pytest.raises(ValueError, match=message):
        residual_lookup(codebooks, indices)
    found = jax.jit(residual_lookup)(codebooks, indices)
    np.testing.assert_array_equal(np.isnan(found), [[False], [True]])


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.int64])
@pytest.mark.parametrize("jit", [False, True])
def test_narrow_indices_find_the_codes_of_a_wide_codebook(dtype, jit):
    codebooks = np.random.default_rng(0).normal(size=(3, 300, 2)).astype(np.float32)
    indices = np.array([[0, 126, 127], [127, 3, 99]], dtype)
    found = (jax.jit(residual_lookup) if jit else residual_lookup)(codebooks, indices)
    np.testing.assert_allclose(found, codebooks[np.arange(3), indices.astype(int)].sum(axis=-2), rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32])
def test_finite_codes_of_narrow_indices(dtype):
    indices = np.array([0, 100, 127], dtype)
    wide = finite_scalar_codes(indices.astype(np.int32), levels=(8, 8, 8))
    np.testing.assert_array_equal(finite_scalar_codes(indices, levels=(8, 8, 8)), wide)
    digits = (wide * 4 + 4) @ np.array([1, 8, 64])
    np.testing.assert_array_equal(digits, indices)


def test_a_traced_index_beyond_the_finite_codes_is_nan():
    found = jax.jit(lambda i: finite_scalar_codes(i, levels=(3, 3)))(np.array([-1, 8, 9]))
    np.testing.assert_array_equal(np.isnan(found[:, 0]), [True, False, True])


def test_residual_refuses(as_users_call):
    with pytest.raises(TypeError, match="vectors must be floating point, got int"):
        residual_nearest_codes(np.ones((3, 3), int), np.ones((1, 4, 3), np.float32))
    with pytest.raises(TypeError, match="codebooks must be floating point, got int"):
        residual_lookup(np.ones((1, 4, 3), int), np.zeros((3, 1), int))
    with pytest.raises(ValueError, match=r"codebooks must be \[stages, codes, dim\].* got shape \(4, 3\)"):
        residual_lookup(np.ones((4, 3), np.float32), np.zeros((3, 4), int))
    with pytest.raises(ValueError, match=r"points \(3, 3\) are fewer than num_clusters = 4"):
        residual_kmeans(jax.random.key(0), np.ones((3, 3), np.float32), 4, num_stages=1)
    with pytest.raises(ValueError, match=r"\(3, 2\).*\(1, 4, 3\)"):
        residual_nearest_codes(np.ones((3, 2), np.float32), np.ones((1, 4, 3), np.float32))
    with pytest.raises(ValueError, match=r"\(3, 2\).*\(1, 4, 3\)"):
        residual_lookup(np.ones((1, 4, 3), np.float32), np.zeros((3, 2), np.int32))
    with pytest.raises(ValueError, match=r"\(0, 4, 3\)"):
        residual_nearest_codes(np.ones((3, 3), np.float32), np.ones((0, 4, 3), np.float32))
    for indices in (np.zeros((3, 1), np.float32), np.zeros((3, 1), bool)):
        with pytest.raises(TypeError, match=f"indices must be integers, got {indices.dtype}"):
            residual_lookup(np.ones((1, 4, 3), np.float32), indices)
    with pytest.raises(TypeError, match=r"num_stages must be an integer, got 1\.5"):
        residual_kmeans(jax.random.key(0), np.ones((3, 3), np.float32), 2, num_stages=1.5)
    with pytest.raises(ValueError, match=r"num_stages.*0"):
        residual_kmeans(jax.random.key(0), np.ones((3, 3), np.float32), 2, num_stages=0)
