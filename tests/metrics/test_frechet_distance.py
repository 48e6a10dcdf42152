"""The Fréchet distance against closed forms and scipy's matrix square root."""

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxgen.metrics import feature_statistics, frechet_distance, frechet_feature_distance


def gaussian(generator: np.random.Generator, num_dims: int) -> tuple[np.ndarray, np.ndarray]:
    factor = generator.normal(size=(num_dims, 2 * num_dims))
    return generator.normal(size=num_dims), factor @ factor.T / (2 * num_dims)


def by_square_root(mean_a, cov_a, mean_b, cov_b) -> float:
    root = scipy.linalg.sqrtm(cov_a @ cov_b)
    return float(np.sum((mean_a - mean_b) ** 2) + np.trace(cov_a + cov_b - 2 * root.real))


def test_diagonal_gaussians_have_a_closed_form():
    generator = np.random.default_rng(0)
    means, scales = generator.normal(size=(2, 6)), generator.uniform(0.1, 3, size=(2, 6))
    expected = np.sum((means[0] - means[1]) ** 2) + np.sum((scales[0] - scales[1]) ** 2)
    distance = frechet_distance(means[0], np.diag(scales[0] ** 2), means[1], np.diag(scales[1] ** 2))
    np.testing.assert_allclose(distance, expected, rtol=1e-12)


@pytest.mark.parametrize("num_dims", [1, 2, 9, 40])
def test_full_covariances_equal_scipy(num_dims):
    generator = np.random.default_rng(num_dims)
    a, b = gaussian(generator, num_dims), gaussian(generator, num_dims)
    np.testing.assert_allclose(frechet_distance(*a, *b), by_square_root(*a, *b), rtol=1e-9)


def test_singular_covariances_have_a_closed_form():
    a, b = np.random.default_rng(1).normal(size=(2, 5))
    expected = a @ a + b @ b - 2 * abs(a @ b)
    distance = frechet_distance(np.zeros(5), np.outer(a, a), np.zeros(5), np.outer(b, b))
    np.testing.assert_allclose(distance, expected, rtol=1e-6)


def test_zero_between_equals_even_when_badly_conditioned():
    generator = np.random.default_rng(2)
    basis = np.linalg.qr(generator.normal(size=(30, 30)))[0]
    covariance = basis @ np.diag(np.logspace(-14, 2, 30)) @ basis.T
    covariance = (covariance + covariance.T) / 2
    distance = frechet_distance(np.zeros(30), covariance, np.zeros(30), covariance)
    assert 0 <= distance < 1e-10
    # Apart by 1 in the mean, so that an error to either side shows.
    apart = frechet_distance(np.zeros(30), covariance, np.eye(30)[0], covariance)
    np.testing.assert_allclose(apart, 1, rtol=1e-9)


def test_never_negative_by_rounding():
    gaussians = [gaussian(np.random.default_rng(seed), 5) for seed in range(20)]
    assert all(frechet_distance(*g, *g) >= 0 for g in gaussians)


def test_as_many_examples_as_dimensions_are_enough():
    features = np.random.default_rng(7).normal(size=(3, 3))
    np.testing.assert_allclose(feature_statistics(features).covariance, np.cov(features, rowvar=False), rtol=1e-12)


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 2**31), st.floats(-1e3, 1e3))
def test_symmetric_and_blind_to_shift_and_rotation(seed, shift):
    generator = np.random.default_rng(seed)
    a, b = gaussian(generator, 4), gaussian(generator, 4)
    basis = np.linalg.qr(generator.normal(size=(4, 4)))[0]
    distance = frechet_distance(*a, *b)
    moved = [(basis @ mean + shift, basis @ covariance @ basis.T) for mean, covariance in (a, b)]
    np.testing.assert_allclose(frechet_distance(*b, *a), distance, rtol=1e-9)
    np.testing.assert_allclose(frechet_distance(*moved[0], *moved[1]), distance, rtol=1e-8)


def test_statistics_equal_numpy():
    features = np.random.default_rng(3).normal(size=(50, 4))
    mean, covariance = feature_statistics(features)
    np.testing.assert_allclose(mean, features.mean(0), rtol=1e-12)
    np.testing.assert_allclose(covariance, np.cov(features, rowvar=False), rtol=1e-12)


def test_statistics_of_float32_features_far_from_the_origin_are_in_float64():
    features = (np.random.default_rng(4).normal(size=(2000, 3)) + 1e4).astype(np.float32)
    mean, covariance = feature_statistics(jnp.asarray(features))
    np.testing.assert_allclose(covariance, np.cov(features.astype(np.float64), rowvar=False), rtol=1e-9)
    np.testing.assert_allclose(mean, features.astype(np.float64).mean(0), rtol=1e-12)
    assert feature_statistics(jnp.asarray(features, jnp.bfloat16)).mean.dtype == np.float64


