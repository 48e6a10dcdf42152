"""Every pixel of a mosaic is where its image belongs, and every label beside the tile it names."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.patches import Rectangle

from jaxgen import plots

GAP = 4


def canvas_of(figure):
    """The picture in [0, 1]."""
    return np.asarray(figure.axes[0].images[0].get_array()) / 255


def tile(figure, row, column, height, width):
    """One tile of a mosaic, brought back to its own pixels, [height, width, 3]."""
    zoom = -(-64 // max(height, width))
    top, left = row * (height * zoom + GAP), column * (width * zoom + GAP)
    return canvas_of(figure)[top : top + height * zoom : zoom, left : left + width * zoom : zoom]


def random_images(*shape):
    return np.random.default_rng(0).random(shape)


def close(tile, image):
    image = image[..., None] if image.ndim == 2 else image
    return np.abs(tile - image).max() <= 0.5 / 255 + 1e-6


@settings(deadline=None, max_examples=20)
@given(
    st.integers(1, 9),
    st.sampled_from([1, 2, 5]),
    st.sampled_from([3, 8, 70]),
    st.sampled_from([(), (1,), (3,)]),
)
def test_images_stand_row_by_row(count, columns, side, channels):
    images = random_images(count, side, side + 1, *channels)
    figure = plots.image_grid(images, columns=columns)
    for index, image in enumerate(images):
        assert close(tile(figure, index // columns, index % columns, side, side + 1), image)
    for blank in range(count, -(-count // columns) * columns):
        assert (tile(figure, blank // columns, blank % columns, side, side + 1) == 1).all()


def test_pixels_out_of_range_are_clipped_and_those_not_finite_are_seen():
    image = np.array([[[-3.0, 7.0], [np.nan, np.inf]]])
    shown = tile(plots.image_grid(image), 0, 0, 2, 2)
    np.testing.assert_array_equal(shown[0], [[0, 0, 0], [1, 1, 1]])
    for not_finite in shown[1]:
        assert not_finite[0] > not_finite[1] > not_finite[2]  # orange, which no grey image holds


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((5, 64)), "reshape flat examples"),
        (np.zeros((5, 8, 8, 2)), "channel axis of 1 or 3"),
        (np.zeros((0, 8, 8)), "its shape is"),
        (np.full((5, 8, 8), 200, np.uint8), "divide bytes by 255"),
    ],
)
def test_what_is_no_batch_of_images_is_refused(images, message):
    with pytest.raises(ValueError, match=message):
        plots.image_grid(images)


def test_no_columns_are_refused():
    with pytest.raises(ValueError, match="columns must be at least 1, got 0"):
        plots.image_grid(np.zeros((5, 8, 8)), columns=0)


def test_samples_are_a_grid_of_images_or_a_scatter_of_points():
    images, xy = random_images(4, 8, 8), random_images(30, 2)
    assert close(tile(plots.samples(images), 1, 1, 8, 8), images[3])
    np.testing.assert_allclose(plots.samples(xy).axes[0].collections[0].get_offsets(), xy)


def test_reconstructions_stand_below_their_originals():
    originals, reconstructed = random_images(2, 5, 6, 6)
    figure = plots.reconstructions(originals, reconstructed, columns=3)
    for index in range(5):
        row, column = 2 * (index // 3), index % 3
        assert close(tile(figure, row, column, 6, 6), originals[index])
        assert close(tile(figure, row + 1, column, 6, 6), reconstructed[index])
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["data", "model"] * 2
    distance = 6 * 11 + GAP  # a zoom of 11 makes 66 of 6 pixels
    np.testing.assert_allclose(axes.get_yticks(), np.arange(4) * distance + 33)


def test_reconstructions_of_points_join_each_to_its_own():
    originals, reconstructed = random_images(2, 5, 2)
    lines = plots.reconstructions(originals, reconstructed).axes[0].lines
    for line, start, end in zip(lines, originals, reconstructed, strict=True):
        np.testing.assert_allclose(line.get_xydata(), [start, end])


def test_reconstructions_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r"same shape, got \(5, 8, 8\) and \(4, 8, 8\)"):
        plots.reconstructions(np.zeros((5, 8, 8)), np.zeros((4, 8, 8)))


def test_interpolation_frames_both_ends_of_each_row():
    frames = random_images(2, 5, 8, 8)
    figure = plots.interpolation(frames)
    for row in range(2):
        for step in range(5):
            assert close(tile(figure, row, step, 8, 8), frames[row, step])
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
    frames = random_images(3, 5, 2)
    for line, path in zip(plots.interpolation(frames).axes[0].lines, frames, strict=True):
        np.testing.assert_allclose(line.get_xydata(), path)


def test_one_frame_is_no_interpolation():
    with pytest.raises(ValueError, match=r"at least two steps a row, got shape \(3, 1, 8, 8\)"):
        plots.interpolation(np.zeros((3, 1, 8, 8)))


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
            np.testing.assert_allclose(tile(figure, row, column, 8, 8)[0, [0, 7], 0], [a, b], atol=0.002)


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
