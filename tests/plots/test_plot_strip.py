"""The same noise over a training: each frame in the column of its step, each cloud whole."""

import numpy as np
import pytest

from jaxgen import plots

GAP = 4


def test_rows_are_of_one_noise_and_columns_of_one_step():
    frames = np.random.default_rng(0).random((3, 2, 8, 8))
    figure = plots.strip(frames, [10, 1000, 12_500], rows=["first", "second"])
    canvas = np.asarray(figure.axes[0].images[0].get_array())[..., 0] / 255
    for step in range(3):
        for row in range(2):
            top, left = row * (64 + GAP), step * (64 + GAP)
            tile = canvas[top : top + 64 : 8, left : left + 64 : 8]
            np.testing.assert_allclose(tile, frames[step, row], atol=0.5 / 255 + 1e-6)
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["10", "1k", "12.5k"]
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["first", "second"]
    assert figure.axes[0].get_xlabel() == "step"


def test_clouds_share_the_part_of_the_plane_that_the_data_fill():
    generator = np.random.default_rng(1)
    frames, real = 100 * generator.normal(size=(7, 20, 2)), generator.uniform(2, 3, size=(50, 2))
    panels = plots.strip(frames, range(1, 8), reference=real).axes
    drawn = [axes for axes in panels if axes.get_visible()]
    assert [axes.get_title() for axes in drawn] == [f"step {step}" for step in range(1, 8)]
    for axes, cloud in zip(drawn, frames, strict=True):
        data, points = axes.collections
        np.testing.assert_allclose(data.get_offsets(), real)
        np.testing.assert_allclose(points.get_offsets(), cloud)
        for low, high in (axes.get_xlim(), axes.get_ylim()):
            assert 1 < low < 2 < 3 < high < 4


def test_points_that_are_not_finite_set_no_limits():
    frames = np.zeros((2, 3, 2))
    frames[-1, 0] = np.nan, np.inf
    [low, high] = plots.strip(frames, [1, 2]).axes[0].get_xlim()
    assert np.isfinite([low, high]).all()


def test_a_step_is_said_of_each_frame_and_a_name_of_each_row():
    with pytest.raises(ValueError, match=r"each of 3 frames was drawn, got \[1, 2\]"):
        plots.strip(np.zeros((3, 2, 8, 8)), [1, 2])
    with pytest.raises(ValueError, match="each of 0 frames"):
        plots.strip(np.zeros((0, 2, 8, 8)), [])
    with pytest.raises(ValueError, match="each of the 2 rows, got 1 names"):
        plots.strip(np.zeros((3, 2, 8, 8)), [1, 2, 3], rows=["one"])
    with pytest.raises(ValueError, match="frames must have 2 leading axes"):
        plots.strip(np.zeros((3, 2, 8)), [1, 2, 3])
