"""A run's folder: what was asked for, what came out, and how to build the model again from it."""

import contextlib
import difflib
import fcntl
import importlib.metadata
import importlib.util
import inspect
import json
import os
import platform
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import PyTree

import jaxgen
from jaxgen import models
from jaxgen.data import Dataset, check_values, load
from jaxgen.errors import UserError
from jaxgen.model import Model
from jaxgen.training import Checkpoints, Options, Result
from jaxgen.training import train as train_model
from jaxgen.training.devices import choose
from jaxgen.training.options import num_steps
from jaxgen.training.state import replica
from jaxgen.writers import ConsoleWriter, JsonlWriter, TensorBoardWriter, Writer

#: Arguments of a factory that the data decides, not the user.
DATA_ARGUMENTS = ("shape", "num_classes")

#: What must be the same for a run to go on.
_IDENTITY = ("model", "arguments", "data", "options")


class Run(NamedTuple):
    """A run read back from its folder.

    Attributes:
      path: the folder.
      config: what ``config.json`` holds.
      model: built again from the recorded arguments.
      params: of one replica, from the checkpoint.
      statistics: likewise.
      step: of the checkpoint.
      which: "best" or "last".
    """

    path: Path
    config: dict[str, Any]
    model: Model
    params: PyTree
    statistics: PyTree
    step: int
    which: str


def factory(name: str) -> Callable[..., Model]:
    """The model factory of a name.

    Raises:
      UserError: suggesting the nearest name.
    """
    if name not in models.__all__:
        close = difflib.get_close_matches(name, models.__all__, 1)
        hint = f"did you mean {close[0]!r}?" if close else f"the models are {', '.join(models.__all__)}"
        raise UserError(f"there is no model {name!r}; {hint}")
    return getattr(models, name)


def build(name: str, arguments: Mapping[str, Any]) -> Model:
    """A model from its name and arguments; lists that came out of JSON become tuples.

    Raises:
      UserError: for an unknown model or argument, or one out of range.
    """
    known = inspect.signature(factory(name)).parameters
    for argument in arguments:
        if argument not in known:
            close = difflib.get_close_matches(argument, known, 1)
            hint = f"did you mean {close[0]!r}?" if close else f"it takes {', '.join(known)}"
            raise UserError(f"{name} takes no argument {argument!r}; {hint}")
    try:
        return factory(name)(**{k: tuple(v) if isinstance(v, list) else v for k, v in arguments.items()})
    except (TypeError, ValueError) as error:
        raise UserError(f"{name}: {error}") from error


def complete(name: str, arguments: Mapping[str, Any], dataset: Dataset) -> dict[str, Any]:
    """Every argument of a factory: those given, those the data decides, the defaults."""
    from_data = {"shape": dataset.shape, "num_classes": dataset.num_classes}
    full = {}
    for key, parameter in inspect.signature(factory(name)).parameters.items():
        default = from_data[key] if key in DATA_ARGUMENTS else parameter.default
        full[key] = arguments.get(key, default)
    return full | dict(arguments)


