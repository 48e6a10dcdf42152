"""Curves show the numbers of the log; codebook use agrees with scipy's entropy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import entropy

from jaxgen import plots


def history_of(values, *, name="loss", kind="train"):
    return [{"step": 10 * i, "kind": kind, "time": 0.0, name: value} for i, value in enumerate(values)]


def texts(artists):
    return [artist.get_text() for artist in artists]


def test_terms_and_kinds_have_their_own_lines():
    history = history_of([3.0, 2.0]) + history_of([4.0, 1.0], kind="evaluate") + history_of([7.0], name="kl")
    axes = plots.curves(history, names=["kl", "absent", "loss"]).axes[0]
    kl, train, evaluate = axes.lines
    assert (kl.get_xdata().tolist(), kl.get_ydata().tolist()) == ([0], [7.0])
    assert (train.get_xdata().tolist(), train.get_ydata().tolist()) == ([0, 10], [3.0, 2.0])
    assert evaluate.get_ydata().tolist() == [4.0, 1.0]
    assert train.get_color() == evaluate.get_color() != kl.get_color()
    assert train.get_marker() == "None" != evaluate.get_marker()
    assert texts(axes.get_legend().get_texts()) == ["kl", "loss", "training", "test"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("step", "nats")


@pytest.mark.parametrize("level", [-4.0, 2.5, 30.0])
def test_a_level_is_seen_wherever_the_curve_is(level):
    axes = plots.curves(history_of([3.0, 2.0]), names=["loss"], level=(level, "there")).axes[0]
    low, high = axes.get_ylim()
    assert low < level < high
    assert low < 2.0 < 3.0 < high
    assert axes.lines[1].get_ydata() == [level, level]
    assert [(text.get_text(), text.xy) for text in axes.texts] == [("there", (1, level))]


@pytest.mark.parametrize(("other", "scale"), [(150.0, "log"), (30.0, "linear"), (0.05, "log"), (-150.0, "linear")])
def test_a_positive_term_that_another_would_flatten_stands_on_a_logarithmic_axis(other, scale):
    history = history_of([3.0, 2.0, 2.5]) + history_of([other] * 3, name="kl")
    axes = plots.curves(history, names=["loss", "kl"]).axes[0]
    assert axes.get_yscale() == scale
    low, high = axes.get_ylim()
    assert len([tick for tick in axes.get_yticks() if low <= tick <= high]) >= 2


def test_a_legend_of_several_rows_is_read_row_by_row():
    names = [f"a term with a long name {i}" for i in range(7)]
    history = [{"step": 1, "kind": "train"} | dict.fromkeys(names, 1.0)]
    figure = plots.curves(history, names=names)
    figure.draw_without_rendering()
    labels = figure.axes[0].get_legend().get_texts()
    boxes = {label.get_text(): label.get_window_extent() for label in labels}
    assert sorted(boxes, key=lambda name: (-round(boxes[name].y0), boxes[name].x0)) == names
    assert max(box.x1 for box in boxes.values()) <= figure.bbox.x1


def test_a_single_point_is_visible():
    assert plots.curves(history_of([3.0]), names=["loss"]).axes[0].lines[0].get_marker() == "o"


def test_replicas_are_a_mean_and_a_band_of_one_deviation():
    values = np.random.default_rng(0).normal(size=(6, 5))
    axes = plots.curves(history_of(values.tolist()), names=["loss"]).axes[0]
    np.testing.assert_allclose(axes.lines[0].get_ydata(), values.mean(axis=1))
    band = axes.collections[0].get_paths()[0].vertices
    spread = np.sqrt(((values - values.mean(axis=1, keepdims=True)) ** 2).sum(axis=1) / 4)
    for step in range(6):
        at = band[np.isclose(band[:, 0], 10 * step), 1]
        np.testing.assert_allclose(
            [at.min(), at.max()], values[step].mean() + np.array([-1, 1]) * spread[step], rtol=1e-6
        )


def test_values_that_are_not_finite_leave_a_gap():
    line = plots.curves(history_of([1.0, np.nan, np.inf, 2.0]), names=["loss"]).axes[0].lines[0]
    np.testing.assert_array_equal(line.get_ydata(), [1.0, np.nan, np.nan, 2.0])


@pytest.mark.parametrize(("sign", "note"), [(1, "↑ from 500"), (-1, "↓ from −500")])
def test_a_start_that_would_hide_the_rest_is_cut_and_told(sign, note):
    values = sign * np.array([500.0, 90.0, *np.linspace(20, 10, 38)])
    axes = plots.curves(history_of(values.tolist()), names=["loss"]).axes[0]
    low, high = sorted(np.abs(axes.get_ylim()))
    assert low <= 10
    assert 20 <= high < 30
    assert texts(axes.texts) == [note]


def test_a_gentle_curve_is_shown_whole():
    axes = plots.curves(history_of(np.linspace(20, 10, 40).tolist()), names=["loss"]).axes[0]
    assert axes.get_ylim()[0] <= 10
    assert axes.get_ylim()[1] >= 20
    assert not axes.texts


def test_names_that_the_log_does_not_hold_are_refused():
    with pytest.raises(ValueError, match=r"none of \['elbo'\]; its log points hold \['kl', 'loss'\]"):
        plots.curves(history_of([1.0]) + history_of([1.0], name="kl"), names=["elbo"])


@settings(deadline=None, max_examples=20)
@given(st.lists(st.integers(0, 1000), min_size=1, max_size=40).filter(any))
def test_code_usage_is_sorted_and_tells_the_perplexity(counts):
    axes = plots.code_usage(np.array(counts)).axes[0]
    shares = np.sort(np.array(counts) / sum(counts))[::-1]
    bars = axes.patches[0].get_data().values
    np.testing.assert_allclose(bars, 100 * shares[shares > 0])
    unused = counts.count(0)
    text = f"perplexity {np.exp(entropy(counts)):.1f} of {len(counts)} codes"
    assert axes.texts[-1].get_text() == text + (f" · {unused} never used" if unused else "")
    low, high = axes.get_ylim()
    assert low < min(bars) <= max(bars) < high
    assert low < 100 / len(counts) < high
    assert len([tick for tick in axes.get_yticks() if low <= tick <= high]) >= 2


@pytest.mark.parametrize("counts", [[], [0, 0], [1, -1, 3], [1, np.nan], [[1, 2], [3, 4]]])
def test_what_is_no_use_of_codes_is_refused(counts):
    with pytest.raises(ValueError, match="one finite, non-negative number a code"):
        plots.code_usage(np.array(counts))


def test_latents_are_sorted_by_what_they_carry_and_keep_their_numbers():
    kl = np.array([0.5, 0.0, 2.0, 0.005, 1.0])
    axes = plots.latent_usage(kl).axes[0]
    np.testing.assert_array_equal([bar.get_height() for bar in axes.patches], [2.0, 1.0, 0.5, 0.005, 0.0])
    assert texts(axes.get_xticklabels()) == ["3", "5", "1", "4", "2"]
    assert axes.get_xlabel() == "number of the latent, most used first"
    assert axes.texts[-1].get_text() == "3.505 nats in all · 2 of 5 latents below 0.01"


def test_many_latents_are_numbered_by_their_rank():
    axes = plots.latent_usage(np.linspace(0.0, 1.0, 50)).axes[0]
    assert axes.get_xlabel() == "rank of the latent, most used first"
    assert len(axes.get_xticks()) < 10


@pytest.mark.parametrize("kl", [[], [1.0, np.nan], [[1.0, 2.0]]])
def test_what_is_no_kl_of_latents_is_refused(kl):
    with pytest.raises(ValueError, match="one finite number a latent"):
        plots.latent_usage(np.array(kl))


def test_what_is_counted_has_whole_ticks():
    history = history_of([1.0, 2.0, 2.0, 3.0], name="layer")
    ticks = plots.curves(history, names=["layer"], whole=True).axes[0].get_yticks()
    np.testing.assert_array_equal(ticks, np.round(ticks))
    assert (plots.curves(history, names=["layer"]).axes[0].get_yticks() % 1).any()
