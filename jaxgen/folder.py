"""A run's folder: who may write in it, and what ``config.json`` records."""

import contextlib
import fcntl
import functools
import importlib.metadata
import json
import math
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn, get_args

import numpy as np

import jaxgen
from jaxgen.data import Dataset
from jaxgen.data.prepare import Binarize
from jaxgen.errors import UserError
from jaxgen.training import Options
from jaxgen.whole import whole

#: What must be the same for a run to go on.
_IDENTITY = ("model", "arguments", "data", "options")
#: What is read of it, and what each must be; a type, or types, or a question.
_READ: dict[str, Any] = {
    "model": str,
    "arguments": dict,
    "data": dict,
    "data.name": str,
    "data.fingerprint": str,
    "data.scale": lambda value: _is_number(value) and 0 < value < math.inf,
    "data.example": lambda value: isinstance(value, dict) and "x" in value and all(map(_is_example, value.values())),
    "options": dict,
    "options.steps": lambda value: value is None or _is_count(value),
    "options.batch_size": lambda value: _is_count(value) and value > 0,
    "options.seed": lambda value: _is_count(value),
    "options.seeds": lambda value: _is_count(value) and value > 0,
    "options.binarize": lambda value: value in get_args(Binarize),
    "options.dequantize": bool,
    "options.memory_budget": lambda value: _is_count(value),
    "data_dir": (str, type(None)),
    "command": str,
    "versions": dict,
    "revision": (str, type(None)),
    "devices": str,
    "started": str,
}


def _program(path: Path) -> str:
    """What to type; ``python -m jaxgen`` is the same command."""
    return "jaxgen" if path.parts[-2:] == ("jaxgen", "__main__.py") else path.name


def describe(
    name: str,
    arguments: Mapping[str, Any],
    dataset: Dataset,
    options: Options,
    *,
    data_dir: str | None = None,
    devices: str = "",
) -> dict[str, Any]:
    """What ``config.json`` records: enough to build the model again, and to know where the figures come from."""
    examples = {name: {"shape": a.shape[1:], "dtype": str(a.dtype)} for name, a in dataset.train.items()}
    config = {
        "model": name,
        "arguments": arguments,
        "data": {
            "name": dataset.name,
            "fingerprint": dataset.fingerprint,
            "scale": dataset.scale,
            "example": examples,
        },
        "options": options._asdict(),
        "encoded": None if dataset.encoded is None else dataset.encoded._asdict(),
        "data_dir": data_dir,
        "command": shlex.join([_program(Path(sys.argv[0])), *sys.argv[1:]]),
        "versions": {
            "jaxgen": jaxgen.__version__,
            "python": platform.python_version(),
            **{p: importlib.metadata.version(p) for p in ("jax", "flax", "optax", "orbax-checkpoint", "numpy")},
        },
        "revision": revision(),
        "devices": devices,
        "started": time.strftime("%Y-%m-%d %H:%M:%S"),
    }
    return json.loads(json.dumps(config))


@functools.cache
def revision(file: Path = Path(__file__)) -> str | None:
    """The git revision of the code that this process began with, with a + where Python files were changed; ``None``
    for an installed package."""
    git = ["git", "-C", str(file.parent)]
    try:
        tracked = subprocess.run([*git, "ls-files", "--error-unmatch", str(file)], capture_output=True, timeout=5)
        head = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, timeout=5)
        # What an experiment leaves behind, results and their table, is no change of the code that the next one runs.
        same = subprocess.run([*git, "diff", "--quiet", "HEAD", "--", ":/*.py"], capture_output=True, timeout=5)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return head.stdout.strip() + "+" * bool(same.returncode) if not tracked.returncode else None


