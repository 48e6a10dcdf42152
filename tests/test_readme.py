"""Every command and every Python block of the README is run, training cut to two steps."""

import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jaxgen import cli, models
from jaxgen.data import load
from jaxgen.data.tfds import data_root, find_folder

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
COMMANDS = [line for language, block in BLOCKS if language == "sh" for line in block.splitlines()]
PYTHON = [block for language, block in BLOCKS if language == "python"]
PRINTED = {
    "list": "digits",
    "train": "report:",
    "evaluate": "elbo",
    "sample": "samples.npz",
    "report": "report:",
    "encode": "codes.npz",
    "decode": "decoded.npz",
    "impute": "imputed.npz",
}


def commands(*start: str) -> list[str]:
    return [line for line in COMMANDS if line.split()[: len(start)] == list(start)]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder to work in, with the reader's own images in it, of which the upper half is observed."""
    monkeypatch.chdir(tmp_path)
    images = np.random.default_rng(0).integers(256, size=(300, 8, 8), dtype=np.uint8)
    np.savez(tmp_path / "my_images.npz", x=images)
    shape = load(str(tmp_path / "my_images.npz")).test["x"].shape
    np.save(tmp_path / "observed.npy", np.broadcast_to(np.arange(8)[:, None, None] < 4, shape))
    return tmp_path


def test_every_command_is_of_a_kind_that_is_tested_here():
    tested = [
        *commands("make"),
        *commands("jaxgen"),
        *commands("python", "-m", "pip", "install"),
        *commands("python", "experiments/reproduce.py"),
        *(line for line in commands("python") if Path(line.split()[1]).parent == Path("experiments")),
    ]
    assert set(COMMANDS) == set(tested)
    assert {"make demo", "make test"} <= set(COMMANDS)
    assert {line.split()[1] for line in commands("jaxgen")} == set(cli.COMMANDS)


def _missing(line: str) -> bool:
    """Whether a command needs a set of TensorFlow Datasets that is not prepared here."""
    words = shlex.split(line)
    name = words[words.index("--data") + 1] if "--data" in words else "digits"
    return name in ("mnist",) and find_folder(name, root=data_root(None)) is None


def without(words: list[str], flag: str) -> list[str]:
    """The words but the flag and its value."""
    at = words.index(flag) if flag in words else len(words)
    return words[:at] + words[at + 2 :]


def test_the_help_and_the_readme_begin_with_what_the_demo_trains(capsys):
    [first, *_] = commands("jaxgen", "train", "vae", "--data")
    assert cli.main(["--help"]) == 0
    assert f"\n  {first}\n" in capsys.readouterr().out
    [demo] = re.findall(r"(jaxgen train .*)", (ROOT / "Makefile").read_text().replace("\\\n", " "))
    assert " ".join(demo.split()).replace("$(DEMO)", "runs/first") == first
    [block] = [block for block in PYTHON if "runs.train" in block]
    parsed = cli._train_arguments("vae", shlex.split(first)[3:])
    assert f'{{"latents": {parsed.model.latents}, "likelihood": "{parsed.model.likelihood}"' in block
    trained = parsed.training
    options = f'epochs={trained.epochs}, learning_rate={trained.learning_rate}, schedule="{trained.schedule}"'
    assert f"Options({options})" in block


def test_every_jaxgen_command_runs(folder, capsys):
    for line in commands("jaxgen"):
        words = shlex.split(line)[1:]
        if _missing(line):
            assert cli._train_arguments(words[1], words[2:])
            continue
        if words[0] == "train" and "--help" not in words:
            words = [*without(without(words, "--epochs"), "--steps"), "--steps", "2", "--devices", "1"]
        if "--help" in words:
            with pytest.raises(SystemExit) as stopped:
                cli.main(words)
            assert stopped.value.code == 0
        else:
            assert cli.main(words) == 0
        printed = capsys.readouterr().out
        assert "--latents" in printed if "--help" in words else PRINTED[words[0]] in printed
    assert (folder / "runs" / "first" / "report.html").stat().st_size > 10_000
    assert np.load(folder / "runs" / "first" / "samples.npz")["x"].shape == (64, 8, 8, 1)


