"""Measures of the adversarial experiments against closed forms: what is read, blurred, in the border, in between."""

from types import SimpleNamespace

import co_adaptation
import generated
import numpy as np
import pytest
import sharpness
import stacked_modes
from scipy.stats import pearsonr

RNG = np.random.default_rng(0)


def test_the_judge_reads_digits_that_it_has_not_seen():
    judge = generated.Judge("digits")
    assert judge.accuracy > 0.9
    test = generated.splits("digits")[1]
    assert np.mean(judge.read(test.x) == test.y) == judge.accuracy


def test_a_stack_is_counted_as_the_number_that_its_channels_make():
    judge = SimpleNamespace(read=lambda images: images.reshape(len(images), -1).max(axis=1).astype(int))
    digits = np.array([[0, 0, 0], [3, 1, 4], [3, 1, 4], [9, 9, 9], [0, 5, 0]])
    images = np.broadcast_to(digits[:, None, None], (5, 2, 2, 3))
    counts = stacked_modes.kinds(judge, images)
    assert len(counts) == 1000
    assert {kind: counts[kind] for kind in np.flatnonzero(counts)} == {0: 1, 50: 1, 314: 2, 999: 1}


def test_gradient_energy_of_a_slope_is_known_and_that_of_white_noise_too():
    down, across = np.meshgrid(np.arange(5), np.arange(7), indexing="ij")
    slope = (0.3 * down - 0.2 * across)[None, ..., None]
    assert sharpness.gradient_energy(slope) == pytest.approx(4 * 7 * 0.3**2 + 5 * 6 * 0.2**2, rel=1e-9)
    noise = RNG.normal(size=(4000, 5, 7, 1))
    assert sharpness.gradient_energy(noise) == pytest.approx(2 * (4 * 7 + 5 * 6), rel=0.02)


def test_between_two_images_a_linear_model_goes_along_the_straight_line():
    basis = np.linalg.qr(RNG.normal(size=(12, 12)))[0].astype(np.float32)
    model = SimpleNamespace(
        encode=lambda params, statistics, x: x.reshape(len(x), -1) @ basis,
        decode=lambda params, statistics, z: (z @ basis.T).reshape(-1, 3, 4, 1),
    )
    x = RNG.normal(size=(4, 3, 4, 1)).astype(np.float32)
    frames = sharpness.between(SimpleNamespace(model=model, params=None, statistics=None), x)
    share = np.linspace(0, 1, sharpness.STEPS).reshape(1, -1, 1, 1, 1)
    np.testing.assert_allclose(frames, (1 - share) * x[:2, None] + share * x[2:, None], atol=1e-5)
    np.testing.assert_array_equal(frames[:, 0], x[:2])
    np.testing.assert_array_equal(frames[:, -1], x[2:])


def test_the_border_is_the_frame_without_what_has_ink():
    images = np.zeros((200, 4, 5, 1))
    images[:, 1:3, 1:4] = 1
    images[0, 0, 0], images[:3, 0, 1], images[:, 3, 2] = 1, 1, 1
    expected = np.array([[1, 0, 1, 1, 1], [1, 0, 0, 0, 1], [1, 0, 0, 0, 1], [1, 1, 0, 1, 1]], bool)
    np.testing.assert_array_equal(co_adaptation.border(images), expected)


def test_noise_in_the_border_is_measured_there_alone_and_between_neighbours_alone():
    pixels = np.array([[1, 1, 0, 1], [1, 0, 0, 0]], bool)
    mixing = RNG.normal(size=(8, 8))
    images = (RNG.normal(size=(500, 8)) @ mixing).reshape(500, 2, 4, 1)
    flat = images[..., 0]
    expected = [pearsonr(flat[:, 0, 0], flat[:, 0, 1])[0], pearsonr(flat[:, 0, 0], flat[:, 1, 0])[0]]
    assert co_adaptation.correlation(images, pixels) == pytest.approx(np.abs(expected).mean(), rel=1e-6)
    elsewhere = np.where(pixels[..., None], images, 99.0)
    assert co_adaptation.correlation(elsewhere, pixels) == co_adaptation.correlation(images, pixels)
    assert co_adaptation.energy(elsewhere, pixels) == pytest.approx(np.square(flat[:, pixels]).mean(), rel=1e-9)
