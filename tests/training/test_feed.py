"""What is streamed: exactly the rounds that are played, in their order, in pieces of the same shapes."""

import jax
import numpy as np
import pytest
from toys import Counted, denoiser, force_streaming, numbered

from jaxgen.data import indices
from jaxgen.training import Options, train
from jaxgen.training import feed as feeding
from jaxgen.training.devices import Devices
from jaxgen.training.step import pick

UPDATES, BATCH = 2, 6
ROUND_BYTES = UPDATES * BATCH * 3 * 4


def streamed(monkeypatch, *, rounds: int, seeds=(4,), devices: int = 1) -> feeding.Feed:
    monkeypatch.setattr(feeding, "STREAM_BYTES", rounds * ROUND_BYTES * len(seeds))
    return feeding.Feed(
        numbered().train,
        Devices(jax.local_devices()[:devices], len(seeds)),
        seeds=seeds,
        batch_size=BATCH,
        updates=UPDATES,
        length=128,
        resident=False,
    )


@pytest.mark.parametrize(("rounds", "length"), [(0.5, 1), (1, 1), (2, 1), (3, 3), (6, 3), (7, 7), (200, 127)])
def test_a_call_holds_no_more_than_it_may(monkeypatch, rounds, length):
    assert streamed(monkeypatch, rounds=rounds).length == length


@pytest.mark.parametrize("rounds", [1, 7])
def test_every_round_of_every_call_is_the_next_of_the_order(monkeypatch, rounds):
    """For each number of rounds that a call can have, under one trace, on two devices and for two seeds."""
    traces = []

    def picked(pieces, index, limit):
        traces.append(1)
        return jax.vmap(lambda own: pick(own, index, limit)["x"])(pieces)

    feed, compiled = streamed(monkeypatch, rounds=rounds, seeds=(4, 9), devices=2), jax.jit(picked)
    for limit in range(1, feed.length + 1):
        pieces = [{name: np.asarray(a) for name, a in piece.items()} for piece in feed(5, limit)]
        for index in range(limit):
            for place, seed in enumerate((4, 9)):
                expected = indices(seed, (5 + index) * UPDATES, UPDATES, num_examples=37, batch_size=BATCH)
                parts = [compiled([{"x": p["x"][d]} for p in pieces], index, limit)[place] for d in (0, 1)]
                found = np.round(64 * np.concatenate(parts, axis=1)[..., 0])
                np.testing.assert_array_equal(found, expected)
    assert len(traces) == 1


@pytest.mark.parametrize("seeds", [1, 2])
def test_no_round_is_moved_that_is_not_played(monkeypatch, seeds):
    """Log points and evaluations cut calls short: over a run the bytes moved are still those of its rounds."""
    moved, place = [], feeding.place

    def counted(tree, devices):
        moved.append(sum(a.nbytes for a in tree.values()))
        return place(tree, devices)

    monkeypatch.setattr(feeding, "place", counted)
    a_round = 8 * 3 * 4 * seeds
    force_streaming(monkeypatch, bytes_a_call=20 * a_round)
    options, console = (
        Options(steps=53, batch_size=8, log_every=7, evaluate_every=9, seeds=seeds, memory_budget=1),
        Counted(),
    )
    train(denoiser(), numbered(), options, console=console, num_devices=1)
    stand_ins = 15 * a_round  # 1 + 2 + 4 + 8 rounds, once a run
    assert sum(moved) == 53 * a_round + stand_ins
    calls = np.diff([0] + [step for step, kind, _ in console.points if kind == "train"])
    assert calls.max() > 1
