"""A log that survives kills, cuts and resumption, and readers that show what it holds."""

import io
import json
import math
import os
import re
import signal
import statistics
import struct
import subprocess
import sys
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxgen.console import Console, ConsoleWriter, bar
from jaxgen.errors import UserError
from jaxgen.writers import JsonlWriter, TensorBoardWriter, Writer, read_jsonl


def write_all(path, points):
    writer = JsonlWriter(path)
    for step, kind, values in points:
        writer.write(step, values, kind=kind)
    writer.close()


def refuse(name):
    raise AssertionError(f"{name} is not JSON")


NUMBERS = st.floats(allow_nan=True, allow_infinity=True)
VALUES = st.dictionaries(
    st.text().filter(lambda name: name not in ("step", "kind", "time")), NUMBERS | st.lists(NUMBERS)
)


@settings(deadline=None, max_examples=25)
@given(VALUES)
def test_what_is_read_is_what_was_written_in_strict_json(tmp_path_factory, values):
    path = tmp_path_factory.mktemp("run") / "metrics.jsonl"
    write_all(path, [(7, "train", values)])
    (line,) = path.read_text().splitlines()
    json.loads(line, parse_constant=refuse)
    (point,) = read_jsonl(path)
    assert (point.pop("step"), point.pop("kind")) == (7, "train")
    assert point.pop("time") > 1.7e9
    assert point.keys() == values.keys()
    for name, value in values.items():
        np.testing.assert_array_equal(point[name], value)


def test_numbers_of_numpy_and_jax_are_numbers(tmp_path):
    import jax.numpy as jnp

    values = {"a": np.float32(0.5), "b": jnp.ones(()), "c": jnp.arange(3), "d": 2}
    write_all(tmp_path / "m.jsonl", [(1, "train", values)])
    (point,) = read_jsonl(tmp_path / "m.jsonl")
    assert {name: point[name] for name in values} == {"a": 0.5, "b": 1.0, "c": [0.0, 1.0, 2.0], "d": 2.0}


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 5), st.sampled_from([0, 1, 2, 20, 60]))
def test_a_cut_anywhere_loses_at_most_the_line_it_hit(tmp_path_factory, line, before_its_end):
    path = tmp_path_factory.mktemp("run") / "metrics.jsonl"
    write_all(path, [(step, "train", {"loss": step / 7, "who": math.inf}) for step in range(5)])
    whole = path.read_bytes()
    cut = len(b"".join(whole.splitlines(keepends=True)[:line])) - before_its_end
    path.write_bytes(whole[:cut])
    write_all(path, [(5, "train", {"loss": 1.0})])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        steps = [point["step"] for point in read_jsonl(path)]
    # A line without its newline is whole, if it was cut right before it.
    kept = whole[:cut].count(b"\n") + (whole[cut : cut + 1] == b"\n")
    assert steps == [*range(kept), 5]
    damaged = cut > 0 and whole[cut - 1 : cut] != b"\n" and whole[cut : cut + 1] != b"\n"
    assert len(caught) == damaged
    if damaged:
        assert f"skipped 1 damaged line (number {kept + 1})" in str(caught[0].message)


