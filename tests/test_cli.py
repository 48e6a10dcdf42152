"""The command line as a user meets it: help, first runs, and one sentence for each mistake."""

import functools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxgen import models, runs
from jaxgen.cli import _argument_help, _train_arguments, _unless_said, main
from jaxgen.data import names
from jaxgen.errors import UserError
from jaxgen.training import Options

SMALL = ["--hidden", "8", "--latents", "2", "--importance-samples", "0", "--batch-size", "16", "--devices", "1"]
TRAIN = ["train", "vae", *SMALL, "--steps", "4", "--binarize", "threshold"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of four steps, through the command line."""
    folder = tmp_path_factory.mktemp("cli") / "a run with ümlauts"
    assert main([*TRAIN, "--workdir", str(folder)]) == 0
    return folder


def refused(capsys, *arguments: str) -> str:
    """The one sentence on standard error of a command that a user got wrong."""
    capsys.readouterr()
    try:
        code = main(list(arguments))
    except SystemExit as stop:  # tyro's own way
        code = stop.code
    out, err = capsys.readouterr()
    assert code == 2
    assert "Traceback" not in out + err
    assert out == ""
    return err


def sentence(capsys, *arguments: str) -> str:
    *waiting, message = refused(capsys, *arguments).splitlines(keepends=True)
    assert all(line.endswith(" …\n") for line in waiting)
    assert message.startswith("jaxgen: ")
    return message


def test_an_unknown_command_model_or_data_set_suggests_the_nearest(capsys, tmp_path):
    assert "did you mean 'train'?" in sentence(capsys, "trian")
    assert "did you mean 'vq_vae'?" in sentence(capsys, "train", "vq_va")
    assert "one of" in sentence(capsys, "train")
    assert "did you mean 'jaxgen train vae'?" in sentence(capsys, "vae")
    assert "write 'jaxgen train vae …'" in sentence(capsys, "train", "--data", "digits", "vae")
    assert "digits" in sentence(capsys, "train", "vae", "--data", "digit", "--workdir", str(tmp_path / "new"))
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["train", "vae", "--lattents", "3"], "--latents"),
        (["train", "vae", "--batchsize", "3"], "--batch-size"),
        (["train", "gan", "--discriminator-step", "3"], "--discriminator-steps"),
        (["evaluate", "somewhere", "--checkpiont", "best"], "--checkpoint"),
        (["sample", "somewhere", "--nums", "3"], "--num"),
        (["report", "somewhere", "--replicas", "3"], "--replica"),
    ],
)
def test_a_mistyped_flag_suggests_the_right_one(capsys, arguments, hint):
    message = refused(capsys, *arguments)
    assert arguments[2] in message
    assert re.search(rf"{hint}\b", message)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--dequantize"], "--dequantize and --binarize threshold exclude each other"),
        (["--steps", "0"], "--steps must be at least 1, got 0"),
        (["--steps", "-3"], "--steps must be at least 1, got -3"),
        (["--epochs", "0"], "--epochs must be at least 1, got 0"),
        (["--epochs", "-1"], "--epochs must be at least 1, got -1"),
        (["--batch-size", "1501"], "larger than the 1500 training examples; give --batch-size 1500 or less"),
        (["--batch-size", "10", "--devices", "4"], "10 does not divide by the 4 devices; take a multiple of 4"),
        (["--devices", "99"], "--devices 99 was asked for"),
        (["--seed", "-1"], "must not be negative, got -1"),
        (["--learning-rate", "0"], "--learning-rate must be positive"),
        (["--latents", "0"], "at least 1, got 0"),
        (["--scale", "optimal", "--likelihood", "gaussian", "--fixed-scale", "-1"], "fixed_scale must be positive"),
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


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 400 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("mounting a small disk needs root")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_is_one_sentence_and_the_last_checkpoint_is_kept(small_disk):
    """Three checkpoints of about 150 kB do not fit; what the storage's own threads meet is said by the command."""
    flags = ["--hidden", "48", "--steps", "30", "--evaluate-every", "1", "--binarize", "dynamic"]
    command = ["train", "vae", *SMALL, *flags, "--workdir", str(small_disk / "run")]
    done = subprocess.run([sys.executable, "-m", "jaxgen.cli", *command], capture_output=True, text=True)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    said = done.stderr.splitlines()[-1]
    assert said.startswith("jaxgen: ")
    assert "No space left on device" in said
    assert "free space" in said
    assert runs.open_run(small_disk / "run", which="last").step >= 1


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


@pytest.mark.parametrize(
    ("error", "shown"),
    [
        (OSError(28, "No space left on device"), False),
        (ValueError("RESOURCE_EXHAUSTED: No space left on device [os_error_code='28']"), False),
        (OSError("handle is closed"), False),
        (RuntimeError("Event loop is closed"), False),
        (OSError(2, "No such file or directory"), True),
        (ValueError("shapes differ"), True),
        (TypeError("a mistake"), True),
    ],
)
def test_a_thread_is_silent_of_a_full_disk_alone(error, shown):
    """What the system and TensorStore say of a full disk is said by the main thread; nothing else is hidden."""
    seen = []
    unhandled = threading.ExceptHookArgs((type(error), error, None, None))
    _unless_said(seen.append)(unhandled)
    assert seen == [unhandled] * shown


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


def test_an_interruption_is_128_and_the_signal(capsys, monkeypatch):
    from jaxgen.training import Interrupted

    def interrupted(*_arguments, **_keywords):
        raise Interrupted(7, 15)

    monkeypatch.setattr(runs, "train", interrupted)
    assert main(TRAIN) == 143
    assert "stopped at step 7; everything is saved" in capsys.readouterr().err


def test_a_second_ctrl_c_ends_the_command_in_the_middle_of_compiled_code():
    """Which would take hours, and in which no handler of Python's runs."""
    script = (
        "import hashlib, signal; from jaxgen import cli, interrupt\n"
        "interrupt.remember = lambda: signal.signal(signal.SIGINT, lambda *_: None)\n"
        "cli.main = lambda: print(flush=True) or hashlib.pbkdf2_hmac('sha256', b'', b'', 2**31 - 1)\n"
        "cli.entry()"
    )
    child = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert child.stdout
    child.stdout.readline()
    child.send_signal(signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):  # the first one waits
        child.wait(1)
    child.send_signal(signal.SIGINT)
    child.communicate(timeout=60)
    assert child.returncode == 130


def as_a_process(command: str, *, flags=(), encoding: str = "utf-8") -> subprocess.CompletedProcess[str]:
    """A process of ``jaxgen`` whose only command is this one."""
    script = f"import os, signal, sys\nfrom jaxgen import cli\ndef command(arguments):\n{command}\n"
    script += "cli.COMMANDS['train'] = command\nsys.argv = ['jaxgen', 'train']\ncli.entry()"
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    return subprocess.run(
        [sys.executable, *flags, "-c", script], capture_output=True, text=True, env=environment, encoding=encoding
    )


def test_ctrl_c_in_an_import_is_130_whatever_the_import_makes_of_it():
    done = as_a_process(
        "  try: os.kill(os.getpid(), signal.SIGINT)\n"
        "  except KeyboardInterrupt as error: raise ImportError('half of it') from error"
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_ctrl_c_that_an_import_swallows_stops_the_run():
    """Raised where Python only prints it, as in a finalizer, it is heeded where the run collects its signals."""
    done = as_a_process(
        "  class Swallows:\n"
        "    def __del__(self): os.kill(os.getpid(), signal.SIGINT)\n"
        "  Swallows()\n"
        "  from jaxgen.training.signals import collect_signals\n"
        "  with collect_signals() as caught: print(caught)"
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "[2]\n", "")


def test_ctrl_c_that_a_compiled_module_prints_is_no_traceback():
    done = as_a_process(
        "  try: os.kill(os.getpid(), signal.SIGINT)\n"
        "  except KeyboardInterrupt: sys.excepthook(*sys.exc_info())\n"
        "  raise ImportError('half of it')"
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_ctrl_c_ends_an_import_whatever_it_would_go_on_with(tmp_path):
    (tmp_path / "half.py").write_text(
        "import os, signal\ntry: os.kill(os.getpid(), signal.SIGINT)\nexcept BaseException: pass\nprint('went on')"
    )
    done = as_a_process(f"  sys.path.insert(0, {str(tmp_path)!r})\n  import half")
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_a_terminal_without_a_letter_gets_another():
    assert as_a_process("  print('±')", encoding="ascii").stdout == "?\n"


def test_without_docstrings_there_is_one_sentence():
    done = as_a_process("  pass", flags=["-OO"])
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch("jaxgen: python -OO removes .*; run it with -O at the most\n", done.stderr)


def test_a_warning_is_shown_once():
    done = as_a_process(
        "  import warnings\n  for text in 'aba':\n    with warnings.catch_warnings(): warnings.warn(text)"
    )
    assert done.stderr == "jaxgen: warning: a\njaxgen: warning: b\n"


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


def test_a_seed_of_samples_is_refused_likewise(capsys, finished):
    assert "--seed is 4294967296, but" in sentence(capsys, "sample", str(finished), "--seed", "4294967296")


def test_a_run_that_kept_nothing_leaves_the_folder_to_the_corrected_command(capsys, tmp_path):
    run = [*TRAIN, "--evaluate-every", "4", "--log-every", "4", "--workdir", str(tmp_path / "run")]
    said = refused(capsys, *run, "--learning-rate", "1e30")
    assert "nothing was saved yet, try a smaller --learning-rate than 1e+30" in said
    assert main([*run, "--learning-rate", "1e-3"]) == 0
    assert runs.read_config(tmp_path / "run")["options"]["learning_rate"] == 1e-3
    assert runs.open_run(tmp_path / "run").step == 4


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
        (["report", "RUN", "--replica", "-1"], "--replica -1"),
        (["evaluate", "RUN", "--importance-samples", "-1"], "importance_samples not negative, got"),
        (["list", "more"], "takes no arguments"),
    ],
)
def test_mistakes_about_a_run_are_one_sentence(capsys, finished, arguments, message):
    assert message in sentence(capsys, *[str(finished) if a == "RUN" else a for a in arguments])


def test_a_changed_file_of_data_is_noticed(capsys, tmp_path):
    x = np.random.default_rng(0).uniform(size=(40, 6)).round().astype(np.float32)
    np.save(tmp_path / "mine.npy", x)
    run = [*TRAIN, "--binarize", "none", "--data", str(tmp_path / "mine.npy"), "--workdir", str(tmp_path / "run")]
    assert main(run) == 0
    np.save(tmp_path / "mine.npy", 1 - x)
    assert "fingerprint was" in sentence(capsys, *run)
    assert "the data" in sentence(capsys, "evaluate", str(tmp_path / "run"))


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


def help_of(capsys, *arguments: str) -> str:
    capsys.readouterr()
    try:
        code = main([*arguments, "--help"])
    except SystemExit as stop:
        code = stop.code
    assert not code
    return capsys.readouterr().out


@pytest.mark.parametrize("command", [*(["train", m] for m in models.__all__), ["evaluate"], ["sample"], ["report"]])
def test_help_explains_every_flag(capsys, monkeypatch, command):
    """After each flag there is a text, and no flag of the signature is missing."""
    monkeypatch.setenv("COLUMNS", "100")
    text = re.sub(r"[╭╮╰╯│─|]", " ", help_of(capsys, *command)).split("\n\n", 1)[1]  # the usage is not explained
    flags = re.findall(r"^[ |]*(?:-h, |--lr FLOAT, )?(--[a-z][a-z-]*)", text, re.MULTILINE)
    assert len(flags) == len(set(flags))
    if command[0] == "train":
        arguments = set(runs.complete(command[1], {}, runs.load("digits"))) - set(runs.DATA_ARGUMENTS)
        expected = arguments | set(Options._fields) | {"data", "data_dir", "workdir", "devices"}
        assert {f"--{name.replace('_', '-')}" for name in expected} <= set(flags)
    for flag, following in zip(flags, [*flags[1:], None]):
        start = text.index(flag)
        explained = text[start : text.index(following, start + 1) if following else None]
        words = re.sub(r"\(default:.*|\{[^}]*\}|\[[^]]*\]|[A-Z|]{3,}", " ", explained[len(flag) :], flags=re.DOTALL)
        assert len(re.findall(r"[A-Za-z]{2,}", words)) >= 2, (flag, explained)


def documented(*, one: int = 1, two: int = 2):
    """A function.

    Text.

    Args:
        one: First,
          and more
            of it.
        two: Second.

    Returns:
        other: Nothing.
    """


def test_an_argument_is_explained_at_any_indentation():
    assert _argument_help(documented) == {"one": "First, and more of it.", "two": "Second."}


def test_a_docstring_that_lacks_an_argument_is_one_sentence(capsys, monkeypatch):
    vae = models.vae

    @functools.wraps(vae)
    def undocumented(**arguments):
        return vae(**arguments)

    undocumented.__doc__ = (vae.__doc__ or "").replace("      latents: ", "      z: ")
    monkeypatch.setattr(models, "vae", undocumented)
    said = sentence(capsys, "train", "vae", "--latents", "2")
    assert said == "jaxgen: the docstring of vae explains no latents; add 'name: text' under its Args\n"


def test_a_default_of_nothing_is_left_to_the_text(capsys):
    assert "None" not in help_of(capsys, "train", "vae")


def test_the_learning_rate_has_its_short_name():
    parsed = _train_arguments("vae", ["--lr", "0.5"])
    assert parsed.training.learning_rate == 0.5


def test_a_warning_is_one_line_that_names_the_flags_and_comes_after_mistakes(tmp_path):
    command = [sys.executable, "-m", "jaxgen.cli", "train", "vae", *SMALL, "--workdir", str(tmp_path / "run")]
    done = subprocess.run([*command, "--epochs", "0"], capture_output=True, text=True)
    assert done.stderr == "jaxgen: --epochs must be at least 1, got 0\n"
    done = subprocess.run([*command, "--steps", "1"], capture_output=True, text=True)
    [warned] = [line for line in done.stderr.splitlines() if re.search(r"\bwarn", line, re.IGNORECASE)]
    assert re.match("jaxgen: warning: digits: .*--binarize dynamic, or --likelihood continuous_bernoulli", warned)


def test_overview_and_list_name_everything(capsys):
    overview = help_of(capsys)
    assert "usage: jaxgen list" in help_of(capsys, "list")
    assert all(f"  {command} " in overview for command in ("train", "evaluate", "sample", "report", "list"))
    assert main(["list"]) == 0
    listed = capsys.readouterr().out
    for name in (*models.__all__, *names()):
        assert re.search(rf"^  {name} +\S", listed, re.MULTILINE), name
    assert all(model in help_of(capsys, "train") for model in models.__all__)


@pytest.mark.parametrize("arguments", [[], ["--help"], ["list"], ["train", "--help"], ["train", "vea"], ["--version"]])
def test_what_needs_no_model_imports_nothing_heavy(arguments):
    """Imports are counted, not seconds."""
    heavy = ("jax", "flax", "optax", "orbax", "tyro", "matplotlib", "sklearn", "tensorflow_datasets")
    script = (
        f"import sys; from jaxgen.cli import main; code = main({arguments!r}); "
        f"print([m for m in {heavy!r} if m in sys.modules], file=sys.stderr)"
    )
    root = Path(__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=root)
    assert done.stderr.splitlines()[-1] == "[]"


def test_codes_go_to_a_file_and_back_and_what_is_missing_is_filled_in(tmp_path, capsys):
    from jaxgen import apply

    run = str(tmp_path / "run")
    flags = ["--hidden", "8", "--likelihood", "gaussian", "--importance-samples", "0"]
    assert main(["train", "vae", "--steps", "2", "--batch-size", "48", *flags, "--workdir", run]) == 0
    assert main(["encode", run]) == 0
    assert main(["decode", run, f"{run}/codes.npz", "--out", str(tmp_path / "back.npz")]) == 0
    mask = np.arange(297 * 64).reshape(297, 8, 8) % 2 == 0
    np.save(tmp_path / "mask.npy", mask)
    assert main(["impute", run, "--mask", str(tmp_path / "mask.npy"), "--num", "2", "--draws", "3", "--seed", "4"]) == 0
    assert [Path(line).name for line in capsys.readouterr().out.splitlines()[-3:]] == [
        "codes.npz",
        "back.npz",
        "imputed.npz",
    ]
    with (
        np.load(f"{run}/imputed.npz") as ours,
        np.load(
            apply.impute(Path(run), mask=tmp_path / "mask.npy", num=2, draws=3, seed=4, out=tmp_path / "again.npz")
        ) as again,
    ):
        np.testing.assert_array_equal(ours["x"], again["x"])
    assert main(["impute", run]) == 2
    assert "nothing is missing in digits; give --mask" in capsys.readouterr().err
