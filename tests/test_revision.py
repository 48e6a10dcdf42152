"""The revision that runs and results name."""

import subprocess
from pathlib import Path

import pytest

from jaxgen.folder import revision


def git(folder: Path, *words: str) -> str:
    who = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    return subprocess.run(
        ["git", "-C", str(folder), *who, *words], capture_output=True, text=True, check=True
    ).stdout.strip()


@pytest.fixture
def code(tmp_path: Path) -> Path:
    """A file of a package in a repository of one commit, beside it a table of results."""
    git(tmp_path, "init", "--quiet")
    file, table = tmp_path / "package" / "folder.py", tmp_path / "README.md"
    file.parent.mkdir()
    file.write_text("one = 1\n")
    table.write_text("nothing yet\n")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "-m", "one")
    revision.cache_clear()
    return file


def test_a_clean_tree_is_the_commit(code):
    assert revision(code) == git(code.parent, "rev-parse", "--short", "HEAD")


def test_what_an_experiment_leaves_behind_does_not_mark_the_next(code):
    """Results are tracked files, and each experiment in a tree would else mark those after it as changed code."""
    (code.parents[1] / "README.md").write_text("a figure\n")
    (code.parents[1] / "new.json").write_text("{}")
    assert revision(code) == git(code.parent, "rev-parse", "--short", "HEAD")


@pytest.mark.parametrize("staged", [False, True])
def test_changed_code_is_marked_wherever_it_lies(code, staged):
    (code.parents[1] / "experiment.py").write_text("two = 2\n")
    git(code.parent, "add", "../experiment.py")
    git(code.parent, "commit", "--quiet", "-m", "two")
    (code.parents[1] / "experiment.py").write_text("two = 3\n")
    if staged:
        git(code.parent, "add", "../experiment.py")
    assert revision(code) == git(code.parent, "rev-parse", "--short", "HEAD") + "+"


def test_an_installed_package_has_none(code):
    outside = code.parent / "untracked.py"
    outside.write_text("")
    assert revision(outside) is None
