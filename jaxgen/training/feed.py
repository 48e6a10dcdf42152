"""From a split to what the compiled step takes: indices into data on the device, or the examples, streamed."""

from collections.abc import Mapping, Sequence

import numpy as np
from jax import Array

from jaxgen.data.batches import indices
from jaxgen.data.dataset import take_rows
from jaxgen.training.devices import Devices, cut, place, share

#: The most that the batches of one streamed call may hold, in bytes. Those of the next call lie beside them.
STREAM_BYTES = 32 * 2**20


def num_bytes(arrays: Mapping[str, np.ndarray]) -> int:
    """Bytes of a split, as they would lie on a device."""
    return sum(a.nbytes for a in arrays.values())


class Feed:
    """Batches of a split for the compiled step, as a function of (seed, round) alone.

    Streamed rounds come in pieces of …, 4, 2, 1 rounds, of which only those move that the binary digits of their
    number name: the shapes are always the same, and no round is moved that is not played.

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
        self.length = length
        if not resident:
            per_round = num_bytes(arrays) / self._num_examples * batch_size * updates * len(seeds)
            digits = (max(1, min(length, int(STREAM_BYTES / per_round))) + 1).bit_length() - 1
            self.length = 2**digits - 1
            self._absent = {size: self._empty(size) for size in reversed([2**digit for digit in range(digits)])}

    def __call__(self, start: int, count: int) -> list[dict[str, Array]]:
        """The batches of ``count`` rounds from round ``start``, as ``training.step.pick`` reads them."""
        index = self._index(start, count)
        if self._resident:
            padded = np.zeros((*index.shape[:-3], self.length, *index.shape[-2:]), np.int32)
            padded[..., :count, :, :] = index
            return [place({"index": padded}, self._devices)]
        pieces, done = [], 0
        for size, absent in self._absent.items():
            if count & size:
                part = index[..., done : done + size, :, :]
                pieces.append(place({name: take_rows(a, part) for name, a in self._arrays.items()}, self._devices))
                done += size
            else:
                pieces.append(absent)
        return pieces

    def _index(self, start: int, count: int) -> np.ndarray:
        """[devices, (replicas,) count, updates, batch of a device]: the examples that this process needs."""
        of_seeds = [
            indices(
                seed,
                start * self._updates,
                count * self._updates,
                num_examples=self._num_examples,
                batch_size=self._batch_size,
            )
            for seed in self._seeds
        ]
        index = np.stack(of_seeds) if len(of_seeds) > 1 else of_seeds[0]
        index = index.reshape(*index.shape[:-2], count, self._updates, self._batch_size)
        return cut(index, self._devices, axis=-1)

    def _empty(self, size: int) -> dict[str, Array]:
        """What stands for a piece that is not played; moved once a run."""
        axes = self._index(0, size).shape
        return place(
            {name: np.zeros((*axes, *a.shape[1:]), a.dtype) for name, a in self._arrays.items()}, self._devices
        )
