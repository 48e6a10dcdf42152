"""The pictures of a run's page, of each kind of model."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mosaics import clipped, drawn, labels_of, tiles
from scipy.spatial import geometric_slerp
from scipy.stats import entropy

from jaxgen import report
from jaxgen.latent_pictures import linear, pairs_of, spherical
from jaxgen.training import evaluate as evaluation

SMALL = {"hidden": (8,), "likelihood": "gaussian"}


def test_a_denoising_model_is_shown_what_it_gets_and_makes_the_rest_of_that(shown):
    run = shown("denoising_autoencoder", SMALL | {"latents": 4})
    figure = drawn(run)["reconstructions"].figure
    assert labels_of(figure) == ["data", "corrupted", "model"] * 2
    x, corrupted, made = tiles(figure, 6, 8).reshape(2, 3, 8, 8, 8).swapaxes(0, 1).reshape(3, 16, 8, 8)
    np.testing.assert_allclose(x, clipped(run.x[:16]), atol=0.003)
    given = run.corrupt(16)
    assert 0.1 < np.std(given - run.x[:16]) < 0.4  # its level is 0.25
    np.testing.assert_allclose(corrupted, clipped(given), atol=0.003)
    again = run.model.reconstruct(run.run.params, run.run.statistics, given)
    np.testing.assert_allclose(made, clipped(again), atol=0.003)


def test_completions_keep_the_upper_half_and_redraw_the_lower(shown):
    run = shown("vae", SMALL | {"importance_samples": 0, "latents": 3})
    picture = drawn(run)["completions"]
    parts = tiles(picture.figure, 6, 7)
    np.testing.assert_allclose(parts[:, 0], clipped(run.x[:6]), atol=0.003)
    for column in range(1, 7):
        np.testing.assert_allclose(parts[:, column, :4], clipped(run.x[:6])[:, :4], atol=0.003)
    lower = parts[:, 2:, 4:]
    assert (np.abs(lower[:, 0] - lower[:, 1]).max(axis=(1, 2)) > 0).any()
    assert np.abs(parts[:, 2, 4:] - clipped(run.x[:6])[:, 4:]).max() > 0.1
    assert "what is shown is kept" in picture.caption


def test_the_links_of_latents_to_groups_are_those_of_the_weights(shown, digits):
    run = shown("oi_vae", {"latents": 3, "hidden": (), "importance_samples": 0})
    weights = run.run.params["vae"]["decoder"]["params"]["W"].at[1, 5].set(0)
    run.run.params["vae"]["decoder"]["params"]["W"] = weights
    batch = {name: jnp.asarray(a[:4]) for name, a in run.batch.items()} | {"position": jnp.arange(4)}
    values = run.model.evaluate(run.run.params, run.run.statistics, batch, jax.random.key(0))
    figures = evaluation.summarize(run.model, {k: np.asarray(v.mean(axis=0)) for k, v in values.items()}, replicas=1)
    axes = drawn(run, figures)["group_links"].figure.axes[0]
    shades = axes.images[0].get_array()
    order = [int(label.get_text()) - 1 for label in axes.get_xticklabels()]
    norms = np.linalg.norm(weights, axis=-1)
    np.testing.assert_allclose(shades.filled(0), norms[order].T, rtol=1e-5)
    assert np.argwhere(np.ma.getmaskarray(shades)).tolist() == [[5, order.index(1)]]


def test_what_was_not_observed_is_hatched_and_never_orange(shown, digits):
    """The upper left of every test image is hidden, by a mask over numbers that no picture may show."""
    mask = np.ones(digits.test["x"].shape, bool)
    mask[:, :4, :4] = False
    run = shown(
        "vae",
        SMALL | {"importance_samples": 0, "latents": 3},
        dataset=digits._replace(test={**digits.test, "mask": mask}),
    )
    found = drawn(run)
    for name in ("reconstructions", "completions"):
        canvas = np.asarray(found[name].figure.axes[0].images[0].get_array())
        assert set(np.unique(canvas[:32, :32])) == {150, 218}, name
    for picture in found.values():
        for image in picture.figure.axes[0].images:
            assert np.ptp(np.asarray(image.get_array(), int), axis=-1).max() == 0, picture.name  # grey throughout


def test_a_conditional_model_has_a_row_of_samples_for_each_class(shown):
    run = shown("conditional_vae", SMALL | {"latents": 3})
    found = drawn(run)
    figure = found["samples"].figure
    assert labels_of(figure) == [str(digit) for digit in range(10)]
    classes = np.repeat(np.arange(10), 8)
    again = run.model.sample(run.run.params, run.run.statistics, jax.random.key(0), 80, condition=classes)
    np.testing.assert_allclose(tiles(figure, 10, 8).reshape(80, 8, 8), clipped(again), atol=0.003)
    # Both ends of a line are of one class, which is told all along.
    frames = tiles(found["interpolation"].figure, 6, 9)
    pairs = pairs_of(run.batch["label"], len(run.x), 3)
    assert (run.batch["label"][pairs[:, 0]] == run.batch["label"][pairs[:, 1]]).all()
    codes = run.encode(len(run.x))
    halfway = codes[pairs].mean(axis=1)
    given = {"condition": run.batch["label"][pairs[:, 0]]}
    middle = run.model.decode(run.run.params, run.run.statistics, halfway, **given)
    np.testing.assert_allclose(frames[::2, 4], clipped(middle), atol=0.003)
    for end, column in ((0, 0), (1, 8)):
        np.testing.assert_allclose(frames[::2, column], clipped(run.x[pairs[:, end]]), atol=0.003)


def test_a_class_can_be_asked_for_and_without_one_a_picture_has_a_row_of_each(shown, tmp_path, monkeypatch):
    run = shown("conditional_gan", {"hidden": (8,), "average": 0.9})
    monkeypatch.setattr(report, "open_run", lambda path, **_keywords: run.run)
    figures = []
    monkeypatch.setattr(report.plots, "save", lambda figure, path: figures.append(figure) or path)
    for condition, told in (([3.0], np.full(23, 3)), ([], np.arange(23) % 10)):
        path, _ = report.sample(tmp_path, num=23, condition=condition)
        again = run.model.sample(run.run.params, run.run.statistics, jax.random.key(0), 23, condition=told)
        with np.load(path) as arrays:
            np.testing.assert_array_equal(arrays["condition"], told)
            np.testing.assert_allclose(arrays["x"], again, atol=1e-6)
    alone, rows = figures
    assert labels_of(alone) == []
    assert labels_of(rows) == [str(digit) for digit in range(10)]
    # Two of each at the most, in the order of their draws.
    expected = np.swapaxes(clipped(again)[:20].reshape(2, 10, 8, 8), 0, 1)
    np.testing.assert_allclose(tiles(rows, 10, 2), expected, atol=0.003)
    caption = drawn(run)["samples"].caption
    assert caption == "Of noise drawn anew, not chosen. By the averaged generator. A row for each class asked for."


def test_the_plane_of_a_model_without_a_prior_is_that_of_its_codes(shown, monkeypatch):
    run = shown("autoencoder", SMALL | {"latents": 2})
    picture = drawn(run)["carpet"]
    codes = run.encode(len(run.x))
    low, high = np.quantile(codes, [0.01, 0.99], axis=0)
    corners = np.array([[low[0], high[1]], [high[0], low[1]]], np.float32)  # upper left, lower right
    expected = clipped(run.model.decode(run.run.params, run.run.statistics, corners))
    found = tiles(picture.figure, 15, 15)
    np.testing.assert_allclose([found[0, 0], found[-1, -1]], expected, atol=0.003)
    assert "range of its own codes" in picture.caption
    assert "prior" not in picture.caption
    flat = jnp.zeros_like(codes)
    monkeypatch.setattr(run, "encode", lambda count: np.asarray(flat))
    assert "carpet" not in drawn(run)


def test_the_plane_of_a_prior_is_in_its_units(shown):
    run = shown("vae", SMALL | {"importance_samples": 0, "latents": 2})
    picture = drawn(run)["carpet"]
    corners = np.array([[-2.5, 2.5], [2.5, -2.5]], np.float32)
    expected = clipped(run.model.decode(run.run.params, run.run.statistics, corners))
    found = tiles(picture.figure, 15, 15)
    np.testing.assert_allclose([found[0, 0], found[-1, -1]], expected, atol=0.003)
    assert "2.5 standard deviations of the prior" in picture.caption


@pytest.mark.parametrize(("name", "kl"), [("vae", True), ("autoencoder", False)])
def test_traversals_move_the_latents_that_carry_most_and_no_other(shown, name, kl):
    run = shown(name, SMALL | {"latents": 6})
    carried = {f"kl_dim/{i:02d}": value for i, value in enumerate([0.1, 3.0, 0.0, 2.0, 0.2, 1.0])} if kl else {}
    picture = drawn(run, carried)["traversals"]
    codes = run.encode(len(run.x))
    order = [1, 3, 5, 4] if kl else np.argsort(-codes.var(axis=0))[:4]
    assert labels_of(picture.figure) == [f"latent {latent + 1}" for latent in order]
    center, scale = (np.zeros(6), np.ones(6)) if kl else (codes.mean(axis=0), codes.std(axis=0))
    moved = np.tile(codes[0], (4, 9, 1))
    for row, latent in enumerate(order):
        moved[row, :, latent] = center[latent] + scale[latent] * np.linspace(-2.5, 2.5, 9)
    expected = run.model.decode(run.run.params, run.run.statistics, moved.reshape(-1, 6).astype(np.float32))
    np.testing.assert_allclose(tiles(picture.figure, 4, 9).reshape(-1, 8, 8), clipped(expected), atol=0.003)
    assert ("the prior" in picture.figure.axes[0].get_xlabel()) == kl
    assert ("variance of the codes" in picture.caption) != kl


def test_lines_and_arcs_between_two_codes():
    """Arcs against scipy's, for unit vectors; of other lengths, on the plane of both and between their lengths."""
    generator = np.random.default_rng(0)
    start, end = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in generator.normal(size=(2, 3, 5)))
    shares = np.arange(1, 8) / 8
    for index, path in enumerate(spherical(start, end, 7)):
        np.testing.assert_allclose(path, geometric_slerp(start[index], end[index], shares), atol=1e-12)
    np.testing.assert_allclose(linear(start, end, 7)[:, 3], (start + end) / 2)
    np.testing.assert_allclose(linear(start, end, 7)[:, 0], start + (end - start) / 8)
    np.testing.assert_allclose(spherical(2 * start, 3 * end, 7), _mixed(start, end, shares), atol=1e-12)
    for other in (start, -start):
        np.testing.assert_allclose(spherical(start, other, 7), linear(start, other, 7), atol=1e-12)


