"""Runs: a model built from its name and arguments, trained in a folder, and opened again from it."""

import contextlib
import importlib.util
import inspect
import math
import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, get_args

import jax
import numpy as np
from jax import Array
from jaxtyping import PyTree

from jaxgen import models
from jaxgen.choices import SplitName, Which
from jaxgen.compiled import compilation_cache
from jaxgen.console import Console, ConsoleWriter
from jaxgen.data import Dataset, check_values, load
from jaxgen.data.dataset import row_chunks
from jaxgen.data.prepare import make_prepare
from jaxgen.data.sources import prepared_in
from jaxgen.errors import UserError, nearest
from jaxgen.folder import claim, describe, read_config
from jaxgen.model import Batch, Model, example_keys
from jaxgen.told import check_learnable
from jaxgen.training import Checkpoints, Options, Result, Snapshots
from jaxgen.training import train as train_model
from jaxgen.training.checkpoint import Restored
from jaxgen.training.devices import choose, leads
from jaxgen.training.options import num_steps
from jaxgen.training.state import replica
from jaxgen.unused import check_used
from jaxgen.writers import JsonlWriter, TensorBoardWriter, Writer

#: Arguments of a factory that the data decides, not the user.
DATA_ARGUMENTS = ("shape", "num_classes", "condition_size", "columns", "codebook_size", "grids", "per_place")

#: Folder in a run's, of what the same noise became.
SNAPSHOTS = "snapshots"

#: Channels of convolutions above which a CPU takes seconds a step.
_WIDE = 128

#: Keys what preparation draws of a run that is looked at, apart from the seeds of other draws.
_PREPARATION_KEY = 0xB175


