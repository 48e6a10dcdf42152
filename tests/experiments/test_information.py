"""The integral that holds the estimates of information: posteriors that are apart, alike, and a channel of noise."""

import information as experiment
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import norm


def test_posteriors_that_are_apart_tell_their_example_and_equal_ones_nothing():
    apart = experiment.integrated(np.array([[-3.0, 0.0], [3.0, 0.0], [0.0, 4.0]]), np.full((3, 2), -4.0))
    assert apart["I(x; z)"] == pytest.approx(np.log(3), abs=1e-6)
    alike = experiment.integrated(np.full((5, 2), 0.5), np.full((5, 2), -1.0))
    assert alike["I(x; z)"] == pytest.approx(0, abs=1e-9)
    of_one = 0.5 * (0.25 + np.exp(-1.0) - 1 + 1.0)
    assert alike["KL(q(z) ‖ p(z))"] == pytest.approx(2 * of_one, rel=1e-6)


def test_gaussian_means_and_noise_are_a_gaussian_channel():
    """z = μ + σε with μ ~ N(0, 1 − σ²): I = −log σ² for two dimensions, and q(z) is the prior. Estimates agree."""
    variance = 0.2
    quantiles = norm.ppf((np.arange(20) + 0.5) / 20)
    quantiles *= np.sqrt(1 - variance) / quantiles.std()
    mean = np.stack(np.meshgrid(quantiles, quantiles), axis=-1).reshape(-1, 2)
    logvar = np.full_like(mean, np.log(variance))
    exact = experiment.integrated(mean, logvar)
    assert exact["I(x; z)"] == pytest.approx(-np.log(variance), rel=0.01)
    assert exact["KL(q(z) ‖ p(z))"] == pytest.approx(0, abs=0.01)
    drawn = experiment.measure(jnp.asarray(mean, jnp.float32), jnp.asarray(logvar, jnp.float32))
    assert drawn["I(x; z)"] == pytest.approx(exact["I(x; z)"], rel=0.01)
    assert drawn["KL(q(z) ‖ p(z))"] == pytest.approx(exact["KL(q(z) ‖ p(z))"], abs=0.02)
