"""Whatever ends a run, the same command ends it as if nothing had happened, bit by bit."""

import errno
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import warnings
from pathlib import Path
from shutil import copytree, rmtree

import jax
import numpy as np
import pytest
from toys import Counted, denoiser, numbered, quadratic_game

from jaxgen.errors import UserError
from jaxgen.models import gan
from jaxgen.training import Checkpoints, Interrupted, Options, train
from jaxgen.training.signals import collect_signals

# The storage's threads speak to an event loop that is gone when a read of several files failed at one of them.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

OPTIONS = Options(steps=23, batch_size=8, log_every=7, evaluate_every=6, seed=2, learning_rate=0.01)


def run(folder: Path | None, *, options=OPTIONS, console=None, writers=(), devices=2, model=None):
    checkpoints = None if folder is None else Checkpoints(folder)
    try:
        return train(
            denoiser() if model is None else model,
            numbered(),
            options,
            num_devices=devices,
            checkpoints=checkpoints,
            console=console,
            writers=writers,
        )
    finally:
        if checkpoints is not None:
            checkpoints.close()


def steps_in(folder: Path) -> list[int]:
    return sorted(int(path.name) for path in folder.iterdir() if path.name.isdigit())


def assert_same(state, other):
    """Parameters, optimizer, statistics, key and step, bit by bit."""
    assert jax.tree.structure(state) == jax.tree.structure(other)
    for (path, a), b in zip(jax.tree_util.tree_leaves_with_path(state), jax.tree.leaves(other), strict=True):
        a, b = np.asarray(a), np.asarray(b)
        assert (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes()), jax.tree_util.keystr(path)


@pytest.fixture(scope="module")
def points():
    """Log points and evaluations of the run that nobody interrupted."""
    return Counted()


@pytest.fixture(scope="module")
def whole(points):
    """The run that nobody interrupted, without checkpoints."""
    return run(None, writers=(points,))


def stop_at(*steps: int, signum: int = signal.SIGTERM) -> Counted:
    """A console that sends a signal once each of the steps is passed."""
    left = list(steps)

    def then(step: int, kind: str) -> None:
        if left and step >= left[0]:
            left.pop(0)
            os.kill(os.getpid(), signum)

    return Counted(then)


def test_a_run_with_checkpoints_is_the_run_without(tmp_path, whole):
    """The last two are kept, and the best by the evaluated objective."""
    writer = Counted()
    assert_same(run(tmp_path, writers=(writer,)).state, whole.state)
    losses = {step: values["loss"] for step, kind, values in writer.points if kind == "evaluate"}
    assert list(losses) == [6, 12, 18, 23]
    assert steps_in(tmp_path) == sorted({18, 23, min(losses, key=losses.__getitem__)})


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_an_interrupted_run_saves_and_goes_on(tmp_path, whole, points, signum):
    """Stopped inside the intervals of log and evaluation, three times; no log point leaves out what was before."""
    handlers = [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)]
    console = stop_at(1, 8, 13, signum=signum)
    stopped, writer = [], Counted()
    for _ in range(3):
        with pytest.raises(Interrupted) as caught:
            run(tmp_path, console=console, writers=(writer,))
        assert caught.value.signum == signum
        stopped.append(caught.value.step)
        assert stopped[-1] in steps_in(tmp_path)
    assert stopped == sorted(set(stopped))
    assert any(step % OPTIONS.log_every for step in stopped)
    result = run(tmp_path, writers=(writer,))
    assert sorted(writer.points, key=str) == sorted(points.points, key=str)
    assert (result.start, int(result.state.step)) == (stopped[-1], 23)
    assert_same(result.state, whole.state)
    assert result.figures == whole.figures
    assert [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)] == handlers


