"""A run's folder: what it records, who may go on in it, and how a model comes out of it again."""

import inspect
import json
import logging
import os
import re
import shutil
import warnings
import zlib
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.compilation_cache.compilation_cache import reset_cache

from jaxgen import compiled, evaluations, folder, models, report, runs
from jaxgen.data import load
from jaxgen.data.dataset import make_dataset
from jaxgen.errors import UserError
from jaxgen.model import Aux, Condition, Model
from jaxgen.training import Options, Result, checkpoint, evaluate
from jaxgen.training.options import num_steps

ARGUMENTS = {"hidden": (8,), "latents": 2, "importance_samples": 0, "likelihood": "gaussian"}
OPTIONS = Options(steps=6, batch_size=16, seeds=2, evaluate_every=2, learning_rate=0.05)


@pytest.mark.parametrize(("steps", "warned"), [(7, True), (12, True), (13, False)])
def test_a_run_that_ends_within_pre_training_says_so(steps, warned):
    arguments = {"pretrain": 4, "hidden": (8, 8)}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        runs._warn_of_pretraining(arguments, steps=steps)
        runs._warn_of_pretraining(arguments | {"pretrain": 0}, steps=1)
        runs._warn_of_pretraining({}, steps=1)
    said = [str(warning.message) for warning in caught]
    assert len(said) == warned
    assert all(f"all {steps} steps go into pre-training, which takes 12, --pretrain 4" in text for text in said)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Two replicas, evaluated three times."""
    path = tmp_path_factory.mktemp("runs") / "run"
    return path, runs.train("vae", ARGUMENTS, data="digits", workdir=path, options=OPTIONS, num_devices=2, quiet=True)


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]


def test_the_last_checkpoint_is_the_result_of_each_replica(trained):
    path, result = trained
    for index in range(2):
        run = runs.open_run(path, index=index, which="last")
        assert (run.step, run.which) == (6, "last")
        own = jax.tree.map(lambda a, index=index: a[index], (result.state.params, result.state.statistics))
        jax.tree.map(np.testing.assert_array_equal, (run.params, run.statistics), own)


def test_the_best_checkpoint_has_the_smallest_mean_objective(trained):
    path, _ = trained
    objective = {p["step"]: np.mean(p["loss"]) for p in lines(path) if p["kind"] == "evaluate"}
    assert list(objective) == [2, 4, 6]
    run = runs.open_run(path)
    assert (run.step, run.which) == (min(objective, key=objective.__getitem__), "best")


def test_where_the_best_checkpoint_is_damaged_the_newest_other_is_said_to_be_the_last(trained, tmp_path):
    shutil.copytree(trained[0], tmp_path / "run")
    best = runs.open_run(tmp_path / "run").step
    others = [int(path.name) for path in (tmp_path / "run" / "checkpoints").iterdir() if path.name != str(best)]
    (tmp_path / "run" / "checkpoints" / str(best) / "record" / "metadata").write_text("{")
    with pytest.warns(UserWarning, match=f"step {best} is damaged"):
        run = runs.open_run(tmp_path / "run")
    assert (run.step, run.which) == (max(others), "last")


def test_the_opened_model_gives_the_recorded_figures(trained):
    """The mean squared error of the reconstructions of all test images, by NumPy."""
    path, _ = trained
    x = load("digits").test["x"] / np.float32(16)
    recorded = [p for p in lines(path) if p["kind"] == "evaluate"][-1]["squared_error"]
    for index in range(2):
        run = runs.open_run(path, index=index, which="last")
        assert run.model.reconstruct is not None
        again = np.asarray(run.model.reconstruct(run.params, run.statistics, x))
        np.testing.assert_allclose(np.square(again - x).sum(axis=(1, 2, 3)).mean(), recorded[index], rtol=1e-5)


def test_what_is_recorded_builds_the_model_and_says_where_it_came_from(trained):
    config = runs.read_config(trained[0])
    full = inspect_defaults("vae") | {k: list(v) if isinstance(v, tuple) else v for k, v in ARGUMENTS.items()}
    assert config["arguments"] == full | {"shape": [8, 8, 1]}
    assert config["options"] == OPTIONS._asdict()
    example = {"x": {"shape": [8, 8, 1], "dtype": "uint8"}, "label": {"shape": [], "dtype": "int32"}}
    fingerprint = load("digits").fingerprint
    assert config["data"] == {"name": "digits", "fingerprint": fingerprint, "scale": 16.0, "example": example}
    assert config["versions"]["jax"] == jax.__version__
    assert config["model"] == "vae"


def inspect_defaults(name: str) -> dict:
    parameters = inspect.signature(getattr(models, name)).parameters.values()
    return {
        p.name: list(p.default) if isinstance(p.default, tuple) else p.default
        for p in parameters
        if p.default is not p.empty
    }


def test_overrides_change_evaluation_alone(trained):
    plain, more = (runs.open_run(trained[0], overrides=given) for given in (None, {"importance_samples": 3}))
    batch = {"x": np.zeros((2, 8, 8, 1), np.float32), "position": np.arange(2)}
    names = [
        set(jax.eval_shape(r.model.evaluate, r.params, r.statistics, batch, jax.random.key(0))) for r in (plain, more)
    ]
    assert names[1] - names[0] == {"log_px"}
    jax.tree.map(np.testing.assert_array_equal, plain.params, more.params)


@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        ({"arguments": {**ARGUMENTS, "latents": 3}}, "latents was 2 and is now 3"),
        ({"options": OPTIONS._replace(batch_size=32)}, "batch_size was 16 and is now 32"),
        ({"options": OPTIONS._replace(steps=7)}, "steps was 6 and is now 7"),
        ({"options": OPTIONS._replace(seeds=1)}, "seeds was 2 and is now 1"),
    ],
)
def test_other_arguments_are_refused_and_nothing_is_lost(trained, changes, difference):
    path = trained[0]
    before = {p: p.read_bytes() for p in path.rglob("*") if p.is_file()}
    given = {"arguments": ARGUMENTS, "options": OPTIONS, **changes}
    with pytest.raises(UserError, match=difference):
        runs.train("vae", given["arguments"], data="digits", workdir=path, options=given["options"], quiet=True)
    assert {p: p.read_bytes() for p in path.rglob("*") if p.is_file()} == before


def test_the_number_of_devices_may_change(trained):
    """It changes no result, so it is no other run: the finished one is given back."""
    path, result = trained
    again = runs.train("vae", ARGUMENTS, data="digits", workdir=path, options=OPTIONS, num_devices=1, quiet=True)
    assert again.start == 6
    jax.tree.map(np.testing.assert_array_equal, again.state, result.state)


def test_a_replica_or_checkpoint_that_is_not_there_is_named(trained, tmp_path):
    with pytest.raises(UserError, match="--replica 2 was asked for, but the run has 2, numbered 0 to 1"):
        runs.open_run(trained[0], index=2)
    config = runs.read_config(trained[0])
    with runs.claim(tmp_path, config):
        pass
    with pytest.raises(UserError, match="holds no checkpoint yet"):
        runs.open_run(tmp_path)
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(UserError, match="holds no checkpoint yet"):
        runs.open_run(tmp_path)


def test_names_of_models_and_arguments_are_suggested():
    with pytest.raises(UserError, match="did you mean 'vq_vae'"):
        runs.factory("vqvae")
    with pytest.raises(UserError, match=r"choose from .*gan"):
        runs.factory("zzz")
    with pytest.raises(UserError, match="vae takes no argument 'latent'; did you mean 'latents'"):
        runs.build("vae", {"shape": (4,), "latent": 3})
    with pytest.raises(UserError, match=r"vae: .*at least 1, got 0"):
        runs.build("vae", {"shape": (4,), "latents": 0})
    with pytest.raises(UserError, match="vae: "):
        runs.build("vae", {})


def test_a_mistake_in_a_factory_keeps_its_traceback(monkeypatch):
    """What the user can mend is a sentence; a TypeError of our own is none of that."""

    def broken(*, shape: tuple[int, ...]) -> Model:
        """Adds a number to a tuple."""
        return shape + 1  # pyright: ignore

    monkeypatch.setattr(models, "broken", broken, raising=False)
    monkeypatch.setattr(models, "__all__", [*models.__all__, "broken"])
    with pytest.raises(UserError, match=r"broken: missing a required (keyword-only )?argument: 'shape'"):
        runs.build("broken", {})
    with pytest.raises(TypeError, match="can only concatenate"):
        runs.build("broken", {"shape": [4]})


def test_levels_above_the_scale_are_not_dequantized(tmp_path):
    """They would all become the highest: refused before the folder is claimed, as are data without levels."""
    options = OPTIONS._replace(dequantize=True)
    given = {"workdir": tmp_path / "run", "options": options, "quiet": True}
    with pytest.raises(UserError, match="to the --data-scale 15, but those of digits run from 0 to 16; give the high"):
        runs.train("vae", ARGUMENTS, data="digits", data_scale=15.0, **given)
    with pytest.raises(UserError, match="needs integer levels, but ring holds float32"):
        runs.train("vae", ARGUMENTS, data="ring", **given)
    assert not (tmp_path / "run").exists()
    for scale in (16, 17):
        runs.check_levels(load("digits", scale=scale))


def test_arguments_are_completed_by_the_data_and_the_defaults():
    full = runs.complete("vae", {"latents": 3}, load("digits"))
    assert (full["shape"], full["latents"], full["hidden"]) == ((8, 8, 1), 3, (256, 256))
    assert runs.complete("vae", {"nonsense": 1}, load("digits"))["nonsense"] == 1


def test_json_is_replaced_whole(tmp_path, monkeypatch):
    """Where the new file cannot be put in place, the old one stands."""
    path = tmp_path / "config.json"
    folder.write_json(path, {"ü": [1]})
    assert path.read_text(encoding="utf-8").endswith("\n")

    def full(*_arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(UserError, match=r"cannot be written .No space left on device.; free space"):
        folder.write_json(path, {"new": 2})
    assert json.loads(path.read_text(encoding="utf-8")) == {"ü": [1]}


def test_a_cache_that_cannot_be_made_is_a_warning(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    before = jax.config.values["jax_compilation_cache_dir"]
    try:
        jax.config.update("jax_compilation_cache_dir", None)
        with pytest.warns(UserWarning, match="no compilation cache"):
            runs.compilation_cache()
        monkeypatch.delenv("XDG_CACHE_HOME")
        monkeypatch.setattr(Path, "home", lambda: tmp_path / "file")
        with pytest.warns(UserWarning, match="no compilation cache"):
            runs.compilation_cache()
        assert jax.config.values["jax_compilation_cache_dir"] is None
        jax.config.update("jax_compilation_cache_dir", "mine")
        runs.compilation_cache()
        assert jax.config.values["jax_compilation_cache_dir"] == "mine"
    finally:
        jax.config.update("jax_compilation_cache_dir", before)


def test_wide_convolutions_on_a_cpu_are_warned_of():
    with pytest.warns(UserWarning, match="--network resnet with 256 channels .*; --hidden 32 64 is quick"):
        runs._warn_of_width({"network": "resnet", "hidden": (64, 256)}, platform="cpu")
    runs._warn_of_width({"network": "resnet", "hidden": (64, 256)}, platform="gpu")
    runs._warn_of_width({"network": "conv", "hidden": (32, 64)}, platform="cpu")
    runs._warn_of_width({"network": "mlp", "hidden": (256, 256)}, platform="cpu")
    runs._warn_of_width({"hidden": ()}, platform="cpu")


def test_half_an_entry_of_the_cache_is_mended_at_the_next_start(tmp_path, monkeypatch):
    """As a kill leaves it: not a word of it, and the start after the next finds it whole."""
    names = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
    before = {name: jax.config.values[name] for name in names}
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def start() -> Path:
        jax.config.update("jax_compilation_cache_dir", None)
        reset_cache()
        runs.compilation_cache()
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
        jax.clear_caches()
        assert jax.jit(lambda x: 3 * x + 1)(2) == 7
        [entry] = [path for path in (tmp_path / "jaxgen" / "xla").iterdir() if "lambda" in path.name]
        return entry

    try:
        entry = start()
        packed = entry.read_bytes()
        entry.write_bytes(packed[:-9])
        jax.clear_caches()
        assert jax.jit(lambda x: 3 * x + 1)(2) == 7  # the same process, as while another one writes
        assert len(start().read_bytes()) > len(packed) - 9
        written = entry.stat().st_mtime_ns
        start()
        assert entry.stat().st_mtime_ns == written
    finally:
        for name, value in before.items():
            jax.config.update(name, value)
        reset_cache()


def test_entries_of_the_cache_are_looked_at_once_and_removed_only_where_they_are_known_to_be_damaged(tmp_path):
    whole = zlib.compress(bytes(range(256)) * 99)
    contents = {"whole": whole, "empty": b"", "cut": whole[:-1], "changed": whole[:40] + b"?" + whole[41:], "new": b"?"}
    for name, content in contents.items():
        (tmp_path / f"{name}-cache").write_bytes(content)
    (tmp_path / "not-an-entry").write_bytes(b"")
    compiled.remove_damaged(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"whole-cache", "new-cache", "not-an-entry", "checked"}
    for name, age in {"old": 60, "young": -1}.items():
        entry = tmp_path / f"{name}-cache"
        entry.write_bytes(whole[:-1])
        written = (tmp_path / "checked").stat().st_mtime - age
        os.utime(entry, (written, written))
    compiled.remove_damaged(tmp_path)
    assert (tmp_path / "old-cache").exists()
    assert not (tmp_path / "young-cache").exists()


def test_all_replicas_come_out_of_one_reading(trained, monkeypatch):
    """Evaluated on all four devices, with the figures that the trainer took on two, and what it does not take."""
    path, _ = trained
    read, made, evaluator = [], [], evaluate.Evaluator

    def build(model, arrays, prepare, devices, **options):
        made.append((len(devices.local), devices.replicas))
        return evaluator(model, arrays, prepare, devices, **options)

    original = checkpoint._read
    monkeypatch.setattr(checkpoint, "_read", lambda path: read.append(path.name) or original(path))
    monkeypatch.setattr(evaluate, "Evaluator", build)
    report.evaluate(path, which="last")
    assert (read, made) == (["6"], [(4, 2)])
    recorded = [p for p in lines(path) if p["kind"] == "evaluate"][-1]
    figures = json.loads((path / "evaluation.json").read_text())["figures"]
    assert min(figures.pop("mutual_information")) > 0
    assert figures.keys() == recorded.keys() - {"step", "kind", "time"}
    for name, value in figures.items():
        np.testing.assert_allclose(value, recorded[name], rtol=1e-5, atol=1e-6, err_msg=name)


def test_a_page_compiles_each_function_of_the_model_once(trained, caplog):
    """Beside them: the examples, a key, and what a constant or two cost."""
    with jax.log_compiles(True), caplog.at_level(logging.WARNING):
        report.write(trained[0], which="last", index=1)
    compiled = re.findall(r"Compiling jit\((\w+)\)", caplog.text)
    for name in ("encode", "decode", "reconstruct", "sample", "prepared"):
        assert compiled.count(name) == 1, name
    assert len(compiled) <= 12, compiled


def conditional_mean(*, shape: tuple[int, ...], condition_size: int | None) -> Model:
    """Mean = table · condition: what a model that is told a vector learns of it.

    Args:
      shape: Shape of one example.
      condition_size: Width of the vector.
    """

    def predict(params, condition):
        return jnp.tensordot(condition, params["mean"]["table"], 1)

    def init(key, batch):
        assert batch["label"].shape[1:] == (2,)
        return {"mean": {"table": jnp.zeros((*batch["condition"].shape[1:], *batch["x"].shape[1:]))}}, {}

    def loss(params, statistics, batch, key, train):
        return jnp.square(predict(params, batch["condition"]) - batch["x"]).mean(), Aux({}, statistics)

    def evaluate(params, statistics, batch, key):
        return {"loss": jnp.square(predict(params, batch["condition"]) - batch["x"]).mean(axis=-1)}

    def reconstruct(params, statistics, x, *, condition):
        return predict(params, condition)

    def sample(params, statistics, key, n, *, condition):
        assert condition.shape == (n, 3)
        return predict(params, condition)

    return Model(
        init=init,
        losses={"mean": loss},
        turns={"mean": 1},
        evaluate=evaluate,
        reconstruct=reconstruct,
        sample=sample,
        condition=Condition("condition", condition_size or 0, classes=False),
    )


@pytest.fixture
def conditioned(tmp_path, monkeypatch):
    """A run on points with vectors for labels and for conditions; its data."""
    generator = np.random.default_rng(0)
    condition = generator.normal(size=(70, 3)).astype(np.float32)
    arrays = {
        "x": condition[:, :2] + np.float32(1),
        "label": generator.normal(size=(70, 2)).astype(np.float16),
        "condition": condition,
    }
    train, test = ({name: a[part] for name, a in arrays.items()} for part in (slice(40), slice(40, 70)))
    made = make_dataset("told", train, test, scale=1.0)
    for module in (runs, evaluations):
        monkeypatch.setattr(module, "load", lambda *_arguments, **_keywords: made)
    monkeypatch.setattr(models, "conditional_mean", conditional_mean, raising=False)
    monkeypatch.setattr(models, "__all__", [*models.__all__, "conditional_mean"])
    options = Options(steps=20, batch_size=20, learning_rate=0.1)
    runs.train("conditional_mean", {}, data="told", workdir=tmp_path / "run", options=options, quiet=True)
    return tmp_path / "run", made


def test_whatever_comes_with_an_example_is_recorded_and_builds_the_model_again(conditioned):
    """Conditions and labels of any shape, which decide the shapes of parameters."""
    path, made = conditioned
    recorded = runs.read_config(path)
    assert recorded["arguments"] == {"shape": [2], "condition_size": 3}
    assert recorded["data"]["example"] == {
        "x": {"shape": [2], "dtype": "float32"},
        "label": {"shape": [2], "dtype": "float16"},
        "condition": {"shape": [3], "dtype": "float32"},
    }
    assert made.num_classes is None
    table = runs.open_run(path).params["mean"]["table"]
    assert table.shape == (3, 2)
    [paths] = [p for p in report.sample(path, num=50) if p.suffix == ".npz"]
    told = made.test["condition"][np.arange(50) % 30]
    np.testing.assert_allclose(np.load(paths)["x"], told @ table, rtol=1e-5, atol=1e-6)
    assert "Reconstructions" in report.write(path).read_text(encoding="utf-8")


def test_what_was_not_observed_is_for_models_that_allow_it(tmp_path, monkeypatch):
    x = np.random.default_rng(0).uniform(size=(40, 4)).astype(np.float32)
    x[::3, 1] = np.nan
    np.save(tmp_path / "holes.npy", x)
    monkeypatch.setattr(runs, "train_model", lambda *_arguments, **_keywords: Result(None, {}, 0.0))
    given = {"data": str(tmp_path / "holes.npy"), "options": OPTIONS, "quiet": True}
    runs.train("vae", ARGUMENTS, workdir=tmp_path / "vae", **given)
    with pytest.raises(UserError, match="are missing"):
        runs.train("gan", {}, workdir=tmp_path / "gan", **given)
    assert not (tmp_path / "gan").exists()


def test_of_several_processes_only_the_first_writes(tmp_path, monkeypatch):
    """Another has its part of the training and of the checkpoints, and nothing to write with."""
    given = []

    def train(model, dataset, options, *, writers, console, checkpoints, **_keywords):
        given.append((len(writers), console is not None, checkpoints))
        return Result(None, {}, 0.0)

    class Shared:
        def __init__(self, folder, **_keywords):
            self.folder = folder

        def close(self): ...

    monkeypatch.setattr(runs, "train_model", train)
    monkeypatch.setattr(runs, "Checkpoints", Shared)
    for process, path in enumerate((tmp_path / "first", tmp_path / "second")):
        monkeypatch.setattr(jax, "process_index", lambda process=process: process)
        runs.train("vae", ARGUMENTS, data="digits", workdir=path, options=OPTIONS)
        assert given[-1][2].folder == path / "checkpoints"
    assert given[0][:2] != (0, False) == given[1][:2]
    assert sorted(p.name for p in (tmp_path / "first").iterdir())[:3] == [".lock", "config.json", "metrics.jsonl"]
    assert not (tmp_path / "second").exists()


def test_the_schedule_of_a_game_counts_rounds():
    """An epoch of a game of two updates a round has half as many rounds."""
    assert num_steps(Options(epochs=2, batch_size=100), num_examples=1500, updates=2) == 15


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"beta": float("nan")}, "vae: --beta must be finite, got nan"),
        ({"free_nats": float("inf")}, "vae: --free-nats must be finite, got inf"),
        ({"kl_warmup": 3_000_000_000}, "vae: --kl-warmup must be below 2³¹, got 3000000000"),
        ({"hidden": (8, 2**40)}, "vae: --hidden must be below 2³¹"),
    ],
)
def test_a_number_that_no_array_can_hold_is_named(arguments, message):
    with pytest.raises(UserError, match=message):
        runs.build("vae", {"shape": (4,), **arguments})


def test_values_that_are_missing_are_counted_where_a_run_begins(tmp_path):
    x = np.zeros((20, 50), np.float32)
    x[3, 7] = np.nan
    np.save(tmp_path / "x.npy", x)
    assert runs._missing(load(str(tmp_path / "x.npy"))) == " (1 of 900 values missing)"
    assert runs._missing(load("digits")) == ""
    x[:18] = np.nan
    np.save(tmp_path / "x.npy", x)
    assert runs._missing(load(str(tmp_path / "x.npy"))) == " (900 of 900 values missing)"


def test_a_run_begun_with_an_argument_without_effect_goes_on(tmp_path, monkeypatch):
    """As one of an earlier version; a new one is refused."""
    arguments, options = {"hidden": (4,), "scale": "shared", "importance_samples": 0}, Options(steps=1, batch_size=16)
    again = {"data": "ring", "options": options, "quiet": True}
    arguments |= {"likelihood": "gaussian", "scale": "optimal", "fixed_scale": 0.5}
    with pytest.raises(UserError, match=r"--fixed-scale 0\.5 would change nothing"):
        runs.train("vae", arguments, workdir=tmp_path / "new", **again)
    with monkeypatch.context() as patch:
        patch.setattr(runs, "check_used", lambda *_: None)
        runs.train("vae", arguments, workdir=tmp_path / "old", **again)
    runs.train("vae", arguments, workdir=tmp_path / "old", **again)
    assert runs.open_run(tmp_path / "old").step == 1
