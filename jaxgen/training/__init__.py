"""One trainer for every game of one or more players."""

from jaxgen.training.checkpoint import Checkpoints
from jaxgen.training.loop import Result, train
from jaxgen.training.nonfinite import NonFiniteError
from jaxgen.training.options import Options
from jaxgen.training.signals import Interrupted
from jaxgen.training.snapshots import Snapshots

__all__ = ["Checkpoints", "Interrupted", "NonFiniteError", "Options", "Result", "Snapshots", "train"]