def train(
    name: str,
    arguments: Mapping[str, Any],
    *,
    data: str,
    workdir: str | Path,
    options: Options = Options(),  # noqa: B008 (immutable)
    data_dir: str | None = None,
    data_scale: float | None = None,
    optimizers: Mapping[str, Any] | None = None,
    num_devices: int | None = None,
    quiet: bool = False,
) -> Result:
    """Trains a model of ``jaxgen.models`` in a folder, or goes on where the folder stands.

    Args:
      name: of the factory.
      arguments: its keyword arguments; what is missing takes the default.
      data: a name that ``jaxgen.data.load`` knows, or a file.
      workdir: the run's folder.
      options: how to train.
      data_dir: where TensorFlow Datasets are prepared.
      data_scale: the raw value that becomes 1; by default 255 for bytes, 16 for the digits, 1 for floats.
      optimizers: one for each player, instead of Adam at the options' rate; their settings are not recorded, so an
        experiment that passes them names them in its own file.
      num_devices: local devices to use; all by default.
      quiet: no progress bar.

    Returns:
      The final state and figures.

    Raises:
      UserError: for whatever the user can mend.
    """
    compilation_cache()
    dataset = load(data, data_dir=data_dir, seed=options.seed, scale=data_scale)
    arguments = complete(name, arguments, dataset)
    model = build(name, arguments)
    check_values(dataset, model.domain, binarized=options.binarize != "none")
    # Whatever can be refused is refused before the folder is claimed, so that the corrected command can have it.
    steps = num_steps(options, num_examples=len(dataset.train["x"]), updates=sum(model.turns.values()))
    devices = choose(num_devices, batch_size=options.batch_size)
    _check_dequantize(dataset, options)
    config = describe(name, arguments, dataset, options, data_dir) | {
        "devices": f"{devices.num_global} × {devices.local[0].device_kind}"
    }
    path = Path(workdir)
    with claim(path, config), _checkpoints(path) as checkpoints, contextlib.ExitStack() as stack:
        writers: list[Writer] = [JsonlWriter(path / "metrics.jsonl")]
        if importlib.util.find_spec("tensorboardX"):
            writers.append(TensorBoardWriter(path / "tensorboard"))
        console = None if quiet else ConsoleWriter(total=steps)
        for writer in [*writers, *([console] if console else [])]:
            stack.callback(_close, writer, path)
        return train_model(
            model,
            dataset,
            options,
            optimizers=optimizers,
            num_devices=num_devices,
            checkpoints=checkpoints,
            writers=tuple(writers),
            console=console,
        )


def _check_dequantize(dataset: Dataset, options: Options) -> None:
    """Dequantization fills the steps between integer levels; what has none, or is made bits, cannot take it."""
    if options.dequantize and options.binarize != "none":
        raise UserError(f"--dequantize and --binarize {options.binarize} exclude each other; give one of them")
    if options.dequantize and not np.issubdtype(dataset.train["x"].dtype, np.integer):
        found = dataset.train["x"].dtype
        raise UserError(f"--dequantize needs integer levels, but {dataset.name} holds {found}; leave it out")


def _close(writer: Writer, path: Path) -> None:
    """What a writer still holds may not fit on the disk."""
    try:
        writer.close()
    except OSError as error:
        raise UserError(
            f"the logs in {path} cannot be written ({error.strerror}); free space there, and the same command goes on"
        ) from error


def describe(
    name: str, arguments: Mapping[str, Any], dataset: Dataset, options: Options, data_dir: str | None
) -> dict[str, Any]:
    """What ``config.json`` records: enough to build the model again, and to know where the figures come from."""
    config = {
        "model": name,
        "arguments": arguments,
        "data": {"name": dataset.name, "fingerprint": dataset.fingerprint, "scale": dataset.scale},
        "options": options._asdict(),
        "data_dir": data_dir,
        "command": " ".join(Path(a).name if i == 0 else a for i, a in enumerate(sys.argv)),
        "versions": {
            "jaxgen": jaxgen.__version__,
            "python": platform.python_version(),
            **{p: importlib.metadata.version(p) for p in ("jax", "flax", "optax", "orbax-checkpoint", "numpy")},
        },
        "revision": revision(),
        "started": time.strftime("%Y-%m-%d %H:%M:%S"),
    }
    return json.loads(json.dumps(config))


def revision() -> str | None:
    """The git revision of the code, with a + where files were changed; ``None`` for an installed package."""
    folder = Path(__file__).parent
    try:
        ask = ["git", "-C", str(folder), "describe", "--always", "--dirty=+", "--exclude=*"]
        tracked = subprocess.run(
            ["git", "-C", str(folder), "ls-files", "--error-unmatch", __file__],
            capture_output=True,
            timeout=5,
        )
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
    differences = []
    for section in _IDENTITY:
        old, new = before.get(section), now[section]
        if not (isinstance(old, dict) and isinstance(new, dict)):
            old, new = {section: old}, {section: new}
        for key in sorted(old.keys() | new.keys()):
            if old.get(key) != new.get(key):
                differences.append(f"{key} was {old.get(key)!r} and is now {new.get(key)!r}")
    if differences:
        raise UserError(
            f"{path} holds a run with other arguments: {'; '.join(differences)}; "
            f"repeat the first command to go on, or give a new --workdir"
        )


