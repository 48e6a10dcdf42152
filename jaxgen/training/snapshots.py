"""What a model makes of the same noise as it learns: a few examples after an evaluation, beside the checkpoints."""

import warnings
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import PyTree

from jaxgen.data import Dataset
from jaxgen.data.files import UNREADABLE, why_unreadable
from jaxgen.errors import UserError
from jaxgen.model import Model
from jaxgen.training.evaluate import told_evenly
from jaxgen.whole import whole

#: Evaluations of a run whose examples are kept, at most; images of each, or points of the plane.
_NUM_KEPT, _NUM_IMAGES, _NUM_POINTS = 10, 10, 500

_KEY = 0xF17ED


class Watched(NamedTuple):
    """Examples from one noise, over a run.

    Attributes:
      steps: [kept], growing.
      examples: [kept, (replicas,) examples, *shape].
    """

    steps: list[int]
    examples: np.ndarray


class Snapshots:
    """The examples that one noise became, a file for each of at most ten evaluations.

    A file is a function of its step. A run that goes on from a checkpoint writes those after it once more, with the
    same bytes, so that no kill leaves a trace.

    Args:
      folder: made where it is missing, in a run's folder that is there.
    """

    def __init__(self, folder: Path):
        self._folder = folder

    def save(self, step: int, examples: np.ndarray) -> None:
        """Writes the examples of a step, whole or not at all.

        Raises:
          UserError: if they cannot be written.
        """
        if not self._folder.parent.is_dir():
            return  # the run's folder was removed, of which the checkpoints tell
        try:
            self._folder.mkdir(exist_ok=True)
            with whole(self._folder / f"{step}.npy") as partial, partial.open("wb") as file:
                np.save(file, examples)
        except OSError as error:
            raise UserError(
                f"the examples in {self._folder} cannot be written ({error.strerror}); free space there, and the same "
                f"command goes on"
            ) from error

    def read(self) -> Watched | None:
        """What there is, by step; ``None`` where there is nothing. What cannot be read is left out with a warning."""
        found: dict[int, np.ndarray] = {}
        paths = self._folder.glob("*.npy") if self._folder.is_dir() else ()
        for path in sorted((path for path in paths if path.stem.isdigit()), key=lambda path: int(path.stem)):
            try:
                with path.open("rb") as file:
                    found[int(path.stem)] = np.load(file, allow_pickle=False)
            except UNREADABLE as error:
                warnings.warn(f"{path} cannot be read ({why_unreadable(error)}); its step is left out", stacklevel=2)
        return Watched(list(found), np.stack(list(found.values()))) if found else None


def due(step: int, *, every: int, steps: int) -> bool:
    """Whether the evaluation of a step is one of those kept: at most ten of a run, evenly spaced, its last among them.

    >>> [step for step in range(50, 1001, 50) if due(step, every=50, steps=1000)]
    [100, 200, 300, 400, 500, 600, 700, 800, 900, 1000]
    """
    number, total = -(-step // every), -(-steps // every)
    return number * _NUM_KEPT // total > (number - 1) * _NUM_KEPT // total


def draw(model: Model, dataset: Dataset, params: PyTree, statistics: PyTree, *, replicas: int = 1) -> np.ndarray | None:
    """Examples [(replicas,) examples, *shape] from the noise that is drawn each time.

    A model that is told classes is told them in turn, one that is told vectors what test examples come with.

    Args:
      params: without a device axis, with a replica axis if there are several replicas.
      statistics: likewise.

    Returns:
      Nothing where the model does not sample, or examples are neither images nor points of the plane but, say, codes.
    """
    count = _NUM_IMAGES if len(dataset.shape) == 3 else _NUM_POINTS if dataset.shape == (2,) else 0
    if model.sample is None or model.domain == "codes" or not count:
        return None
    if model.condition is not None and model.condition.classes:
        told = {"condition": classes_in_turn(count, model.condition.size)}
    else:
        told = told_evenly(model, dataset, count)
    drawn = _compiled(model.sample, count, replicas)(params, statistics, told)
    return np.asarray(jax.block_until_ready(drawn))


def classes_in_turn(count: int, size: int) -> np.ndarray:
    """0, 1, …, size − 1, 0, …"""
    return np.arange(count, dtype=np.int32) % size


@lru_cache(maxsize=4)  # without a bound every model that was ever drawn would be kept
def _compiled(sample: Callable[..., Any], count: int, replicas: int):
    """``(params, statistics, told) -> examples``."""

    def of_one(params: PyTree, statistics: PyTree, told: dict[str, Any]):
        return sample(params, statistics, jax.random.key(_KEY), count, **told)

    return jax.jit(of_one if replicas == 1 else jax.vmap(of_one, in_axes=(0, 0, None)))
