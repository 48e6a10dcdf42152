"""What one noise becomes over a run: which evaluations keep it, and that no kill leaves a trace in it."""

from pathlib import Path

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toys import denoiser, numbered

from jaxgen.data.dataset import make_dataset
from jaxgen.errors import UserError
from jaxgen.model import Condition, Model
from jaxgen.models import gan
from jaxgen.training import Checkpoints, Options, Snapshots, train
from jaxgen.training import snapshots as watched

OPTIONS = Options(steps=23, batch_size=8, log_every=7, evaluate_every=6, learning_rate=0.01)


def plane(num_examples: int = 40):
    x = np.random.default_rng(0).normal(size=(num_examples, 2)).astype(np.float32)
    labels = np.arange(num_examples, dtype=np.int32) % 3
    split = {"x": x, "label": labels, "condition": x[:, ::-1].copy()}
    return make_dataset("plane", split, {name: a[:8] for name, a in split.items()}, scale=1.0)


def run(folder: Path, *, seeds: int, devices: int):
    folder.mkdir(exist_ok=True)
    checkpoints = Checkpoints(folder / "checkpoints")
    try:
        return train(
            gan(shape=(2,), noise_dim=2, hidden=(4,)),
            plane(),
            OPTIONS._replace(seeds=seeds),
            num_devices=devices,
            checkpoints=checkpoints,
            snapshots=Snapshots(folder / "snapshots"),
        )
    finally:
        checkpoints.close()


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder / "snapshots").iterdir()}


@given(every=st.integers(1, 500), evaluations=st.integers(1, 200), rest=st.integers(0, 499))
def test_at_most_ten_evaluations_are_kept_evenly_and_the_last_always(every, evaluations, rest):
    steps = every * evaluations + rest % every
    at = [*range(every, steps, every), steps]
    kept = [number for number, step in enumerate(at, start=1) if watched.due(step, every=every, steps=steps)]
    assert len(kept) == min(10, len(at))
    assert kept[-1] == len(at)
    assert np.ptp(np.diff([0, *kept])) <= 1


def test_a_run_that_was_killed_has_the_very_files_of_one_that_was_not(tmp_path, monkeypatch):
    """Killed once its second evaluation was drawn and before it was saved; what is cut short is written once more."""
    whole = run(tmp_path / "whole", seeds=2, devices=1).state
    save = Checkpoints.save

    def killed(self, step, *arguments, **given):
        if step == 12:
            raise MemoryError
        save(self, step, *arguments, **given)

    monkeypatch.setattr(Checkpoints, "save", killed)
    with pytest.raises(MemoryError):
        run(tmp_path / "killed", seeds=2, devices=1)
    monkeypatch.undo()
    assert sorted(contents(tmp_path / "killed")) == ["12.npy", "6.npy"]
    (tmp_path / "killed" / "snapshots" / "12.npy").write_bytes(b"cut short")
    assert run(tmp_path / "killed", seeds=2, devices=1).start == 6
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")
    found = Snapshots(tmp_path / "whole" / "snapshots").read()
    assert found is not None
    assert found.steps == [6, 12, 18, 23]
    assert found.examples.shape == (4, 2, 500, 2)
    # The last are of the very parameters that the run ends with, the others of other ones.
    model, data = gan(shape=(2,), noise_dim=2, hidden=(4,)), plane()
    last = watched.draw(model, data, whole.params, whole.statistics, replicas=2)
    np.testing.assert_array_equal(found.examples[-1], last)
    assert len(np.unique(found.examples[:, 0, 0, 0])) == 4
    # Of one noise each replica makes what it makes alone.
    for index in range(2):
        own = jax.tree.map(lambda a, index=index: a[index], (whole.params, whole.statistics))
        np.testing.assert_allclose(found.examples[-1, index], watched.draw(model, data, *own), rtol=1e-5, atol=1e-6)


def told(condition: Condition) -> Model:
    """Samples just what it is told."""

    def sample(params, statistics, key, n, *, condition):
        return jax.numpy.broadcast_to(jax.numpy.reshape(condition, (n, -1)).astype(float), (n, 2))

    return denoiser()._replace(sample=sample, condition=condition)


def test_classes_are_told_in_turn_and_vectors_are_those_of_the_test_examples():
    data = plane()
    classes = watched.draw(told(Condition("label", 3, classes=True)), data, {}, {})
    assert classes is not None
    np.testing.assert_array_equal(classes[:, 0], np.arange(500) % 3)
    vectors = watched.draw(told(Condition("condition", 2, classes=False)), data, {}, {})
    np.testing.assert_array_equal(vectors, data.test["condition"][np.arange(500) * 8 // 500])


def test_nothing_is_drawn_of_what_does_not_sample_or_has_no_picture():
    def sample(params, statistics, key, n):
        raise AssertionError

    assert watched.draw(denoiser(), plane(), {}, {}) is None
    assert watched.draw(denoiser()._replace(sample=sample), numbered(), {}, {}) is None


def test_what_cannot_be_read_is_left_out_and_what_cannot_be_written_is_one_sentence(tmp_path):
    snapshots = Snapshots(tmp_path / "snapshots")
    assert snapshots.read() is None
    for step in (1, 2, 10):
        snapshots.save(step, np.full((3, 2), step))
    for damaged, why in ((b"", "No data left in file"), (b"damaged", "it holds no arrays, or pickled ones")):
        (tmp_path / "snapshots" / "2.npy").write_bytes(damaged)
        with pytest.warns(UserWarning, match=rf"2\.npy cannot be read \({why}\); its step is left out$"):
            found = snapshots.read()
    assert found is not None
    assert found.steps == [1, 10]
    np.testing.assert_array_equal(found.examples[:, 0, 0], [1, 10])
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot be written .*; free space there, and the same command goes on"):
        Snapshots(tmp_path / "file").save(1, np.zeros(1))
    # A folder that was removed is the checkpoints' to tell of: it is not made again.
    Snapshots(tmp_path / "gone" / "snapshots").save(1, np.zeros(1))
    assert not (tmp_path / "gone").exists()
