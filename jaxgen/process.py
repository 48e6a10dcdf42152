"""The process of the command line: what it shows of warnings and of errors nobody caught, and how it ends."""

import contextlib
import errno
import io
import os
import signal
import socket
import sys
import threading
import warnings
from collections.abc import Callable
from typing import Any, NoReturn

from jaxgen import interrupt
from jaxgen.errors import storage_error

#: What follows where a thread's storage is full or broken: a file found closed, an event loop that is gone.
_AFTERMATH = ("handle is closed", "Event loop is closed")


def _unless_said(hook: Callable[[Any], object]) -> Callable[[Any], None]:
    """A hook for what nobody caught that leaves out what the main thread says in one sentence, and nothing else."""

    def show(unhandled: Any) -> None:
        error = unhandled.exc_value
        refused = None if error is None else storage_error(error)
        full = refused is not None and refused.errno in (errno.ENOSPC, errno.EDQUOT)
        heeded = isinstance(error, KeyboardInterrupt) and interrupt.pressed
        if not full and not heeded and str(error) not in _AFTERMATH:
            hook(unhandled)

    return show


def _unless_pressed(kind: type[BaseException], error: BaseException, trace: Any) -> None:
    """Compiled modules print what broke their imports themselves."""
    if not interrupt.pressed:
        sys.__excepthook__(kind, error, trace)


def _end_at_second_ctrl_c() -> None:
    """Python's own handler waits for a call into compiled code to end; a run can be killed at any moment."""
    ours, wakeup = socket.socketpair()
    wakeup.setblocking(False)

    def listen(wakeup: socket.socket) -> None:
        pressed = 0
        while pressed < 2:
            pressed += ours.recv(1)[0] == signal.SIGINT
        os.write(2, b"\n")
        os._exit(130)

    signal.set_wakeup_fd(wakeup.fileno(), warn_on_full_buffer=False)
    threading.Thread(target=listen, args=(wakeup,), daemon=True).start()


def _once() -> Callable[..., str]:
    """Formats a warning; one that was shown before, as of the same data read again, is nothing."""
    shown: set[str] = set()

    def formatted(*given: Any) -> str:
        line = _warning(*given)
        known = line in shown
        shown.add(line)
        return "" if known else line

    return formatted


def _warning(message: Warning | str, category: type[Warning], *where: Any) -> str:
    """One line of what concerns the user; where in the code it was raised concerns the developers of libraries."""
    if category is UserWarning:
        return f"jaxgen: warning: {message}\n"
    return f"jaxgen: {category.__name__}: {message} ({where[0]}:{where[1]})\n"


def prepare() -> None:
    """Before anything heavy is imported."""
    interrupt.remember()
    # A stream that the shell closed is none at all to Python.
    sys.stdout = sys.stdout or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 (for as long as the process)
    sys.stderr = sys.stderr or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a locale that lacks a letter is no reason to stop
    warnings.formatwarning = _once()
    # Threads of the storage and of TensorBoard meet a full disk too.
    sys.excepthook = _unless_pressed
    threading.excepthook = _unless_said(threading.excepthook)
    sys.unraisablehook = _unless_said(sys.unraisablehook)
    _end_at_second_ctrl_c()


def unwritten(error: OSError) -> int:
    """Says that what was printed is lost, unless that cannot be written either; a reader who has seen enough knows."""
    if isinstance(error, BrokenPipeError):
        return 141
    with contextlib.suppress(OSError):
        print(f"jaxgen: the output cannot be written ({error.strerror}); free space there", file=sys.stderr)
    return 2


def leave(code: int) -> NoReturn:
    """Ends the process, with 2 where what it printed could not be written."""
    try:
        sys.stdout.flush()
    except OSError as error:
        code = unwritten(error)
    with contextlib.suppress(OSError):
        sys.stderr.flush()
    if code in (2, 130, 141):
        # Nothing is left to save; on the way out the same full disk is met, and modules that are half imported.
        os._exit(code)
    sys.exit(code)
