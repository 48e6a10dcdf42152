"""What happens to raw bytes: levels, bits and noise against their probabilities."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from jaxgen.data.prepare import make_prepare
from jaxgen.model import example_keys

KEY = jax.random.key(7)


def prepared(x, *, position=None, key=KEY, **options):
    prepare = make_prepare(**options)
    position = np.arange(len(x)) if position is None else position
    return np.asarray(prepare(example_keys(key, position), {"x": jnp.asarray(x)})["x"])


def test_scale_is_the_raw_value_that_becomes_one():
    x = np.arange(256, dtype=np.uint8).reshape(16, 16)
    scaled = prepared(x, scale=255.0)
    assert scaled.dtype == np.float32
    np.testing.assert_allclose(scaled, x / 255, rtol=2e-7)
    assert scaled.min() == 0
    assert scaled.max() == 1
    np.testing.assert_array_equal(prepared(x[:, :2] / 7, scale=1.0), (x[:, :2] / 7).astype(np.float32))


def test_dynamic_bits_have_the_grey_value_as_their_mean():
    levels = np.arange(0, 17, dtype=np.uint8)
    bits = prepared(np.tile(levels, (4000, 1)), scale=16.0, binarize="dynamic")
    assert set(np.unique(bits)) == {0.0, 1.0}
    p = levels / 16
    # Five standard errors; the ends are certain.
    assert np.all(np.abs(bits.mean(axis=0) - p) <= 5 * np.sqrt(p * (1 - p) / 4000))


def test_pixels_and_examples_are_drawn_independently():
    bits = prepared(np.full((4000, 2), 8, np.uint8), scale=16.0, binarize="dynamic")
    assert abs(np.corrcoef(bits.T)[0, 1]) < 5 / np.sqrt(4000)
    assert abs(np.corrcoef(bits[:-1, 0], bits[1:, 0])[0, 1]) < 5 / np.sqrt(4000)


@pytest.mark.parametrize("options", [{"binarize": "dynamic"}, {"dequantize": True}])
def test_noise_follows_the_position_and_the_key_and_not_the_rest_of_the_batch(options):
    x = np.random.default_rng(0).integers(0, 17, (6, 40)).astype(np.uint8)
    whole = prepared(x, scale=16.0, **options)
    part = [4, 1]
    np.testing.assert_array_equal(whole, prepared(x, scale=16.0, **options))
    np.testing.assert_array_equal(prepared(x[part], position=np.array(part), scale=16.0, **options), whole[part])
    assert np.any(whole != prepared(x, scale=16.0, key=jax.random.key(8), **options))
    assert np.any(whole[:1] != prepared(x[:1], position=np.array([5]), scale=16.0, **options))


def test_dequantized_levels_are_uniform_in_their_own_bins():
    levels = np.arange(0, 17, dtype=np.uint8)
    values = prepared(np.tile(levels, (2000, 1)), scale=16.0, dequantize=True)
    np.testing.assert_array_equal(np.floor(values * 17), np.tile(levels, (2000, 1)))
    within = (values * 17 - levels).ravel()
    assert scipy.stats.kstest(within, "uniform").pvalue > 1e-4


@pytest.mark.parametrize("scale", [255, 16])
def test_the_highest_level_stays_below_one(scale):
    # In float32, 255 + u rounds to 256 once in some 10⁵ draws.
    values = prepared(np.full((1024, 2048), scale, np.uint8), scale=float(scale), dequantize=True)
    assert values.max() < 1
    assert values.max() > 1 - 1e-6


def test_the_threshold_is_above_one_half():
    x = np.array([[0, 7, 8, 9, 16]], np.uint8)
    np.testing.assert_array_equal(prepared(x, scale=16.0, binarize="threshold"), [[0, 0, 0, 1, 1]])


def test_labels_and_positions_pass_through_untouched():
    raw = {"x": jnp.zeros((2, 3), jnp.uint8), "label": jnp.array([4, 5]), "position": jnp.array([8, 9])}
    out = make_prepare(scale=255.0, dequantize=True)(example_keys(KEY, raw["position"]), raw)
    assert out.keys() == raw.keys()
    np.testing.assert_array_equal(out["label"], [4, 5])
    np.testing.assert_array_equal(out["position"], [8, 9])


@pytest.mark.parametrize("options", [{}, {"binarize": "dynamic"}, {"binarize": "threshold"}])
def test_what_was_not_observed_becomes_zero_whatever_stood_there(options):
    x = np.full((4, 3), 0.9, np.float32)
    x[0, 0], x[1, 1] = np.nan, 1e30
    mask = np.ones((4, 3), bool)
    mask[0, 0] = mask[1, 1] = False
    prepare = make_prepare(scale=1.0, **options)
    batch = prepare(example_keys(KEY, np.arange(4)), {"x": jnp.asarray(x), "mask": jnp.asarray(mask)})
    assert np.all(np.asarray(batch["x"])[~mask] == 0)
    np.testing.assert_array_equal(batch["mask"], mask)
    full = prepare(example_keys(KEY, np.arange(4)), {"x": jnp.full((4, 3), 0.9)})
    np.testing.assert_array_equal(np.asarray(batch["x"])[mask], np.asarray(full["x"])[mask])
