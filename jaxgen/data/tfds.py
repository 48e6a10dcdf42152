"""Sets that TensorFlow Datasets prepared, read without tensorflow and kept as arrays."""

import importlib.util
import json
import logging
import os
import re
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np

from jaxgen.data.cache import Allocate, Arrays, cached
from jaxgen.data.dataset import Dataset, default_scale, example_dtype, hold_out, make_dataset
from jaxgen.errors import UserError

_NAME = re.compile(r"(?P<set>[A-Za-z]\w*)(?:/(?P<config>[\w.+-]+))?(?::(?P<version>\d+\.\d+\.\d+))?")
_CHUNK = 256
# Counts the ways in which records have been turned into arrays; a new one makes old entries unseen.
_FORMAT = 1


def load_prepared(name: str, *, data_dir: str | None = None) -> Dataset:
    """A set by its TensorFlow Datasets name, `name[/config][:version]`.

    Args:
        name: without a version, the newest one that is prepared.
        data_dir: the folder of prepared sets; $TFDS_DATA_DIR, then ~/tensorflow_datasets, if it is None.

    Raises:
        UserError: if the set is not prepared while tensorflow is missing, or not made of equal arrays.
    """
    folder = find_folder(name, root=data_root(data_dir)) or _prepare(name, root=data_root(data_dir))
    version = folder.name
    stem = f"{re.sub('[^A-Za-z0-9_.]', '-', name.partition(':')[0])}-{version}-{_folder_digest(folder)}"
    arrays = cached(stem, lambda allocate: _read_folder(name, folder, allocate))
    splits: dict[str, Arrays] = {"train": {}, "test": {}}
    for key, array in arrays.items():
        split, _, field = key.partition("_")
        splits[split][field] = array
    train, test = _without_unlabelled(name, splits["train"], splits["test"])
    if not test:
        train, test = hold_out(name, train)
    return make_dataset(name, train, test, scale=default_scale(train["x"]))


def _without_unlabelled(name: str, *splits: Arrays) -> tuple[Arrays, ...]:
    """Without the labels of both splits where one withholds them, as that of a competition does: -1 is no class."""
    withheld = sum(int((split["label"] < 0).sum()) for split in splits if "label" in split)
    if not withheld:
        return splits
    warnings.warn(f"{name}: {withheld} labels are withheld (-1), so that it is used without labels.", stacklevel=3)
    return tuple({field: array for field, array in split.items() if field != "label"} for split in splits)


