"""I(x; z) against quadrature, at its two limits, and as a term of the rate's decomposition."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm

from jaxgen.losses import kl_decomposition
from jaxgen.metrics import mutual_information

MEAN, DEVIATION = np.array([-1.0, 0.3, 2.0]), np.array([0.5, 1.0, 0.2])


def test_it_is_that_of_the_quadrature(x64):
    """Three one-dimensional posteriors; each example's log-ratio averaged over many draws of its own."""

    def log_ratio(z, index):
        return norm.logpdf(z, MEAN[index], DEVIATION[index]) - np.log(norm.pdf(z, MEAN, DEVIATION).mean())

    expected = [
        quad(lambda z, i=i: norm.pdf(z, MEAN[i], DEVIATION[i]) * log_ratio(z, i), m - 9 * d, m + 9 * d, limit=200)[0]
        for i, (m, d) in enumerate(zip(MEAN, DEVIATION))
    ]
    mean, logvar = MEAN[:, None], 2 * np.log(DEVIATION)[:, None]
    z = mean + DEVIATION[:, None] * np.random.default_rng(0).normal(size=(20_000, 3, 1))
    found = np.asarray(jax.jit(jax.vmap(lambda z: mutual_information(z, mean, logvar)))(z))
    np.testing.assert_allclose(found[:5], [[log_ratio(v, i) for i, v in enumerate(row[:, 0])] for row in z[:5]])
    np.testing.assert_allclose(found.mean(axis=0), expected, atol=5 * found.std(axis=0).max() / np.sqrt(20_000))


def test_equal_posteriors_tell_nothing_and_distant_ones_all(x64):
    mean, logvar = jnp.tile(jnp.array([[0.3, -2.0]]), (5, 1)), jnp.full((5, 2), -1.0)
    z = jax.random.normal(jax.random.key(0), (5, 2))
    np.testing.assert_allclose(mutual_information(z, mean, logvar), 0, atol=1e-12)
    apart = mean + 1000 * jnp.arange(5)[:, None]
    np.testing.assert_allclose(mutual_information(apart, apart, logvar), np.log(5), rtol=1e-12)


def test_it_is_the_decomposition_s_first_term_where_the_batch_is_the_data(x64):
    mean, logvar, noise = np.random.default_rng(1).normal(size=(3, 40, 3)) - [[[0]], [[1]], [[0]]]
    z = mean + np.exp(logvar / 2) * noise
    terms = jax.jit(lambda *a: kl_decomposition(*a, dataset_size=40, estimator="stratified"))(z, mean, logvar)
    np.testing.assert_allclose(jax.jit(mutual_information)(z, mean, logvar), terms.mutual_information, atol=1e-12)


def test_half_precision_is_summed_in_float32_and_memory_is_that_of_one_row():
    mean = jnp.zeros((300, 4), jnp.bfloat16)
    assert mutual_information(mean, mean, mean).dtype == jnp.float32
    text = str(jax.make_jaxpr(mutual_information)(mean, mean, mean))
    assert "[300,300" not in text


@pytest.mark.parametrize(("shape", "name"), [((3,), "mean"), ((4, 2), "mean"), ((3, 3), "logvar")])
def test_shapes_are_checked_by_name(shape, name):
    arrays = {"z": jnp.zeros((3, 2)), "mean": jnp.zeros((3, 2)), "logvar": jnp.zeros((3, 2)), name: jnp.zeros(shape)}
    with pytest.raises(ValueError, match=name):
        mutual_information(**arrays)
