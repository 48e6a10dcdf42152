"""Where the numbers of a run go: a JSONL file, TensorBoard; one Protocol for them and the console."""

import json
import math
import os
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, SupportsFloat, runtime_checkable

import numpy as np

from jaxgen.errors import UserError

__all__ = [
    "JsonlWriter",
    "TensorBoardWriter",
    "Writer",
    "read_jsonl",
]

Values = Mapping[str, SupportsFloat | Sequence[SupportsFloat]]
KINDS = ("train", "evaluate")
RESERVED = ("step", "kind", "time")


@runtime_checkable
class Writer(Protocol):
    """What the training loop knows of a writer."""

    def write(self, step: int, values: Values, *, kind: str) -> None:
        """Record the values of one log point: a number a name, or a list with one number a replica."""
        ...

    def close(self) -> None:
        """Flush and let go of files and terminals."""
        ...


class JsonlWriter:
    """One strict JSON object a line: `{"step": 100, "kind": "train", "time": 1.7e9, "loss": 3.2}`.

    The file is only ever appended to, a whole line at a time and past every buffer of the process, so that it
    is valid after a kill. A line that a kill cut short stays, closed by a newline when the file is reopened.
    Numbers that are not finite become the strings "nan", "inf" and "-inf".

    Args:
        path: the file; its folder is made if need be.

    Raises:
        UserError: the file cannot be opened or, later, written: no permission, no room.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     writer = JsonlWriter(Path(folder) / "metrics.jsonl")
        ...     writer.write(10, {"loss": 0.5, "kl": [1.0, float("inf")]}, kind="train")
        ...     writer.close()
        ...     point = read_jsonl(Path(folder) / "metrics.jsonl")[0]
        >>> point["step"], point["loss"], point["kl"]
        (10, 0.5, [1.0, inf])
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path)
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._path.open("ab", buffering=0)
            whole = _ends_in_newline(self._path)
        except OSError as error:
            raise UserError(f"cannot write metrics to {path}: {error.strerror}; choose another folder") from error
        if not whole:
            self._append(b"\n")

    def write(self, step: int, values: Values, *, kind: str) -> None:
        """Append one line; see `Writer.write`.

        Raises:
            ValueError: `kind` is not one of "train" and "evaluate", a name is one of "step", "kind" and
                "time", or a value is neither a number nor a list of numbers.
        """
        point: dict[str, Any] = {
            "step": int(step),
            "kind": checked_kind(kind),
            "time": round(time.time(), 3),
        }
        for name, value in values.items():
            if name in RESERVED:
                raise ValueError(f"a value must not be named {name!r}, which every line has; choose another name")
            point[name] = _strict(plain(name, value))
        self._append(json.dumps(point, allow_nan=False).encode() + b"\n")

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _append(self, line: bytes) -> None:
        try:
            while line:
                line = line[self._file.write(line) :]
        except OSError as error:
            raise UserError(f"cannot write metrics to {self._path}: {error.strerror}; make room and resume") from error


def read_jsonl(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """The log points of a file that `JsonlWriter` wrote, by step.

    A resumed run repeats the steps after its last checkpoint: of log points with the same kind and step the
    last one counts. Damaged lines, as a kill may leave, are skipped with one warning.

    Args:
        path: the file.

    Returns:
        One dictionary a log point: "step", "kind", "time", and each value as a float or a list of floats.

    Raises:
        FileNotFoundError: there is no such file.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "metrics.jsonl"
        ...     _ = path.write_text('{"step": 2, "kind": "train", "loss": "nan"}\\n')
        ...     read_jsonl(path)
        [{'step': 2, 'kind': 'train', 'loss': nan}]
    """
    points: dict[tuple[str, int], dict[str, Any]] = {}
    damaged = []
    for number, line in enumerate(Path(path).read_bytes().split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            point = _parse(line)
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
            damaged.append(number)
        else:
            points[point["kind"], point["step"]] = point
    if damaged:
        lines = ", ".join(map(str, damaged[:5])) + (", …" if len(damaged) > 5 else "")
        what = "line" if len(damaged) == 1 else "lines"
        warnings.warn(f"{path}: skipped {len(damaged)} damaged {what} (number {lines})", stacklevel=2)
    return sorted(points.values(), key=lambda point: (point["step"], KINDS.index(point["kind"])))


class TensorBoardWriter:
    """Scalars named "kind/name" for TensorBoard; of replicas their mean.

    Written to a folder that holds events already, as of a run that resumes, the first log point hides those
    at its step and later.

    Args:
        folder: where the event files go.

    Raises:
        UserError: tensorboardX is not installed.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        try:
            from tensorboardX import SummaryWriter
        except ImportError as error:
            raise UserError(
                "TensorBoard files need tensorboardX, which is missing: pip install tensorboardX"
            ) from error
        self._open = SummaryWriter
        self._folder = Path(folder)
        self._writer: Any = None

    def write(self, step: int, values: Values, *, kind: str) -> None:
        """Add one scalar a name; see `Writer.write`."""
        checked_kind(kind)
        if self._writer is None:
            resumed = any(self._folder.glob("events.*"))
            # The suffix keeps two runs of the same second from writing to one file.
            purge = step if resumed else None
            self._writer = self._open(str(self._folder), purge_step=purge, filename_suffix=f".{step}")
        for name, value in values.items():
            mean = float(np.mean(plain(name, value)))
            self._writer.add_scalar(f"{kind}/{name}", mean, step)

    def close(self) -> None:
        """Flush and close the event file."""
        if self._writer is not None:
            self._writer.close()


def checked_kind(kind: str) -> str:
    """The kind, if it is one."""
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(map(repr, KINDS))}, got {kind!r}")
    return kind


def plain(name: str, value: Any) -> float | list[float]:
    """Python floats from whatever is a number, or a list of numbers."""
    array = np.asarray(value, np.float64)
    if array.ndim > 1:
        raise ValueError(f"{name!r} must be a number or a list with one number a replica, got shape {array.shape}")
    return array.tolist()


def _strict(value: float | list[float]) -> Any:
    """JSON knows no NaN and no infinity: their names, as strings."""
    if isinstance(value, list):
        return [_strict(entry) for entry in value]
    return value if math.isfinite(value) else str(value)


def _parse(line: bytes) -> dict[str, Any]:
    point = json.loads(line)
    step, kind = point["step"], checked_kind(point["kind"])
    if type(step) is not int:
        raise ValueError(f"step must be an integer, got {step!r}")
    rest = {name: plain(name, value) for name, value in point.items() if name not in ("step", "kind")}
    return {"step": step, "kind": kind} | rest


def _ends_in_newline(path: Path) -> bool:
    """Whether a next line may start; true of an empty file."""
    with path.open("rb") as file:
        if file.seek(0, os.SEEK_END) == 0:
            return True
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"
