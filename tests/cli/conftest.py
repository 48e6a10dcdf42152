"""A run of four steps, made once for all who look at it."""

import pytest

from cli.commands import TRAIN
from jaxgen.cli import main


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """A run of four steps, through the command line."""
    folder = tmp_path_factory.mktemp("cli") / "a run with ümlauts"
    assert main([*TRAIN, "--workdir", str(folder)]) == 0
    return folder
