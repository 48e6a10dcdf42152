"""PSNR against its formula in plain Python."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.test_util import check_grads

from jaxgen.metrics import psnr


def psnr_by_loop(reconstruction: np.ndarray, target: np.ndarray, data_range: float) -> float:
    errors = [(float(a) - float(b)) ** 2 for a, b in zip(reconstruction.ravel(), target.ravel())]
    return 10 * math.log10(data_range**2 * len(errors) / sum(errors))


def test_each_example_equals_the_formula(x64):
    generator = np.random.default_rng(0)
    targets, reconstructions = generator.uniform(size=(2, 4, 5, 3))
    expected = [psnr_by_loop(*pair, 2.0) for pair in zip(reconstructions, targets)]
    np.testing.assert_allclose(psnr(reconstructions, targets, data_range=2.0), expected, rtol=1e-12)


def test_a_constant_error_gives_its_decibels(x64):
    np.testing.assert_allclose(psnr(np.full((1, 7), 0.01), np.zeros((1, 7))), 40.0, rtol=1e-12)


def test_integers_do_not_wrap_around():
    dark, bright = np.full((1, 4), 5, np.uint8), np.full((1, 4), 250, np.uint8)
    expected = 20 * math.log10(255 / 245)
    np.testing.assert_allclose(psnr(dark, bright, data_range=255), expected, rtol=1e-5)
    np.testing.assert_allclose(psnr(bright, dark, data_range=255), expected, rtol=1e-5)


def test_perfect_is_infinite_and_bfloat16_is_averaged_in_float32():
    x = jnp.full((2, 4000), 0.5, jnp.bfloat16)
    assert psnr(x, x).tolist() == [math.inf, math.inf]
    values = jax.jit(psnr)(x, jnp.zeros_like(x))
    assert values.dtype == jnp.float32
    np.testing.assert_allclose(values, 20 * math.log10(2), rtol=1e-5)


def test_gradient(x64):
    targets = np.random.default_rng(1).uniform(size=(2, 6))
    check_grads(lambda x: psnr(x, targets), (targets[::-1] + 0.3,), order=1, modes=("rev",))


@settings(deadline=None, max_examples=20)
@given(st.floats(0.01, 100), st.floats(-10, 10))
def test_units_cancel(scale, shift):
    targets, reconstructions = np.random.default_rng(2).uniform(size=(2, 3, 8))
    with jax.enable_x64(True):
        moved = psnr(scale * reconstructions + shift, scale * targets + shift, data_range=scale)
        np.testing.assert_allclose(moved, psnr(reconstructions, targets), rtol=1e-8)


def test_bad_input():
    with pytest.raises(ValueError, match=r"the same shape, got \(2, 3\) and \(2, 4\)"):
        psnr(jnp.zeros((2, 3)), jnp.zeros((2, 4)))
    with pytest.raises(ValueError, match=r"\[batch, ...\] .* got \(3,\)"):
        psnr(jnp.zeros(3), jnp.zeros(3))
    with pytest.raises(ValueError, match=r"got \(2, 0\)"):
        psnr(jnp.zeros((2, 0)), jnp.zeros((2, 0)))
    with pytest.raises(ValueError, match="data_range must be positive, got 0"):
        psnr(jnp.zeros((2, 3)), jnp.zeros((2, 3)), data_range=0)
