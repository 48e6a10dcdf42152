"""What a checkpoint's folder holds, who may change it, and what is whose fault when it fails."""

import errno
import hashlib
import logging
import threading
import tracemalloc
from pathlib import Path
from shutil import rmtree

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from jaxgen.errors import UserError
from jaxgen.training import Checkpoints, checkpoint

# The storage's threads speak to an event loop that is gone when a read of several files failed at one of them.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


def saved(folder: Path, *steps: int) -> dict:
    """Small checkpoints whose objective is the step; the state of the last."""
    checkpoints = Checkpoints(folder)
    for step in steps:
        checkpoints.save(step, {"a": np.full(3, step)}, {"figures": {}}, objective=float(step))
    checkpoints.close()
    return {"a": np.full(3, steps[-1])}


def test_damaged_metrics_hinder_no_reader(tmp_path):
    """The best is then the best of the others; a reader renames nothing."""
    state = saved(tmp_path, 1, 2, 3)
    (tmp_path / "1" / "metrics" / "metrics").write_bytes(b"\xff")
    before = sorted(tmp_path.rglob("*"))
    checkpoints = Checkpoints(tmp_path, read_only=True)
    assert checkpoints.best() == 2
    restored = checkpoints.restore(state)
    assert restored is not None
    assert restored.step == 3
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("content", ["{}", "null", "[1]"])
@pytest.mark.parametrize("file", ["state/_METADATA", "record/metadata"])
def test_well_formed_nonsense_is_damage(tmp_path, file, content):
    """Orbax looks up a key that is not there, or asks what is no table for one."""
    state = saved(tmp_path, 1, 2)
    (tmp_path / "2" / file).write_text(content)
    with pytest.warns(UserWarning, match="the checkpoint of step 2 is damaged"):
        restored = Checkpoints(tmp_path, read_only=True).restore(state)
    assert restored is not None
    assert restored.step == 1


def test_the_digest_is_that_of_names_types_shapes_and_bytes():
    flat = {
        "b/kernel": np.arange(12, dtype=np.float32).reshape(3, 4).T,  # not contiguous
        "a": np.array(True),
        "c": jax.numpy.arange(5, dtype="bfloat16"),
        "d": np.zeros((0, 2), np.int8),
    }
    flat = {name: np.asarray(leaf) for name, leaf in flat.items()}
    text = b'{"x": 1}'
    for name, kind, shape in (("a", "bool", (1,)), ("b/kernel", "float32", (4, 3)), ("c", "bfloat16", (5,))):
        text += f"{name} {kind} {shape}\n".encode() + flat[name].tobytes()
    text += b"d int8 (0, 2)\n"
    assert checkpoint._digest(flat, {"x": 1}) == hashlib.blake2b(text, digest_size=16).hexdigest()


def test_the_digest_copies_nothing_and_is_not_taken_by_the_trainer(tmp_path, monkeypatch):
    flat = {"a": np.ones(2**20, np.float32)}
    tracemalloc.start()
    checkpoint._digest(flat, {})
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < flat["a"].nbytes / 10
    seen, digest = [], checkpoint._digest
    monkeypatch.setattr(checkpoint, "_digest", lambda *a: seen.append(threading.current_thread()) or digest(*a))
    saved(tmp_path, 1)
    assert len(seen) == 1
    assert seen[0] is not threading.main_thread()


def test_a_save_is_waited_for_only_where_processes_wait_for_each_other(tmp_path, monkeypatch):
    """Their barrier is a computation on all devices, which must come at the same moment of training on each."""
    written = threading.Event()
    monkeypatch.setattr(Checkpoints, "_write", lambda *_arguments: written.wait(10))
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, {}, {}, objective=None)
    assert not checkpoints._saving.done()
    written.set()
    checkpoints.wait()
    written.clear()
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    threading.Timer(0.1, written.set).start()
    checkpoints.save(2, {}, {}, objective=None)
    assert written.is_set()
    monkeypatch.undo()
    checkpoints.close()


FULL = ValueError("RESOURCE_EXHAUSTED: Error writing \"a/0\": No space left on device [os_error_code='28']")


@pytest.mark.parametrize(
    ("error", "becomes", "message"),
    [
        (FULL, UserError, r"no checkpoint can be written to .* \(No space left on device\); .* free space there"),
        (OSError(errno.EROFS, "Read-only file system"), UserError, r"\(Read-only file system\)"),
        (OSError("handle is closed"), UserError, r"\(handle is closed\)"),
        (TypeError("a mistake in the code"), TypeError, "^a mistake in the code$"),
        (KeyError("figures"), KeyError, "figures"),
        (ValueError("shapes differ"), ValueError, "^shapes differ$"),
    ],
)
def test_only_what_the_storage_refuses_is_a_matter_of_space(tmp_path, monkeypatch, error, becomes, message):
    """The texts are those of TensorStore 0.1.86 and of the system; whatever else went wrong surfaces as itself."""

    def refuse(*_arguments, **_keywords):
        raise error

    checkpoints = Checkpoints(tmp_path)
    monkeypatch.setattr(checkpoints._manager, "save", refuse)
    for finish in (checkpoints.wait, lambda: checkpoints.save(2, {}, {}, objective=None)):
        checkpoints.save(1, {"a": np.zeros(1)}, {"figures": {}}, objective=None)
        with pytest.raises(becomes, match=message):
            finish()
    checkpoints.close()