def data_root(data_dir: str | None) -> Path:
    """Where prepared sets lie: the argument, $TFDS_DATA_DIR, or the default of TensorFlow Datasets."""
    return Path(data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()


def find_folder(name: str, *, root: Path) -> Path | None:
    """The folder of the newest prepared version, None if there is none.

    Raises:
        UserError: if the set has several configurations and `name` gives none.
    """
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    parent = root / match["set"] / (match["config"] or "")
    version = match["version"] or "*.*.*"
    folders = [info.parent for info in parent.glob(f"{version}/dataset_info.json")]
    if not folders and not match["config"]:
        folders = [info.parent for info in parent.glob(f"*/{version}/dataset_info.json")]
        configs = sorted({folder.parent.name for folder in folders})
        if len(configs) > 1:
            given = ", ".join(f"{match['set']}/{config}" for config in configs)
            raise UserError(f"{name} is prepared in several configurations: give one of {given}.")
    numbered = [folder for folder in folders if re.fullmatch(r"\d+\.\d+\.\d+", folder.name)]
    return max(numbered, key=lambda folder: tuple(map(int, folder.name.split("."))), default=None)


def known_names() -> list[str]:
    """Every name that TensorFlow Datasets registers."""
    with _quiet():
        import tensorflow_datasets as tfds

        return tfds.list_builders(with_community_datasets=False)


def _prepare(name: str, *, root: Path) -> Path:
    """Download and prepare a set that is not there yet, which is what tensorflow is needed for."""
    if importlib.util.find_spec("tensorflow") is None:
        raise UserError(
            f"{name} is not prepared in {root}, and preparing it needs tensorflow: install it with "
            "pip install tensorflow-cpu, or name the folder that holds it by --data-dir or TFDS_DATA_DIR."
        )
    with _quiet():
        import tensorflow_datasets as tfds

        try:
            builder = tfds.builder(name, data_dir=root, file_format="array_record")
            builder.download_and_prepare()
        except Exception as error:
            raise UserError(
                f"{name} could not be prepared in {root} ({type(error).__name__}: {_first_line(error)}): "
                "name a folder that holds it by --data-dir or TFDS_DATA_DIR."
            ) from error
    return Path(builder.data_path)


def _folder_digest(folder: Path) -> str:
    """Changes when a file of the prepared set is replaced; quick, since no content is read."""
    digest = blake2b(f"format {_FORMAT}".encode(), digest_size=6)
    for path in sorted(folder.iterdir()):
        digest.update(f"{path.name} {path.stat().st_size} {path.stat().st_mtime_ns}\n".encode())
    return digest.hexdigest()


def _read_folder(name: str, folder: Path, allocate: Allocate) -> Arrays:
    """The records of the splits that serve as train and test: train_x, train_label, test_x, test_label."""
    with _quiet():
        import tensorflow_datasets as tfds

        try:
            sources: Any = tfds.builder_from_directory(folder).as_data_source()
        except NotImplementedError as error:
            file_format = json.loads((folder / "dataset_info.json").read_text(encoding="utf-8")).get(
                "fileFormat", "unknown"
            )
            raise UserError(
                f"{name} is prepared in {folder} as {file_format}, which cannot be read by position: "
                "prepare it with file_format=array_record, or give another folder by --data-dir."
            ) from error
        if "train" not in sources:
            raise UserError(f"{name} has the splits {', '.join(sources)} but none named train: give another set.")
        arrays = {}
        for split, candidates in (("train", ("train",)), ("test", ("test", "validation", "valid"))):
            for candidate in [candidate for candidate in candidates if candidate in sources][:1]:
                for field, array in _read_split(name, candidate, sources[candidate], allocate).items():
                    arrays[f"{split}_{field}"] = array
    return arrays


def _read_split(name: str, split: str, source: Any, allocate: Allocate) -> Arrays:
    from tqdm import tqdm

    num_examples = len(source)
    if num_examples == 0:
        raise UserError(f"{name}: the {split} split is empty: give another set.")
    first = source[0]
    key = _example_key(name, first)
    shape = np.shape(first[key])
    dtype = example_dtype(name, np.asarray(first[key]))
    stored_shape = (*shape, 1) if len(shape) == 2 else shape
    arrays = {"x": allocate((num_examples, *stored_shape), dtype)}
    if np.ndim(first.get("label")) == 0 and isinstance(first.get("label"), (int, np.integer)):
        arrays["label"] = allocate((num_examples,), np.int32)
    hidden = not sys.stderr.isatty()
    with tqdm(total=num_examples, desc=f"{name} {split}", unit=" examples", disable=hidden, leave=False) as bar:
        for start in range(0, num_examples, _CHUNK):
            records: Sequence[Mapping[str, Any]] = source.__getitems__(range(start, min(start + _CHUNK, num_examples)))
            for position, record in enumerate(records, start):
                if np.shape(record[key]) != shape:
                    raise UserError(
                        f"{name}: example {position} of the {split} split has shape {np.shape(record[key])}, "
                        f"the first one {shape}: give a set of one shape, or your own resized arrays."
                    )
                arrays["x"][position] = np.reshape(record[key], stored_shape)
                if "label" in arrays:
                    arrays["label"][position] = record["label"]
            bar.update(len(records))
    return arrays


def _example_key(name: str, record: Mapping[str, Any]) -> str:
    """The field that is the example: the image, or the only array of numbers."""
    if "image" in record:
        return "image"
    arrays = [
        key
        for key, value in record.items()
        if isinstance(value, np.ndarray) and value.ndim and value.dtype.kind in "buif" and key != "label"
    ]
    if len(arrays) != 1:
        raise UserError(
            f"{name} has the fields {', '.join(record)}; none is an image, {len(arrays)} are arrays of "
            "numbers: save the one you mean as .npy and give its path."
        )
    return arrays[0]


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [""])[0][:200]


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the log lines about optional packages that do not concern whoever reads data."""
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