def _mixed(start, end, shares):
    """Arcs of unequal ends: the basis's own, so that only the weights matter, solved from scipy's unit arcs."""
    found = []
    for one, other in zip(start, end):
        weights = np.linalg.lstsq(np.stack([one, other], 1), geometric_slerp(one, other, shares).T, rcond=None)[0]
        found.append(weights.T @ np.stack([2 * one, 3 * other]))
    return np.stack(found)


def test_pairs_are_of_one_class_where_a_class_is_told():
    assert pairs_of(np.array([3, 1, 3, 1, 2]), 5, 3).tolist() == [[0, 2], [1, 3]]
    assert pairs_of(np.array([0, 1]), 2, 3).tolist() == [[0, 1]]
    assert pairs_of(np.zeros((9, 2)), 9, 3).tolist() == [[0, 3], [1, 4], [2, 5]]
    assert pairs_of(None, 4, 6).tolist() == [[0, 2], [1, 3]]


def test_classes_of_categorical_latents_are_counted_apart(shown):
    run = shown("discrete_vae", {"hidden": (8,), "latents": 3, "classes": 4, "likelihood": "gaussian"})
    picture = drawn(run)["codes"]
    codes = run.encode(len(run.x))
    counts = np.sort([np.sum(codes[:, i] == k) for i in range(3) for k in range(4)])[::-1]
    bars = picture.figure.axes[0].patches[0].get_data().values
    np.testing.assert_allclose(bars, 100 * counts[counts > 0] / counts.sum())
    assert "4 classes of 3 latents" in picture.caption


