"""Checkpoints: everything a run needs to go on, saved together, by orbax; the last two and the best are kept."""

import errno
import hashlib
import json
import logging
import time
import warnings
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
from jaxtyping import PyTree
from orbax.checkpoint.checkpoint_managers import AnyPreservationPolicy, BestN, LatestN

from jaxgen.errors import UserError, storage_error
from jaxgen.training.devices import leads

#: Not the checkpoint's fault: another try, or another user, may well read it.
_UNREACHABLE = (errno.EACCES, errno.EPERM, errno.EMFILE, errno.ENFILE)


class Restored(NamedTuple):
    """A checkpoint read back: the step, the state in the shape of the template, what was recorded beside it."""

    step: int
    state: PyTree
    record: dict[str, Any]


class _DamagedError(Exception):
    """A checkpoint that cannot be read, or does not hold what was saved."""


def _not_of_orbax(record: logging.LogRecord) -> bool:
    """Orbax logs what is meant here (a checkpoint without a metric) and what it raises anyway."""
    return "orbax" not in Path(record.pathname).parts


def _score(metrics: Mapping[str, float]) -> float:
    return -metrics["objective"]


def _objective(path: Path) -> float:
    return float(json.loads(path.read_bytes())["objective"])


def _name(path: tuple[Any, ...]) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")


