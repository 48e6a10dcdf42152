"""Who learns from which term of the vector-quantization loss."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.estimators import straight_through
from jaxgen.losses import codebook_loss, commitment_loss

RNG = np.random.default_rng(3)
Z, E = RNG.normal(size=(2, 3, 4, 5))


def gradients(loss):
    return jax.grad(lambda z, e: loss(z, e).sum(), argnums=(0, 1))(Z, E)


def test_both_terms_are_the_squared_distance_of_an_example(x64):
    expected = ((Z - E) ** 2).sum(axis=(1, 2))
    np.testing.assert_allclose(codebook_loss(Z, E), expected, rtol=1e-12)
    np.testing.assert_allclose(commitment_loss(Z, E), expected, rtol=1e-12)


def test_codebook_term_moves_the_codes_alone(x64):
    to_encodings, to_codes = gradients(codebook_loss)
    np.testing.assert_array_equal(to_encodings, 0)
    np.testing.assert_allclose(to_codes, 2 * (E - Z), rtol=1e-12)


def test_commitment_term_moves_the_encodings_alone(x64):
    to_encodings, to_codes = gradients(commitment_loss)
    np.testing.assert_allclose(to_encodings, 2 * (Z - E), rtol=1e-12)
    np.testing.assert_array_equal(to_codes, 0)


def test_terms_taken_after_the_straight_through_step_would_be_zero(x64):
    quantized = straight_through(Z, E)
    np.testing.assert_array_equal(codebook_loss(quantized, E), 0)
    np.testing.assert_array_equal(commitment_loss(quantized, E), 0)


def test_commitment_weighs_the_encoders_pull_and_not_the_codebooks(x64):
    beta = 0.25
    to_encodings, to_codes = gradients(lambda z, e: codebook_loss(z, e) + beta * commitment_loss(z, e))
    np.testing.assert_allclose(jnp.abs(to_encodings), beta * jnp.abs(to_codes), rtol=1e-12)
