"""Being asked to stop: SIGTERM and Ctrl-C are noted at once and heeded between two calls of the compiled function."""

import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from jaxgen.interrupt import pressed


class Interrupted(Exception):
    """SIGTERM or Ctrl-C: the run was saved and can go on."""

    def __init__(self, step: int, signum: int):
        super().__init__(f"stopped at step {step}")
        self.step, self.signum = step, signum


@contextmanager
def collect_signals(tell: Callable[[int], None] = lambda signum: None) -> Iterator[list[int]]:
    """Collects SIGTERM and Ctrl-C for the loop to see; a second Ctrl-C interrupts at once.

    Args:
      tell: hears of the first signal from a thread of its own: Python's handlers wait for a call of the compiled
        function, which may take a while, to end.
    """
    caught: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield caught
        return

    def note(signum, _frame):
        if caught and signum == signal.SIGINT:
            raise KeyboardInterrupt
        caught.append(signum)

    before = {s: signal.signal(s, note) for s in (signal.SIGINT, signal.SIGTERM)}
    caught.extend(pressed)  # and swallowed by what was going on then
    try:
        with _told_at_once(tell):
            yield caught
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


@contextmanager
def _told_at_once(tell: Callable[[int], None]) -> Iterator[None]:
    """Python writes the number of each signal to the wakeup file as it comes, whatever the main thread does.

    One that was there before gets them too.
    """
    ours, wakeup = socket.socketpair()
    wakeup.setblocking(False)

    def listen():
        told = False
        while heard := ours.recv(1):
            if before != -1:
                os.write(before, heard)
            if not told and heard[0] in (signal.SIGINT, signal.SIGTERM):
                tell(heard[0])
                told = True

    before = signal.set_wakeup_fd(wakeup.fileno(), warn_on_full_buffer=False)
    thread = threading.Thread(target=listen, name="signals", daemon=True)
    thread.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        wakeup.close()
        thread.join()
        ours.close()
