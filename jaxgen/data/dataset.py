"""What a data set is: arrays of two splits, the unit of their values, and a fingerprint of their content."""

from hashlib import blake2b
from typing import NamedTuple

import numpy as np

# Beyond this many bytes evenly spaced examples are fingerprinted, so that opening an array stays quick.
WHOLE_FINGERPRINT_BYTES = 256 * 2**20
_SAMPLE_BYTES = 16 * 2**20


class Modes(NamedTuple):
    """Where the modes of a synthetic density are known.

    Attributes:
        centers: [modes, dims], the mean of each mode.
        scale: standard deviation of each mode, the same in every direction.
    """

    centers: np.ndarray
    scale: float


class Dataset(NamedTuple):
    """Two splits of one data set, as NumPy arrays that may be memory-mapped.

    Attributes:
        name: what `load` was asked for.
        train: "x", uint8 or float32 [examples, *shape], and where there are labels "label", int32 [examples].
        test: the same for the held-out split.
        shape: of one example; an image is [height, width, channels].
        scale: network units are x / scale (255 for 8-bit images, 16 for the digits, 1 for floats).
        num_classes: number of labels, None without labels.
        fingerprint: short hexadecimal digest of both splits' content.
        modes: of a synthetic density, None for anything else.
    """

    name: str
    train: dict[str, np.ndarray]
    test: dict[str, np.ndarray]
    shape: tuple[int, ...]
    scale: float
    num_classes: int | None
    fingerprint: str
    modes: Modes | None = None


def array_fingerprint(array: np.ndarray) -> str:
    """Hexadecimal digest of an array's shape, type and content, the same on every machine.

    Up to 256 MB every byte counts. Beyond that, 16 MB of evenly spaced examples stand for the rest, the first
    and the last among them.
    """
    digest = blake2b(f"{array.shape} {array.dtype.newbyteorder('<').str}".encode(), digest_size=8)
    if array.nbytes > WHOLE_FINGERPRINT_BYTES:
        num_samples = min(len(array), max(2, _SAMPLE_BYTES * len(array) // array.nbytes))
        array = array[np.linspace(0, len(array) - 1, num_samples).astype(np.int64)]
    contiguous = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    digest.update(contiguous.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def make_dataset(
    name: str,
    train: dict[str, np.ndarray],
    test: dict[str, np.ndarray],
    *,
    scale: float,
    modes: Modes | None = None,
) -> Dataset:
    """Fill in what follows from the arrays: the example's shape, the number of classes, the fingerprint."""
    num_classes = None
    if "label" in train:
        labels = [split["label"] for split in (train, test) if "label" in split and len(split["label"])]
        num_classes = 1 + max((int(label.max()) for label in labels), default=-1)
    parts = [f"{key}:{array_fingerprint(split[key])}" for split in (train, test) for key in sorted(split)]
    fingerprint = blake2b(" ".join(parts).encode(), digest_size=8).hexdigest()
    return Dataset(name, train, test, train["x"].shape[1:], float(scale), num_classes, fingerprint, modes)