def test_a_mistake_in_the_code_is_not_taken_for_damage(tmp_path, monkeypatch):
    state = saved(tmp_path, 1, 2)

    def broken(*_arguments):
        raise TypeError("a mistake")

    before = sorted(tmp_path.rglob("*"))
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "_digest", broken)
        with pytest.raises(TypeError, match="a mistake"):
            Checkpoints(tmp_path).restore(state)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_checkpoint_that_may_not_be_read_is_not_taken_for_damage(tmp_path, monkeypatch):
    state = saved(tmp_path, 1, 2)

    def refuse(*_arguments, **_keywords):
        raise ValueError("PERMISSION_DENIED: Failed to open … [os_error_code='13']")

    before = sorted(tmp_path.rglob("*"))
    monkeypatch.setattr("orbax.checkpoint.Checkpointer.restore", refuse)
    with pytest.raises(UserError, match=r"/2 cannot be read \(Permission denied\); make it readable"):
        Checkpoints(tmp_path).restore(state)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_checkpoint_that_is_replaced_while_it_is_read_is_no_damage(tmp_path, monkeypatch):
    """The process that trains writes another and deletes this one: the reader takes the newest, without a word."""
    state = saved(tmp_path / "run", 1, 2)
    saved(tmp_path / "later", 4, 5)
    read, tried = checkpoint._read, []

    def meanwhile(path):
        tried.append(path.name)
        if len(tried) == 1:
            for step in ("4", "5"):
                (tmp_path / "later" / step).rename(tmp_path / "run" / step)
            rmtree(tmp_path / "run" / "2" / "state")  # half deleted
        return read(path)

    monkeypatch.setattr(checkpoint, "_read", meanwhile)
    restored = Checkpoints(tmp_path / "run", read_only=True).restore(state)
    assert restored is not None
    assert (tried, restored.step, restored.state["a"].tolist()) == (["2", "5"], 5, [5, 5, 5])


def test_a_checkpoint_that_is_being_deleted_is_no_damage(tmp_path):
    """What is left of it is gone in a moment."""
    state = saved(tmp_path, 1, 2)
    rmtree(tmp_path / "2" / "record")
    deletion = threading.Timer(0.2, rmtree, [tmp_path / "2"])
    deletion.start()
    restored = Checkpoints(tmp_path, read_only=True).restore(state, step=2)
    deletion.join()
    assert restored is not None
    assert restored.step == 1


def test_a_reader_beside_a_trainer_always_finds_a_whole_checkpoint(tmp_path):
    """Eighty checkpoints as fast as they can be written, each the best: what is read belongs together."""
    writer = Checkpoints(tmp_path)

    def train():
        for step in range(1, 81):
            writer.save(step, {"a": np.full(3, step)}, {"figures": {"step": step}}, objective=-float(step))
        writer.wait()

    trainer, seen = threading.Thread(target=train), []
    trainer.start()
    reader = Checkpoints(tmp_path, read_only=True)
    while trainer.is_alive():
        restored = reader.restore({"a": np.zeros(3)}, step=reader.best())
        if restored is not None:
            seen.append(restored.step)
            assert restored.state["a"].tolist() == [restored.step] * 3
            assert restored.record["figures"] == {"step": restored.step}
    trainer.join()
    writer.close()
    assert seen == sorted(seen)
    assert len(set(seen)) > 3


def test_of_several_processes_only_the_first_renames(tmp_path, monkeypatch):
    state = saved(tmp_path, 1, 2)
    (tmp_path / "2" / "record" / "metadata").write_text("{")
    (tmp_path / "1" / "metrics" / "metrics").write_bytes(b"\xff")
    before = sorted(tmp_path.rglob("*"))

    manager = ocp.CheckpointManager(tmp_path / "elsewhere")  # on its own: orbax would wait for the first process
    (tmp_path / "elsewhere").rmdir()
    monkeypatch.setattr("orbax.checkpoint.CheckpointManager", lambda *_arguments, **_keywords: manager)
    monkeypatch.setattr(manager, "reload", lambda: None)
    monkeypatch.setattr(jax, "process_index", lambda *_: 1)
    with pytest.warns(UserWarning, match="step 2 is damaged"):
        assert Checkpoints(tmp_path).restore(state) is not None
    assert sorted(tmp_path.rglob("*")) == before
    monkeypatch.setattr(jax, "process_index", lambda *_: 0)
    with pytest.warns(UserWarning, match=r"step 2 is damaged|no longer counts as the best"):
        assert Checkpoints(tmp_path).restore(state) is not None
    assert not (tmp_path / "2").exists()
    assert not (tmp_path / "1" / "metrics").exists()


def test_of_absl_s_messages_orbax_s_alone_are_kept_back(tmp_path):
    shown, absl = [], logging.getLogger("absl")
    handler = logging.Handler()
    handler.emit = lambda record: shown.append(record.getMessage())
    absl.addHandler(handler)
    try:
        checkpoints = Checkpoints(tmp_path)
        checkpoints.save(1, {"a": np.zeros(1)}, {"figures": {}}, objective=None)  # orbax warns: no metric
        checkpoints.close()
        absl.error("of another library")
    finally:
        absl.removeHandler(handler)
    assert shown == ["of another library"]