def test_the_import_example_prints_what_it_says(capsys):
    [block] = [block for block in PYTHON if "jaxgen.losses" in block]
    exec(block, {})
    printed = capsys.readouterr().out.strip()
    assert printed == f"{784 * np.log(2):.2f} nats"
    assert f"784 log 2: {printed}" in block


def test_the_import_example_needs_no_networks_data_or_plots():
    [block] = [block for block in PYTHON if "jaxgen.losses" in block]
    heavy = ("flax", "tensorflow_datasets", "matplotlib", "orbax", "sklearn")
    code = f"{block}\nimport sys\nprint([name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_training_example_writes_its_page(folder, capsys):
    [block] = [block for block in PYTHON if "runs.train" in block]
    short = block.replace("epochs=200", "steps=2")
    assert short != block
    exec(short, {})
    assert capsys.readouterr().out.splitlines()[-1] == "runs/python/report.html"
    assert (folder / "runs" / "python" / "report.html").exists()


def test_the_model_of_ones_own_learns_what_the_readme_says(capsys):
    """A linear autoencoder is best at the leading singular vectors of the training data, as NumPy finds them."""
    [block] = [block for block in PYTHON if "import Aux, Model" in block]
    names: dict[str, Any] = {}
    exec(block, names)
    data = load("digits")
    train, test = (split["x"].reshape(-1, 64) / 16 for split in (data.train, data.test))
    leading = np.linalg.svd(train, full_matrices=False)[2][:10].T
    best = np.square(test @ leading @ leading.T - test).sum(axis=-1).mean()
    loss = names["result"].figures["loss"]
    assert loss == pytest.approx(best, rel=0.02)
    assert capsys.readouterr().out == f"{loss:.2f}\n"
    assert f"# {loss:.2f}; the ten leading singular vectors: {best:.2f}\n" in block


def test_every_make_target_exists_and_does_what_the_readme_says():
    make = shutil.which("make")
    if make is None:
        pytest.skip("make is not installed")
    for line in [*commands("make"), "make lint"]:
        done = subprocess.run([make, "--dry-run", *line.split()[1:]], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        expected = {"demo": ("jaxgen train vae", "report.html"), "test": ("pytest",), "lint": ("ruff", "pyright")}
        for part in expected[line.split()[1]]:
            assert part in done.stdout


def test_the_demo_names_flags_that_exist():
    makefile = (ROOT / "Makefile").read_text().replace("\\\n", " ").replace("$(DEMO)", "runs/demo")
    [line] = re.findall(r"jaxgen train (.*)", makefile)
    model, *words = shlex.split(line)
    parsed = cli._train_arguments(model, words)
    assert (parsed.run.data, parsed.run.workdir) == ("digits", Path("runs/demo"))
    assert parsed.model.latents == 2  # so that the page has its carpet


def test_the_extras_that_are_named_exist():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = [extra for line in commands("python", "-m", "pip") for extra in re.findall(r"[\[,](\w+)", line)]
    assert named
    assert set(named) <= set(project["optional-dependencies"])


def test_every_experiment_command_parses():
    for line in commands("python"):
        words = line.split()
        if words[1] == "-m":
            continue
        for name in [Path(words[1]).stem, *words[2:]]:
            assert (ROOT / "experiments" / f"{name}.py").exists()
        done = subprocess.run(
            [sys.executable, *words[1:], "--help"], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert "--scale" in done.stdout


def test_the_table_of_models_is_complete():
    section = TEXT.split("## Models")[1].split("\n## ")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)) == set(models.__all__)


def test_every_link_leads_somewhere():
    links = [link for link in re.findall(r"\]\(([^)]+)\)", TEXT) if not link.startswith("http")]
    assert links
    for link in links:
        assert (ROOT / link).exists(), link
