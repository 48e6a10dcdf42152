"""One sentence for each mistake, before anything is trained or written."""

import re
import subprocess
import sys

import jax
import numpy as np
import pytest

from cli.commands import SMALL, TRAIN, refused, sentence
from jaxgen import cli, runs
from jaxgen.cli import main


def test_an_unknown_command_model_or_data_set_suggests_the_nearest(capsys, tmp_path):
    assert "did you mean 'train'?" in sentence(capsys, "trian")
    assert "did you mean 'vq_vae'?" in sentence(capsys, "train", "vq_va")
    assert "one of" in sentence(capsys, "train")
    assert "did you mean 'jaxgen train vae'?" in sentence(capsys, "vae")
    assert "write 'jaxgen train vae …'" in sentence(capsys, "train", "--data", "digits", "vae")
    assert "digits" in sentence(capsys, "train", "vae", "--data", "digit", "--workdir", str(tmp_path / "new"))
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--dequantize"], "--dequantize and --binarize threshold exclude each other"),
        (["--steps", "0"], "--steps must be at least 1, got 0"),
        (["--steps", "3000000000"], "--steps must be below 2³¹, got 3000000000"),
        (["--epochs", "1000000000"], "the steps of --epochs must be below 2³¹, got 11000000000"),
        (["--seeds", "3000000000"], "--seeds must be below 2³¹, got 3000000000"),
        (["--steps", "-3"], "--steps must be at least 1, got -3"),
        (["--epochs", "0"], "--epochs must be at least 1, got 0"),
        (["--epochs", "-1"], "--epochs must be at least 1, got -1"),
        (["--batch-size", "1501"], "larger than the 1500 training examples; give --batch-size 1500 or less"),
        (["--batch-size", "10", "--devices", "4"], "10 does not divide by the 4 devices; take a multiple of 4"),
        (["--batch-size", "0"], "--batch-size must be at least 1, got 0"),
        (["--devices", "99"], "--devices 99 was asked for, but there are 4 here; give 1 to 4"),
        (["--devices", "0"], "--devices 0 was asked for, but there are 4 here; give 1 to 4"),
        (["--seed", "-1"], "seed must not be negative, got -1"),
        (["--seeds", "0"], "--seeds must be at least 1, got 0"),
        (["--learning-rate", "0"], "--learning-rate must be positive and finite, got 0.0; try 0.001"),
        (["--learning-rate", "-1"], "--learning-rate must be positive and finite, got -1.0; try 0.001"),
        (["--learning-rate", "nan"], "--learning-rate must be positive and finite, got nan; try 0.001"),
        (["--latents", "0"], "vae: latents must be at least 1, got 0"),
        (["--latents", "-1"], "latents must be at least 1, got -1"),
        (["--hidden", "0"], r"hidden must hold widths of at least 1, got \(0,\)"),
        (["--importance-samples", "-1"], "importance_samples not negative, got 1 and -1"),
        (["--likelihood", "gaussian", "--fixed-scale", "-1"], "fixed_scale must be positive, got -1.0"),
        (
            ["--fixed-scale", "0.3"],
            "--fixed-scale 0.3 would change nothing here: it takes --likelihood gaussian",
        ),
        (["--data", "ring"], r"values run from -1.0\d+ to 1.0\d+, outside \[0, 1\]"),
        (["--data", "ring", "--network", "conv"], "images"),
    ],
)
def test_a_value_out_of_range_leaves_the_folder_to_the_corrected_command(capsys, tmp_path, arguments, message):
    folder = tmp_path / "run"
    assert re.search(message, sentence(capsys, *TRAIN[:2], *TRAIN[-2:], *arguments, "--workdir", str(folder)))
    assert not folder.exists()


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.arange(40, dtype=np.float32).reshape(10, 4) * 6.5, r"run from 0 to 253.5, outside \[0, 1\]"),
        (np.full((10, 4), np.nan, np.float32), "missing"),
        (np.full((10, 4), np.inf, np.float32), "infinite"),
        (np.zeros((0, 4), np.float32), "0 examples"),
        (np.zeros((10, 0), np.float32), "empty"),
        (np.array([["a", "b"]] * 10), "not real numbers"),
    ],
)
def test_data_that_no_likelihood_allows_stop_before_training(capsys, tmp_path, x, message):
    np.save(tmp_path / "mine.npy", x)
    said = sentence(
        capsys,
        "train",
        "vae",
        "--data",
        str(tmp_path / "mine.npy"),
        "--workdir",
        str(tmp_path / "run"),
        "--batch-size",
        "2",
        "--devices",
        "1",
    )
    assert re.search(message, said)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("command", ["evaluate", "sample", "report"])
