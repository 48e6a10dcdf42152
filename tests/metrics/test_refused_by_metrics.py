"""What metrics refuse by name, as users call them: without the checks of annotations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.metrics import (
    active_units,
    beta_vae_score,
    dci,
    factor_vae_score,
    feature_statistics,
    frechet_distance,
    importance_weighted_log_likelihood,
    kernel_distance,
    mode_counts,
    mode_coverage,
    mutual_information_gap,
    parzen_log_likelihood,
    precision_recall,
    psnr,
    reverse_kl,
    sap,
)

KEY = jax.random.key(0)
POINTS = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
BROKEN = np.where(np.arange(3) == 1, np.nan, POINTS)
CODES = np.random.default_rng(1).normal(size=(40, 3))
FACTORS = np.array([[i % 2, i // 2 % 2] for i in range(40)])
MEAN, COV = np.zeros(3), np.eye(3)


def importance(weights_of_keys, **changes):
    return importance_weighted_log_likelihood(weights_of_keys, KEY, **{"num_samples": 5, **changes})


def zeros(keys):
    return jnp.zeros((len(keys), 3))


REFUSED = {
    "too few votes": (
        ValueError,
        lambda: beta_vae_score(CODES, FACTORS, num_votes=1),
        "num_votes must be large enough that every factor is drawn .*, got 1 without factor [01]; the default is 800",
    ),
    "votes": (TypeError, lambda: beta_vae_score(CODES, FACTORS, num_votes=2.5), "num_votes must be an integer.* 2.5"),
    "group": (TypeError, lambda: factor_vae_score(CODES, FACTORS, group_size=2.5), "group_size must be an integer"),
    "seed of votes": (ValueError, lambda: factor_vae_score(CODES, FACTORS, seed=-1), "seed must be at least 0, got -1"),
    "seed of trees": (ValueError, lambda: dci(CODES, FACTORS, seed=-1), "seed must be at least 0, got -1"),
    "seed of a split": (ValueError, lambda: sap(CODES, FACTORS, seed=-1), "seed must be at least 0, got -1"),
    "trees": (ValueError, lambda: dci(CODES, FACTORS, num_trees=0), "num_trees must be at least 1, got 0"),
    "half a tree": (TypeError, lambda: dci(CODES, FACTORS, num_trees=1.5), "num_trees must be an integer, got 1.5"),
    "bins": (TypeError, lambda: mutual_information_gap(CODES, FACTORS, num_bins=2.5), "num_bins must be an integer"),
    "complex codes": (TypeError, lambda: sap(CODES + 1j, FACTORS), "codes must be real"),
    "complex features": (TypeError, lambda: feature_statistics(POINTS + 1j), "features must be real"),
    "complex mean": (TypeError, lambda: frechet_distance(MEAN + 1j, COV, MEAN, COV), "mean_a must be real"),
    "complex covariance": (TypeError, lambda: frechet_distance(MEAN, COV, MEAN, COV * 1j), "cov_b must be real"),
    "no feature": (
        ValueError,
        lambda: frechet_distance(MEAN[:0], COV[:0, :0], MEAN[:0], COV[:0, :0]),
        r"equal shapes \[dims\], got \(0,\) and \(0,\)",
    ),
    "complex points": (TypeError, lambda: kernel_distance(POINTS, POINTS + 1j), "y must be real"),
    "complex images": (TypeError, lambda: psnr(POINTS, POINTS + 1j), "targets must be real, got complex"),
    "ranges": (ValueError, lambda: psnr(POINTS, POINTS, data_range=np.ones(6)), r"data_range must be one .*\(6,\)"),
    "radii": (ValueError, lambda: mode_counts(POINTS, POINTS, radius=np.ones(6)), "radius must be one number"),
    "radius that is text": (
        TypeError,
        lambda: mode_coverage(POINTS, POINTS, radius="wide"),
        "radius must be an array or a number, got 'wide'",
    ),
    "centers": (
        ValueError,
        lambda: mode_coverage(POINTS, BROKEN, radius=1),
        "centers must be finite, got 6 of 18 values",
    ),
    "negative counts": (
        ValueError,
        lambda: reverse_kl(np.array([3.0, -1.0])),
        "counts must not be negative, got -1",
    ),
    "negative reference": (
        ValueError,
        lambda: reverse_kl(np.ones(2), np.array([3.0, -2.0])),
        "reference must not be negative, got -2",
    ),
    "empty reference": (ValueError, lambda: reverse_kl(np.ones(2), np.zeros(2)), "reference must count something"),
    "means": (ValueError, lambda: active_units(BROKEN), "means must be finite, got 6 of 18 values"),
    "thresholds": (ValueError, lambda: active_units(POINTS, threshold=MEAN), "threshold must be one number"),
    "broken real": (ValueError, lambda: precision_recall(BROKEN, POINTS), "real must be finite, got 6 of 18 values"),
    "broken fake": (ValueError, lambda: precision_recall(POINTS, BROKEN), "fake must be finite, got 6 of 18 values"),
    "half a neighbour": (TypeError, lambda: precision_recall(POINTS, POINTS, k=1.5), "k must be an integer, got 1.5"),
    "bandwidths": (
        ValueError,
        lambda: parzen_log_likelihood(POINTS, POINTS, bandwidth=np.ones(3)),
        r"bandwidth must be one number, got an array of shape \(3,\)",
    ),
    "traced bandwidths": (
        ValueError,
        lambda: jax.jit(lambda b: parzen_log_likelihood(POINTS, POINTS, bandwidth=b))(np.ones(3)),
        r"bandwidth must be one number, got an array of shape \(3,\)",
    ),
    "samples": (TypeError, lambda: importance(zeros, num_samples=2.5), "num_samples must be an integer, got 2.5"),
    "elements": (ValueError, lambda: importance(zeros, max_elements=0), "max_elements must be at least 1, got 0"),
    "weights without a batch": (
        ValueError,
        lambda: importance(lambda keys: jnp.zeros(len(keys))),
        r"weights of shape \(1, batch\), got \[\(1,\)\]",
    ),
    "weights turned": (
        ValueError,
        lambda: importance(lambda keys: zeros(keys).T),
        r"weights of shape \(1, batch\), got \[\(3, 1\)\]",
    ),
    "two weights": (
        ValueError,
        lambda: importance(lambda keys: (zeros(keys), zeros(keys))),
        r"got \[\(1, 3\), \(1, 3\)\]",
    ),
    "integer weights": (
        TypeError,
        lambda: importance(lambda keys: zeros(keys).astype(int)),
        "log_weights must return floating point numbers, got int32",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.usefixtures("as_users_call")
def test_bad_input_is_refused_with_its_name_and_value(name):
    error, call, message = REFUSED[name]
    with pytest.raises(error, match=message):
        call()


def test_a_traced_negative_count_makes_the_divergence_nan():
    assert np.isnan(jax.jit(reverse_kl)(np.array([3.0, -1.0])))
    assert np.isnan(jax.jit(reverse_kl)(np.ones(2), np.array([3.0, -2.0])))


def test_a_sample_that_is_nan_lies_on_no_mode():
    counts = mode_counts(BROKEN, POINTS)
    np.testing.assert_array_equal(counts, 0)


def test_what_is_known_inside_jit_is_checked_there_and_traces():
    points = jnp.asarray(POINTS)
    outside = reverse_kl(jnp.array([3.0, 1.0])), active_units(points), mode_counts(points, points)

    @jax.jit
    def inside(offset):
        return reverse_kl(jnp.array([3.0, 1.0])) + offset, active_units(points), mode_counts(points, points)

    for found, expected in zip(inside(0.0), outside):
        np.testing.assert_allclose(found, expected, rtol=1e-6)
