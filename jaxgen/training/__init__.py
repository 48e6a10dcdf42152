"""One trainer for every game of one or more players."""

from jaxgen.training.checkpoint import Checkpoints
from jaxgen.training.loop import Interrupted, NonFiniteError, Options, Result, train

__all__ = ["Checkpoints", "Interrupted", "NonFiniteError", "Options", "Result", "train"]