def test_a_folder_that_is_no_run_is_said_to_be_none(capsys, tmp_path, command):
    (tmp_path / "notes.txt").write_text("mine")
    assert "is not a run folder" in sentence(capsys, command, str(tmp_path))
    assert "is not a run folder" in sentence(capsys, command, str(tmp_path / "nowhere"))
    (tmp_path / "config.json").write_text("{}")
    assert "is not a run folder" in sentence(capsys, command, str(tmp_path))
    (tmp_path / "config.json").write_text("{")
    assert "cannot be read" in sentence(capsys, command, str(tmp_path))
    (tmp_path / "config.json").write_text("[1]")
    sentence(capsys, command, str(tmp_path))
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_folder_of_other_files_is_not_trained_in(capsys, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    assert "not empty and not a run folder" in sentence(capsys, *TRAIN, "--workdir", str(tmp_path))
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != ".lock") == ["notes.txt"]


def test_another_model_or_other_arguments_are_refused_with_the_difference(capsys, finished):
    folder = str(finished)
    before = (finished / "config.json").read_bytes()
    said = sentence(capsys, "train", "gan", "--steps", "4", "--workdir", folder)
    assert said == f"jaxgen: {folder} holds a run of vae, not of gan; give a new --workdir\n"
    said = sentence(capsys, *TRAIN, "--latents", "3", "--seed", "1", "--workdir", folder)
    assert "latents was 2 and is now 3" in said
    assert "seed was 0 and is now 1" in said
    assert "hidden" not in said
    assert "new run" not in said
    said = sentence(capsys, *TRAIN, "--steps", "5", "--workdir", folder)
    assert "steps was 4 and is now 5; a run keeps its length, so that a longer one is a new run" in said
    said = sentence(
        capsys, *TRAIN, "--data", "ring", "--likelihood", "gaussian", "--binarize", "none", "--workdir", folder
    )
    assert "name was 'digits' and is now 'ring'" in said
    assert "fingerprint" not in said
    assert (finished / "config.json").read_bytes() == before


@pytest.mark.parametrize("below", ["", "deeper"])
def test_a_folder_that_cannot_be_made_is_one_sentence(capsys, tmp_path, below):
    (tmp_path / "file").write_text("in the way")
    said = sentence(capsys, *TRAIN, "--workdir", str(tmp_path / "file" / below))
    assert "cannot be written" in said
    assert "--workdir" in said


def test_a_read_only_folder_is_one_sentence(capsys, monkeypatch, tmp_path):
    def refuse(*_arguments, **_keywords):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("pathlib.Path.mkdir", refuse)
    said = sentence(capsys, *TRAIN, "--workdir", str(tmp_path / "run"))
    assert "cannot be written (Read-only file system); give another --workdir" in said


@pytest.mark.parametrize(
    ("every", "message"),
    [
        (
            "20",
            r"'vae' is not finite at step [2-4] \(batch [2-4] of epoch 1\).* smaller --learning-rate than 1e\+30",
        ),
        ("1", r"the evaluated '\w+' is (nan|inf|-inf) at step 1;"),
    ],
)
def test_not_finite_is_exit_code_2(capsys, tmp_path, every, message):
    run = [*TRAIN, "--learning-rate", "1e30", "--steps", "20", "--evaluate-every", every]
    begin, said = refused(capsys, *run, "--workdir", str(tmp_path / "run")).splitlines()
    assert begin == f"vae on digits in {tmp_path / 'run'}: 20 steps"
    assert re.match(f"jaxgen: .*{message}", said)


