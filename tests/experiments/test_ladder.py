"""Rates and errors of the ladder's rungs against what they must be by hand."""

import jax
import ladder
import numpy as np
import pytest
from figures import within
from ladder import NAMES, PRICED, Point


def test_patches_are_the_squares_of_an_image_row_by_row():
    image = np.arange(64.0).reshape(1, 8, 8)
    rows = ladder.patches(image)
    assert rows.shape == (16, 4)
    for number, row in enumerate(rows):
        top, left = 2 * (number // 4), 2 * (number % 4)
        np.testing.assert_array_equal(row, image[0, top : top + 2, left : left + 2].ravel())


def test_rounding_is_to_the_nearest_of_levels_from_nothing_to_all():
    quantize = ladder.rounded(np.zeros(1), 4, jax.random.key(0))
    np.testing.assert_allclose(quantize(np.array([0.0, 0.16, 0.17, 0.6, 1.0])), [0, 0, 1 / 3, 2 / 3, 1])


@pytest.mark.parametrize(
    ("view", "codes", "rate"),
    [(ladder.pixels, 8, 3.0), (ladder.patches, 16, 1.0), (lambda x: x.reshape(-1, 64), 4, 1 / 32)],
)
def test_a_rate_is_the_bits_of_codes_of_one_length_and_an_error_a_pixel_s(view, codes, rate):
    """Of a quantizer that decodes all to nothing, the error is the mean square of a test pixel, however it is cut."""
    [point] = ladder.fitted(lambda train, number, key: lambda x: np.zeros_like(x), view, (codes,), seeds=2)
    assert point.rate == pytest.approx([rate] * 2)
    assert point.error == pytest.approx([np.square(ladder.images("test")).mean()] * 2, rel=1e-5)


def test_rungs_are_compared_at_equal_bits():
    """The least error does not win where it is paid for by bits."""
    even = {"rounding": 0.04, "Lloyd-Max": 0.02, "k-means, 2×2": 0.01}
    rungs = {
        name: [Point([bits], [error / bits]) for bits in (1.0, 1.5, 2.0)] for name, error in even.items()
    }  # fmt: skip
    for name in NAMES.values():
        rungs[name], rungs[name + PRICED] = [Point([1.5], [0.007])], [Point([1.6], [0.007])]
    verdicts = {figure.name: within(figure) for figure in ladder.gates(rungs)}
    # 0.01 / 1.5 is less than 0.007, which is less than 0.01 / 1; and a prior above uniform codes has missed.
    assert verdicts.pop("1.5 bits a pixel: VQ-VAE") is False
    assert [verdicts.pop(f"{name} of 1.5 bits a pixel: with a prior") for name in NAMES.values()] == [False, False]
    assert set(verdicts.values()) == {True}
    assert len(verdicts) == 4
