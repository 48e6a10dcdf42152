"""Decoded latents: every frame where its latents say, every label beside what it names."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.patches import Rectangle

from jaxgen import plots

GAP = 4


def tile(figure, row, column):
    """One tile of 8×8 images, brought back to its own pixels."""
    canvas = np.asarray(figure.axes[0].images[0].get_array()) / 255
    top, left = row * (64 + GAP), column * (64 + GAP)
    return canvas[top : top + 64 : 8, left : left + 64 : 8]


def close(tile, image):
    return np.abs(tile - image[..., None]).max() <= 0.5 / 255 + 1e-6


def texts(labels):
    return [label.get_text() for label in labels]


def test_interpolation_frames_both_ends_of_each_row():
    frames = np.random.default_rng(0).random((2, 5, 8, 8))
    figure = plots.interpolation(frames)
    for row in range(2):
        for step in range(5):
            assert close(tile(figure, row, step), frames[row, step])
    boxes = [patch for patch in figure.axes[0].patches if isinstance(patch, Rectangle)]
    corners = {(box.get_x() + GAP / 2, box.get_y() + GAP / 2) for box in boxes}
    assert corners == {(0, 0), (4 * 68, 0), (0, 68), (4 * 68, 68)}
    ticks = dict(zip(figure.axes[0].get_xticks(), figure.axes[0].get_xticklabels(), strict=True))
    assert ticks[32].get_text() == "start"
    assert ticks[2 * 68 + 32].get_text() == "0.5"
    assert ticks[4 * 68 + 32].get_text() == "end"


def test_interpolation_labels_only_shares_that_are_round():
    labels = plots.interpolation(np.zeros((1, 4, 8, 8))).axes[0].get_xticklabels()
    assert [label.get_text() for label in labels] == ["start", "", "", "end"]


def test_interpolation_of_points_draws_their_paths():
    frames = np.random.default_rng(0).random((3, 5, 2))
    for line, path in zip(plots.interpolation(frames).axes[0].lines, frames, strict=True):
        np.testing.assert_allclose(line.get_xydata(), path)


def test_one_frame_is_no_interpolation():
    with pytest.raises(ValueError, match=r"at least two steps a row, got shape \(3, 1, 8, 8\)"):
        plots.interpolation(np.zeros((3, 1, 8, 8)))


def test_rows_of_an_interpolation_have_their_names():
    figure = plots.interpolation(np.zeros((2, 5, 8, 8)), rows=["linear", "spherical"])
    assert texts(figure.axes[0].get_yticklabels()) == ["linear", "spherical"]
    np.testing.assert_allclose(figure.axes[0].get_yticks(), [32, 100])
    with pytest.raises(ValueError, match="name each of the 2 rows, got 1 names"):
        plots.interpolation(np.zeros((2, 5, 8, 8)), rows=["linear"])


def test_a_traversal_has_a_row_for_each_latent_and_its_values_below():
    frames = np.random.default_rng(0).random((3, 6, 8, 8))
    figure = plots.traversals(frames, np.array([-3.0, -1.0, 0.0, 1.0, 2.0, 3.0]), rows=["a", "b", "c"], xlabel="z")
    for row in range(3):
        for step in range(6):
            assert close(tile(figure, row, step), frames[row, step])
    axes = figure.axes[0]
    assert texts(axes.get_yticklabels()) == ["a", "b", "c"]
    assert axes.get_xlabel() == "z"
    at = {label.get_text(): x for x, label in zip(axes.get_xticks(), axes.get_xticklabels(), strict=True)}
    assert (at["0"], at["1"], at["2"]) == (2 * 68 + 32, 3 * 68 + 32, 4 * 68 + 32)
    np.testing.assert_allclose(at["−2"], 32 + 34)  # halfway between −3 and −1


@pytest.mark.parametrize("values", [np.zeros(5), np.arange(4.0), np.arange(5.0)[::-1]])
def test_values_that_do_not_grow_with_the_columns_are_refused(values):
    with pytest.raises(ValueError, match="values must be 5 growing numbers"):
        plots.traversals(np.zeros((2, 5, 8, 8)), values)


def carpet_of(horizontal, vertical, order):
    """A carpet whose image at (a, b) is grey a on its left half and grey b on its right half."""
    grid = np.stack(np.meshgrid(horizontal, vertical), axis=-1).reshape(-1, 2)[order]
    images = np.zeros((len(grid), 8, 8))
    images[:, :, :4], images[:, :, 4:] = grid[:, :1, None], grid[:, 1:, None]
    return plots.carpet(images, grid)


@settings(deadline=None, max_examples=10)
@given(st.permutations(range(12)))
def test_a_carpet_puts_each_image_at_its_latents_whatever_their_order(order):
    horizontal, vertical = [0.1, 0.2, 0.5, 1.0], [0.0, 0.3, 0.9]  # an uneven grid
    figure = carpet_of(horizontal, vertical, order)
    for row, b in enumerate(vertical[::-1]):  # the second latent grows upwards
        for column, a in enumerate(horizontal):
            np.testing.assert_allclose(tile(figure, row, column)[0, [0, 7], 0], [a, b], atol=0.002)


def test_the_ticks_of_a_carpet_stand_at_their_latents():
    axes = carpet_of(np.linspace(-2, 2, 5), np.linspace(-1, 1, 3), range(15)).axes[0]
    centers = {"−2": 32, "−1": 100, "0": 168, "1": 236, "2": 304}
    across = {label.get_text(): at for at, label in zip(axes.get_xticks(), axes.get_xticklabels(), strict=True)}
    up = {label.get_text(): at for at, label in zip(axes.get_yticks(), axes.get_yticklabels(), strict=True)}
    assert across == centers
    assert (up["1"], up["0"], up["−1"]) == (32, 100, 168)


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        (np.array([[0, 0], [0, 1], [1, 0], [1, 0]]), "full grid"),
        (np.array([[0, 0], [0, 1], [1, 0], [2, 2]]), "3 × 3 different latents"),
        (np.zeros((4, 3)), "two latents for each image"),
        (np.zeros((5, 2)), "two latents for each image"),
    ],
)
def test_a_carpet_without_its_grid_is_refused(grid, message):
    with pytest.raises(ValueError, match=message):
        plots.carpet(np.zeros((4, 8, 8)), grid.astype(float))