@pytest.mark.parametrize("data", ["digits", "ring"])
@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--seed", "99999999999999999999"], "--seed is 99999999999999999999, but seeds go up to 4294967295"),
        (["--seed", "4294967296"], "--seed is 4294967296, but"),
        (["--seed", "4294967295", "--seeds", "2"], "--seeds 2 reach 4294967296 from --seed 4294967295, but"),
    ],
)
def test_a_seed_that_would_be_another_leaves_the_folder_to_the_corrected_command(
    capsys, tmp_path, data, flags, message
):
    likelihood = ["--likelihood", "gaussian"] if data == "ring" else []
    given = ["train", "vae", *SMALL, "--steps", "2", "--data", data, *likelihood, *flags]
    assert message in sentence(capsys, *given, "--workdir", str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_a_run_that_kept_nothing_leaves_the_folder_to_the_corrected_command(capsys, tmp_path):
    run = [*TRAIN, "--evaluate-every", "4", "--log-every", "4", "--workdir", str(tmp_path / "run")]
    said = refused(capsys, *run, "--learning-rate", "1e30")
    assert "nothing was saved yet, try a smaller --learning-rate than 1e+30" in said
    assert main([*run, "--learning-rate", "1e-3"]) == 0
    assert runs.read_config(tmp_path / "run")["options"]["learning_rate"] == 1e-3
    assert runs.open_run(tmp_path / "run").step == 4


def test_a_changed_file_of_data_is_noticed(capsys, tmp_path):
    x = np.random.default_rng(0).uniform(size=(40, 6)).round().astype(np.float32)
    np.save(tmp_path / "mine.npy", x)
    run = [*TRAIN, "--binarize", "none", "--data", str(tmp_path / "mine.npy"), "--workdir", str(tmp_path / "run")]
    assert main(run) == 0
    np.save(tmp_path / "mine.npy", 1 - x)
    assert "fingerprint was" in sentence(capsys, *run)
    assert "the data" in sentence(capsys, "evaluate", str(tmp_path / "run"))


def test_a_warning_is_one_line_that_names_the_flags_and_comes_after_mistakes(tmp_path):
    command = [sys.executable, "-m", "jaxgen.cli", "train", "vae", *SMALL, "--workdir", str(tmp_path / "run")]
    done = subprocess.run([*command, "--epochs", "0"], capture_output=True, text=True)
    assert done.stderr == "jaxgen: --epochs must be at least 1, got 0\n"
    done = subprocess.run([*command, "--steps", "1"], capture_output=True, text=True)
    [warned] = [line for line in done.stderr.splitlines() if re.search(r"\bwarn", line, re.IGNORECASE)]
    assert re.match("jaxgen: warning: digits: .*--binarize dynamic, or --likelihood continuous_bernoulli", warned)


@pytest.mark.parametrize("more", [["--hidden", "1000000000"], ["--seeds", "1000000000"]])
def test_a_model_larger_than_the_memory_is_refused_before_it_is_made(capsys, tmp_path, more):
    arguments = [*TRAIN, *more, "--workdir", str(tmp_path / "run")]
    last = refused(capsys, *arguments).splitlines()[-1]
    assert re.search(
        r"parameters and optimizers of [\d,.]+ GB do not fit into the [\d,.]+ GB .*; lower .*--hidden", last
    )
    assert not any((tmp_path / "run" / "checkpoints").iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sample", "--num", "3000000000"], "--num must be below 2³¹, got 3000000000"),
        (["sample", "--num", "2000000000"], "samples of 512.0 GB do not fit into the .* GB .*; lower --num"),
        (["impute", "--num", "3000000000"], "--num must be below 2³¹"),
        (["impute", "--draws", "3000000000"], "--draws must be below 2³¹"),
        (["evaluate", "--importance-samples", "3000000000"], "--importance-samples must be below 2³¹"),
    ],
)
def test_numbers_that_no_array_or_no_memory_holds_are_refused_at_once(capsys, finished, arguments, message):
    assert re.search(message, sentence(capsys, arguments[0], str(finished), *arguments[1:]))


XLA = "RESOURCE_EXHAUSTED: Out of memory allocating 200000000000 bytes."
NUMPY = "Unable to allocate 745. GiB for an array with shape (100000000000,) and data type float64"


@pytest.mark.parametrize(
    ("command", "error", "message"),
    [
        ("sample", jax.errors.JaxRuntimeError(XLA), r"out of memory \(186.26 GiB at once\); lower --num\n"),
        ("evaluate", MemoryError(NUMPY), r"out of memory \(745 GiB at once\); lower --importance-samples\n"),
        ("report", MemoryError(), "out of memory; close other programs, or take a machine with more"),
        (
            "train",
            jax.errors.JaxRuntimeError(XLA.replace("200000000000 bytes", "3.5GiB")),
            "3.5 GiB .*lower --batch-size",
        ),
    ],
)
def test_memory_that_runs_out_is_one_sentence(capsys, monkeypatch, command, error, message):
    def run_out(_arguments):
        raise error

    monkeypatch.setitem(cli.COMMANDS, command, run_out)
    assert re.search(message, sentence(capsys, command))


@pytest.mark.parametrize("error", [jax.errors.JaxRuntimeError("INTERNAL: bug"), RuntimeError(XLA), ValueError(XLA)])
def test_no_other_error_is_taken_for_want_of_memory(monkeypatch, error):
    def fail(_arguments):
        raise error

    monkeypatch.setitem(cli.COMMANDS, "sample", fail)
    with pytest.raises(type(error)):
        main(["sample"])
