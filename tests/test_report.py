"""The page of a run: what it tells of figures and runs."""

import json
import re
import shutil
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mosaics import OPTIONS, clipped, drawn, labels_of, tiles

from jaxgen import evaluations, models, report, runs
from jaxgen.data import load
from jaxgen.data.dataset import make_dataset
from jaxgen.folder import describe
from jaxgen.meanings import figure_rows, in_nats
from jaxgen.model import Aux, Model
from jaxgen.pictures import curves, over_time
from jaxgen.shown import Shown
from jaxgen.training import Snapshots, snapshots

SMALL = {"hidden": (8,), "likelihood": "gaussian"}


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
    assert (alone.unit, alone.note) == ("", "the objective")
    notes = {row.name: row.note for row in figure_rows({"loss": 4.0, "nll": 3.0}, {"chosen_by": "nll"})}
    assert notes["nll"] == "−log p(x | code): the distortion; the best checkpoint is that of the least"
    assert notes["loss"] == "the objective"
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
