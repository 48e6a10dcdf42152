"""What flags and arguments choose from. The command line reads it before anything heavy is imported."""

from typing import Literal

#: A run's checkpoint: the best by the evaluated objective, or the last.
Which = Literal["best", "last"]
SplitName = Literal["train", "test"]
