"""What a run tells whoever waits for it: a bar on a terminal, elsewhere a line at the start and each evaluation."""

import shutil
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

from jaxgen.writers import Values, Writer, checked_kind, plain

#: Names on a line of the console; the file has them all.
SHOWN = 5
#: A name is left out where another says the same number, or its negative.
REPEATS = {"loss": "elbo", "rate": "kl", "distortion": "nll"}
#: Seconds between two drawings of the bar.
_PAUSE = 0.1


@runtime_checkable
class TextStream(Protocol):
    """What the console needs: a file opened for text, standard error, a StringIO."""

    def write(self, text: str, /) -> Any: ...
    def flush(self) -> Any: ...
    def isatty(self) -> bool: ...


@runtime_checkable
class Console(Writer, Protocol):
    """What the training loop tells beyond values, so that nobody waits in the dark."""

    def begin(self, step: int, *, evaluate_every: int) -> None:
        """The run begins, or goes on from a step."""
        ...

    def say(self, what: str) -> None:
        """What is going on now: evaluating, saving; nothing where training goes on."""
        ...

    def line(self, text: str) -> None:
        """A line of its own, from any thread."""
        ...


class ConsoleWriter:
    """A progress bar with speed and time left on a terminal; elsewhere a line at the start and each evaluation.

    Replicas are shown as mean ± standard deviation (n − 1). The clock of the speed starts at the first log point, so
    that neither the compilation nor the steps before a resumption count, and stands while the run evaluates or saves;
    the time left adds what the evaluations to come take, once there was one that did not compile.

    Args:
        total: steps of the whole run.
        title: what is trained, where.
        stream: where to write; standard error by default.

    Example:
        >>> import sys
        >>> console = ConsoleWriter(total=200, title="vae on digits in runs/a", stream=sys.stdout)
        >>> console.begin(50, evaluate_every=50)
        vae on digits in runs/a: 200 steps, goes on from step 50
        >>> console.write(100, {"elbo": -98.76543, "loss": 98.76543, "kl": [24.0, 26.0]}, kind="evaluate")
        step 100/200: elbo −98.77, kl 25 ± 1.4
        >>> console.close()
    """

    def __init__(self, *, total: int, title: str = "", stream: TextStream | None = None) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._total, self._title = total, title
        self._terminal = self._stream.isatty()
        self._lock = threading.RLock()
        self._clock = _Clock(total)
        self._widths: dict[str, int] = {}
        self._step, self._terms, self._doing, self._drawn = 0, [], "starting", -_PAUSE
        self._draw()

    def begin(self, step: int, *, evaluate_every: int) -> None:
        """Say what is trained; see `Console.begin`."""
        self._step, self._doing = step, "compiling"
        self._clock.due = -(-self._total // evaluate_every) - step // evaluate_every
        resumed = f", goes on from step {step}" if step else ""
        self.line(f"{self._title or 'training'}: {self._total} steps{resumed}")

    def say(self, what: str) -> None:
        """Show what is going on where the values were; see `Console.say`."""
        self._clock.stand() if what else self._clock.go_on()
        self._doing = what
        self._draw()

    def line(self, text: str) -> None:
        """Write a line; on a terminal the bar moves below it."""
        with self._lock:
            if self._terminal:
                self._clear()
            print(text, file=self._stream, flush=True)
            self._draw()

    def write(self, step: int, values: Values, *, kind: str) -> None:
        """Move the bar to `step`, show the values; an evaluation keeps its line. See `Writer.write`."""
        if checked_kind(kind) == "evaluate":
            terms = [self._aligned(term) for term in _terms(values)]
            self.line(f"step {step:>{len(str(self._total))}}/{self._total}: {', '.join(terms)}")
            return
        self._clock.reach(step)
        changed = bool(self._doing) or step == self._total
        self._step, self._doing = step, ""
        self._terms = [f"{name} {number}" for name, number in _terms(values)]
        if changed or time.perf_counter() - self._drawn >= _PAUSE:
            self._draw()

    def close(self) -> None:
        """Leave the bar as it stands and let go of the terminal."""
        self._doing = ""
        self._draw()
        if self._terminal:
            self._terminal = False
            self._stream.write("\n")
            self._stream.flush()

    def _aligned(self, term: tuple[str, str]) -> str:
        name, number = term
        width = self._widths[name] = max(len(number), self._widths.get(name, 0))
        return f"{name} {number:>{width}}"

    def _clear(self) -> None:
        self._stream.write("\r" + " " * (shutil.get_terminal_size().columns - 1) + "\r")

    def _draw(self) -> None:
        if not self._terminal:
            return
        with self._lock:
            # One column stays free: some terminals begin a new line once the last one is written.
            width = shutil.get_terminal_size().columns - 1
            rate, left = self._clock.rate(), self._clock.left(self._step)
            text = bar(self._step, self._total, rate, left, self._doing, self._terms, width=width)
            self._stream.write("\r" + text.ljust(width))
            self._stream.flush()
            self._drawn = time.perf_counter()


class _Clock:
    """Seconds of training and of evaluating, apart."""

    def __init__(self, total: int):
        self.due = 0  # evaluations to come
        self._total = total
        self._since: float | None = None  # of the training that has not been counted yet
        self._stood: float | None = None  # since when the run evaluates and saves
        self._step = self._steps = 0
        self._training = 0.0
        self._evaluations: list[float] = []

    def reach(self, step: int) -> None:
        now = time.perf_counter()
        if self._since is not None:
            self._training += now - self._since
            self._steps += step - self._step
        self._since, self._step = now, step

    def stand(self) -> None:
        if self._stood is None:
            self._stood = time.perf_counter()

    def go_on(self) -> None:
        if self._stood is not None:
            self._since = time.perf_counter()
            self._evaluations.append(self._since - self._stood)
            self.due -= 1
            self._stood = None

    def rate(self) -> float | None:
        """Steps a second."""
        return self._steps / self._training if self._steps and self._training else None

    def left(self, step: int) -> float | None:
        """Seconds."""
        rate = self.rate()
        if rate is None:
            return None
        known = self._evaluations[1:]  # the first one compiled
        return (self._total - step) / rate + (self.due * float(np.mean(known)) if known else 0.0)


def bar(
    step: int, total: int, rate: float | None, left: float | None, doing: str, terms: Sequence[str], *, width: int
) -> str:
    """One line of at most `width` characters; what does not fit is left out whole, the last terms first.

    >>> bar(50, 200, 12.5, 75.0, "", ["loss 48.15", "nll 44.2"], width=70)
    ' 25% |████            | 50/200 12.5 steps/s, 01:15 left, loss 48.15'
    >>> bar(50, 200, 12.5, 75.0, "", ["loss 48.15", "nll 44.2"], width=50)
    ' 25% |██      | 50/200 12.5 steps/s, 01:15 left'
    >>> bar(50, 200, None, None, "evaluating", [], width=50)
    ' 25% 50/200, ? left, evaluating'
    """
    speed = f"{'?' if rate is None else _rate(rate)} steps/s"
    until = f"{'?' if left is None else _duration(left)} left"
    percent, count = f"{step / total:4.0%}", f"{step}/{total}"
    drawn = [f"|{'█' * int(step / total * size):<{size}}|" for size in (16, 8)]
    heads = [f"{percent} {each} {count} {speed}, {until}" for each in drawn]
    heads += [f"{percent} {count}, {until}", f"{percent} {until}", percent, ""]
    ending = f", {doing}" if doing else ""  # rather than a bar, but not rather than the time left
    text = next((h + ending for h in heads[:4] if len(h + ending) <= width), "")
    text = text or next(h for h in heads if len(h) <= width)
    for term in [] if doing else terms:
        if len(text) + 2 + len(term) > width:
            break
        text += f", {term}"
    return text


def repeated(values: Mapping[str, Any]) -> set[str]:
    """Names whose number stands under another name as well, or its negative.

    >>> sorted(repeated({"loss": 3.0, "elbo": -3.0, "kl": 1.0, "rate": 1.5}))
    ['loss']
    """
    return {
        name
        for name, other in REPEATS.items()
        if name in values and other in values and np.allclose(np.abs(values[name]), np.abs(values[other]), rtol=1e-6)
    }


def _terms(values: Values) -> list[tuple[str, str]]:
    """The first names and their numbers, losses first; not what repeats another, nor the entries of vectors, "kl/0"."""
    numbers = {name: plain(name, value) for name, value in values.items() if not name.rpartition("/")[2].isdigit()}
    again = repeated(numbers)
    # What says the loss stands in its place.
    rank = {"loss": 0, "grad_norm": 2} | {REPEATS[name]: 0 for name in again & {"loss"}}
    names = [name for name in numbers if name not in again]
    names.sort(key=lambda name: rank.get(name.rpartition("/")[2], 1))
    return [(name, _number(numbers[name])) for name in names[:SHOWN]]


def _number(value: float | list[float]) -> str:
    if isinstance(value, list) and len(value) > 1:
        return f"{_digits(float(np.mean(value)))} ± {np.std(value, ddof=1):.2g}".replace("-", "−")
    return _digits(float(np.mean(value))).replace("-", "−")


def _digits(value: float) -> str:
    """Four digits, zeros too, so that numbers below each other end alike; whole numbers up to 9999 as they are."""
    return f"{value:.0f}" if value.is_integer() and abs(value) < 1e4 else f"{value:#.4g}".removesuffix(".")


def _rate(rate: float) -> str:
    return f"{rate / 1000:.1f}k" if rate >= 1000 else f"{rate:.3g}"


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes:02d}:{seconds:02d}"
