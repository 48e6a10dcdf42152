"""What lies at the edge of a type or of a range: far codes, large points, indices outside, numbers of any type."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.quantization import (
    EmaCodebook,
    codebook_from_ema,
    ema_codebook_update,
    finite_scalar_codes,
    finite_scalar_indices,
    finite_scalar_quantize,
    gaussian_mixture,
    init_ema_codebook,
    kmeans,
    lookup,
    nearest_code,
    perplexity,
    residual_lookup,
    revive_dead_codes,
    usage,
)

RNG = np.random.default_rng(13)
KEY = jax.random.key(0)
CODES, VECTORS = RNG.normal(size=(40, 4)).astype(np.float32), RNG.normal(size=(200, 4)).astype(np.float32)
STATE = EmaCodebook(np.array([2.0, 0.5], np.float32), np.array([[2.0], [1.0]], np.float32))


@pytest.mark.parametrize("far", [1e6, 1e8, 1e20, 3e38, np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("place", [0, 7, 39])
@pytest.mark.parametrize("shift", [0, 1000])
def test_a_far_code_leaves_the_others_where_they_are(far, place, shift):
    codes, vectors = CODES + np.float32(shift), VECTORS + np.float32(shift)
    codes[place] = far
    others = np.delete(np.arange(40), place)
    distances = ((vectors[:, None].astype(np.float64) - codes[None, others]) ** 2).sum(axis=-1)
    np.testing.assert_array_equal(nearest_code(vectors, codes), others[np.argmin(distances, axis=1)])


def test_a_far_code_is_found_by_what_lies_near_it():
    codes = CODES.copy()
    codes[7] = 1e6
    assert nearest_code(np.full((1, 4), 9e5, np.float32), codes).tolist() == [7]


@pytest.mark.parametrize("size", [2.0**66, 2.0**124, 2.0**-100])
def test_kmeans_is_the_same_in_any_unit(size):
    points = np.concatenate([RNG.normal(size=(20, 2)), RNG.normal(size=(20, 2)) + 9]).astype(np.float32)
    plain, scaled = kmeans(KEY, points, 3), kmeans(KEY, points * np.float32(size), 3)
    np.testing.assert_array_equal(scaled.assignments, plain.assignments)
    np.testing.assert_array_equal(scaled.centroids, plain.centroids * np.float32(size))
    start = kmeans(KEY, points * np.float32(size), 3, init=plain.centroids * np.float32(size))
    np.testing.assert_allclose(start.centroids, scaled.centroids, rtol=1e-6)


def test_inertia_is_in_squared_units_of_the_points():
    points = RNG.normal(size=(30, 2)).astype(np.float32) * 50
    found = kmeans(KEY, points, 2)
    error = ((points - np.asarray(found.centroids)[found.assignments]) ** 2).sum()
    np.testing.assert_allclose(found.inertia, error, rtol=1e-5)


def test_a_mixture_without_a_finite_fit_is_refused_with_advice():
    line = np.linspace(-9, 9, 200, dtype=np.float32)
    points = np.stack([line, line, 2 * line], axis=1)
    with pytest.raises(ValueError, match=r"not finite: a covariance is singular in float32.* larger ridge than 1e-06"):
        gaussian_mixture(KEY, points, 1)
    # By hand: a line of variance v has the eigenvalues 6v, 0 and 0, each plus the ridge.
    variances = np.array([6 * line.var(), 0, 0]) + 1e-2
    expected = -0.5 * (np.sum(np.log(2 * np.pi * variances)) + 6 * line.var() / variances[0])
    np.testing.assert_allclose(gaussian_mixture(KEY, points, 1, ridge=1e-2).log_likelihood, expected, rtol=1e-3)


def test_ridge_and_tolerance_may_be_traced():
    fitted = jax.jit(lambda r, t: gaussian_mixture(KEY, VECTORS, 2, ridge=r, tolerance=t))(1e-3, 1e-4)
    expected = gaussian_mixture(KEY, VECTORS, 2, ridge=1e-3, tolerance=1e-4)
    np.testing.assert_allclose(fitted.means, expected.means, rtol=1e-3, atol=1e-3)


def test_one_above_the_levels_has_no_index():
    for above in (1.0, 0.8):  # nearer to 1 than to ½, the last of four levels
        with pytest.raises(ValueError, match="below 1 where the number of levels is even"):
            finite_scalar_indices(np.array([[above]], np.float32), levels=(4,))
    codes = np.array([[1.0, 0], [0.5, 0], [np.nan, 0], [-2, 0], [0, 1], [0, 1.4], [0.8, 0]], np.float32)
    traced = jax.jit(lambda c: finite_scalar_indices(c, levels=(4, 3)))(codes)
    assert traced.tolist() == [-1, 3 + 4, -1, -1, 2 + 8, -1, -1]


@pytest.mark.parametrize("levels", [(2,), (4,), (7,), (8,), (255,), (3, 6, 64)])
def test_every_code_comes_back_from_its_index(levels):
    indices = np.arange(np.prod(levels))
    codes = jax.jit(lambda i: finite_scalar_codes(i, levels=levels))(indices)
    np.testing.assert_array_equal(finite_scalar_indices(codes, levels=levels), indices)
    np.testing.assert_array_equal(jax.jit(lambda c: finite_scalar_indices(c, levels=levels))(codes), indices)


def test_levels_of_any_integer_type_are_counted(as_users_call):
    for kind in (np.uint8, jnp.int32, np.int64):
        levels = tuple(kind(16) for _ in range(3))
        assert finite_scalar_codes(np.array([4095]), levels=levels).tolist() == [[0.875] * 3]
        with pytest.raises(ValueError, match="more codes than an int32"):
            finite_scalar_codes(np.array([0]), levels=tuple(kind(200) for _ in range(5)))


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_takes_the_levels_of_float32(dtype):
    encodings = jnp.asarray(RNG.normal(size=(400, 2)), dtype)
    found = finite_scalar_quantize(encodings, levels=(63, 64))
    assert found.dtype == dtype
    expected = finite_scalar_quantize(encodings.astype(jnp.float32), levels=(63, 64))
    np.testing.assert_array_equal(found, expected.astype(dtype))


def test_an_index_that_is_negative_has_no_code_under_jit():
    expected = [[np.nan, np.nan], [4, 5], [np.nan, np.nan]]
    book, indices = np.arange(6.0, dtype=np.float32).reshape(3, 2), np.array([-1, 2, 3])
    np.testing.assert_array_equal(jax.jit(lookup)(book, indices), expected)
    np.testing.assert_array_equal(jax.jit(residual_lookup)(book[None], indices[:, None]), expected)


KNOWN = {
    "counts": lambda: perplexity(np.array([3.0, -1.0])),
    "usage": lambda: usage(np.array([3.0, -1.0])),
    "indices": lambda: lookup(CODES, np.array([-1])),
    "points": lambda: kmeans(KEY, np.where(np.arange(4) == 1, np.nan, CODES), 2),
    "init": lambda: kmeans(KEY, CODES, 1, init=np.full((1, 4), np.nan, np.float32)),
    "codes": lambda: finite_scalar_indices(np.array([[2.0]], np.float32), levels=(3,)),
}


@pytest.mark.parametrize("name", KNOWN)
def test_a_constant_is_checked_under_jit_as_outside(name):
    with pytest.raises(ValueError, match=name if name != "usage" else "counts"):
        jax.jit(lambda: KNOWN[name]())()


def test_a_wide_number_leaves_the_data_their_type(x64):
    assert codebook_from_ema(STATE, smoothing=np.float64(0.5)).dtype == np.float32
    assert usage(np.array([1.0, 2.0], np.float32), threshold=np.float64(1)).dtype == np.float32
    revived = revive_dead_codes(KEY, STATE, np.ones((1, 1), np.float32), threshold=np.float64(1))
    assert revived.sums.dtype == np.float32
    vectors, indices = np.ones((1, 1), np.float32), np.zeros(1, np.int32)
    assert ema_codebook_update(STATE, vectors, indices, decay=np.float64(0.5)).sums.dtype == np.float32


REFUSED = {
    "decay": lambda: ema_codebook_update(STATE, np.ones((1, 1), np.float32), np.zeros(1, int), decay=1j),
    "smoothing": lambda: codebook_from_ema(STATE, smoothing=1j),
    "threshold": lambda: jax.jit(lambda t: revive_dead_codes(KEY, STATE, VECTORS[:, :1], threshold=t))(np.complex64(1)),
    "count": lambda: init_ema_codebook(CODES, count="1"),
    "ridge": lambda: gaussian_mixture(KEY, VECTORS, 1, ridge="a"),
    "tolerance": lambda: gaussian_mixture(KEY, VECTORS, 1, tolerance=None),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.usefixtures("as_users_call")
def test_what_is_no_real_number_is_refused_by_name(name):
    kind = "real" if name in ("decay", "smoothing", "threshold") else "an array or a number"
    with pytest.raises(TypeError, match=f"{name} must be {kind}"):
        REFUSED[name]()
