"""Checkpoints: everything a run needs to go on, saved together, by orbax; the last two and the best are kept."""

import hashlib
import json
import logging
import re
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
from jaxtyping import PyTree
from orbax.checkpoint.checkpoint_managers import AnyPreservationPolicy, BestN, LatestN

from jaxgen.errors import UserError


class Restored(NamedTuple):
    """A checkpoint read back: the step, the state in the shape of the template, what was recorded beside it."""

    step: int
    state: PyTree
    record: dict[str, Any]


def _score(metrics: Mapping[str, float]) -> float:
    return -metrics["objective"]


def _flatten(tree: PyTree) -> dict[str, np.ndarray]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): np.asarray(leaf) for path, leaf in leaves}


def _objective(path: Path) -> float:
    return float(json.loads(path.read_bytes())["objective"])


def _digest(flat: Mapping[str, np.ndarray], record: Mapping[str, Any]) -> str:
    """Over the record, names, types, shapes and bytes: a flipped bit is a damaged checkpoint, not another model."""
    digest = hashlib.blake2b(json.dumps(record, sort_keys=True).encode(), digest_size=16)
    for name in sorted(flat):
        leaf = np.ascontiguousarray(flat[name])
        digest.update(f"{name} {leaf.dtype} {leaf.shape}\n".encode())
        digest.update(leaf.tobytes())
    return digest.hexdigest()


def _unflatten(template: PyTree, flat: Mapping[str, np.ndarray]) -> PyTree:
    def leaf(path, like):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        if name not in flat or flat[name].shape != np.shape(like):
            raise UserError(
                f"the checkpoint holds {name!r} as {flat[name].shape if name in flat else 'nothing'}, "
                f"but this model needs {np.shape(like)}; it was written by another model"
            )
        return flat[name]

    return jax.tree_util.tree_map_with_path(leaf, template)


def _reason(error: Exception) -> str:
    """What the storage said, without its own addresses where it is one of the usual."""
    text = str(error)
    known = re.search(r"No space left on device|Disk quota exceeded|Permission denied|Read-only file system", text)
    return known[0] if known else (text.splitlines() or [type(error).__name__])[0][:200]


class Checkpoints:
    """The checkpoints of one run's folder.

    Saving is asynchronous: the state is copied to the host, then written while training goes on; a checkpoint that
    a kill cut short is never taken for a whole one.
    """

    def __init__(self, folder: Path, *, read_only: bool = False):
        best = BestN(get_metric_fn=_score, n=1, keep_checkpoints_without_metrics=False)
        # orbax logs what is meant here (a read-only manager, a checkpoint without a metric) and what it raises anyway.
        logging.getLogger("absl").setLevel(logging.CRITICAL)
        self._folder, self._read_only = folder.absolute(), read_only
        with self._storing():
            if not read_only:
                self._drop_unreadable_metrics()
            self._manager = ocp.CheckpointManager(
                self._folder,
                options=ocp.CheckpointManagerOptions(
                    # Metrics are written only where this is given; all that are there are read, and must be whole.
                    best_fn=None if read_only else _score,
                    preservation_policy=None if read_only else AnyPreservationPolicy([LatestN(2), best]),
                    save_interval_steps=0 if read_only else 1,
                    read_only=read_only,
                    create=not read_only,
                ),
            )

    @contextmanager
    def _storing(self) -> Iterator[None]:
        """A full disk or a folder that cannot be written becomes one sentence; orbax raises what its storage raised."""
        try:
            yield
        except Exception as error:
            raise UserError(
                f"no checkpoint can be written to {self._folder} ({_reason(error)}); those that were complete are "
                f"kept: free space there, or make it writable, and the same command goes on"
            ) from error

    def _drop_unreadable_metrics(self) -> None:
        """A checkpoint whose objective cannot be read can still be gone on from, but is the best no more."""
        for path in self._folder.glob("*/metrics/metrics"):
            try:
                _objective(path)
            except (OSError, ValueError, KeyError, TypeError):
                warnings.warn(f"{path} is damaged; the checkpoint no longer counts as the best", stacklevel=3)
                path.parent.rename(path.parent.with_name(f"metrics.damaged-{time.time_ns()}"))

    def save(self, step: int, state: PyTree, record: Mapping[str, Any], *, objective: float | None) -> None:
        """Saves everything of ``step``; a step that is already there is left as it is.

        Args:
          state: host arrays, without a device axis.
          record: what goes into JSON beside the state (figures, the best objective so far).
          objective: smaller is better; ``None`` where nothing was evaluated.
        """
        if step in self._manager.all_steps():
            return
        flat = _flatten(state)
        record = {**record, "digest": _digest(flat, record)}
        with self._storing():
            self._manager.save(
                step,
                args=ocp.args.Composite(state=ocp.args.StandardSave(flat), record=ocp.args.JsonSave(record)),
                metrics=None if objective is None else {"objective": objective},
                force=True,
            )

    def restore(self, template: PyTree, *, step: int | None = None) -> Restored | None:
        """The checkpoint of ``step``, else the newest that is whole; ``None`` where there is none at all.

        A damaged one is passed over with a warning.

        Args:
          template: a pytree of arrays or shapes; only its leaves are looked up.

        Raises:
          UserError: if checkpoints are there but none can be read, or they are of another model.
        """
        steps = sorted(self._manager.all_steps(), reverse=True)
        if step is not None:
            steps = [step, *(other for other in steps if other != step)]
        for candidate in steps:
            try:
                flat, record = self._read(candidate)
            except Exception as error:  # orbax raises whatever its storage raised
                warnings.warn(
                    f"the checkpoint of step {candidate} is damaged ({_reason(error)}); trying another",
                    stacklevel=2,
                )
                self._set_aside(candidate)
                continue
            return Restored(candidate, _unflatten(template, flat), record)
        if steps:
            raise UserError(f"none of the checkpoints {steps} can be read; delete the folder and train again")
        return None

    def _set_aside(self, step: int) -> None:
        """Renames a damaged checkpoint, so that the step can be saved anew and nothing is deleted unseen."""
        if not self._read_only:
            (self._folder / str(step)).rename(self._folder / f"{step}.damaged-{time.time_ns()}")
            self._manager.reload()

    def _read(self, step: int) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        items = self._manager.restore(
            step, args=ocp.args.Composite(state=ocp.args.StandardRestore(), record=ocp.args.JsonRestore())
        )
        flat = {name: np.asarray(leaf) for name, leaf in items["state"].items()}
        record = dict(items["record"])
        if record.pop("digest") != _digest(flat, record):
            raise ValueError("its content does not match its digest")
        return flat, record

    def best(self) -> int | None:
        """The step with the smallest objective among those kept; ``None`` where nothing was evaluated."""
        scores = {}
        for step in self._manager.all_steps():
            with suppress(OSError, ValueError, KeyError, TypeError):
                scores[step] = _objective(self._folder / str(step) / "metrics" / "metrics")
        scores = {step: score for step, score in scores.items() if np.isfinite(score)}
        return min(scores, key=lambda step: (scores[step], step)) if scores else None

    def wait(self) -> None:
        """Waits until all that was saved is on disk.

        Raises:
          UserError: if it could not be written.
        """
        with self._storing():
            self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits and lets go of the threads."""
        with self._storing():
            self._manager.close()
