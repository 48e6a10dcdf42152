"""The changelog names what there is, and nothing else."""

import re
from pathlib import Path

import jaxgen
from jaxgen import models
from jaxgen.cli import COMMANDS

TEXT = (Path(__file__).parents[1] / "CHANGELOG.md").read_text(encoding="utf-8")
UNRELEASED = TEXT.partition("## [Unreleased]")[2]


def test_every_model_and_command_is_named():
    named = set(re.findall(r"`(?:jaxgen )?(\w+)`", UNRELEASED))
    assert set(models.__all__) <= named
    assert set(COMMANDS) <= named


def test_every_module_that_is_named_can_be_imported():
    for name in re.findall(r"`jaxgen\.(\w+)`", UNRELEASED):
        assert (Path(jaxgen.__file__).parent / name).is_dir()


def test_it_has_the_form_of_keep_a_changelog():
    assert re.findall(r"^## \[(.*)\]", TEXT, re.MULTILINE)[0] == "Unreleased"
    assert set(re.findall(r"^### (\w+)", TEXT, re.MULTILINE)) <= {
        *("Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"),
    }
    assert jaxgen.__version__ == "0.1.0"
    assert "0.1.0" in UNRELEASED
