"""The one file that knows how many devices there are.

A function is written for one device, with the axis name ``jaxgen.model.AXIS``, and mapped with ``jax.pmap``; a single
device is the case n = 1 of the same path. Replicas (seeds) are a ``vmap`` under it. What is mapped has a leading
device axis, then a replica axis if there are several replicas.

Whatever becomes a NumPy array is waited for first, here and elsewhere: where memory ran out, waiting raises the error,
while JAX 0.10 on a CPU never returns from the conversion, or ends the process.
"""

import math
import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.experimental.multihost_utils import process_allgather
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import PyTree

from jaxgen.errors import UserError
from jaxgen.model import AXIS, over_devices


class Devices(NamedTuple):
    """The local devices of a run and the number of replicas trained side by side on each."""

    local: Sequence[Any]
    replicas: int = 1

    @property
    def num_global(self) -> int:
        """Devices over all processes."""
        return len(self.local) * jax.process_count()

    @property
    def everywhere(self) -> list[Any]:
        """The devices of all processes, over which the axis ``AXIS`` runs: of each process as many as here."""
        if jax.process_count() == 1:
            return list(self.local)
        own = [[d for d in jax.devices() if d.process_index == process] for process in range(jax.process_count())]
        return [device for devices in own for device in devices[: len(self.local)]]

    def sharding(self, *, split: bool) -> NamedSharding:
        """A placement that splits the leading axis over the devices, or copies the whole to each."""
        mesh = Mesh(np.array(self.local), (AXIS,))
        return NamedSharding(mesh, PartitionSpec(AXIS) if split else PartitionSpec())


def choose(num_devices: int | None, *, batch_size: int, replicas: int = 1, together: int = 1) -> Devices:
    """The first ``num_devices`` local devices (all by default), checked against the batch.

    Args:
      num_devices: how many, all by default.
      batch_size: of all devices.
      replicas: on each device.
      together: examples that are judged as one, all on one device.

    Raises:
      UserError: for more devices than there are, or a batch that cannot be shared out.
    """
    available = jax.local_devices()
    if num_devices is not None and not 1 <= num_devices <= len(available):
        several = len(available) > 1
        there = f"there are {len(available)} here; give 1 to {len(available)}" if several else "there is 1 here; give 1"
        raise UserError(f"--devices {num_devices} was asked for, but {there}")
    devices = Devices(available[:num_devices], replicas)
    if batch_size % devices.num_global:
        raise UserError(
            f"the batch of {batch_size} does not divide by the {devices.num_global} devices; "
            f"take a multiple of {devices.num_global}, or fewer devices with --devices"
        )
    each = batch_size // devices.num_global
    if each % together:
        where = "" if devices.num_global == 1 else f", {each} on each of {devices.num_global} devices,"
        raise UserError(
            f"the batch of {batch_size}{where} does not divide by the {together} examples that are judged together; "
            f"take a --batch-size that is a multiple of {together * devices.num_global}"
        )
    return devices


def check_fits(shapes: PyTree, devices: Devices, *, what: str, lower: str) -> None:
    """Stops where something is larger than the memory, before any of it is there.

    A CPU gives out more memory than it has; the system then ends the process without a word.

    Args:
      shapes: of what each device is to hold.
      devices: a CPU's share its memory.
      what: it is, for the message.
      lower: what makes it smaller.

    Raises:
      UserError: with the sizes of both.
    """
    needed = sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(shapes))
    limit = (devices.local[0].memory_stats() or {}).get("bytes_limit")
    there = limit or os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // len(devices.local)
    if needed > there:
        raise UserError(
            f"{what} of {needed / 1e9:,.1f} GB do not fit into the {there / 1e9:,.1f} GB that each device has; "
            f"lower {lower}"
        )


def parallel(
    function: Callable[..., Any],
    devices: Devices,
    *,
    in_axes: Sequence[int | None],
    replica_axes: Sequence[int | None],
    donate: tuple[int, ...] = (),
) -> Callable[..., Any]:
    """Maps a per-device function over the devices, and over the replicas inside each.

    Args:
      function: arrays in, arrays out; may use collectives over ``AXIS``.
      in_axes: 0 for the arguments that differ by device, ``None`` for what all devices share.
      replica_axes: likewise for the replicas on one device.
      donate: positions of the arguments whose memory the result may take.
    """
    if devices.replicas > 1:
        function = jax.vmap(function, in_axes=tuple(replica_axes))
    return jax.pmap(function, axis_name=AXIS, in_axes=tuple(in_axes), donate_argnums=donate, devices=devices.everywhere)


def replicate(tree: PyTree, devices: Devices) -> PyTree:
    """A copy for each device, on a new leading axis."""
    jax.block_until_ready(tree)
    sharding = devices.sharding(split=True)
    return jax.tree.map(
        lambda a: jax.device_put(np.broadcast_to(a, (len(devices.local), *np.shape(a))), sharding), tree
    )


def first(tree: PyTree) -> PyTree:
    """The first device's part, as NumPy arrays: what was replicated is equal on all."""
    jax.block_until_ready(tree)
    return jax.tree.map(lambda a: np.asarray(a.addressable_shards[0].data)[0], tree)


def on_first(tree: PyTree) -> PyTree:
    """The first device's part, left where it lies: nothing travels to the host."""
    return _without_axis(jax.tree.map(lambda a: a.addressable_shards[0].data, tree))


@jax.jit
def _without_axis(tree: PyTree) -> PyTree:
    return jax.tree.map(lambda a: a[0], tree)


def share(tree: PyTree, devices: Devices) -> PyTree:
    """The whole on each device, without a device axis: data that fits."""
    return jax.device_put(tree, devices.sharding(split=False))


def cut(array: np.ndarray, devices: Devices, *, axis: int) -> np.ndarray:
    """Cuts the global batch ``axis`` into equal parts, one for each device, stacked on a new leading axis.

    Each process keeps the parts of its own devices: cut the indices, then gather, and no example is read for others.
    """
    count, here = devices.num_global, len(devices.local)
    start = jax.process_index() * here
    return np.stack(np.split(array, count, axis=axis)[start : start + here])


def place(tree: PyTree, devices: Devices) -> PyTree:
    """Moves arrays with a leading device axis, as ``cut`` makes them, to the devices."""
    return jax.device_put(tree, devices.sharding(split=True))


def agree(value: int) -> int:
    """The largest over all processes: whatever steers the loop must be the same on all, or they wait for each other."""
    return value if jax.process_count() == 1 else int(process_allgather(np.int32(value)).max())


def mean_over_devices(tree: PyTree) -> PyTree:
    """``pmean`` over the device axis; nothing at all where there is one device."""
    return over_devices(jax.lax.pmean, tree)


def sum_over_devices(tree: PyTree) -> PyTree:
    """``psum`` over the device axis; nothing at all where there is one device."""
    return over_devices(jax.lax.psum, tree)


def leads() -> bool:
    """Whether this process writes what a run needs only once: of several processes, the first does."""
    return jax.process_index() == 0
