"""Ctrl-C, full disks and odd terminals: what a process of the command line leaves and says."""

import os
import re
import shlex
import signal
import subprocess
import sys
import threading

import pytest

from cli.commands import SMALL, TRAIN
from jaxgen import runs
from jaxgen.cli import main
from jaxgen.process import _unless_said


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 400 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("mounting a small disk needs root")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_is_one_sentence_and_the_last_checkpoint_is_kept(small_disk):
    """Three checkpoints of about 150 kB do not fit; what the storage's own threads meet is said by the command."""
    flags = ["--hidden", "48", "--steps", "30", "--evaluate-every", "1", "--binarize", "dynamic"]
    command = ["train", "vae", *SMALL, *flags, "--workdir", str(small_disk / "run")]
    done = subprocess.run([sys.executable, "-m", "jaxgen.cli", *command], capture_output=True, text=True)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    said = done.stderr.splitlines()[-1]
    assert said.startswith("jaxgen: ")
    assert "No space left on device" in said
    assert "free space" in said
    assert runs.open_run(small_disk / "run", which="last").step >= 1


@pytest.mark.parametrize(
    ("error", "shown"),
    [
        (OSError(28, "No space left on device"), False),
        (ValueError("RESOURCE_EXHAUSTED: No space left on device [os_error_code='28']"), False),
        (OSError("handle is closed"), False),
        (RuntimeError("Event loop is closed"), False),
        (OSError(2, "No such file or directory"), True),
        (ValueError("shapes differ"), True),
        (TypeError("a mistake"), True),
    ],
)
def test_a_thread_is_silent_of_a_full_disk_alone(error, shown):
    """What the system and TensorStore say of a full disk is said by the main thread; nothing else is hidden."""
    seen = []
    unhandled = threading.ExceptHookArgs((type(error), error, None, None))
    _unless_said(seen.append)(unhandled)
    assert seen == [unhandled] * shown


def test_an_interruption_is_128_and_the_signal(capsys, monkeypatch):
    from jaxgen.training import Interrupted

    def interrupted(*_arguments, **_keywords):
        raise Interrupted(7, 15)

    monkeypatch.setattr(runs, "train", interrupted)
    assert main(TRAIN) == 143
    said = capsys.readouterr().err
    assert "stopped at step 7; everything is saved, the same command goes on" in said
    assert "'jaxgen report runs/vae-digits' draws the page so far\n" in said


def test_a_second_ctrl_c_ends_the_command_in_the_middle_of_compiled_code():
    """Which would take hours, and in which no handler of Python's runs."""
    script = (
        "import hashlib, signal; from jaxgen import cli, interrupt\n"
        "interrupt.remember = lambda: signal.signal(signal.SIGINT, lambda *_: None)\n"
        "cli.main = lambda: print(flush=True) or hashlib.pbkdf2_hmac('sha256', b'', b'', 2**31 - 1)\n"
        "cli.entry()"
    )
    child = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert child.stdout
    child.stdout.readline()
    child.send_signal(signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):  # the first one waits
        child.wait(1)
    child.send_signal(signal.SIGINT)
    child.communicate(timeout=60)
    assert child.returncode == 130


def as_a_process(command: str, *, flags=(), encoding: str = "utf-8") -> subprocess.CompletedProcess[str]:
    """A process of ``jaxgen`` whose only command is this one."""
    script = f"import os, signal, sys\nfrom jaxgen import cli\ndef command(arguments):\n{command}\n"
    script += "cli.COMMANDS['train'] = command\nsys.argv = ['jaxgen', 'train']\ncli.entry()"
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    return subprocess.run(
        [sys.executable, *flags, "-c", script], capture_output=True, text=True, env=environment, encoding=encoding
    )


def test_ctrl_c_in_an_import_is_130_whatever_the_import_makes_of_it():
    done = as_a_process(
        "  try: os.kill(os.getpid(), signal.SIGINT)\n"
        "  except KeyboardInterrupt as error: raise ImportError('half of it') from error"
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_ctrl_c_that_an_import_swallows_stops_the_run():
    """Raised where Python only prints it, as in a finalizer, it is heeded where the run collects its signals."""
    done = as_a_process(
        "  class Swallows:\n"
        "    def __del__(self): os.kill(os.getpid(), signal.SIGINT)\n"
        "  Swallows()\n"
        "  from jaxgen.training.signals import collect_signals\n"
        "  with collect_signals() as caught: print(caught)"
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "[2]\n", "")


def test_ctrl_c_that_a_compiled_module_prints_is_no_traceback():
    done = as_a_process(
        "  try: os.kill(os.getpid(), signal.SIGINT)\n"
        "  except KeyboardInterrupt: sys.excepthook(*sys.exc_info())\n"
        "  raise ImportError('half of it')"
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_ctrl_c_ends_an_import_whatever_it_would_go_on_with(tmp_path):
    (tmp_path / "half.py").write_text(
        "import os, signal\ntry: os.kill(os.getpid(), signal.SIGINT)\nexcept BaseException: pass\nprint('went on')"
    )
    done = as_a_process(f"  sys.path.insert(0, {str(tmp_path)!r})\n  import half")
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_a_terminal_without_a_letter_gets_another():
    assert as_a_process("  print('±')", encoding="ascii").stdout == "?\n"


def test_without_docstrings_there_is_one_sentence():
    done = as_a_process("  pass", flags=["-OO"])
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch("jaxgen: python -OO removes .*; run it with -O at the most\n", done.stderr)


def test_a_warning_is_shown_once():
    done = as_a_process(
        "  import warnings\n  for text in 'aba':\n    with warnings.catch_warnings(): warnings.warn(text)"
    )
    assert done.stderr == "jaxgen: warning: a\njaxgen: warning: b\n"


@pytest.mark.parametrize(
    ("arguments", "streams", "code", "said"),
    [
        (["list"], "> /dev/full", 2, "jaxgen: the output cannot be written (No space left on device)"),
        (["--help"], ">&-", 0, ""),
        (["--help"], "| head -1", 0, ""),
        (["evaluate", "nowhere"], "2>&-", 2, ""),
        (["evaluate", "nowhere"], "2> /dev/full", 2, ""),
    ],
)
def test_a_stream_that_is_full_or_closed_is_no_traceback(arguments, streams, code, said):
    command = " ".join([shlex.quote(sys.executable), "-m", "jaxgen", *arguments, streams])
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True)
    assert done.returncode == code
    assert said in done.stderr
    assert said or "cannot be written" not in done.stderr
    assert "Traceback" not in done.stderr
