"""The order of examples against its definition; the prefetcher's order, errors and end."""

import hashlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxgen.data import batches, epoch_order, indices
from jaxgen.errors import UserError


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**40), epoch=st.integers(0, 10**6), num_examples=st.integers(1, 300))
def test_an_epoch_visits_every_example_once(seed, epoch, num_examples):
    order = epoch_order(seed, epoch, num_examples)
    assert order.dtype == np.int32
    np.testing.assert_array_equal(np.sort(order), np.arange(num_examples))


def test_order_is_frozen():
    """Recorded once: a change of this stream would break the resumption of every run."""
    assert epoch_order(0, 0, 8).tolist() == [0, 3, 7, 5, 1, 2, 6, 4]
    assert hashlib.sha256(epoch_order(7, 3, 60_000).astype("<i4").tobytes()).hexdigest()[:16] == "9dac9223d89b9383"


def test_order_depends_on_seed_and_epoch():
    orders = {tuple(epoch_order(seed, epoch, 50)) for seed in range(10) for epoch in range(10)}
    assert len(orders) == 100


def test_every_position_is_equally_likely():
    """χ² of example against position, 20,000 epochs of 5 examples: 16 degrees of freedom, 99.99% at 46."""
    counts = np.zeros((5, 5))
    for epoch in range(20_000):
        counts[np.arange(5), batches._permutation(1, epoch, 5)] += 1
    expected = 20_000 / 5
    assert np.square(counts - expected).sum() / expected < 46


def test_all_permutations_of_three_are_equally_likely():
    """χ² with 5 degrees of freedom, 99.99% at 26."""
    seen = [tuple(batches._permutation(2, epoch, 3)) for epoch in range(12_000)]
    counts = np.array([seen.count(order) for order in set(seen)])
    assert len(counts) == 6
    assert np.square(counts - 2000).sum() / 2000 < 26


def test_shared_order_cannot_be_changed():
    with pytest.raises(ValueError, match="read-only"):
        epoch_order(0, 0, 10)[0] = 3


@settings(deadline=None, max_examples=25)
@given(
    num_examples=st.integers(1, 40),
    batch_size=st.integers(1, 40),
    start=st.integers(0, 200),
    count=st.integers(0, 30),
)
def test_indices_follow_the_definition(num_examples, batch_size, start, count):
    batch_size = min(batch_size, num_examples)
    per_epoch = num_examples // batch_size
    expected = np.empty((count, batch_size), np.int32)
    for row, batch in enumerate(range(start, start + count)):
        position = batch % per_epoch * batch_size
        expected[row] = epoch_order(3, batch // per_epoch, num_examples)[position : position + batch_size]
    actual = indices(3, start, count, num_examples=num_examples, batch_size=batch_size)
    assert actual.dtype == np.int32
    np.testing.assert_array_equal(actual, expected)


def test_a_late_start_touches_only_its_own_epochs(monkeypatch):
    epochs = []
    monkeypatch.setattr(batches, "_cache", type(batches._cache)())
    permutation = batches._permutation
    monkeypatch.setattr(batches, "_permutation", lambda *key: epochs.append(key[1]) or permutation(*key))
    for start in (10**9, 10**9 + 1):
        indices(0, start, 12, num_examples=100, batch_size=10)
    assert epochs == [10**8, 10**8 + 1]


def test_kept_permutations_stay_within_their_budget(monkeypatch):
    monkeypatch.setattr(batches, "_cache", type(batches._cache)())
    monkeypatch.setattr(batches, "_CACHE_BYTES", 5 * 400)
    for epoch in (0, 1, 2, 3, 4, 0, 5):
        epoch_order(0, epoch, 100)
    assert [epoch for _, epoch, _ in batches._cache] == [2, 3, 4, 0, 5]
    monkeypatch.setattr(batches, "_CACHE_BYTES", 0)
    epoch_order(0, 6, 100)
    assert [epoch for _, epoch, _ in batches._cache] == [5, 6]


def test_threads_agree():
    with ThreadPoolExecutor(8) as pool:
        orders = list(pool.map(lambda epoch: (epoch, epoch_order(11, epoch, 997).copy()), [0, 1, 2, 3] * 20))
    for epoch, order in orders:
        np.testing.assert_array_equal(order, batches._permutation(11, epoch, 997))


@pytest.mark.parametrize(("batch_size", "message"), [(11, "larger than the split of 10"), (0, "at least 1, got 0")])
def test_a_batch_that_does_not_fit_is_refused(batch_size, message):
    with pytest.raises(UserError, match=message):
        indices(0, 0, 1, num_examples=10, batch_size=batch_size)


def test_negative_arguments_are_refused():
    with pytest.raises(ValueError, match="seed=-1"):
        epoch_order(-1, 0, 10)
    with pytest.raises(ValueError, match="got 0"):
        epoch_order(0, 0, 0)
    with pytest.raises(ValueError, match="start=-1"):
        indices(0, -1, 1, num_examples=10, batch_size=2)
