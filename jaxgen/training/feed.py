"""From a split to what the compiled step takes: indices into data on the device, or the examples, streamed."""

from collections.abc import Mapping, Sequence

import numpy as np
from jax import Array

from jaxgen.data.batches import indices
from jaxgen.data.dataset import take_rows
from jaxgen.training.devices import Devices, share, split

#: The most that one streamed call may hold, in bytes.
STREAM_BYTES = 64 * 2**20


def num_bytes(arrays: Mapping[str, np.ndarray]) -> int:
    """Bytes of a split, as they would lie on a device."""
    return sum(a.nbytes for a in arrays.values())


class Feed:
    """Batches of a split for the compiled step, as a function of (seed, round) alone.

    Attributes:
      data: the split on every device where it fits the budget, else nothing.
      length: rounds that one call can hold.
    """

    def __init__(
        self,
        arrays: Mapping[str, np.ndarray],
        devices: Devices,
        *,
        seeds: Sequence[int],
        batch_size: int,
        updates: int,
        length: int,
        resident: bool,
    ):
        self._arrays, self._devices, self._seeds = arrays, devices, seeds
        self._batch_size, self._updates = batch_size, updates
        self._num_examples = len(arrays["x"])
        self._resident = resident
        self.data: dict[str, Array] = share(dict(arrays), devices) if resident else {}
        per_round = num_bytes(arrays) / self._num_examples * batch_size * updates * len(seeds)
        self.length = length if resident else max(1, min(length, int(STREAM_BYTES / per_round)))

    def __call__(self, start: int, count: int) -> dict[str, Array]:
        """The batches of ``count`` rounds from round ``start``, padded to ``length`` rounds."""
        per_seed = [
            indices(
                seed,
                start * self._updates,
                count * self._updates,
                num_examples=self._num_examples,
                batch_size=self._batch_size,
            )
            for seed in self._seeds
        ]
        index = np.zeros((len(self._seeds), self.length, self._updates, self._batch_size), np.int32)
        index[:, :count] = np.stack(per_seed).reshape(-1, count, self._updates, self._batch_size)
        feed = {"index": index}
        if not self._resident:
            feed = {name: self._gather(a, index[:, :count]) for name, a in self._arrays.items()}
        if len(self._seeds) == 1:
            feed = {name: a[0] for name, a in feed.items()}
        return split(feed, self._devices, axis=index.ndim - 1 - (len(self._seeds) == 1))

    def _gather(self, array: np.ndarray, index: np.ndarray) -> np.ndarray:
        padded = np.zeros((*index.shape[:1], self.length, *index.shape[2:], *array.shape[1:]), array.dtype)
        padded[:, : index.shape[1]] = take_rows(array, index)
        return padded
