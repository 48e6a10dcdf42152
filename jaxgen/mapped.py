"""A run's functions over whole data sets, batch by batch, and the file that what they give is written to."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import PyTree

from jaxgen.data import Dataset, check_values, load
from jaxgen.errors import UserError
from jaxgen.model import example_keys
from jaxgen.runs import Run, SplitName, check_levels, data_folder, preparation, preparation_keys
from jaxgen.told import check_conditions
from jaxgen.whole import whole

_BATCH = 500


def dataset_for(run: Run, data: str | None, data_dir: str | None) -> Dataset:
    """A data set in the run's units: its own, or another of the same shape.

    Raises:
      UserError: if it has another shape, lacks the condition or has one that the model does not know, or values that
        the model does not take.
    """
    config, seed = run.config["data"], run.config["options"]["seed"]
    folder = data_dir or data_folder(run.config, own=data is None)
    dataset = load(data or config["name"], data_dir=folder, seed=seed, scale=config["scale"])
    shape = tuple(run.config["arguments"]["shape"])
    if dataset.shape != shape:
        raise UserError(f"{dataset.name} has examples of shape {dataset.shape}, but the run was trained on {shape}")
    check_conditions(dataset, run.model.condition)
    if run.config["options"]["dequantize"]:
        check_levels(dataset)
    check_values(dataset, run.model.domain, binarized=True, allow_missing=run.model.missing)
    return dataset


def mapped(run: Run, function: Callable[..., Array]) -> Callable[..., np.ndarray]:
    """``function(params, statistics, x[, keys][, condition=])`` over whole splits, batch by batch, as one program.

    Parameters are arguments of the program and no constants in it: other replicas, checkpoints and splits share it.

    Args:
      run: whose parameters, preparation and condition.
      function: of a batch in network units, NaN where nothing was observed.

    Returns:
      ``(name, split, key=None) -> array`` over the examples of the split of that name; with a ``key``, for a function
      that draws, it is given one for each example, which depends on the example's position alone.
    """
    prepare, condition = preparation(run.config), run.model.condition
    learned = jax.device_put((run.params, run.statistics))

    @jax.jit
    def of_batch(learned: PyTree, raw: Mapping[str, Array], keys: Array, *own: Array) -> Array:
        batch = prepare(keys, raw)
        x = jnp.where(batch["mask"], batch["x"], jnp.nan) if "mask" in batch else batch["x"]
        return function(*learned, x, *own, **({} if condition is None else {"condition": batch[condition.name]}))

    def of_split(name: SplitName, split: Mapping[str, np.ndarray], *, key: Array | None = None) -> np.ndarray:
        def found() -> Iterator[tuple[Array, int]]:
            for raw, count in batches(split):
                drawn = preparation_keys(name, raw["position"])
                yield (
                    of_batch(learned, raw, drawn, *([] if key is None else [example_keys(key, raw["position"])])),
                    count,
                )

        return joined(found())

    return of_split


def splits(dataset: Dataset) -> Iterator[tuple[SplitName, dict[str, np.ndarray]]]:
    """Both splits by their names."""
    yield "train", dataset.train
    yield "test", dataset.test


def batches(split: Mapping[str, np.ndarray]) -> Iterator[tuple[dict[str, np.ndarray], int]]:
    """Batches of one size with positions in the split, the last filled up with its last example; how many count."""
    total = len(next(iter(split.values())))
    for start in range(0, total, _BATCH):
        position = np.arange(start, start + _BATCH, dtype=np.int32)
        index = np.minimum(position, total - 1)
        batch = {name: np.asarray(a[index]) for name, a in split.items()}
        yield {**batch, "position": position}, min(_BATCH, total - start)


def joined(found: Iterable[tuple[Array, int]]) -> np.ndarray:
    return np.concatenate([np.asarray(jax.block_until_ready(values))[:count] for values, count in found])


def save_arrays(path: str | Path, arrays: Mapping[str, Any]) -> Path:
    """Writes a ``.npz``, whole or not at all, in a folder that is made where it is missing.

    Raises:
      UserError: if it cannot be written.
    """
    target = Path(path)
    if target.is_dir():  # an empty name is the folder that one is in
        raise UserError(f"{target} is a folder; give --out the name of a file")
    if target.suffix != ".npz":
        target = target.with_name(f"{target.name}.npz")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with whole(target) as partial, partial.open("wb") as file:
            np.savez(file, **arrays)
    except OSError as error:
        raise UserError(f"{target} cannot be written ({error.strerror}); give another --out") from error
    return target
