"""Flags and their help come from signatures and docstrings."""

import functools
import re
import subprocess
import sys
from pathlib import Path

import pytest

from cli.commands import help_of, sentence
from jaxgen import apply, cli, models, report, runs
from jaxgen.cli import COMMANDS, _train_arguments, main
from jaxgen.data import names
from jaxgen.flags import argument_help, fields_of
from jaxgen.training import Options


@pytest.mark.parametrize(
    "command", [*(["train", m] for m in models.__all__), *([c] for c in COMMANDS if c not in ("train", "list"))]
)
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
    assert argument_help(documented) == {"one": "First, and more of it.", "two": "Second."}


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
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=root)
    assert done.stderr.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["train", "vae", "--lattents", "3"], "'jaxgen train vae' takes no '--lattents'; did you mean '--latents'?"),
        (
            ["train", "vae", "--batch_sise=3"],
            "'jaxgen train vae' takes no '--batch_sise'; did you mean '--batch-size'?",
        ),
        (["train", "vae", "--xyzzy"], "'jaxgen train vae' takes no '--xyzzy';"),
        (["train", "vae", "--dequantize", "yes"], "'jaxgen train vae' takes no 'yes';"),
        (["train", "vae", "--scale"], "--scale needs a value;"),
        (["train", "vae", "--lr", "x"], "--learning-rate takes a number, got 'x';"),
        (["sample", "a", "--condition", "x"], "--condition takes numbers, got ['x'];"),
        (["train", "vae", "--hidden", "8", "x"], "--hidden takes [INT [INT ...]], got ['8', 'x'];"),
        (["train", "vae", "--network", "con"], "there is no --network 'con'; did you mean 'conv'?"),
        (["evaluate"], "'jaxgen evaluate' needs RUN;"),
        (["evaluate", "a", "b"], "'jaxgen evaluate' takes no 'b';"),
        (["evaluate", "a", "--importance-samples", "many"], "--importance-samples takes a whole number, got 'many';"),
        (["sample", "a", "--nums", "3"], "'jaxgen sample' takes no '--nums'; did you mean '--num'?"),
        (["report", "a", "--checkpoint", "bset"], "there is no --checkpoint 'bset'; did you mean 'best'?"),
        (["encode"], "'jaxgen encode' needs RUN;"),
        (["decode"], "'jaxgen decode' needs RUN and CODES;"),
        (["decode", "a"], "'jaxgen decode' needs CODES;"),
        (["sample", "a", "--nun", "4"], "'jaxgen sample' takes no '--nun'; did you mean '--num'?"),
        (["encode", "--hlp"], "'jaxgen encode' takes no '--hlp'; did you mean '--help'?"),
        (["impute", "a", "--method", "x"], "there is no --method 'x'; choose from importance, gibbs;"),
    ],
)
def test_a_wrong_flag_is_one_sentence_that_names_the_help(capsys, monkeypatch, arguments, said):
    """Whatever the terminal's width, in which tyro wraps what it says, and its letters, of which it makes a box."""
    command = " ".join(arguments[: 2 if arguments[0] == "train" else 1])
    for columns, boxes in (("40", True), ("200", True), ("40", False)):
        monkeypatch.setenv("COLUMNS", columns)
        monkeypatch.setattr("tyro._fmtlib._FORCE_UTF8_BOXES", boxes, raising=False)
        assert sentence(capsys, *arguments) == f"jaxgen: {said} see 'jaxgen {command} --help'\n"


def test_arguments_without_a_flag_have_names_of_their_own(capsys):
    assert re.match(r"usage: jaxgen decode \[-h\] RUN CODES ", help_of(capsys, "decode"))
    assert "usage: jaxgen encode [-h] [OPTIONS] RUN\n" in help_of(capsys, "encode")


def test_a_path_may_be_text_in_python_and_is_a_path_on_the_command_line():
    def command(run: str | Path, /, *, out: str | Path | None = None, name: str | None = None): ...

    found = [(field.annotation, field.positional) for field in fields_of(command).values()]
    assert found == [(Path, True), (Path | None, False), (str | None, False)]


def test_what_is_chosen_from_is_written_once():
    assert cli.Which is runs.Which is apply.Which is report.Which
