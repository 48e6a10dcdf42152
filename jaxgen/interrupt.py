"""Ctrl-C before a run collects its signals: noted, since whatever is going on may swallow what it raises."""

import os
import signal
from types import FrameType

#: Signals that came so far.
pressed: list[int] = []


def _note(signum: int, frame: FrameType | None) -> None:
    """Ends an import at once, in which there is nothing to save: compiled modules go on, half made, and crash."""
    pressed.append(signum)
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            os._exit(130)
        frame = frame.f_back
    raise KeyboardInterrupt


def remember() -> None:
    """Installs the handler, for the process of the command line."""
    signal.signal(signal.SIGINT, _note)
