"""The reparameterized Gaussian."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from jax.test_util import check_grads

from jaxgen.estimators import (
    reparameterize,
)

RNG = np.random.default_rng(6)


def test_reparameterized_sample_is_the_affine_image_of_its_noise(x64):
    key, mean, logvar = jax.random.key(0), RNG.normal(size=(2, 3)), RNG.normal(size=(2, 3))
    noise = reparameterize(key, np.zeros((2, 3)), np.zeros((2, 3)))
    np.testing.assert_allclose(reparameterize(key, mean, logvar), mean + np.exp(logvar / 2) * noise, rtol=1e-12)
    check_grads(lambda m, v: reparameterize(key, m, v), (mean, logvar), order=1, modes=["rev"])
    many = reparameterize(key, np.full(20_000, 1.5), np.full(20_000, 2.0))
    assert scipy.stats.kstest(np.asarray(many), scipy.stats.norm(1.5, np.e).cdf).pvalue > 1e-3


@pytest.mark.parametrize("logvar", [-60.0, 20.0])
def test_reparameterize_is_finite_at_extremes(logvar):
    gradient = jax.grad(lambda v: reparameterize(jax.random.key(0), jnp.full(9, 1e4), v).sum())(jnp.full(9, logvar))
    assert np.all(np.isfinite(gradient))
