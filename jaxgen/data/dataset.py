"""What a data set is: arrays of two splits, the unit of their values, and a fingerprint of their content."""

import math
import mmap
from collections.abc import Iterator, Mapping
from hashlib import blake2b
from typing import Any, NamedTuple

import numpy as np

from jaxgen.errors import UserError

# Beyond this many bytes evenly spaced examples are fingerprinted, so that opening an array stays quick.
WHOLE_FINGERPRINT_BYTES = 256 * 2**20
_SCATTERED_ROWS = 256  # at 64 kB that the system maps around each, 16 MB
_SAMPLE_BYTES = 16 * 2**20
_CHUNK_BYTES = 16 * 2**20


class Modes(NamedTuple):
    """Where the modes of a synthetic density are known.

    Attributes:
        centers: [modes, dims], the mean of each mode.
        scale: standard deviation of each mode, the same in every direction.
    """

    centers: np.ndarray
    scale: float


class Encoded(NamedTuple):
    """What the examples are where they are codes that a run has made.

    Attributes:
        size: number of codes there are, from 0 on.
        grids: height and width of the grids that they fill row by row, coarse first.
        stages: codes of one place, side by side.
        data: fingerprint of the data set that was encoded.
        run: the folder of the run, or its name alone in a file that is for others.
        replica: which of its replicas.
        checkpoint: "best" or "last".
        fingerprint: of all that the run had learned.
    """

    size: int
    grids: tuple[tuple[int, int], ...]
    stages: int
    data: str
    run: str
    replica: int
    checkpoint: str
    fingerprint: str


def read_encoded(record: Any) -> Encoded:
    """What a file recorded of codes, each value of the kind that it should be.

    Raises:
        ValueError: naming the first that is not.
    """
    found = record if isinstance(record, Mapping) else {}

    def is_grid(value: Any) -> bool:
        return isinstance(value, list) and len(value) == 2 and all(type(size) is int and size > 0 for size in value)

    good = {
        "size": lambda value: type(value) is int and value > 0,
        "grids": lambda value: isinstance(value, list) and all(map(is_grid, value)),
        "stages": lambda value: type(value) is int and value > 0,
        "data": lambda value: isinstance(value, str),
        "run": lambda value: isinstance(value, str),
        "replica": lambda value: type(value) is int and value >= 0,
        "checkpoint": lambda value: value in ("best", "last"),
        "fingerprint": lambda value: isinstance(value, str),
    }
    for name, is_good in good.items():
        if name not in found or not is_good(found[name]):
            raise ValueError(f"{name!r} is {str(found.get(name, 'missing'))[:60]}")
    values = {name: found[name] for name in good}
    return Encoded(**{**values, "grids": tuple(map(tuple, values["grids"]))})


class Dataset(NamedTuple):
    """Two splits of one data set, as NumPy arrays that may be memory-mapped.

    Attributes:
        name: what `load` was asked for.
        train: "x", uint8 or float32 [examples, *shape]; where there are any, "label", int32 [examples], "condition",
            float32 [examples, width], and "mask", bool of the shape of "x", True where a value was observed.
        test: the same for the held-out split.
        shape: of one example; an image is [height, width, channels].
        scale: network units are x / scale (255 for 8-bit images, 16 for the digits, 1 for floats).
        num_classes: number of labels, None without labels that are classes.
        fingerprint: short hexadecimal digest of both splits' content.
        modes: of a synthetic density, None for anything else.
        columns: of a table of mixed types, the width of each column in "x": 1 for a number, more for the one-hot
            vector of a category; None for anything else.
        names: what the first line of a .csv calls each entry of an example, None where nothing does.
        encoded: whose codes the examples are, None for anything else.
    """

    name: str
    train: dict[str, np.ndarray]
    test: dict[str, np.ndarray]
    shape: tuple[int, ...]
    scale: float
    num_classes: int | None
    fingerprint: str
    modes: Modes | None = None
    columns: tuple[int, ...] | None = None
    names: tuple[str, ...] | None = None
    encoded: Encoded | None = None

    @property
    def condition_size(self) -> int | None:
        """Width of the condition vectors, None where there are none."""
        return self.train["condition"].shape[1] if "condition" in self.train else None

    @property
    def codebook_size(self) -> int:
        """Number of codes, of examples that are codes; as many as are seen where nobody says it."""
        if self.encoded is not None:
            return self.encoded.size
        largest = max((float(chunk.max()) for s in (self.train, self.test) for chunk in row_chunks(s["x"])), default=0)
        if not math.isfinite(largest):
            raise UserError(f"{self.name}: codes are whole numbers from 0 on, got {largest:g}: remove or replace it.")
        return max(1, 1 + int(largest))

    @property
    def grids(self) -> tuple[tuple[int, int], ...]:
        """Height and width of the grids that the codes of an example fill; codes side by side widen one."""
        if self.encoded is not None and self.encoded.grids:
            return self.encoded.grids
        height, *width = self.shape if len(self.shape) > 1 else (1, *self.shape)
        return ((height, math.prod(width)),)

    @property
    def per_place(self) -> int:
        """Codes of one place, side by side, each of a codebook of its own."""
        return 1 if self.encoded is None else self.encoded.stages