def read_config(path: Path) -> dict[str, Any]:
    """The ``config.json`` of a run.

    Raises:
      UserError: where there is none, or it cannot be read.
    """
    try:
        config = json.loads((path / "config.json").read_text())
        return config if all(k in config for k in _IDENTITY) else _no_run(path)
    except FileNotFoundError:
        return _no_run(path)
    except (OSError, ValueError) as error:
        raise UserError(f"{path / 'config.json'} cannot be read ({error}); the run cannot be opened") from error


def _no_run(path: Path) -> Any:
    raise UserError(f"{path} is not a run folder (no config.json of one); make one with 'jaxgen train'")


def write_json(path: Path, content: Any) -> None:
    """Writes JSON so that a kill leaves either the old file or the new one."""
    partial = path.with_suffix(f".{os.getpid()}.tmp")
    try:
        partial.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n")
        os.replace(partial, path)
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror}); free space or give another folder") from error


@contextlib.contextmanager
def _checkpoints(path: Path) -> Iterator[Checkpoints]:
    checkpoints = Checkpoints(path / "checkpoints")
    try:
        yield checkpoints
    finally:
        checkpoints.close()


def open_run(
    path: str | Path, *, index: int = 0, which: str = "best", overrides: Mapping[str, Any] | None = None
) -> Run:
    """A trained run: its model built again, with one replica's parameters.

    Args:
      path: the folder.
      index: which replica.
      which: "best" (by the evaluated objective; the last where there is none) or "last".
      overrides: arguments of the factory that change evaluation alone, such as ``importance_samples``.

    Raises:
      UserError: if the folder is not a run, holds no checkpoint yet, or has no such replica.
    """
    path = Path(path)
    config = read_config(path)
    replicas = config["options"]["seeds"]
    if not 0 <= index < replicas:
        raise UserError(f"--replica {index} was asked for, but the run has {replicas}, numbered from 0")
    model = build(config["model"], {**config["arguments"], **(overrides or {})})
    if not (path / "checkpoints").is_dir():
        raise UserError(f"{path} holds no checkpoint yet; train it first")
    checkpoints = Checkpoints(path / "checkpoints", read_only=True)
    try:
        step = checkpoints.best() if which == "best" else None
        x = jax.ShapeDtypeStruct((2, *config["arguments"]["shape"]), np.float32)
        batch = {
            "x": x,
            "position": jax.ShapeDtypeStruct((2,), np.int32),
            "label": jax.ShapeDtypeStruct((2,), np.int32),
        }
        params, statistics = jax.eval_shape(model.init, jax.random.key(0), batch)
        template = {"params": params, "statistics": statistics}
        if replicas > 1:
            template = jax.tree.map(lambda s: jax.ShapeDtypeStruct((replicas, *s.shape), s.dtype), template)
        restored = checkpoints.restore(template, step=step)
    finally:
        checkpoints.close()
    if restored is None:
        raise UserError(f"{path} holds no checkpoint yet; train it first")
    own = replica(restored.state, index, replicas=replicas)
    return Run(
        path,
        config,
        model,
        own["params"],
        own["statistics"],
        restored.step,
        "best" if restored.step == step else "last",
    )


def compilation_cache() -> None:
    """Turns on JAX's persistent compilation cache in the user's cache folder, unless one is set already."""
    if getattr(jax.config, "jax_compilation_cache_dir", None) is not None:
        return
    try:
        base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
        folder = Path(base) / "jaxgen" / "xla"
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError) as error:
        warnings.warn(f"no compilation cache ({error}); every start compiles anew", stacklevel=2)
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
