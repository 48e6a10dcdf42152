"""Distances ask for full float32 products: an accelerator's default keeps three digits and halves the codes in use."""

import jax
import jax.numpy as jnp
import pytest

from jaxgen.losses import maximum_mean_discrepancy
from jaxgen.metrics import kernel_distance, parzen_log_likelihood, precision_recall
from jaxgen.quantization import gaussian_mixture, kmeans, nearest_code, residual_nearest_codes

KEY, X, Y = jax.random.key(0), jnp.ones((20, 6)), jnp.ones((10, 6))

DISTANCES = {
    "nearest_code": lambda: nearest_code(X, Y),
    "residual_nearest_codes": lambda: residual_nearest_codes(X, Y[None]),
    "kmeans": lambda: kmeans(KEY, X, 3),
    "gaussian_mixture, full": lambda: gaussian_mixture(KEY, X, 3),
    "gaussian_mixture, diagonal": lambda: gaussian_mixture(KEY, X, 3, covariance="diagonal"),
    "maximum_mean_discrepancy": lambda: maximum_mean_discrepancy(X, Y),
    "kernel_distance": lambda: kernel_distance(X, Y),
    "parzen_log_likelihood": lambda: parzen_log_likelihood(X, Y, bandwidth=0.1),
    "precision_recall": lambda: precision_recall(X, Y),
}


@pytest.mark.parametrize("name", DISTANCES)
def test_every_product_is_of_the_highest_precision(name):
    # A CPU computes both alike, so that the program has to be read and not its result.
    program = str(jax.make_jaxpr(DISTANCES[name])())
    products = program.count("dot_general[")
    assert products > 0
    assert program.count("precision=(Precision.HIGHEST, Precision.HIGHEST)") == products