def test_every_line_survives_a_kill(tmp_path):
    code = (
        "import os, signal, sys; from jaxgen.writers import JsonlWriter\n"
        "writer = JsonlWriter(sys.argv[1])\n"
        "for step in range(20): writer.write(step, {'loss': 1.0}, kind='train')\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    path = tmp_path / "a b ü" / "metrics.jsonl"
    done = subprocess.run([sys.executable, "-c", code, str(path)])
    assert done.returncode == -signal.SIGKILL
    assert [point["step"] for point in read_jsonl(path)] == list(range(20))


def test_after_a_resumption_the_last_of_equal_steps_counts(tmp_path):
    path = tmp_path / "metrics.jsonl"
    write_all(path, [(1, "train", {"a": 1}), (2, "train", {"a": 2, "b": 2}), (2, "evaluate", {"a": 3})])
    write_all(path, [(2, "train", {"a": 4}), (1, "evaluate", {"a": 5})])
    read = [(point["step"], point["kind"], point["a"], "b" in point) for point in read_jsonl(path)]
    assert read == [
        (1, "train", 1, False),
        (1, "evaluate", 5, False),
        (2, "train", 4, False),
        (2, "evaluate", 3, False),
    ]


@pytest.mark.parametrize(
    "line",
    [
        b'{"step": 1, "kind": "tr',
        b"\xff\xfe\x00garbage",
        b"[1, 2]",
        b'{"kind": "train", "a": 1}',
        b'{"step": 1.5, "kind": "train"}',
        b'{"step": true, "kind": "train"}',
        b'{"step": 1, "kind": "prophesy"}',
        b'{"step": 1, "kind": "train", "a": "many"}',
        b'{"step": 1, "kind": "train", "a": {"b": 1}}',
        b'{"step": 1, "kind": "train", "a": 1' + b"0" * 400 + b"}",
        b"[" * 100_000,
    ],
)
def test_a_damaged_line_is_skipped_and_named(tmp_path, line):
    path = tmp_path / "metrics.jsonl"
    good = b'{"step": 1, "kind": "train", "a": 1}\n'
    path.write_bytes(good + b"\n" + line + b"\n" + good.replace(b"1", b"2"))
    with pytest.warns(UserWarning, match=r"metrics.jsonl: skipped 1 damaged line \(number 3\)"):
        assert [point["step"] for point in read_jsonl(path)] == [1, 2]


def test_many_damaged_lines_make_one_warning(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text("x\n" * 7)
    with pytest.warns(UserWarning, match=r"skipped 7 damaged lines \(number 1, 2, 3, 4, 5, …\)") as caught:
        assert read_jsonl(path) == []
    assert len(caught) == 1


@pytest.mark.parametrize(
    ("values", "kind", "message"),
    [
        ({"time": 1.0}, "train", "must not be named 'time'"),
        ({"a": 1.0}, "test", "kind must be one of 'train', 'evaluate', got 'test'"),
        ({"a": np.zeros((2, 2))}, "train", r"'a' must be a number .* got shape \(2, 2\)"),
    ],
)
def test_what_cannot_be_read_again_is_not_written(tmp_path, values, kind, message):
    writer = JsonlWriter(tmp_path / "metrics.jsonl")
    with pytest.raises(ValueError, match=message):
        writer.write(1, values, kind=kind)
    writer.close()
    assert (tmp_path / "metrics.jsonl").read_bytes() == b""


def test_a_place_that_cannot_be_written_is_one_sentence(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"cannot write metrics to .*file.*choose another folder"):
        JsonlWriter(tmp_path / "file" / "metrics.jsonl")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a device that is always full is a habit of Linux")
def test_a_full_disk_is_one_sentence():
    writer = JsonlWriter("/dev/full")
    with pytest.raises(UserError, match="cannot write metrics to /dev/full: No space left on device"):
        writer.write(1, {"a": 1.0}, kind="train")
    writer.close()


def events_of(folder):
    """The events of all files of a folder, as TFRecords: length, checksum, data, checksum."""
    from tensorboardX.proto.event_pb2 import Event

    events = []
    for path in sorted(folder.glob("events.*"), key=lambda path: path.stat().st_mtime_ns):
        content = path.read_bytes()
        while content:
            (length,) = struct.unpack("<Q", content[:8])
            events.append(Event.FromString(content[12 : 12 + length]))
            content = content[16 + length :]
    return events


def test_tensorboard_gets_means_and_hides_what_a_resumed_run_repeats(tmp_path):
    for step in (100, 60):  # the second run resumes before the end of the first
        writer = TensorBoardWriter(tmp_path)
        writer.write(step, {"loss": 0.5, "kl": [1.0, 2.0, 6.0]}, kind="train")
        writer.write(step, {"nll": 2.5}, kind="evaluate")
        writer.close()
    events = events_of(tmp_path)
    scalars = [(event.step, value.tag, value.simple_value) for event in events for value in event.summary.value]
    once = {("train/loss", 0.5), ("train/kl", 3.0), ("evaluate/nll", 2.5)}
    assert {scalar[1:] for scalar in scalars if scalar[0] == 100} == once
    assert {scalar[1:] for scalar in scalars if scalar[0] == 60} == once
    # status 1 is a session's start, from whose step on older events are hidden
    assert [event.step for event in events if event.session_log.status == 1] == [60]


def test_tensorboard_without_its_package_names_the_extra(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(UserError, match=r"which is missing: pip install tensorboardX$"):
        TensorBoardWriter(tmp_path)


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_without_a_terminal_the_start_and_evaluations_are_told():
    stream = io.StringIO()
    console = ConsoleWriter(total=200, title="vae on digits in runs/a", stream=stream)
    console.begin(0, evaluate_every=50)
    console.write(50, {"loss": 1.0}, kind="train")
    kl = [24.0, 26.0, 31.0]
    console.say("evaluating")
    console.write(100, {"elbo": -98.76543, "kl": kl, "nan": math.nan, "kl/0": 1.0, "one": [2.0]}, kind="evaluate")
    console.close()
    spread = f"{statistics.mean(kl):.4g} ± {statistics.stdev(kl):.2g}"
    begin = "vae on digits in runs/a: 200 steps\n"
    assert stream.getvalue() == f"{begin}step 100/200: elbo −98.77, kl {spread}, nan nan, one 2\n"


def test_a_run_that_goes_on_says_from_where():
    stream = io.StringIO()
    ConsoleWriter(total=200, title="vae", stream=stream).begin(150, evaluate_every=50)
    assert stream.getvalue() == "vae: 200 steps, goes on from step 150\n"


def told(*points):
    """The lines of evaluations at steps 1, 2, …"""
    stream = io.StringIO()
    console = ConsoleWriter(total=10, stream=stream)
    for step, values in enumerate(points, start=1):
        console.write(step, values, kind="evaluate")
    return stream.getvalue().splitlines()


def test_lines_below_each_other_align():
    one, two, three = told(
        *({"loss": loss, "kl": kl} for loss, kl in ((123.456, 1.5), (-1.0002, 20.25), (99.996, -3.0)))
    )
    assert (one, two) == ("step  1/10: loss 123.5, kl 1.500", "step  2/10: loss −1.000, kl 20.25")
    assert three.index("kl") == two.index("kl")


def test_a_number_is_not_told_twice():
    values = {"distortion": 3.0, "elbo": [-4.0, -6.0], "kl": 1.0, "loss": [4.0, 6.0], "nll": 3.0, "rate": 1.25}
    assert told(values) == ["step  1/10: elbo −5 ± 1.4, kl 1, nll 3, rate 1.250"]
    # The bound stands in the place of the loss that it repeats: it is not what a narrow line leaves out.
    many = {"kl": 1.0, "nll": 3.0, "squared_error": 2.0, "perplexity": 7.0, "usage": 0.5, "elbo": -4.0, "loss": 4.0}
    assert told(many) == ["step  1/10: elbo −4, kl 1, nll 3, squared_error 2, perplexity 7"]


def shown(stream):
    """What stood on the line of the bar, one after the other."""
    return [line.rstrip() for line in re.split(r"[\r\n]+", stream.getvalue()) if line.strip()]


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass when they are told to."""
    now = [1000.0]
    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    return lambda seconds: now.__setitem__(0, now[0] + seconds)


def test_a_terminal_gets_a_bar_with_speed_and_time_left_and_keeps_evaluations(clock):
    """10 steps a second; evaluations of 20 s after one of 100 s that compiled; 30 s to compile count for nothing."""
    stream = Terminal()
    console = ConsoleWriter(total=200, stream=stream)
    assert shown(stream)[-1].endswith("0/200 ? steps/s, ? left, starting")
    console.begin(100, evaluate_every=25)
    assert shown(stream)[-1].endswith("100/200 ? steps/s, ? left, compiling")
    clock(30)
    console.write(105, {"kl": 9, "loss": 1.25}, kind="train")
    assert shown(stream)[-1].endswith("105/200 ? steps/s, ? left, loss 1.250, kl 9")
    clock(1)
    console.write(115, {"loss": 1.5}, kind="train")
    assert shown(stream)[-1].endswith("115/200 10 steps/s, 00:08 left, loss 1.500")
    clock(1)
    for step, seconds in ((125, 100), (150, 20)):
        console.write(step, {"loss": 1.5}, kind="train")
        console.say("evaluating")
        assert shown(stream)[-1].endswith("left, evaluating")
        clock(seconds)
        console.write(step, {"nll": 7.5}, kind="evaluate")
        console.say("")
        clock((150 - step) / 10)
    # Two evaluations and 50 steps.
    assert shown(stream)[-1].endswith("150/200 10 steps/s, 00:45 left, loss 1.500")
    clock(2.5)
    for step, seconds in ((175, 2.5), (200, 0)):
        console.write(step, {"loss": 2.5}, kind="train")
        console.say("evaluating")
        clock(20)
        console.say("")
        clock(seconds)
    console.close()
    assert shown(stream)[-1] == "100% |████████████████| 200/200 10 steps/s, 00:00 left, loss 2.500"
    assert stream.getvalue().endswith("\n")
    assert "step 125/200: nll 7.500" in shown(stream)


@settings(deadline=None, max_examples=25)
@given(
    st.integers(10, 200),
    st.integers(0, 10**6),
    st.none() | st.floats(0.01, 1e5),
    st.sampled_from(["", "evaluating"]),
    st.lists(st.sampled_from(["loss −48.15", "nll 44.2", "discriminator/accuracy_real 0.5000"])),
)
def test_the_bar_fits_and_cuts_nothing(width, step, left, doing, terms):
    text = bar(step, 10**6, 12.5, left, doing, terms, width=width)
    assert len(text) <= width
    first, *parts = text.split(", ")
    assert re.fullmatch(r"|( {,2}\d+%)( \|.*\|)?( \d+/1000000)?( 12.5 steps/s)?( (\?|(\d+:)?\d\d:\d\d) left)?", first)
    if parts and parts[0].endswith(" left"):
        assert re.fullmatch(r"(\?|(\d+:)?\d\d:\d\d) left", parts.pop(0))
    assert parts == ([doing] if doing else terms)[: len(parts)]
    if width >= 49:
        assert " left" in text
        assert f" {step}/1000000" in text


@pytest.mark.skipif(os.name != "posix", reason="pseudo-terminals are a habit of POSIX")
def test_a_terminal_that_tells_no_size_gets_a_bar_too():
    code = (
        "from jaxgen.console import ConsoleWriter\n"
        "console = ConsoleWriter(total=4)\n"
        "for step in (2, 4): console.write(step, {'loss': 1.5}, kind='train')\n"
        "console.close()"
    )
    ours, theirs = os.openpty()  # of zero rows and columns
    with open(ours, "rb", buffering=0) as screen, open(theirs, "wb", buffering=0) as terminal:
        subprocess.run([sys.executable, "-c", code], stderr=terminal, check=True)
        shown = screen.read(65536).decode()
    assert "4/4" in shown
    assert "left, loss 1.5" in shown


def test_all_writers_speak_the_protocol(tmp_path):
    writers = [JsonlWriter(tmp_path / "m"), TensorBoardWriter(tmp_path), ConsoleWriter(total=1)]
    for writer in writers:
        assert isinstance(writer, Writer)
        assert isinstance(writer, Console) == isinstance(writer, ConsoleWriter)
        writer.close()