def _flatten(tree: PyTree) -> dict[str, np.ndarray]:
    return {_name(path): np.asarray(leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def _unflatten(template: PyTree, flat: Mapping[str, np.ndarray]) -> PyTree:
    def leaf(path, like):
        name = _name(path)
        if name not in flat or flat[name].shape != np.shape(like):
            raise UserError(
                f"the checkpoint holds {name!r} as {flat[name].shape if name in flat else 'nothing'}, "
                f"but this model needs {np.shape(like)}; it was written by another model"
            )
        return flat[name]

    return jax.tree_util.tree_map_with_path(leaf, template)


def _digest(flat: Mapping[str, np.ndarray], record: Mapping[str, Any]) -> str:
    """Over the record, names, types, shapes and bytes: a flipped bit is a damaged checkpoint, not another model."""
    digest = hashlib.blake2b(json.dumps(record, sort_keys=True).encode(), digest_size=16)
    for name in sorted(flat):
        leaf = np.ascontiguousarray(flat[name])
        digest.update(f"{name} {leaf.dtype} {leaf.shape}\n".encode())
        digest.update(leaf.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def _last_clause(error: Exception) -> str:
    """What TensorStore found, without the addresses before it and the specification after it."""
    first = (str(error).splitlines() or [""])[0].partition(" [tensorstore_spec")[0].rpartition('": ')[2]
    return first[:200] or type(error).__name__


def _read(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Arrays and record of one checkpoint, without a manager: that reads the metrics of all, and another process's too.

    Raises:
      _DamagedError: saying what is wrong.
      UserError: where the system does not let it be read.
    """
    handler = ocp.CompositeCheckpointHandler(state=ocp.StandardCheckpointHandler(), record=ocp.JsonCheckpointHandler())
    try:
        with ocp.Checkpointer(handler) as reader:
            items = reader.restore(
                path, args=ocp.args.Composite(state=ocp.args.StandardRestore(), record=ocp.args.JsonRestore())
            )
    except (OSError, ValueError, KeyError, AttributeError) as error:  # the last two where its own JSON is damaged
        refused = storage_error(error)
        if refused and refused.errno in _UNREACHABLE:
            raise UserError(f"{path} cannot be read ({refused.strerror}); make it readable and try again") from error
        raise _DamagedError((refused and refused.strerror) or _last_clause(error)) from error
    record = items["record"]
    flat = {name: np.asarray(leaf) for name, leaf in items["state"].items()}
    if not isinstance(record, dict) or record.pop("digest", None) != _digest(flat, record):
        raise _DamagedError("its content does not match its digest")
    return flat, record


class Checkpoints:
    """The checkpoints of one run's folder.

    Saving is asynchronous: a thread takes the digest and hands the arrays to orbax, which writes them while training
    goes on; a checkpoint that a kill cut short is never taken for a whole one. Another process may read the folder
    all the while.

    Args:
      folder: made where it is missing, unless it is only read.
      read_only: nothing is written, renamed or deleted.
      beside: a file without which the run's folder is no run folder any more; nothing is saved where it is gone.

    Raises:
      UserError: if the folder cannot be written.
    """

    def __init__(self, folder: Path, *, read_only: bool = False, beside: Path | None = None):
        logging.getLogger("absl").addFilter(_not_of_orbax)
        self._folder, self._beside = folder.absolute(), beside and beside.absolute()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._saving: Future[None] | None = None
        with self._storing():
            self._manager = None if read_only else self._manage()

    def _manage(self) -> ocp.CheckpointManager:
        if leads():
            self._drop_unreadable_metrics()
        best = BestN(get_metric_fn=_score, n=1, keep_checkpoints_without_metrics=False)
        return ocp.CheckpointManager(
            self._folder,
            options=ocp.CheckpointManagerOptions(
                best_fn=_score,  # metrics are written only where this is given
                preservation_policy=AnyPreservationPolicy([LatestN(2), best]),
                save_interval_steps=1,
            ),
        )

    @contextmanager
    def _storing(self) -> Iterator[None]:
        """A full disk or a folder that cannot be written becomes one sentence; anything else surfaces as itself."""
        try:
            yield
        except Exception as error:
            refused = storage_error(error)
            if refused is None:
                raise
            raise UserError(
                f"no checkpoint can be written to {self._folder} ({refused.strerror or refused}); those that were "
                f"complete are kept: free space there, or make it writable, and the same command goes on"
            ) from error

    def _drop_unreadable_metrics(self) -> None:
        """A checkpoint whose objective cannot be read can still be gone on from, but is the best no more."""
        for path in self._folder.glob("*/metrics/metrics"):
            try:
                _objective(path)
            except (OSError, ValueError, KeyError, TypeError):
                warnings.warn(f"{path} is damaged; the checkpoint no longer counts as the best", stacklevel=4)
                path.parent.rename(path.parent.with_name(f"metrics.damaged-{time.time_ns()}"))

    def save(self, step: int, state: PyTree, record: Mapping[str, Any], *, objective: float | None) -> None:
        """Saves everything of ``step``; a step that is already there is left as it is.

        Args:
          state: arrays without a device axis, which stay as they are until ``wait``.
          record: what goes into JSON beside the state (figures, the best objective so far).
          objective: smaller is better; ``None`` where nothing was evaluated.

        Raises:
          UserError: if this one, or the one before, could not be written, or the run's folder was removed.
        """
        if self._beside is not None and leads() and not self._beside.exists():
            raise UserError(f"the run folder {self._beside.parent} was removed while training; give a new --workdir")
        self._settle()
        self._saving = self._thread.submit(self._write, step, _flatten(state), dict(record), objective)
        if jax.process_count() > 1:
            self._settle()  # orbax's barriers are computations on all devices: they must not overtake the trainer's

    def _write(self, step: int, flat: dict[str, np.ndarray], record: dict[str, Any], objective: float | None) -> None:
        assert self._manager is not None
        if step in self._manager.all_steps():
            return
        record["digest"] = _digest(flat, record)
        self._manager.save(
            step,
            args=ocp.args.Composite(state=ocp.args.StandardSave(flat), record=ocp.args.JsonSave(record)),
            metrics=None if objective is None else {"objective": objective},
            force=True,
        )

    def _settle(self) -> None:
        """Waits until the last ``save`` is in orbax's hands."""
        saving, self._saving = self._saving, None
        if saving is not None:
            with self._storing():
                saving.result()

    def restore(self, template: PyTree, *, step: int | None = None) -> Restored | None:
        """The checkpoint of ``step``, else the newest that is whole; ``None`` where there is none at all.

        A damaged one is passed over with a warning, and set aside once another was read.

        Args:
          template: a pytree of arrays or shapes; only its leaves are looked up.
          step: which to try first.

        Raises:
          UserError: if checkpoints are there but none can be read, or they are of another model.
        """
        damaged: list[int] = []
        while True:
            steps = self._steps()
            left = sorted((s for s in steps if s not in damaged), key=lambda s: (s == step, s))
            if not left:
                break
            try:
                flat, record = _read(self._folder / str(left[-1]))
            except _DamagedError as error:
                if self._replaced(steps):
                    continue
                damaged.append(left[-1])
                warnings.warn(f"the checkpoint of step {left[-1]} is damaged ({error}); trying another", stacklevel=2)
                continue
            state = _unflatten(template, flat)
            self._set_aside(damaged)
            return Restored(left[-1], state, record)
        if damaged:
            raise UserError(f"none of the checkpoints {damaged} can be read; delete the folder and train again")
        return None

    def _steps(self) -> list[int]:
        """Steps of the whole checkpoints on disk, as they are at this moment."""
        self.wait()
        return sorted(ocp.utils.checkpoint_steps(self._folder)) if self._folder.is_dir() else []

    def _replaced(self, steps: list[int]) -> bool:
        """Whether a checkpoint failed because another process trains here, and has put another in its place.

        A folder that is being deleted is gone in a moment; one that is damaged stays.
        """
        tries = 20 if self._manager is None else 1
        for attempt in range(tries):
            time.sleep(0.05 * (attempt > 0))
            if self._steps() != steps:
                return True
        return False

    def _set_aside(self, steps: list[int]) -> None:
        """Renames damaged checkpoints, so that the step can be saved anew and nothing is deleted unseen."""
        if self._manager is None or not steps:
            return
        for step in steps if leads() else ():
            (self._folder / str(step)).rename(self._folder / f"{step}.damaged-{time.time_ns()}")
        self._manager.reload()

    def best(self) -> int | None:
        """The step with the smallest objective among those kept; ``None`` where nothing was evaluated."""
        scores = {}
        for step in self._steps():
            with suppress(OSError, ValueError, KeyError, TypeError):
                scores[step] = _objective(self._folder / str(step) / "metrics" / "metrics")
        scores = {step: score for step, score in scores.items() if np.isfinite(score)}
        return min(scores, key=lambda step: (scores[step], step)) if scores else None

    def objective(self, step: int) -> float:
        """Of a checkpoint that was evaluated."""
        return _objective(self._folder / str(step) / "metrics" / "metrics")

    def wait(self) -> None:
        """Waits until all that was saved is on disk.

        Raises:
          UserError: if it could not be written.
        """
        self._settle()
        if self._manager is not None:
            with self._storing():
                self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits and lets go of the threads."""
        try:
            self._settle()
        finally:
            self._thread.shutdown()
            if self._manager is not None:
                with self._storing():
                    self._manager.close()