def test_distance_of_samples_approaches_that_of_their_distributions():
    generator = np.random.default_rng(5)
    a, b = generator.normal(size=(40_000, 3)), 2 * generator.normal(size=(40_000, 3)) + 1
    distance = frechet_distance(*feature_statistics(a), *feature_statistics(b))
    assert distance == pytest.approx(6.0, rel=0.03)


def test_float32_covariances_are_accepted():
    features = np.random.default_rng(6).normal(size=(400, 20)).astype(np.float32)
    covariance = jnp.cov(jnp.asarray(features), rowvar=False)
    assert frechet_distance(jnp.zeros(20), covariance, jnp.ones(20), covariance) == pytest.approx(20.0)


def test_bad_features():
    with pytest.raises(ValueError, match=r"as many examples as dimensions, got shape \(3, 4\)"):
        feature_statistics(np.zeros((3, 4)))
    with pytest.raises(ValueError, match=r"features must hold at least 2 rows, got shape \(1, 1\)"):
        feature_statistics(np.zeros((1, 1)))
    with pytest.raises(ValueError, match=r"features must have shape .* got \(3, 4, 4\)"):
        feature_statistics(np.zeros((3, 4, 4)))
    with pytest.raises(ValueError, match="features must be finite, got 2 of 3 values"):
        feature_statistics(np.array([[0.0], [np.nan], [np.inf]]))


def test_bad_statistics():
    zero, eye = np.zeros(2), np.eye(2)
    with pytest.raises(ValueError, match=r"mean_a and mean_b .* \(2,\) and \(3,\)"):
        frechet_distance(zero, eye, np.zeros(3), np.eye(3))
    with pytest.raises(ValueError, match=r"cov_b must have shape \(2, 2\) .* got \(3, 3\)"):
        frechet_distance(zero, eye, zero, np.eye(3))
    with pytest.raises(ValueError, match="cov_a must be finite and symmetric"):
        frechet_distance(zero, np.array([[1.0, 0.5], [0.0, 1.0]]), zero, eye)
    with pytest.raises(ValueError, match="cov_b must be finite"):
        frechet_distance(zero, eye, zero, np.nan * eye)
    with pytest.raises(ValueError, match="cov_b must be positive semi-definite, got the eigenvalue -1"):
        frechet_distance(zero, eye, zero, np.diag([1.0, -1.0]))
    with pytest.raises(ValueError, match="mean_a must be finite, got 1 of 2 values"):
        frechet_distance(np.array([np.nan, 0.0]), eye, zero, eye)


def flat(x):
    return x.reshape(len(x), -1)


def test_a_distance_of_examples_is_that_of_their_features_and_states_them():
    """In several batches, of different numbers of examples: SciPy's square root of all features at once."""
    generator = np.random.default_rng(8)
    real, generated = generator.normal(size=(1203, 2, 2)), 1.5 * generator.normal(size=(507, 2, 2))
    sizes = []

    def extractor(x):
        sizes.append(len(x))
        return jnp.tanh(flat(jnp.asarray(x)) @ jnp.ones((4, 3)) + flat(x)[:, :3])

    found = frechet_feature_distance(real, generated, extractor=extractor, features="tanh of sums")
    assert sizes == [500, 500, 203, 500, 7]
    whole = (np.asarray(extractor(x), np.float64) for x in (real, generated))
    a, b = ((f.mean(axis=0), np.cov(f, rowvar=False)) for f in whole)
    np.testing.assert_allclose(found.distance, by_square_root(*a, *b), rtol=1e-5)
    assert found[1:] == ("tanh of sums", 1203, 507)
    assert str(found).endswith("(features: tanh of sums; 1,203 real and 507 generated examples)")


def test_a_distance_of_examples_needs_an_extractor_and_its_name(as_users_call):
    x = np.random.default_rng(9).normal(size=(20, 2, 2))
    with pytest.raises(TypeError, match="needs a feature extractor, a function of examples, got None; take"):
        frechet_feature_distance(x, x, extractor=None, features="none")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="features must say what they are"):
        frechet_feature_distance(x, x, extractor=flat, features=" ")
    with pytest.raises(ValueError, match=r"features must say what they are, .* got None"):
        frechet_feature_distance(x, x, extractor=flat, features=None)  # pyright: ignore[reportArgumentType]
    for mixed in (lambda x: flat(x).mean(axis=0, keepdims=True), lambda x: flat(x).reshape(2 * len(x), -1)):
        with pytest.raises(ValueError, match=r"one row of features for each example, got shape .* for 20 examples"):
            frechet_feature_distance(x, x, extractor=mixed, features="mixed")
    with pytest.raises(ValueError, match=r"one shape, got \(2, 2\) and \(4,\)"):
        frechet_feature_distance(x, flat(x), extractor=flat, features="pixels")
    with pytest.raises(ValueError, match=r"as many examples as dimensions, got shape \(3, 4\)"):
        frechet_feature_distance(x, x[:3], extractor=flat, features="pixels")
    with pytest.raises(ValueError, match=r"real must hold at least 2 examples .* got shape \(0, 2, 2\)"):
        frechet_feature_distance(x[:0], x, extractor=flat, features="pixels")