class Run(NamedTuple):
    """A run read back from its folder.

    Attributes:
      path: the folder.
      config: what ``config.json`` holds.
      model: built again from the recorded arguments.
      params: from the checkpoint, of one replica or of all.
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
    which: Which


def factory(name: str) -> Callable[..., Model]:
    """The model factory of a name.

    Raises:
      UserError: suggesting the nearest name.
    """
    if name not in models.__all__:
        raise UserError(f"there is no model {name!r}; {nearest(name, models.__all__)}")
    return getattr(models, name)


def build(name: str, arguments: Mapping[str, Any]) -> Model:
    """A model from its name and arguments; lists that came out of JSON become tuples.

    Raises:
      UserError: for an unknown model, an argument that is unknown, missing or out of range.
    """
    make = factory(name)
    signature = inspect.signature(make)
    for argument in arguments:
        if argument not in signature.parameters:
            raise UserError(f"{name} takes no argument {argument!r}; {nearest(argument, signature.parameters)}")
    given = {k: _as_tuple(v) for k, v in arguments.items()}
    for argument, value in given.items():
        for number in value if isinstance(value, tuple) else (value,):
            check_number(f"{name}: --{argument.replace('_', '-')}", number)
    try:
        signature.bind(**given)
    except TypeError as error:
        raise UserError(f"{name}: {error}") from error
    try:  # another TypeError is a mistake in the factory, whose traceback says where
        return make(**given)
    except ValueError as error:
        raise UserError(f"{name}: {error}") from error


def _as_tuple(value: Any) -> Any:
    """What JSON made a list of, at any depth."""
    return tuple(map(_as_tuple, value)) if isinstance(value, list) else value


def check_number(name: str, value: Any) -> None:
    """Of whatever argument: NaN passes a check for a negative number, and arrays count in 32 bits.

    Raises:
      UserError: for what is not finite, or no shape.
    """
    if isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"{name} must be finite, got {value}")
    if isinstance(value, int) and abs(value) >= 2**31:
        raise UserError(f"{name} must be below 2³¹, got {value}")


def complete(name: str, arguments: Mapping[str, Any], dataset: Dataset) -> dict[str, Any]:
    """Every argument of a factory: those given, those the data decides, the defaults."""
    full = {}
    for key, parameter in inspect.signature(factory(name)).parameters.items():
        default = getattr(dataset, key) if key in DATA_ARGUMENTS else parameter.default
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
      data: a name that ``jaxgen.data.load`` knows, or a file; a synthetic set is drawn once, from the run's seed, for
        all its replicas.
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
    check_learnable(dataset, model.condition)
    if not (Path(workdir) / "config.json").exists():  # a run that was begun goes on with what it was begun with
        check_used(arguments, {p.name: p.default for p in inspect.signature(factory(name)).parameters.values()})
    # Whatever can be refused is refused before the folder is claimed, so that the corrected command can have it.
    steps = num_steps(options, num_examples=len(dataset.train["x"]), updates=sum(model.turns.values()))
    devices = choose(num_devices, batch_size=options.batch_size, together=model.together)
    _check_dequantize(dataset, options)
    check_values(dataset, model.domain, binarized=options.binarize != "none", allow_missing=model.missing)
    _check_codes(model, arguments, dataset)
    _warn_of_width(arguments, platform=devices.local[0].platform)
    _warn_of_pretraining(arguments, steps=steps)
    kind = f"{devices.num_global} × {devices.local[0].device_kind}"
    came_from = prepared_in(data, data_dir=data_dir) or data_dir
    config = describe(name, arguments, dataset, options, data_dir=came_from, devices=kind)
    path = Path(workdir)
    title = f"{name} on {Path(data).name} in {path}{_missing(dataset)}"
    with (
        _logs(path, config, title=title, steps=None if quiet else steps) as (writers, console),
        contextlib.closing(Checkpoints(path / "checkpoints", beside=path / "config.json")) as checkpoints,
    ):
        return train_model(
            model,
            dataset,
            options,
            optimizers=optimizers,
            num_devices=num_devices,
            checkpoints=checkpoints,
            snapshots=Snapshots(path / SNAPSHOTS) if leads() else None,
            writers=writers,
            console=console,
        )


def _missing(dataset: Dataset) -> str:
    """For the title: a NaN that slipped in is taken for a value that was not observed."""
    mask = dataset.train.get("mask")
    hidden = 0 if mask is None else int(mask.size - np.count_nonzero(mask))
    return f" ({hidden:,} of {mask.size:,} values missing)" if mask is not None and hidden else ""


def _check_codes(model: Model, arguments: Mapping[str, Any], dataset: Dataset) -> None:
    """Codes of a codebook start on encodings, and end on means of them."""
    codes = model.codes
    if codes is None or not codes.shared or arguments.get("quantizer") in ("finite_scalar", "gumbel"):
        return
    size = codes.size // (max(1, len(codes.grids)) * codes.stages)
    encodings = len(dataset.train["x"]) * min((math.prod(grid) // codes.stages for grid in codes.grids), default=1)
    if size > encodings:
        raise UserError(
            f"{size} codes are more than the {encodings} encodings of the training split; give fewer --num-codes"
        )


def _check_dequantize(dataset: Dataset, options: Options) -> None:
    """Dequantization fills the steps between integer levels; what has none, or is made bits, cannot take it."""
    if not options.dequantize:
        return
    if options.binarize != "none":
        raise UserError(f"--dequantize and --binarize {options.binarize} exclude each other; give one of them")
    if not np.issubdtype(dataset.train["x"].dtype, np.integer):
        found = dataset.train["x"].dtype
        raise UserError(f"--dequantize needs integer levels, but {dataset.name} holds {found}; leave it out")
    check_levels(dataset)


def check_levels(dataset: Dataset) -> None:
    """Levels to dequantize are whole numbers 0 … scale, or missing: all above would silently become the highest.

    Raises:
      UserError: with what was seen instead.
    """
    low, high = np.inf, -np.inf
    for chunk in (chunk for split in (dataset.train, dataset.test) for chunk in row_chunks(split["x"])):
        if chunk.dtype.kind == "f":
            chunk = chunk[~np.isnan(chunk)]
            if np.any(chunk != np.round(chunk)):
                odd = chunk[chunk != np.round(chunk)][0]
                raise UserError(
                    f"the run dequantizes integer levels, but {dataset.name} holds {odd:g}; give such levels"
                )
        if chunk.size:
            low, high = min(low, float(chunk.min())), max(high, float(chunk.max()))
    if low < 0 or high > dataset.scale:
        raise UserError(
            f"--dequantize takes levels from 0 to the --data-scale {dataset.scale:g}, but those of {dataset.name} run "
            f"from {low:g} to {high:g}; give the highest level there can be as --data-scale"
        )


def _warn_of_width(arguments: Mapping[str, Any], *, platform: str) -> None:
    """Default widths suit an mlp, and channels a GPU: who waits for a CPU should know what is quicker."""
    network, widest = arguments.get("network", "mlp"), max(arguments.get("hidden", ()), default=0)
    if platform == "cpu" and network != "mlp" and widest > _WIDE:
        warnings.warn(
            f"--network {network} with {widest} channels takes seconds a step on a CPU; --hidden 32 64 is quick",
            stacklevel=3,
        )


def _warn_of_pretraining(arguments: Mapping[str, Any], *, steps: int) -> None:
    """Layers may be wanted one by one, but nobody should take them for a whole that was trained."""
    updates = arguments.get("pretrain", 0) * (len(arguments.get("hidden", ())) + 1)
    if updates and steps <= updates:
        warnings.warn(
            f"all {steps} steps go into pre-training, which takes {updates}, --pretrain {arguments['pretrain']} for "
            f"each layer: the layers are never trained together; give more --steps or a smaller --pretrain",
            stacklevel=3,
        )


@contextlib.contextmanager
def _logs(
    path: Path, config: Mapping[str, Any], *, title: str, steps: int | None
) -> Iterator[tuple[tuple[Writer, ...], Console | None]]:
    """The folder as this run's own, with what writes in it and, where the steps are told, a console.

    Of several processes the first alone does all that; each has its share in the checkpoints.
    """
    if not leads():
        yield (), None
        return
    with claim(path, config), contextlib.ExitStack() as stack:
        writers: list[Writer] = [JsonlWriter(path / "metrics.jsonl")]
        if importlib.util.find_spec("tensorboardX"):
            writers.append(TensorBoardWriter(path / "tensorboard"))
        console = None if steps is None else ConsoleWriter(total=steps, title=title)
        for writer in [*writers, *([console] if console else [])]:
            stack.callback(_close, writer, path)
        yield tuple(writers), console


def _close(writer: Writer, path: Path) -> None:
    """What a writer still holds may not fit on the disk."""
    try:
        writer.close()
    except OSError as error:
        raise UserError(
            f"the logs in {path} cannot be written ({error.strerror}); free space there, and the same command goes on"
        ) from error


def data_folder(config: Mapping[str, Any], *, own: bool = True) -> str | None:
    """Where the run's prepared set lay, if it still does; for another set the folder that TFDS_DATA_DIR names is first.

    A run that was copied to another machine finds its data where that machine has them.
    """
    recorded = config["data_dir"]
    if recorded is None or not Path(recorded).is_dir() or (not own and os.environ.get("TFDS_DATA_DIR")):
        return None
    return recorded


def preparation(config: Mapping[str, Any]) -> Callable[..., Batch]:
    """The map from raw batches to network units that a run was trained with."""
    options = config["options"]
    return make_prepare(scale=config["data"]["scale"], binarize=options["binarize"], dequantize=options["dequantize"])


def preparation_keys(split: SplitName, position: Array | np.ndarray) -> Array:
    """Keys of what is drawn to prepare the examples at these positions of a split: pictures and codes share it."""
    key = jax.random.fold_in(jax.random.key(_PREPARATION_KEY), get_args(SplitName).index(split))
    return example_keys(key, position)


def open_run(
    path: str | Path, *, index: int | None = 0, which: Which = "best", overrides: Mapping[str, Any] | None = None
) -> Run:
    """A trained run: its model built again, with its parameters. Another process may be training it meanwhile.

    Args:
      path: the folder.
      index: which replica; ``None`` for all of them, on a leading axis where there are several.
      which: "best" (by the evaluated objective; the last where there is none) or "last".
      overrides: arguments of the factory that change evaluation alone, such as ``importance_samples``.

    Raises:
      UserError: if the folder is not a run, holds no checkpoint yet, or has no such replica.
    """
    path = Path(path)
    config = read_config(path)
    replicas = config["options"]["seeds"]
    if index is not None and not 0 <= index < replicas:
        there = "one replica, number 0" if replicas == 1 else f"{replicas}, numbered 0 to {replicas - 1}"
        raise UserError(f"--replica {index} was asked for, but the run has {there}")
    model = build(config["model"], {**config["arguments"], **(overrides or {})})
    restored, found = _restore(path, _template(model, config), which)
    state = restored.state if index is None else replica(restored.state, index, replicas=replicas)
    return Run(path, config, model, state["params"], state["statistics"], restored.step, found)


def _template(model: Model, config: Mapping[str, Any]) -> PyTree:
    """Shapes of what the model learns, from the recorded shapes of an example."""
    examples = {name: (tuple(a["shape"]), a["dtype"]) for name, a in config["data"]["example"].items()}
    raw = {name: jax.ShapeDtypeStruct((2, *shape), dtype) for name, (shape, dtype) in examples.items()}
    raw["position"] = jax.ShapeDtypeStruct((2,), np.int32)
    prepare, replicas = preparation(config), config["options"]["seeds"]

    def init(raw: Mapping[str, Any]) -> PyTree:
        key = jax.random.key(0)
        params, statistics = model.init(key, prepare(jax.random.split(key, 2), raw))
        return {"params": params, "statistics": statistics}

    template = jax.eval_shape(init, raw)
    if replicas == 1:
        return template
    return jax.tree.map(lambda s: jax.ShapeDtypeStruct((replicas, *s.shape), s.dtype), template)


def _restore(path: Path, template: PyTree, which: Which) -> tuple[Restored, Which]:
    with contextlib.closing(Checkpoints(path / "checkpoints", read_only=True)) as checkpoints:
        while True:
            best = checkpoints.best() if which == "best" else None
            restored = checkpoints.restore(template, step=best)
            if restored is None:
                raise UserError(f"{path} holds no checkpoint yet; train it, or wait for its first evaluation")
            if best is None or restored.step == best:
                return restored, "last" if best is None else "best"
            if checkpoints.best() == best:  # it is damaged, not replaced by a better one meanwhile
                return restored, "last"
