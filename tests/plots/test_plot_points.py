"""Scatters show the points they were given, and say what their axes and colours mean."""

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.patches import Circle
from sklearn.decomposition import PCA

from jaxgen import plots

RNG = np.random.default_rng(1)


def texts(artists):
    return [artist.get_text() for artist in artists]


def test_points_lie_over_their_data_with_modes_and_their_radius():
    samples, reference, centers = RNG.normal(size=(40, 2)), RNG.normal(size=(50, 2)), RNG.normal(size=(3, 2))
    axes = plots.points(samples, reference=reference, centers=centers, radius=0.25).axes[0]
    for drawn, given in zip(axes.collections, (reference, samples, centers), strict=True):
        np.testing.assert_allclose(drawn.get_offsets(), given)
    circles = [patch for patch in axes.patches if isinstance(patch, Circle)]
    assert {circle.radius for circle in circles} == {0.25}
    np.testing.assert_allclose([circle.center for circle in circles], centers)
    assert texts(axes.get_legend().get_texts()) == ["data", "samples", "modes, radius 0.25"]


def test_samples_that_are_not_finite_are_counted():
    axes = plots.points(np.array([[0.0, 1.0], [np.nan, 0.0], [0.0, np.inf]])).axes[0]
    assert len(axes.collections[0].get_offsets()) == 1
    assert texts(axes.texts) == ["2 of 3 points are not finite"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"samples": np.zeros((4, 3))}, r"samples must be points of the plane, \[n, 2\], got shape \(4, 3\)"),
        ({"samples": np.zeros((4, 2)), "reference": np.zeros(4)}, "reference must be points"),
        ({"samples": np.zeros((4, 2)), "radius": 0.5}, "radius=0.5 needs centers"),
    ],
)
def test_what_is_not_of_the_plane_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        plots.points(**arguments)


def test_two_latents_are_shown_as_they_are():
    codes = RNG.normal(size=(30, 2)) * [3.0, 0.1]
    axes = plots.embedding(codes).axes[0]
    np.testing.assert_allclose(axes.collections[0].get_offsets(), codes)
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("latent 1", "latent 2")


def test_more_latents_go_through_their_principal_components():
    codes = RNG.normal(size=(60, 5)) @ RNG.normal(size=(5, 5)) + 7.0
    axes = plots.embedding(codes).axes[0]
    pca = PCA(2, svd_solver="full").fit(codes)  # the oracle, up to the sign of each axis
    drawn = np.asarray(axes.collections[0].get_offsets())
    np.testing.assert_allclose(np.abs(drawn), np.abs(pca.transform(codes)), atol=1e-8)
    shares = pca.explained_variance_ratio_
    assert axes.get_xlabel() == f"component 1 of 5 ({shares[0]:.0%} of variance)"
    assert axes.get_ylabel() == f"component 2 of 5 ({shares[1]:.0%} of variance)"


@pytest.mark.parametrize("codes", [np.zeros((9, 4)), np.full((9, 4), np.nan)], ids=["collapsed", "diverged"])
def test_latents_that_tell_nothing_still_give_a_picture(codes):
    axes = plots.embedding(codes, np.arange(9) % 3).axes[0]
    if np.isnan(codes).any():
        assert texts(axes.texts) == ["9 of 9 points are not finite"]
    else:
        assert axes.get_xlabel() == "component 1 of 4 (0% of variance)"


def test_one_latent_is_shown_over_its_distribution():
    xy = plots.embedding(np.array([[3.0], [1.0], [2.0]])).axes[0].collections[0].get_offsets()
    np.testing.assert_allclose(xy, [[3.0, 1.0], [1.0, 0.0], [2.0, 0.5]])


def test_latents_that_are_not_finite_take_their_labels_with_them():
    codes = np.array([[0.0, 1.0], [np.nan, 0.0], [5.0, 5.0]])
    axes = plots.embedding(codes, np.array([0, 1, 2])).axes[0]
    assert texts(axes.get_legend().get_texts()) == ["0", "2"]
    np.testing.assert_allclose(axes.collections[1].get_offsets(), [[5.0, 5.0]])


@pytest.mark.parametrize("names", [np.arange(10), np.array(["cat", "dog"]), np.arange(15)])
def test_each_class_has_its_colour_its_points_and_its_name(names):
    labels = np.tile(names, 6)
    codes = (
        RNG.normal(size=(len(labels), 2)) + 20 * np.stack([labels == name for name in names]).argmax(axis=0)[:, None]
    )
    axes = plots.embedding(codes, labels).axes[0]
    for drawn, name in zip(axes.collections, names, strict=True):
        np.testing.assert_allclose(drawn.get_offsets(), codes[labels == name])
    colors = {to_hex(drawn.get_facecolor()[0]) for drawn in axes.collections}
    assert len(colors) == len(names)
    assert sorted(texts(axes.get_legend().get_texts())) == sorted(map(str, names))
    by_name = {text.get_text(): text.get_position() for text in axes.texts}
    np.testing.assert_allclose(by_name[str(names[1])], np.median(codes[labels == names[1]], axis=0))


@pytest.mark.parametrize("spread", [0.0, 0.1, 1.0])
def test_names_of_classes_do_not_cover_each_other(spread):
    labels = np.tile(np.arange(10), 50)
    generator = np.random.default_rng(3)
    codes = generator.normal(size=(500, 2)) + spread * generator.normal(size=(10, 2))[labels]
    figure = plots.embedding(codes, labels)
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in figure.axes[0].texts]
    assert len(boxes) == 10
    for i, one in enumerate(boxes):
        assert not any(one.overlaps(other) for other in boxes[:i])
    medians = np.stack([np.median(codes[labels == name], axis=0) for name in range(10)])
    moved = np.stack([text.get_position() for text in figure.axes[0].texts]) - medians
    assert np.abs(moved).max() < 0.2 * np.ptp(codes)


@pytest.mark.parametrize("labels", [np.linspace(0, 1, 42), np.tile(np.arange(21), 2)])
def test_a_quantity_has_a_colour_scale(labels):
    figure = plots.embedding(RNG.normal(size=(42, 2)), labels)
    np.testing.assert_allclose(figure.axes[0].collections[0].get_array(), labels)
    assert figure.axes[1].get_ylabel() == "label"


@pytest.mark.parametrize(
    ("codes", "labels", "message"),
    [
        (np.zeros((4, 2, 2)), None, "flatten latents"),
        (np.zeros((4, 2)), np.zeros(3), r"n = 4, one for each code, got shape \(3,\)"),
    ],
)
def test_codes_and_labels_that_do_not_match_are_refused(codes, labels, message):
    with pytest.raises(ValueError, match=message):
        plots.embedding(codes, labels)
