"""How often codes are used, and how evenly, against SciPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import entropy

from jaxgen import quantization as Q

# Compiled whole: run op by op, a test compiles some twenty programs where one will do.
code_counts = jax.jit(Q.code_counts, static_argnums=1)
lookup, perplexity, usage = map(jax.jit, (Q.lookup, Q.perplexity, Q.usage))


def normals(seed, *shape, dtype=np.float32):
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


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
    found = (perplexity if jit else Q.perplexity)(counts)
    np.testing.assert_allclose(found, [np.nan, 2.0], rtol=1e-6)


@pytest.mark.parametrize("measure", [Q.perplexity, Q.usage])
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