@contextlib.contextmanager
def claim(path: Path, config: Mapping[str, Any]) -> Iterator[None]:
    """Makes the folder this run's own: new, or of the same model, arguments, data and options; one process at a time.

    Raises:
      UserError: naming the difference, or why the folder cannot be used.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        lock = open(path / ".lock", "a", encoding="utf-8")  # noqa: SIM115 (held while the run lasts)
    except OSError as error:
        raise UserError(
            f"the run folder {path} cannot be written ({error.strerror}); give another --workdir"
        ) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UserError(f"another process is training in {path}; give another --workdir or wait") from error
        if (path / "config.json").exists():
            before = read_config(path)
            if _has_begun(path) or all(before[section] == config[section] for section in _IDENTITY):
                _compare(path, before, config)
            else:  # it stopped before anything was kept: a corrected command may have its folder
                write_json(path / "config.json", config)
        elif any(p.name != ".lock" and p.suffix != ".tmp" for p in path.iterdir()):
            raise UserError(f"{path} is not empty and not a run folder; give a new --workdir")
        else:
            write_json(path / "config.json", config)
        yield


def _has_begun(path: Path) -> bool:
    """Whether a checkpoint or a logged line would be lost."""
    log, checkpoints = path / "metrics.jsonl", path / "checkpoints"
    logged = log.exists() and log.stat().st_size > 0
    return logged or (checkpoints.exists() and (not checkpoints.is_dir() or any(checkpoints.iterdir())))


def _compare(path: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    if before["model"] != now["model"]:
        raise UserError(f"{path} holds a run of {before['model']}, not of {now['model']}; give a new --workdir")
    different = {}
    for section in ("arguments", "data", "options"):
        old, new = before[section] if isinstance(before[section], dict) else {}, now[section]
        keys = [key for key in sorted(old.keys() | new.keys()) if old.get(key) != new.get(key)]
        if section == "data" and "name" in keys:
            # The rest follows from it; but codes move with their run.
            keys = [] if keys == ["name"] and now["encoded"] else ["name"]
        different |= {key: f"{key} was {old.get(key)!r} and is now {new.get(key)!r}" for key in keys}
    if not different:
        return
    way_out = "repeat the first command to go on, or give a new --workdir"
    if different.keys() & {"steps", "epochs"}:
        way_out = "a run keeps its length, so that a longer one is a new run: give a new --workdir"
    raise UserError(f"{path} holds a run with other arguments: {'; '.join(different.values())}; {way_out}")


def read_config(path: Path) -> dict[str, Any]:
    """The ``config.json`` of a run.

    Raises:
      UserError: where there is none, it cannot be read, or what it holds was damaged.
    """
    file = path / "config.json"
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        _no_run(path)
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{file} cannot be read ({error}); the run cannot be opened") from error
    if isinstance(config, dict) and not any(key in config for key in _IDENTITY):
        _no_run(path)
    for name, expected in _READ.items():
        value = config
        for key in name.split("."):
            if not isinstance(value, dict) or key not in value:
                raise UserError(f"{file} is damaged: it has no {name!r}; give back the original to open the run")
            value = value[key]
        good = isinstance(value, expected) if isinstance(expected, (type, tuple)) else expected(value)
        if not good:
            found = repr(value)[:60]
            raise UserError(f"{file} is damaged: {name!r} is {found}; give back the original to open the run")
    return config


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_example(value: Any) -> bool:
    """The shape and type of one array of an example."""
    if (
        not isinstance(value, dict)
        or not isinstance(value.get("shape"), list)
        or not all(map(_is_count, value["shape"]))
    ):
        return False
    try:
        return isinstance(value.get("dtype"), str) and np.dtype(value["dtype"]).kind in "buif"
    except (TypeError, ValueError, SyntaxError):
        return False


def _no_run(path: Path) -> NoReturn:
    raise UserError(f"{path} is not a run folder (no config.json of one); make one with 'jaxgen train'")


def write_json(path: Path, content: Any) -> None:
    """Writes JSON so that a kill leaves either the old file or the new one."""
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    try:
        with whole(path) as partial:
            partial.write_text(text, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror}); free space or give another folder") from error
