"""Figures, samples, pages and codes of a run, whole or damaged."""

import json
import re
import shlex
import shutil
import signal
import warnings
from contextlib import nullcontext
from pathlib import Path

import jax
import numpy as np
import pytest

from cli.commands import TRAIN, refused, sentence
from jaxgen import runs
from jaxgen.cli import main
from jaxgen.errors import UserError
from jaxgen.training import Options


def test_one_folder_is_for_one_process(capsys, tmp_path, finished):
    config = runs.read_config(finished)
    with runs.claim(tmp_path, config):
        with pytest.raises(UserError, match="another process is training"), runs.claim(tmp_path, config):
            pass
        assert runs.read_config(tmp_path) == config
    with runs.claim(tmp_path, config):
        pass


def test_a_run_that_another_process_trains_can_be_looked_at(capsys, tmp_path, finished):
    """The newest whole checkpoint is taken; before the first there is one sentence."""
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    (folder / "checkpoints" / "5.orbax-checkpoint-tmp" / "state.orbax-checkpoint-tmp").mkdir(parents=True)
    with runs.claim(folder, runs.read_config(folder)):
        for command in ("evaluate", "sample", "report"):
            assert main([command, str(folder), "--checkpoint", "last"]) == 0
        assert json.loads((folder / "evaluation.json").read_text())["step"] == 4
        shutil.rmtree(folder / "checkpoints")
        for command in ("evaluate", "sample", "report"):
            assert "no checkpoint yet; train it, or wait for its first" in sentence(capsys, command, str(folder))


def test_a_finished_run_says_so_and_changes_nothing(capsys, finished):
    kept = {path: path.read_bytes() for path in [finished / "config.json", finished / "metrics.jsonl"]}
    capsys.readouterr()
    assert main([*TRAIN, "--workdir", str(finished)]) == 0
    out, _ = capsys.readouterr()
    assert "already finished at step 4" in out
    assert {path: path.read_bytes() for path in kept} == kept


def test_a_damaged_line_of_the_metrics_is_passed_over(capsys, tmp_path, finished):
    shutil.copytree(finished, tmp_path / "run")
    path = tmp_path / "run" / "metrics.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + b'{"step": 2, "ki\xff\n' + b"".join(lines[1:])[:-9])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert main(["report", str(tmp_path / "run")]) == 0
    assert (tmp_path / "run" / "report.html").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda config: 5, "is damaged: it has no 'model'"),
        (lambda config: None, "is damaged"),
        (lambda config: ["model", "arguments", "data", "options"], "is damaged"),
        (lambda config: {**config, "options": None}, "is damaged: 'options' is None"),
        (lambda config: {**config, "arguments": [1]}, r"is damaged: 'arguments' is \[1\]"),
        (lambda config: {**config, "model": "vea"}, "did you mean 'vae'"),
        (lambda config: {**config, "arguments": {"latent": 2}}, "did you mean 'latents'"),
        (lambda config: {("optoins" if k == "options" else k): v for k, v in config.items()}, "has no 'options'"),
        (lambda config: {k: v for k, v in config.items() if k != "data_dir"}, "has no 'data_dir'"),
        (lambda config: {k: v for k, v in config.items() if k != "command"}, "has no 'command'"),
        (lambda config: {**config, "options": {**config["options"], "binarize": "nonsense"}}, "'options.binarize'"),
        (lambda config: {**config, "options": {**config["options"], "seeds": True}}, "'options.seeds' is True"),
        (lambda config: {**config, "data": {**config["data"], "scale": 0}}, "'data.scale' is 0"),
        (lambda config: {**config, "data": {**config["data"], "example": {"x": {"shape": [2]}}}}, "'data.example'"),
    ],
)
def test_a_damaged_record_is_one_sentence(capsys, tmp_path, finished, damage, message):
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps(damage(config)), encoding="utf-8")
    for command in ("evaluate", "sample", "report"):
        assert re.search(message, sentence(capsys, command, str(folder)))
    refused(capsys, *TRAIN, "--workdir", str(folder))


def test_a_page_without_a_log_shows_no_curves(tmp_path, finished):
    for number, damage in enumerate((lambda log: None, Path.mkdir)):
        folder = tmp_path / str(number)
        shutil.copytree(finished, folder, ignore=shutil.ignore_patterns("metrics.jsonl", "report.html"))
        damage(folder / "metrics.jsonl")
        with pytest.warns(UserWarning, match=r"metrics.jsonl cannot be read .*; the page shows no curves"):
            assert main(["report", str(folder)]) == 0
        page = (folder / "report.html").read_text(encoding="utf-8")
        assert "Reconstructions" in page
        assert "not finished" not in page


def test_what_cannot_be_written_whole_leaves_the_old_file(capsys, monkeypatch, tmp_path, finished):
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    for command in ("evaluate", "sample", "report", "encode"):
        assert main([command, str(folder)]) == 0
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file() and "checkpoints" not in p.parts}

    def full(*_arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    for command in ("evaluate", "sample", "report", "encode"):
        assert "cannot be written (No space left on device)" in sentence(capsys, command, str(folder))
    assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file() and "checkpoints" not in p.parts} == before