@pytest.mark.parametrize("more", [{"num_codes": 20}, {"quantizer": "finite_scalar", "levels": (4, 5), "num_codes": 7}])
def test_codes_of_a_codebook_are_counted_together_as_many_as_the_model_says(shown, more):
    """A finite scalar quantizer has as many as its levels make, whatever num_codes is by default."""
    run = shown("vq_vae", {"hidden": (4,), **more})
    picture = drawn(run)["codes"]
    codes = run.encode(len(run.x))
    counts = np.sort(np.bincount(codes.ravel(), minlength=20))[::-1]
    bars = picture.figure.axes[0].patches[0].get_data().values
    np.testing.assert_allclose(bars, 100 * counts[counts > 0] / counts.sum())
    assert "of 20 codes" in picture.figure.axes[0].texts[-1].get_text()


def test_each_codebook_has_a_picture_of_its_own_and_the_figure_is_their_mean(shown):
    run = shown("vq_vae2", {"hidden": (4,), "num_codes": 20})
    found = drawn(run)
    titles = [found[name].figure.axes[0].texts[-1].get_text() for name in ("codes_1", "codes_2")]
    codes = run.encode(len(run.x))
    figures = [np.exp(entropy(np.bincount(part.ravel()))) for part in (codes[:, :4], codes[:, 4:])]
    assert [title.split(" codes")[0] for title in titles] == [f"perplexity {figure:.1f} of 20" for figure in figures]
    assert found["codes_1"].title == "Use of the codes of the grid of 2×2"
    assert "codes" not in found


def test_what_each_code_of_a_shallow_quantizer_is_decoded_to_is_shown(shown):
    run = shown("shallow_vq", {"num_codes": 4})
    centroids = clipped(run.model.decode(run.run.params, run.run.statistics, np.arange(4)))
    found = tiles(drawn(run)["centroids"].figure, 2, 2).reshape(4, 8, 8)
    np.testing.assert_allclose(found, centroids, atol=0.003)
