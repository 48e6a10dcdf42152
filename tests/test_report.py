"""The page of a run: what it shows of each kind of model, and what it tells of figures and runs."""

import json
import re
import shutil
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial import geometric_slerp
from scipy.stats import entropy

from jaxgen import evaluations, models, report, runs
from jaxgen.data import load
from jaxgen.data.dataset import make_dataset
from jaxgen.folder import describe
from jaxgen.latent_pictures import linear, pairs_of, spherical
from jaxgen.meanings import figure_rows, in_nats
from jaxgen.model import Aux, Model
from jaxgen.pictures import curves, over_time, pictures
from jaxgen.shown import Shown
from jaxgen.training import Options, Snapshots, snapshots
from jaxgen.training import evaluate as evaluation

OPTIONS = Options(steps=2, batch_size=16, log_every=1, evaluate_every=1)
SMALL = {"hidden": (8,), "likelihood": "gaussian"}


@pytest.fixture(scope="module")
def digits():
    return load("digits")


@pytest.fixture
def shown(digits):
    """A model as it was initialized, beside its data: `shown(name, arguments)`."""

    def build(name, arguments, *, dataset=digits):
        full = runs.complete(name, arguments, dataset)
        model, config = runs.build(name, full), describe(name, full, dataset, OPTIONS)
        batch = {key: jnp.asarray(a[:4]) for key, a in dataset.test.items()} | {"position": jnp.arange(4)}
        batch["x"] = batch["x"] / dataset.scale
        params, statistics = jax.jit(model.init)(jax.random.key(0), batch)
        return Shown(runs.Run(Path(name), config, model, params, statistics, 0, "last"), dataset)

    return build


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Three replicas of a model of bits, trained on grey values for two steps that change nothing."""
    path = tmp_path_factory.mktemp("runs") / "vae"
    options = OPTIONS._replace(seed=5, seeds=3, learning_rate=1e-9)
    arguments = {"hidden": (8,), "latents": 3, "importance_samples": 0}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*binary cross-entropy is not a likelihood")
        runs.train("vae", arguments, data="digits", workdir=path, options=options, num_devices=1, quiet=True)
    return path


def drawn(shown, figures=None):
    return {picture.name: picture for picture in pictures(shown, figures or {})}


def tiles(figure, rows, columns):
    """The first channel of each 8×8 image of a mosaic, [rows, columns, 8, 8]."""
    canvas = np.asarray(figure.axes[0].images[0].get_array())[..., 0] / 255
    return np.stack(
        [[canvas[68 * r : 68 * r + 64 : 8, 68 * c : 68 * c + 64 : 8] for c in range(columns)] for r in range(rows)]
    )


def clipped(images):
    return np.clip(np.asarray(images)[..., 0], 0, 1)


def labels_of(figure):
    return [label.get_text() for label in figure.axes[0].get_yticklabels()]


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


def test_every_scalar_has_a_picture_and_none_is_said_twice():
    point = {"step": 1, "kind": "evaluate", "time": 0.0, "loss": 1.0, "kl": 1.0, "rate": 1.0, "mine": 2.0}
    found = {picture.name: picture for picture in curves([point | {"kl_dim/00": 1.0, "mean/01": 0.0}], {}, nats=False)}
    assert list(found) == ["curves_loss", "curves_mine"]
    assert found["curves_loss"].figure.axes[0].get_ylabel() == "loss"
    assert found["curves_mine"].figure.axes[0].get_ylabel() == "mine"
    [whole] = curves([{"step": 1, "kind": "train", "loss": 1.0}], {}, nats=True)
    assert whole.figure.axes[0].get_ylabel() == "nats"


def test_the_equilibrium_of_a_game_is_marked_where_it_has_one():
    point = {"step": 1, "kind": "evaluate", "value": -3.0, "discriminator/accuracy_fake": 0.9, "generator/loss": 2.0}
    cases = (("non_saturating", -np.log(4), True), ("least_squares", -0.25, True), ("hinge", -2.0, False))
    for objective, level, settles in (*cases, ("wasserstein", 0.0, False), (None, None, False)):
        drawn = curves([point], {"objective": objective}, nats=False)
        found = {picture.name: picture.figure.axes[0] for picture in drawn}
        accuracy, value = (found[f"curves_{name}"] for name in ("accuracy_real", "value"))
        assert [line.get_ydata()[0] for line in accuracy.lines[1:]] == ([0.5] if settles else [])
        assert [line.get_ydata()[0] for line in value.lines[1:]] == ([] if level is None else [pytest.approx(level)])
        assert len(found["curves_loss"].lines) == 1


def test_figures_have_units_where_these_are_known_and_are_said_once():
    figures = {"kl": [1.0, 3.0], "rate": [1.0, 3.0], "nll": 2.0, "distortion": 2.0, "loss": 4.0, "kl_dim/00": 1.0}
    rows = {row.name: row for row in figure_rows(figures, {})}
    assert list(rows) == ["nll", "kl", "loss"]
    assert (rows["kl"].value, rows["kl"].spread) == (2.0, pytest.approx(2**0.5))
    assert rows["loss"].unit == "nats"
    assert [row.name for row in figure_rows({"loss": [4.0, 5.0], "nll": [4.0, 5.0]}, {})] == ["nll"]
    [alone] = figure_rows({"loss": 4.0}, {})
    assert alone.unit == ""
    assert not in_nats({"loss": 4.0}, {})
    # A game's losses are, too, where both are of probabilities and no slope is added.
    games = ({"objective": "minimax", "penalty": "none"}, {"objective": "minimax", "penalty": "r1"})
    assert [in_nats({"value": 0.0}, run) for run in (*games, {"objective": "hinge"})] == [True, False, False]
    assert [row.name for row in figure_rows({"rate": 1.0, "distortion": 2.0, "elbo": -3.0}, {})] == [
        "elbo",
        "rate",
        "distortion",
    ]
    value = {objective: figure_rows({"value": 0.0}, {"objective": objective})[0] for objective in ("minimax", "hinge")}
    assert (value["minimax"].unit, value["hinge"].unit) == ("nats", "")
    [packed] = figure_rows({"value": 0.0}, {"objective": "minimax", "packing": 4})
    assert packed.note.endswith(
        "−log 4 = −1.386 at the equilibrium, and where it has learned nothing; of packs of 4 neighbours in the split"
    )
    [modes] = figure_rows({"modes": 3.0}, {"num_modes": 8})
    assert modes.note.startswith("of 8,")


def test_a_game_s_figures_say_of_which_generator_they_are_and_where_half_is_the_best():
    names = ("discriminator/accuracy_real", "modes", "precision", "value")
    halves = {"minimax": True, "least_squares": True, "hinge": False, "wasserstein": False}
    for objective, half in halves.items():
        run = {"objective": objective, "average": 0.999, "num_modes": 8, "num_compared": 297}
        notes = {row.name: row.note for row in figure_rows(dict.fromkeys(names, 0.5), run)}
        assert ("½ at the equilibrium, and where it has learned nothing" in notes[names[0]]) == half
        assert [notes[name].rpartition("; ")[2] for name in names] == [
            *("against the last generator", "of the averaged generator", "of the averaged generator"),
            "against the last generator",
        ]
        assert notes["precision"].startswith("of 297 samples that lie as near to a test example as its third neighbour")
        plain = figure_rows(dict.fromkeys(names, 0.5), run | {"average": 0.0})
        assert not any("generator" in row.note for row in plain)


def test_the_page_tells_the_information_that_evaluate_would(trained):
    """Of all replicas, though the pictures are of one; what `evaluate` found is not sought again."""
    page = report.write(trained, index=1).read_text(encoding="utf-8")
    rows = {row.name: row for row in report.evaluate(trained)}
    (trained / "evaluation.json").unlink()
    assert f">{report.format_figure(rows['mutual_information'].value, rows['mutual_information'].spread)}" in page


def notes(path):
    page = report.write(path, which="last", index=1).read_text(encoding="utf-8")
    return page, re.findall(r"<p class='warning'>(.*?)</p>", page)


@pytest.mark.parametrize("index", [0, 2])
def test_the_same_noise_over_a_training_is_the_replica_s_own(trained, index):
    """Rows are draws of the noise, columns evaluations; the last column is of the checkpoint that is there."""
    shown = Shown(runs.open_run(trained, index=index, which="last"), load("digits"))
    [picture] = over_time(shown, index)
    frames = tiles(picture.figure, 10, 2)
    key = jax.random.key(snapshots._KEY)
    last = jax.jit(shown.model.sample, static_argnums=3)(shown.run.params, shown.run.statistics, key, 10)
    np.testing.assert_allclose(frames[:, 1], clipped(last), atol=0.003)
    assert [label.get_text() for label in picture.figure.axes[0].get_xticklabels()] == ["1", "2"]


def test_a_conditional_model_s_noise_over_a_training_has_a_row_for_each_class(shown, tmp_path):
    run = shown("conditional_vae", SMALL | {"latents": 3})
    assert list(over_time(run, 0)) == []
    run.run = run.run._replace(path=tmp_path)
    Snapshots(tmp_path / "snapshots").save(5, np.zeros((10, 8, 8, 1)))
    [picture] = over_time(run, 0)
    assert labels_of(picture.figure) == [str(digit) for digit in range(10)]
    assert picture.section == "Training"
    assert "A row for each class asked for." in picture.caption


def test_a_page_says_what_a_reader_must_know_first(trained, tmp_path):
    """Grey values for bits, whose figures are none of nats, and which replica is shown."""
    page, [grey] = notes(trained)
    assert grey.startswith("The data are grey values")
    assert "Bernoulli" in grey
    assert "<dt>seeds</dt><dd>5 to 7</dd>" in page
    assert "<dt>steps</dt><dd>2, batch 16</dd>" in page
    captions = dict(re.findall(r"<figcaption><h3>(.*?)</h3><p>(.*?)</p>", page))
    assert captions["Reconstructions"].endswith(" Replica 1.")
    assert captions["KL by latent"].endswith(" Replica 1.")
    assert "Replica" not in captions["Squared errors"]


def test_the_bars_of_a_replica_are_its_own(trained, monkeypatch):
    given = []
    original = report.pictures
    monkeypatch.setattr(report, "pictures", lambda shown, figures: given.append(figures) or original(shown, figures))
    notes(trained)
    lines = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    last = [point for point in lines if point["kind"] == "evaluate"][-1]
    assert len(set(last["kl_dim/01"])) == 3
    assert given[0]["kl_dim/01"] == last["kl_dim/01"][1]


def test_an_unfinished_run_and_one_that_learned_nothing_say_so(trained, tmp_path):
    path = tmp_path / "run"
    shutil.copytree(trained, path)
    config = json.loads((path / "config.json").read_text())
    config["options"]["steps"] = 2000
    (path / "config.json").write_text(json.dumps(config))
    with (path / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"step": 2, "kind": "evaluate", "time": 0.0, "active_units": [0, 0, 0]}) + "\n")
    page, (first, _, inactive) = notes(path)
    assert first == "This run is not finished: step 2 of 2,000. The same command goes on."
    assert inactive.startswith("No latent is active")
    assert "2 of 2,000, batch 16" in page


def test_bits_points_and_tables_are_told_what_concerns_them(shown, digits):
    done = [{"step": 2, "kind": "train"}]
    bits = {name: (a > 8).astype(np.uint8) if name == "x" else a for name, a in digits.test.items()}
    assert report._notes(shown("vae", {"hidden": (8,)}, dataset=digits._replace(test=bits, scale=1.0)), done, {}) == []
    assert report._notes(shown("vae", SMALL), done, {"active_units": [1.0, 0.0]}) == []
    x = np.random.default_rng(0).normal(size=(60, 5)).astype(np.float32)
    table = shown("vae", SMALL | {"latents": 3}, dataset=make_dataset("table", {"x": x}, {"x": x[:20]}, scale=1.0))
    [note] = report._notes(table, done, {})
    assert "of shape 5 they are neither images nor points" in note
    assert dict(report._facts(table, done))["data"] == "60 train, 20 test, 5 numbers each"
    assert dict(report._facts(table, done))["seed"] == "0"
    assert set(drawn(table)) == {"latents"}


def recipe(config, **changes):
    return report.recipe(config | changes, Path("runs/mine"))


def test_a_command_has_a_flag_a_line_and_a_script_becomes_a_call(shown):
    config = shown("vae", SMALL | {"latents": 3}).run.config
    assert recipe(config, command="jaxgen train vae --latents 3") == "jaxgen train vae --latents 3"
    long = "jaxgen train vae --latents 3 --hidden 8 8 --likelihood gaussian --workdir runs/a/long/name"
    lines = recipe(config, command=long).split(" \\\n")
    assert [line.strip() for line in lines] == ["jaxgen train vae", *re.findall(r"--.*?(?= --|$)", long)]
    call = recipe(config, command="mine.py")
    assert call.startswith("# by mine.py\n")
    given = {}
    namespace = {"train": lambda *args, **kwargs: given.update(args=args, **kwargs)}
    exec(re.sub(r"from jaxgen.runs import train\n", "", call), namespace)
    assert given.pop("args") == ("vae", SMALL | {"latents": 3})
    assert given == {"data": "digits", "workdir": "runs/mine", "options": OPTIONS, "data_scale": 16.0}


def no_prior(*, shape: tuple[int, ...]) -> Model:
    """A user's own model with a squared error and no claim of a likelihood.

    Args:
      shape: Shape of one example.
    """

    def loss(params, statistics, batch, key, train):
        return jnp.square(batch["x"] - params["mean"]["x"]).mean(), Aux({}, statistics)

    return Model(
        init=lambda key, batch: ({"mean": {"x": jnp.zeros(shape)}}, {}),
        losses={"mean": loss},
        turns={"mean": 1},
        evaluate=lambda params, statistics, batch, key: {"loss": jnp.square(batch["x"]).mean(axis=(1, 2, 3))},
        encode=lambda params, statistics, x: 0.5 + 0.5 * jnp.asarray(x)[:, 3, 3:5, 0],
        decode=lambda params, statistics, z: jnp.broadcast_to(z[:, :1, None, None], (len(z), *shape)),
        latents=2,
    )


def test_a_run_that_was_started_as_a_module_is_the_same_command(digits, monkeypatch):
    for program, expected in (("/site/jaxgen/__main__.py", "jaxgen"), ("/bin/jaxgen", "jaxgen"), ("a/b.py", "b.py")):
        monkeypatch.setattr("sys.argv", [program, "train", "vae", "--workdir", "my run"])
        recorded = describe("vae", {}, digits, OPTIONS)["command"]
        assert recorded == f"{expected} train vae --workdir 'my run'"


def test_a_model_of_ones_own_is_told_neither_nats_nor_a_prior(monkeypatch, tmp_path):
    monkeypatch.setattr(models, "no_prior", no_prior, raising=False)
    monkeypatch.setattr(models, "__all__", [*models.__all__, "no_prior"])
    path = tmp_path / "run"
    runs.train("no_prior", {}, data="digits", workdir=path, options=OPTIONS, num_devices=1, quiet=True)
    page = report.write(path).read_text(encoding="utf-8")
    assert "nats" not in page
    assert "prior" not in re.sub("no_prior", "", page)
    assert "over the range of its own codes" in page


def test_codes_tell_nothing_of_the_example_where_all_are_the_same_and_all_where_none_meet(shown, trained, digits):
    """I(x; z) between 0 and the log of the number of examples, of each replica its own."""
    run = runs.open_run(trained, index=None, which="last")
    scales = jnp.array([0.0, 1.0, 1e6])  # of the encoder's weights, for each of three replicas
    weights = jax.tree.map(lambda a: a * scales.reshape(-1, *[1] * (a.ndim - 1)), run.params["vae"]["encoder"])
    run = run._replace(params={"vae": run.params["vae"] | {"encoder": weights}})
    nothing, some, everything = evaluations.information(run, digits)["mutual_information"]
    np.testing.assert_allclose(nothing, 0, atol=1e-5)
    assert 0.01 < some < np.log(297) - 0.1
    np.testing.assert_allclose(everything, np.log(297), rtol=1e-4)
    assert evaluations.information(shown("vae", SMALL).run, digits)["mutual_information"] > 0
    assert evaluations.information(shown("conditional_vae", SMALL).run, digits) == {}