def array_fingerprint(array: np.ndarray) -> str:
    """Hexadecimal digest of an array's shape, type and content, the same on every machine.

    Up to 256 MB every byte counts. Beyond that, 16 MB of evenly spaced examples stand for the rest, the first
    and the last among them.
    """
    little_endian = array.dtype.newbyteorder("<")
    digest = blake2b(f"{array.shape} {little_endian.str}".encode(), digest_size=8)
    if array.nbytes > WHOLE_FINGERPRINT_BYTES:
        num_samples = min(len(array), max(2, _SAMPLE_BYTES * len(array) // array.nbytes))
        parts = [take_rows(array, np.linspace(0, len(array) - 1, num_samples).astype(np.int64))]
    else:
        parts = row_chunks(array)
    for part in parts:
        digest.update(np.ascontiguousarray(part, dtype=little_endian).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def row_chunks(array: np.ndarray) -> Iterator[np.ndarray]:
    """Consecutive slices of about 16 MB; the pages of a memory map are given back after each."""
    rows = max(1, _CHUNK_BYTES * len(array) // max(1, array.nbytes))
    for start in range(0, len(array), rows):
        yield array[start : start + rows]
        release_pages(array)


def take_rows(array: np.ndarray, index: np.ndarray) -> np.ndarray:
    """``array[index]``, giving back the pages of a memory map as it goes.

    A row that is touched brings in the pages around it: scattered rows would map nearly the whole file.
    """
    rows = np.empty((index.size, *array.shape[1:]), array.dtype)
    for start in range(0, index.size, _SCATTERED_ROWS):
        part = slice(start, start + _SCATTERED_ROWS)
        rows[part] = array[index.reshape(-1)[part]]
        release_pages(array)
    return rows.reshape(*index.shape, *array.shape[1:])


def release_pages(array: np.ndarray) -> None:
    """Let go of the pages of a read-only memory map that were touched, so that reading it keeps memory flat.

    They count as the process's own memory otherwise, although they are the system's file cache. That keeps
    them, so touching them again is quick. Nothing happens to any other array.
    """
    base: object = array
    while isinstance(base, np.ndarray):
        base = base.base
    if isinstance(base, mmap.mmap) and not array.flags.writeable and hasattr(mmap, "MADV_DONTNEED"):
        base.madvise(mmap.MADV_DONTNEED)


def make_dataset(
    name: str,
    train: dict[str, np.ndarray],
    test: dict[str, np.ndarray],
    *,
    scale: float,
    modes: Modes | None = None,
    columns: tuple[int, ...] | None = None,
) -> Dataset:
    """Fill in what follows from the arrays: the example's shape, the number of classes, the fingerprint.

    Raises:
        UserError: if a label is negative: one-hot it would be all zeros, and a model told nothing.
    """
    labels = [split["label"] for split in (train, test) if "label" in split]
    num_classes = None
    if labels and all(label.ndim == 1 and label.dtype.kind in "iu" for label in labels):
        ends = [(int(label.min()), int(label.max())) for label in labels if len(label)]
        low, high = min((low for low, _ in ends), default=0), max((high for _, high in ends), default=-1)
        if low < 0:
            raise UserError(f"{name}: labels run from {low} to {high}: number the classes from 0.")
        num_classes = 1 + high
    parts = [f"{key}:{array_fingerprint(split[key])}" for split in (train, test) for key in sorted(split)]
    fingerprint = blake2b(" ".join(parts).encode(), digest_size=8).hexdigest()
    return Dataset(name, train, test, train["x"].shape[1:], float(scale), num_classes, fingerprint, modes, columns)


def example_dtype(name: str, x: np.ndarray) -> type[np.generic]:
    """The type in which examples are kept: bytes and bits as uint8, every other number as float32."""
    if x.dtype.kind not in "buif":
        raise UserError(f"{name}: the examples are {x.dtype}, not real numbers: give an array of uint8 or float32.")
    return np.uint8 if x.dtype in (np.uint8, np.bool_) else np.float32


def default_scale(x: np.ndarray) -> float:
    """255 for bytes, 1 for floats and for bytes that are nothing but 0 and 1."""
    if x.dtype != np.uint8:
        return 1.0
    return 255.0 if any((chunk > 1).any() for chunk in row_chunks(x)) else 1.0


def hold_out(name: str, arrays: dict[str, np.ndarray]) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The last tenth of the examples, at least one, as the test split, without copying."""
    num_examples = len(arrays["x"])
    if num_examples < 2:
        raise UserError(f"{name} holds {num_examples} examples: give at least 2, one to train on and one to test.")
    for key, array in arrays.items():
        if len(array) != num_examples:
            raise UserError(f"{name}: {num_examples} examples but {len(array)} of {key}: give one for each.")
    num_train = num_examples - max(1, num_examples // 10)
    train = {key: array[:num_train] for key, array in arrays.items()}
    test = {key: array[num_train:] for key, array in arrays.items()}
    return train, test
