"""Every pixel of a mosaic is where its image belongs, and every label beside the tile it names."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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


def test_what_a_denoising_model_was_shown_stands_between():
    originals, corrupted, reconstructed = random_images(3, 5, 6, 6)
    figure = plots.reconstructions(originals, reconstructed, corrupted=corrupted, columns=3)
    for index in range(5):
        row, column = 3 * (index // 3), index % 3
        for below, image in enumerate((originals, corrupted, reconstructed)):
            assert close(tile(figure, row + below, column, 6, 6), image[index])
    names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert names == ["data", "corrupted", "model"] * 2
    points = random_images(3, 5, 2)
    lines = plots.reconstructions(points[0], points[2], corrupted=points[1]).axes[0].lines
    for index, line in enumerate(lines):
        np.testing.assert_allclose(line.get_xydata(), points[:, index])


def hatched(tile):
    """Whether only the two greys of the hatching are in a part of a picture."""
    return set(np.unique(np.round(255 * tile)).astype(int)) <= {150, 218}


def whole_tile(figure, row, column, side):
    """One tile with all the pixels of the mosaic, for what is finer than a pixel of the image."""
    size = side * -(-64 // side)
    top, left = row * (size + GAP), column * (size + GAP)
    return canvas_of(figure)[top : top + size, left : left + size]


def test_what_was_not_observed_is_hatched_and_what_the_model_broke_is_orange():
    originals, reconstructed = random_images(2, 3, 8, 8) * 0.4  # below both greys
    originals[1, 4:], reconstructed[1, :4] = np.nan, np.nan
    figure = plots.reconstructions(originals, reconstructed)
    data, model = whole_tile(figure, 0, 1, 8), whole_tile(figure, 1, 1, 8)
    assert hatched(data[32:])
    assert len(np.unique(data[32:])) == 2
    assert not hatched(data[:32])
    assert (model[:32, :, 0] > model[:32, :, 2] + 0.5).all()
    assert not hatched(whole_tile(figure, 0, 0, 8))
    assert (whole_tile(figure, 0, 2, 8) < 0.41).all()


@pytest.mark.parametrize("channels", [(), (3,)])
def test_completions_stand_beside_what_was_shown(channels):
    originals, completed = random_images(4, 8, 8, *channels) * 0.4, random_images(5, 4, 8, 8, *channels)
    hidden = originals.copy()
    hidden[:, 4:] = np.nan
    figure = plots.completions(originals, hidden, completed)
    for row in range(4):
        assert close(tile(figure, row, 0, 8, 8), originals[row])
        assert close(tile(figure, row, 1, 8, 8)[:4], originals[row, :4])
        assert hatched(whole_tile(figure, row, 1, 8)[32:])
        for draw in range(5):
            assert close(tile(figure, row, 2 + draw, 8, 8), completed[draw, row])
    names = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert names == ["data", "shown", "1", "2", "3", "4", "5"]


def test_completions_of_other_examples_are_refused():
    with pytest.raises(ValueError, match=r"got \(4, 8, 8\) and \(5, 3, 8, 8\) for originals \(4, 8, 8\)"):
        plots.completions(np.zeros((4, 8, 8)), np.zeros((4, 8, 8)), np.zeros((5, 3, 8, 8)))


def test_rows_of_a_grid_have_their_names():
    images = random_images(6, 8, 8)
    figure = plots.image_grid(images, columns=2, rows=["a", "longer", "c"])
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["a", "longer", "c"]
    np.testing.assert_allclose(figure.axes[0].get_yticks(), 68 * np.arange(3) + 32)
    assert close(tile(figure, 1, 1, 8, 8), images[3])
    figure.draw_without_rendering()
    assert min(label.get_window_extent().x0 for label in figure.axes[0].get_yticklabels()) >= 0
    with pytest.raises(ValueError, match="rows must name each of the 3 rows, got 2 names"):
        plots.image_grid(images, columns=2, rows=["a", "b"])


def test_reconstructions_of_points_join_each_to_its_own():
    originals, reconstructed = random_images(2, 5, 2)
    lines = plots.reconstructions(originals, reconstructed).axes[0].lines
    for line, start, end in zip(lines, originals, reconstructed, strict=True):
        np.testing.assert_allclose(line.get_xydata(), [start, end])


def test_reconstructions_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r"data, model must have the same shape, got \(5, 8, 8\) and \(4, 8, 8\)"):
        plots.reconstructions(np.zeros((5, 8, 8)), np.zeros((4, 8, 8)))