def test_a_signal_is_heeded_whatever_was_going_on(tmp_path, whole):
    """It comes while the run initializes, compiles its rounds, evaluates: what is complete by then is saved."""
    model, sent = denoiser(), []

    def asks_to_stop(function):
        def asked(*arguments):
            sent.append(1)
            os.kill(os.getpid(), signal.SIGTERM)
            return function(*arguments)

        return asked

    writer = Counted()
    for asking, step in (
        (model._replace(init=asks_to_stop(model.init)), 0),
        (model._replace(losses={"denoiser": asks_to_stop(model.losses["denoiser"])}), 1),
        (model._replace(evaluate=asks_to_stop(model.evaluate)), 6),
    ):
        with pytest.raises(Interrupted) as caught:
            run(tmp_path, model=asking, writers=(writer,))
        assert (caught.value.step, steps_in(tmp_path)[-1]) == (step, step)
    assert len(sent) == 3
    assert [(at, kind) for at, kind, _ in writer.points] == [(6, "evaluate")]
    checkpoints = Checkpoints(tmp_path, read_only=True)
    assert checkpoints.best() == 6
    checkpoints.close()
    result = run(tmp_path)
    assert result.start == 6
    assert_same(result.state, whole.state)
    assert result.figures == whole.figures


def test_a_step_that_was_not_evaluated_is_never_the_best(tmp_path, monkeypatch):
    """Saved because of a signal, it has no objective; the figures of an evaluation before it are not its own."""
    given, save = {}, Checkpoints.save

    def noted(self, step, *arguments, objective):
        given[step] = objective
        save(self, step, *arguments, objective=objective)

    monkeypatch.setattr(Checkpoints, "save", noted)
    monkeypatch.setattr("jaxgen.training.loop._CALL_SECONDS", 0)  # a round a call, so that none ends at an evaluation
    with pytest.raises(Interrupted) as caught:
        run(tmp_path, console=stop_at(7))
    assert 6 < caught.value.step < 12
    assert given.pop(caught.value.step) is None
    assert 6 in given
    assert None not in given.values()


def test_the_best_step_is_said_where_it_is_not_the_last(tmp_path):
    """What is learned makes the figure worse."""
    model, console = denoiser(), Counted()
    evaluate = model.evaluate
    model = model._replace(evaluate=lambda *arguments: {"loss": -evaluate(*arguments)["loss"]})
    run(tmp_path, console=console, model=model)
    found = {step: values["loss"] for step, kind, values in console.points if kind == "evaluate"}
    best = min(found, key=lambda step: found[step])
    assert best < OPTIONS.steps
    value = f"{found[best]:.4g}".replace("-", "−")
    assert console.said[-1] == f"best: step {best}, loss {value}; the last is kept beside it"


def test_replicas_and_players_resume_as_well(tmp_path):
    model = quadratic_game({"left": 2, "right": 1}, updates=69, batch_size=8)
    options = OPTIONS._replace(seeds=2)
    expected = run(None, options=options, devices=1, model=model)
    with pytest.raises(Interrupted):
        run(tmp_path, options=options, devices=1, model=model, console=stop_at(9))
    assert_same(run(tmp_path, options=options, devices=1, model=model).state, expected.state)


def test_a_game_resumes_in_the_middle_of_its_schedule(tmp_path):
    """Three turns against two, in rounds that end inside an epoch, with all that a game keeps besides parameters."""
    settings = {"discriminator_steps": 3, "generator_steps": 2, "average": 0.9, "spectral_norm": True}
    model = gan(shape=(3,), noise_dim=2, hidden=(4,), packing=2, dropout=0.2, **settings)
    expected = run(None, devices=1, model=model)
    with pytest.raises(Interrupted) as caught:
        run(tmp_path, devices=1, model=model, console=stop_at(9))
    result = run(tmp_path, devices=1, model=model)
    assert result.start == caught.value.step
    assert_same(result.state, expected.state)
    assert result.figures == expected.figures


def test_a_second_ctrl_c_stops_at_once_and_loses_only_the_interval(tmp_path, whole):
    def twice(step: int, kind: str) -> None:
        if step > 13:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, console=Counted(twice))
    assert steps_in(tmp_path)[-1] == 12
    assert_same(run(tmp_path).state, whole.state)


def test_a_signal_is_acknowledged_while_compiled_code_runs():
    """The handler of the main thread waits for the call to end; what is told does not."""
    told = []
    with collect_signals(lambda signum: told.append((signum, list(caught)))) as caught:
        timer = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT))
        timer.start()
        while not told:
            hashlib.pbkdf2_hmac("sha256", b"", b"", 2_000_000)
        timer.join()
    assert told == [(signal.SIGINT, [])]
    assert caught == [signal.SIGINT]