def test_figures_samples_and_page_of_a_run(capsys, finished):
    folder = str(finished)
    assert main(["evaluate", folder, "--checkpoint", "last"]) == 0
    printed = capsys.readouterr().out
    recorded = json.loads((finished / "evaluation.json").read_text())
    assert recorded["step"] == 4
    assert printed.startswith("last checkpoint, step 4, test split of 297 examples\n")
    assert "\nloss" not in printed  # minus the ELBO
    assert "log_px" not in recorded["figures"]
    last = [json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()][-1]
    np.testing.assert_allclose(recorded["figures"]["elbo"], last["elbo"], rtol=1e-4)
    assert re.search(r"^elbo +−\d", printed, re.MULTILINE)
    assert main(["evaluate", folder, "--importance-samples", "4"]) == 0
    assert "log_px" in json.loads((finished / "evaluation.json").read_text())["figures"]
    assert main(["sample", folder, "--num", "5", "--seed", "3"]) == 0
    first = np.load(finished / "samples.npz")["x"]
    assert first.shape == (5, 8, 8, 1)
    other = finished / "other" / "mine.npz"
    assert main(["sample", folder, "--num", "5", "--seed", "3", "--out", str(other)]) == 0
    np.testing.assert_array_equal(np.load(other)["x"], first)
    assert (finished / "report.html").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sample", "RUN", "--num", "0"], "--num must be at least 1, got 0"),
        (["sample", "RUN", "--replica", "1"], "--replica 1 was asked for, but the run has one replica, number 0"),
        (["sample", "RUN", "--condition", "3", "-1.5"], "--condition 3 -1.5 was given, but vae is told nothing; leave"),
        (["report", "RUN", "--replica", "-1"], "--replica -1"),
        (["evaluate", "RUN", "--importance-samples", "-1"], "--importance-samples must be at least 0, got -1; 0"),
        (["list", "more"], "takes no arguments"),
    ],
)
def test_mistakes_about_a_run_are_one_sentence(capsys, finished, arguments, message):
    assert message in sentence(capsys, *[str(finished) if a == "RUN" else a for a in arguments])


def test_a_seed_of_samples_is_refused_likewise(capsys, finished):
    assert "--seed is 4294967296, but" in sentence(capsys, "sample", str(finished), "--seed", "4294967296")


def test_the_command_line_gives_what_python_gives(tmp_path, finished):
    """Flags become the factory's arguments and the options, and the recorded ones build the model again."""
    options = Options(steps=4, batch_size=16, binarize="threshold")
    arguments = {"hidden": (8,), "latents": 2, "importance_samples": 0}
    result = runs.train("vae", arguments, data="digits", workdir=tmp_path, options=options, num_devices=1, quiet=True)
    run = runs.open_run(finished, which="last")
    jax.tree.map(np.testing.assert_array_equal, run.params, result.state.params)
    assert run.config["options"] == options._asdict()
    assert run.config["arguments"]["hidden"] == [8]
    assert run.config["data"]["fingerprint"] == runs.read_config(tmp_path)["data"]["fingerprint"]


def test_codes_go_to_a_file_and_back_and_what_is_missing_is_filled_in(tmp_path, capsys):
    from jaxgen import apply

    run = str(tmp_path / "run")
    flags = ["--hidden", "8", "--likelihood", "gaussian", "--importance-samples", "0"]
    assert main(["train", "vae", "--steps", "2", "--batch-size", "48", *flags, "--workdir", run]) == 0
    assert main(["encode", run]) == 0
    assert main(["decode", run, f"{run}/codes.npz", "--out", str(tmp_path / "back.npz")]) == 0
    mask = np.arange(297 * 64).reshape(297, 8, 8) % 2 == 0
    np.save(tmp_path / "mask.npy", mask)
    assert main(["impute", run, "--mask", str(tmp_path / "mask.npy"), "--num", "1", "--draws", "3", "--seed", "4"]) == 0
    assert [Path(line).name for line in capsys.readouterr().out.splitlines()[-3:]] == [
        "codes.npz",
        "back.npz",
        "imputed.npz",
    ]
    with (
        np.load(f"{run}/imputed.npz") as ours,
        np.load(
            apply.impute(Path(run), mask=tmp_path / "mask.npy", num=1, draws=3, seed=4, out=tmp_path / "again.npz")
        ) as again,
    ):
        np.testing.assert_array_equal(ours["x"], again["x"])
    assert main(["impute", run]) == 2
    assert "nothing is missing in digits; give --mask" in capsys.readouterr().err


class Asked(list):
    """Signals that the loop sees once it has looked some times."""

    def __init__(self, after: int):
        super().__init__([signal.SIGTERM])
        self.left = after

    def __bool__(self) -> bool:
        self.left -= 1
        return self.left < 0


@pytest.mark.parametrize("steps", [0, 1])
def test_an_interrupted_run_has_its_page(capsys, monkeypatch, tmp_path, steps):
    """Before anything was evaluated, even before anything was logged; the command says how to get it."""
    monkeypatch.setattr("jaxgen.training.loop.collect_signals", lambda tell: nullcontext(Asked(steps)))
    folder = str(tmp_path / "a run")
    assert main([*TRAIN, "--evaluate-every", "4", "--log-every", "1", "--workdir", folder]) == 143
    [said] = re.findall(r"; '(jaxgen report .*)' draws the page so far\n", capsys.readouterr().err)
    assert main(shlex.split(said)[1:]) == 0
    page = (tmp_path / "a run" / "report.html").read_text(encoding="utf-8")
    assert f"not finished: step {steps} of 4" in page
    assert ("On training batches." in page) == (steps > 0)
    assert "Reconstructions" in page
