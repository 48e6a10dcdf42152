"""Data: where it comes from, whether it suits a likelihood, and in which order it is read."""

from jaxgen.data.batches import epoch_order, indices
from jaxgen.data.checks import check_values
from jaxgen.data.dataset import Dataset, Modes
from jaxgen.data.sources import load, names

__all__ = [
    # sources
    "Dataset",
    "Modes",
    "load",
    "names",
    # checks
    "check_values",
    # batches
    "epoch_order",
    "indices",
]
