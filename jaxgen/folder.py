"""A run's folder: who may write in it, and what ``config.json`` records."""

import contextlib
import fcntl
import importlib.metadata
import json
import os
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

import jaxgen
from jaxgen.data import Dataset
from jaxgen.errors import UserError
from jaxgen.training import Options

#: What must be the same for a run to go on.
_IDENTITY = ("model", "arguments", "data", "options")


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
        "data_dir": data_dir,
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
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


def revision() -> str | None:
    """The git revision of the code, with a + where files were changed; ``None`` for an installed package."""
    git = ["git", "-C", str(Path(__file__).parent)]
    try:
        tracked = subprocess.run([*git, "ls-files", "--error-unmatch", __file__], capture_output=True, timeout=5)
        ask = [*git, "describe", "--always", "--dirty=+", "--exclude=*"]
        done = subprocess.run(ask, capture_output=True, text=True, timeout=5)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None if tracked.returncode == 0 else None


@contextlib.contextmanager
def claim(path: Path, config: Mapping[str, Any]) -> Iterator[None]:
    """Makes the folder this run's own: new, or of the same model, arguments, data and options; one process at a time.

    Raises:
      UserError: naming the difference, or why the folder cannot be used.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        lock = open(path / ".lock", "a")  # noqa: SIM115 (held while the run lasts)
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
            _compare(path, read_config(path), config)
        elif any(p.name != ".lock" for p in path.iterdir()):
            raise UserError(f"{path} is not empty and not a run folder; give a new --workdir")
        else:
            write_json(path / "config.json", config)
        yield


def _compare(path: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    if before["model"] != now["model"]:
        raise UserError(f"{path} holds a run of {before['model']}, not of {now['model']}; give a new --workdir")
    different = {}
    for section in ("arguments", "data", "options"):
        old, new = before[section] if isinstance(before[section], dict) else {}, now[section]
        keys = [key for key in sorted(old.keys() | new.keys()) if old.get(key) != new.get(key)]
        if section == "data" and "name" in keys:
            keys = ["name"]  # the rest follows from it
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
      UserError: where there is none, or it cannot be read.
    """
    try:
        config = json.loads((path / "config.json").read_text(encoding="utf-8"))
        return config if all(k in config for k in _IDENTITY) else _no_run(path)
    except (FileNotFoundError, NotADirectoryError):
        _no_run(path)
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{path / 'config.json'} cannot be read ({error}); the run cannot be opened") from error


def _no_run(path: Path) -> NoReturn:
    raise UserError(f"{path} is not a run folder (no config.json of one); make one with 'jaxgen train'")


def write_json(path: Path, content: Any) -> None:
    """Writes JSON so that a kill leaves either the old file or the new one."""
    partial = path.with_suffix(f".{os.getpid()}.tmp")
    try:
        partial.write_text(
            json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8", errors="backslashreplace"
        )
        os.replace(partial, path)
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror}); free space or give another folder") from error
