"""Being asked to stop: SIGTERM and Ctrl-C are noted at once and heeded between two calls of the compiled function."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Interrupted(Exception):
    """SIGTERM or Ctrl-C: the run was saved and can go on."""

    def __init__(self, step: int, signum: int):
        super().__init__(f"stopped at step {step}")
        self.step, self.signum = step, signum


@contextmanager
def collect_signals() -> Iterator[list[int]]:
    """Collects SIGTERM and Ctrl-C for the loop to see; a second Ctrl-C interrupts at once."""
    caught: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield caught
        return

    def note(signum, _frame):
        if caught and signum == signal.SIGINT:
            raise KeyboardInterrupt
        caught.append(signum)

    before = {s: signal.signal(s, note) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield caught
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
