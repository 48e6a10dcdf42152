"""What quantizers and clusterings refuse by name, as users call them: without the checks of annotations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.quantization import (
    GaussianMixture,
    ScalarQuantizer,
    finite_scalar_codes,
    finite_scalar_indices,
    gaussian_mixture,
    kmeans,
    lloyd_max,
    lloyd_max_from_samples,
    lookup,
    mixture_log_joint,
    optimal_scalar_quantizer,
    perplexity,
    quantize_scalar,
    usage,
)

KEY = jax.random.key(0)
POINTS = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
SAMPLES = POINTS[:, 0]
MIXTURE = GaussianMixture(np.full(2, 0.5), np.ones((2, 3)), np.ones((2, 3)), np.float64(0))
QUANTIZER = ScalarQuantizer(np.arange(3.0), np.array([0.5, 1.5]), np.float64(0))


def normal(x):
    return jnp.exp(-(x**2) / 2) / np.sqrt(2 * np.pi)


def fit(**changes):
    return gaussian_mixture(KEY, POINTS, 2, covariance="diagonal", **changes)


REFUSED = {
    "clusters": (TypeError, lambda: kmeans(KEY, POINTS, 2.0), "num_clusters must be an integer, got 2.0"),
    "traced clusters": (
        TypeError,
        lambda: jax.jit(lambda k: kmeans(KEY, POINTS, k))(2),
        "num_clusters must be an integer known while tracing",
    ),
    "restarts": (TypeError, lambda: kmeans(KEY, POINTS, 2, num_restarts=1.5), "num_restarts must be an integer"),
    "no dimension": (ValueError, lambda: kmeans(KEY, POINTS[:, :0], 1), r"one dimension or more.* \(6, 0\)"),
    "components": (TypeError, lambda: gaussian_mixture(KEY, POINTS, 2.5), "num_components must be an integer"),
    "tolerance": (ValueError, lambda: fit(tolerance=np.nan), "tolerance must be a number, got NaN"),
    "ridge": (ValueError, lambda: fit(ridge=np.nan), "ridge must not be negative, got nan"),
    "start of negative weights": (
        ValueError,
        lambda: fit(init=MIXTURE._replace(weights=np.array([-0.5, 1.5]))),
        "init.weights must not be negative, got -0.5",
    ),
    "start without variance": (
        ValueError,
        lambda: fit(init=MIXTURE._replace(covariances=0 * MIXTURE.covariances)),
        "init.covariances must have variances above 0, got 0",
    ),
    "start that is NaN": (
        ValueError,
        lambda: fit(init=MIXTURE._replace(means=np.nan * MIXTURE.means)),
        "init.means must be finite, got 6 of 6 values",
    ),
    "weights of other components": (
        ValueError,
        lambda: mixture_log_joint(POINTS, MIXTURE._replace(weights=np.ones(1))),
        r"mixture must have weights \[K\].* \(1,\), \(2, 3\) and \(2, 3\)",
    ),
    "covariances of another width": (
        ValueError,
        lambda: mixture_log_joint(POINTS, MIXTURE._replace(covariances=np.ones((2, 1)))),
        r"mixture must have .* and \(2, 1\)",
    ),
    "full covariance without variance": (
        ValueError,
        lambda: mixture_log_joint(POINTS, MIXTURE._replace(covariances=np.ones((2, 3, 3)) - np.eye(3))),
        "mixture.covariances must have variances above 0, got 0",
    ),
    "levels": (TypeError, lambda: lloyd_max(normal, 2.5, support=(-9, 9)), "num_levels must be an integer, got 2.5"),
    "support of three ends": (
        ValueError,
        lambda: lloyd_max(normal, 2, support=(-9, 9, 2)),
        r"support must be \(low, high\), got \(-9, 9, 2\)",
    ),
    "levels of samples": (TypeError, lambda: lloyd_max_from_samples(SAMPLES, 2.5), "num_levels must be an integer"),
    "levels of the optimum": (TypeError, lambda: optimal_scalar_quantizer(SAMPLES, 2.5), "num_levels must be an int"),
    "complex samples": (TypeError, lambda: optimal_scalar_quantizer(1j * SAMPLES, 1), "samples must be real"),
    "integer values": (
        TypeError,
        lambda: quantize_scalar(np.arange(3), QUANTIZER),
        "values must be floating point, got int",
    ),
    "boundaries as many as levels": (
        ValueError,
        lambda: quantize_scalar(SAMPLES, QUANTIZER._replace(boundaries=np.arange(3.0))),
        r"quantizer must have levels \[K\] .* \(3,\) and \(3,\)",
    ),
    "no level": (
        ValueError,
        lambda: quantize_scalar(SAMPLES, ScalarQuantizer(SAMPLES[:0], SAMPLES[:0], np.float64(0))),
        r"quantizer must have levels .* \(0,\) and \(0,\)",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.usefixtures("as_users_call")
def test_bad_input_is_refused_with_its_name_and_value(name):
    error, call, message = REFUSED[name]
    with pytest.raises(error, match=message):
        call()


def test_nan_has_no_level():
    levels, indices = quantize_scalar(np.array([0.2, np.nan, 1.2]), QUANTIZER)
    np.testing.assert_array_equal(levels, [0, np.nan, 1])
    np.testing.assert_array_equal(indices, [0, 2, 1])


def test_what_is_known_inside_jit_is_checked_there_and_traces():
    counts, indices, points = jnp.array([3.0, 1.0, 0.0]), jnp.array([0, 8]), jnp.asarray(POINTS)
    mixture = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), MIXTURE)
    mixture = mixture._replace(covariances=jnp.stack([jnp.eye(3)] * 2))

    @jax.jit
    def measured(offset):
        codes = finite_scalar_codes(indices, levels=(3, 3))
        found = finite_scalar_indices(jnp.asarray(np.array([[1.0, -1.0]], np.float32)), levels=(3, 3))
        assert jnp.shape(mixture_log_joint(points, mixture)) == (6, 2)
        assert jnp.shape(lookup(points, indices[:1])) == (1, 3)
        return perplexity(counts) + offset, usage(counts), codes, found

    exact = np.exp(-(0.75 * np.log(0.75) + 0.25 * np.log(0.25)))
    value, share, codes, found = measured(1.0)
    np.testing.assert_allclose([value, share], [exact + 1, 2 / 3], rtol=1e-6)
    np.testing.assert_array_equal(codes, [[-1, -1], [1, 1]])
    np.testing.assert_array_equal(found, [2])
