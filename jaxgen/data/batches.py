"""The order of the examples as a function of (seed, epoch)."""

from collections import OrderedDict
from threading import Lock

import numpy as np
from jaxtyping import Int32

from jaxgen.errors import UserError

# Permutations are kept while they fit this many bytes together; the newest two are always kept.
_CACHE_BYTES = 64 * 2**20
_cache: OrderedDict[tuple[int, int, int], np.ndarray] = OrderedDict()
_cache_lock = Lock()


def epoch_order(seed: int, epoch: int, num_examples: int) -> Int32[np.ndarray, " num_examples"]:
    """A permutation of the examples that depends on nothing but (seed, epoch, num_examples).

    It sorts random 64-bit words of Philox, keyed by NumPy's `SeedSequence`. NumPy's compatibility policy
    freezes both streams, but not `Generator.permutation`, so this order outlives a change of version or
    machine. The low bits of every word are replaced by the example's index: no two words are equal, and any
    sort agrees.

    Args:
        seed: not negative.
        epoch: not negative.
        num_examples: at least 1, less than 2³¹.

    Returns:
        [num_examples], read-only, since it is shared by all callers.

    Raises:
        ValueError: if an argument lies outside its range.

    Example:
        >>> order = epoch_order(0, 3, 10)
        >>> sorted(order.tolist())
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
    """
    if seed < 0 or epoch < 0:
        raise ValueError(f"seed and epoch must not be negative, got seed={seed} and epoch={epoch}: give 0 or more.")
    if not 1 <= num_examples < 2**31:
        raise ValueError(f"num_examples must lie in [1, 2³¹), got {num_examples}: give the size of the split.")
    key = (seed, epoch, num_examples)
    with _cache_lock:
        if key in _cache:
            _cache.move_to_end(key)
            return _cache[key]
    order = _permutation(*key)
    with _cache_lock:
        _cache[key] = order
        _cache.move_to_end(key)
        while len(_cache) > 2 and sum(kept.nbytes for kept in _cache.values()) > _CACHE_BYTES:
            _cache.popitem(last=False)
    return order


def _permutation(seed: int, epoch: int, num_examples: int) -> np.ndarray:
    words = np.random.Philox(np.random.SeedSequence([seed, epoch])).random_raw(num_examples)
    index_bits = np.uint64((1 << (num_examples - 1).bit_length()) - 1)
    words = (words & ~index_bits) | np.arange(num_examples, dtype=np.uint64)
    words.sort()
    order = (words & index_bits).astype(np.int32)
    order.flags.writeable = False
    return order


def indices(
    seed: int, start: int, count: int, *, num_examples: int, batch_size: int
) -> Int32[np.ndarray, "count batch_size"]:
    """Batches number start … start + count − 1 of an endless stream of epochs.

    Each epoch is a fresh permutation whose ragged rest is dropped: with m = num_examples // batch_size, batch
    b is batch b mod m of epoch b div m. The cost is that of the indices returned and of one permutation for
    each epoch touched; the latest permutations are kept.

    Args:
        seed: of the order.
        start: number of the first batch since the beginning of training.
        count: how many batches.
        num_examples: size of the split.
        batch_size: examples in a batch.

    Returns:
        [count, batch_size] positions in the split.

    Raises:
        UserError: if a batch is empty or larger than the split.
        ValueError: if `start` or `count` is negative.

    Example:
        >>> batches = indices(0, 0, 4, num_examples=7, batch_size=3)
        >>> batches.shape
        (4, 3)
        >>> bool((batches[2:].reshape(-1) == epoch_order(0, 1, 7)[:6]).all())
        True
    """
    if batch_size < 1:
        raise UserError(f"The batch size must be at least 1, got {batch_size}: give --batch-size 1 or more.")
    if batch_size > num_examples:
        raise UserError(
            f"A batch of {batch_size} is larger than the split of {num_examples} examples: "
            f"give --batch-size {num_examples} or less."
        )
    if start < 0 or count < 0:
        raise ValueError(f"start and count must not be negative, got start={start} and count={count}.")
    per_epoch = num_examples // batch_size
    batches = np.empty((count, batch_size), np.int32)
    done = 0
    while done < count:
        epoch, first = divmod(start + done, per_epoch)
        num_batches = min(per_epoch - first, count - done)
        order = epoch_order(seed, epoch, num_examples)[first * batch_size : (first + num_batches) * batch_size]
        batches[done : done + num_batches] = order.reshape(num_batches, batch_size)
        done += num_batches
    return batches