def test_the_console_hears_what_goes_on(tmp_path):
    console = stop_at(6)
    with pytest.raises(Interrupted):
        run(tmp_path, console=console)
    assert [text for text in console.said if "stop" in text] == ["stopping after this call"]
    heard = [text for text in console.said if "stop" not in text]
    assert heard[:4] == ["begin 0", "evaluating", "saving", ""]
    assert heard[-1] == "saving"
    console = Counted()
    run(tmp_path, console=console)
    assert re.fullmatch("begin [67]", console.said[0])
    assert console.said[-3:] == ["evaluating", "saving", ""]


def test_a_finished_run_trains_nothing_and_gives_its_result_again(tmp_path, whole):
    run(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    writer = Counted()
    result = run(tmp_path, writers=(writer,))
    assert result.start == 23
    assert writer.points == []
    assert_same(result.state, whole.state)
    assert result.figures == whole.figures
    assert {path: path.stat().st_mtime_ns for path in before if path.exists()} == before


def test_the_best_is_the_smallest_objective_and_outlives_the_rest(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    for step, objective in enumerate([3.0, 1.0, 2.0, None, 5.0, 4.0], start=1):
        checkpoints.save(step, {"a": np.full(2, step)}, {"figures": {}}, objective=objective)
    checkpoints.wait()
    assert checkpoints.best() == 2
    assert steps_in(tmp_path) == [2, 5, 6]
    restored = checkpoints.restore({"a": np.zeros(2)}, step=2)
    assert restored is not None
    assert restored.state["a"].tolist() == [2, 2]
    checkpoints.close()


def test_no_objective_keeps_the_last_two(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    for step in (1, 2, 3):
        checkpoints.save(step, {"a": np.zeros(1)}, {"figures": {}}, objective=None)
    checkpoints.wait()
    assert (checkpoints.best(), steps_in(tmp_path)) == (None, [2, 3])
    restored = checkpoints.restore({"a": np.zeros(1)})
    assert restored is not None
    assert restored.step == 3
    checkpoints.close()


def test_a_folder_that_was_removed_is_noticed_when_something_is_to_be_saved(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    checkpoints = Checkpoints(tmp_path / "checkpoints", beside=tmp_path / "config.json")
    checkpoints.save(1, {"a": np.zeros(1)}, {"figures": {}}, objective=None)
    checkpoints.wait()
    rmtree(tmp_path)
    with pytest.raises(UserError, match=rf"the run folder {tmp_path} was removed while training"):
        checkpoints.save(2, {"a": np.zeros(1)}, {"figures": {}}, objective=None)
    assert not tmp_path.exists()
    checkpoints.close()


def test_no_checkpoint_is_none_and_another_model_is_refused(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.restore({"a": np.zeros(1)}) is None
    checkpoints.save(1, {"a": np.zeros(3)}, {"figures": {}}, objective=None)
    checkpoints.wait()
    with pytest.raises(UserError, match=r"holds 'a' as \(3,\), but this model needs \(2,\)"):
        checkpoints.restore({"a": np.zeros(2)})
    with pytest.raises(UserError, match="holds 'b' as nothing"):
        checkpoints.restore({"b": np.zeros(2)})
    checkpoints.close()


def truncate(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    if content:
        content[len(content) // 2] ^= 0x10
    path.write_bytes(content)


@pytest.fixture(scope="module")
def unfinished(tmp_path_factory):
    """A run stopped at its 18th step or soon after, and the states of its two newest checkpoints."""
    folder = tmp_path_factory.mktemp("unfinished")
    with pytest.raises(Interrupted):
        run(folder, console=stop_at(18))
    checkpoints = Checkpoints(folder, read_only=True)
    template = checkpoints.restore(run(None, options=OPTIONS._replace(steps=1)).state)
    assert template is not None
    states = {s: checkpoints.restore(template.state, step=s) for s in steps_in(folder)}
    checkpoints.close()
    return folder, states


@pytest.mark.parametrize("damage", [truncate, flip, Path.unlink])
def test_damage_to_any_file_of_the_newest_checkpoint_is_survived(tmp_path, unfinished, damage):
    """Either nothing that matters was touched, or the one before is taken with a warning; never other numbers."""
    folder, states = unfinished
    newest, before = sorted(states, reverse=True)[:2]
    files = sorted(path.relative_to(folder) for path in (folder / str(newest)).rglob("*") if path.is_file())
    fell_back = 0
    for number, file in enumerate(files):
        copy = tmp_path / str(number)
        copytree(folder, copy)
        damage(copy / file)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            checkpoints = Checkpoints(copy)
            restored = checkpoints.restore(states[newest].state)
        assert restored is not None
        assert_same(restored.state, states[restored.step].state)
        assert restored.record["figures"] == states[restored.step].record["figures"]
        if restored.step != newest:
            fell_back += 1
            assert restored.step == before, file
            assert any(f"checkpoint of step {newest} is damaged" in str(w.message) for w in caught) or (
                newest not in checkpoints._manager.all_steps()
            ), file
            # The step can be saved anew, and what was damaged is not deleted unseen.
            checkpoints.save(newest, states[newest].state, {"figures": {}}, objective=1.0)
            checkpoints.wait()
            anew = checkpoints.restore(states[newest].state)
            assert anew is not None
            assert anew.step == newest
        checkpoints.best()
        checkpoints.close()
    assert fell_back >= 2


@pytest.mark.parametrize("part", ["figures", "digest"])
def test_a_record_that_reads_well_but_says_something_else_is_damage(tmp_path, unfinished, part):
    """The digest is over the record as well as the state, and stands for both."""
    folder, states = unfinished
    newest, before = sorted(states, reverse=True)[:2]
    copytree(folder, tmp_path / "run")
    path = tmp_path / "run" / str(newest) / "record" / "metadata"
    record = json.loads(path.read_text())
    record[part] = {**record[part], "loss": 0.0} if part == "figures" else "0" * 32
    path.write_text(json.dumps(record))
    checkpoints = Checkpoints(tmp_path / "run")
    with pytest.warns(UserWarning, match=rf"step {newest} is damaged .its content does not match its digest"):
        restored = checkpoints.restore(states[newest].state)
    assert restored is not None
    assert restored.step == before
    checkpoints.close()


def test_a_run_whose_newest_checkpoint_is_damaged_ends_the_same(tmp_path, unfinished, whole):
    folder, states = unfinished
    copytree(folder, tmp_path / "run")
    newest = max(states)
    for path in (tmp_path / "run" / str(newest) / "state").rglob("d/*"):
        flip(path)
    with pytest.warns(UserWarning, match=f"checkpoint of step {newest} is damaged"):
        result = run(tmp_path / "run")
    assert result.start < newest
    assert_same(result.state, whole.state)


def test_nothing_readable_at_all_is_one_sentence(tmp_path, unfinished):
    copytree(unfinished[0], tmp_path / "run")
    for path in (tmp_path / "run").glob("*/record/metadata"):
        path.write_text("{")
    with pytest.warns(UserWarning, match="is damaged"), pytest.raises(UserError, match="none of the checkpoints"):
        run(tmp_path / "run")


def test_where_none_can_be_read_none_is_renamed(tmp_path, unfinished):
    copytree(unfinished[0], tmp_path / "run")
    for path in (tmp_path / "run").glob("*/record/metadata"):
        path.write_text("{")
    names = {path.name for path in (tmp_path / "run").iterdir()}
    with pytest.warns(UserWarning, match="is damaged"), pytest.raises(UserError, match="none of the checkpoints"):
        Checkpoints(tmp_path / "run").restore({})
    assert {path.name for path in (tmp_path / "run").iterdir()} == names


def test_kill_at_random_moments_leaves_no_trace(tmp_path):
    """kill -9 six times, at moments drawn over the length of a run, through the path that the command line takes."""
    script = Path(__file__).with_name("kill_and_resume.py")
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path), "6", "0"], capture_output=True, text=True, timeout=500
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "identical after 6 kills" in done.stdout


def test_an_interruption_whose_state_cannot_be_saved_does_not_say_that_it_was(tmp_path, monkeypatch):
    def refuse(*_arguments, **_keywords):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("orbax.checkpoint.CheckpointManager.save", refuse)
    with pytest.raises(UserError, match="No space left on device"):
        run(tmp_path, console=stop_at(1))
