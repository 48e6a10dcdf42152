"""Ctrl-C before a run collects its signals: noted, since whatever is being imported may swallow what it raises."""

import signal
from typing import NoReturn

#: Signals that came so far.
pressed: list[int] = []


def _note(signum: int, _frame: object) -> NoReturn:
    pressed.append(signum)
    raise KeyboardInterrupt


def remember() -> None:
    """Installs the handler, for the process of the command line."""
    signal.signal(signal.SIGINT, _note)
