"""Which latent drives which group: each shade where its latent and its group are."""

import numpy as np
import pytest

from jaxgen import plots


def test_latents_stand_in_the_order_of_what_they_drive_and_zeros_are_blank():
    norms = np.array([[0, 0, 0], [0.1, 0, 3], [2, 0.5, 0], [0, 1, 0]])
    figure = plots.group_links(norms, groups=["hip", "knee", "foot"], ylabel="joint")
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["3", "4", "2", "1"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["hip", "knee", "foot"]
    shades = axes.images[0].get_array()
    expected = norms[[2, 3, 1, 0]].T
    np.testing.assert_array_equal(np.ma.getmaskarray(shades), expected == 0)
    np.testing.assert_array_equal(shades.filled(0), expected)
    assert (axes.get_ylabel(), axes.images[0].get_clim()) == ("joint", (0, 3))


def test_groups_without_names_have_numbers_and_nothing_at_all_may_be_linked():
    figure = plots.group_links(np.zeros((2, 3)))
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["1", "2", "3"]
    assert np.ma.getmaskarray(figure.axes[0].images[0].get_array()).all()


@pytest.mark.parametrize("norms", [np.zeros(3), np.zeros((0, 2)), np.array([[-1.0]]), np.array([[np.nan]])])
def test_what_are_no_norms_is_refused(norms):
    with pytest.raises(ValueError, match=r"norms must be finite numbers \[latents, groups\]"):
        plots.group_links(norms)


def test_a_name_is_needed_for_each_group():
    with pytest.raises(ValueError, match="rows"):
        plots.group_links(np.ones((2, 3)), groups=["hip"])
