"""The trainer: the only place with effects, between calls of one compiled function."""

import signal
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, NamedTuple, NoReturn

import numpy as np

from jaxgen.console import Console
from jaxgen.data import Dataset
from jaxgen.errors import UserError
from jaxgen.model import Model, check_players
from jaxgen.training import evaluate as evaluation
from jaxgen.training.checkpoint import Checkpoints
from jaxgen.training.devices import agree, first
from jaxgen.training.logged import Sums, for_log, short_names
from jaxgen.training.nonfinite import check_figures, check_finite
from jaxgen.training.options import Options, make_optimizers, measure_every, num_steps, with_intervals
from jaxgen.training.run import Run
from jaxgen.training.signals import Interrupted, collect_signals
from jaxgen.training.snapshots import Snapshots
from jaxgen.training.state import State
from jaxgen.writers import Writer

#: A call of the compiled function aims at this many seconds: often enough for a progress bar and for Ctrl-C.
_CALL_SECONDS = 0.5
#: Rounds between log points from which on a call may end at each.
_RARE = 64


class Result(NamedTuple):
    """What a finished run leaves in memory.

    Attributes:
      state: host arrays, with a replica axis if there are several.
      figures: the last evaluation's, one number each or one for each replica.
      seconds: wall time from the first round to the end.
      start: the step from which this call went on; the last one where the run was finished before.
    """

    state: State
    figures: evaluation.Figures
    seconds: float
    start: int = 0


def train(
    model: Model,
    dataset: Dataset,
    options: Options = Options(),  # noqa: B008 (immutable)
    *,
    optimizers: Mapping[str, Any] | None = None,
    num_devices: int | None = None,
    checkpoints: Checkpoints | None = None,
    snapshots: Snapshots | None = None,
    writers: tuple[Writer, ...] = (),
    console: Console | None = None,
) -> Result:
    """Trains a model: rounds, log points, evaluations, checkpoints; goes on from the newest checkpoint.

    Args:
      model: the contract.
      dataset: its ``train`` split is learned, its ``test`` split evaluated.
      options: recorded hyperparameters.
      optimizers: one for each player; the model's own by default.
      num_devices: local devices to use, all by default. It changes no result beyond rounding.
      checkpoints: where to save and what to go on from; ``None`` keeps nothing.
      snapshots: where to keep what the same noise becomes, evaluation by evaluation; ``None`` draws nothing.
      writers: where log points and evaluations go.
      console: a writer that is told of every call and not of log points alone, and of what goes on between them.

    Returns:
      The final state, the last evaluation's figures and the time.

    Raises:
      UserError: for options that do not fit the data or the devices.
      NonFiniteError: naming the player, the term, the step and the batch.
      Interrupted: after SIGTERM or Ctrl-C, once the state is saved.
    """
    updates = sum(model.turns.values())
    check_players(model)
    steps = num_steps(options, num_examples=len(dataset.train["x"]), updates=updates)
    options = with_intervals(options, steps)
    if optimizers is None:
        optimizers = make_optimizers(model, options, steps)
    # What asks to stop while the data moves or the first call compiles is heeded like any other.
    with (
        collect_signals(_stopping(console)) as caught,
        ThreadPoolExecutor(1, thread_name_prefix="feed") as pool,
        _saved(checkpoints),
    ):
        run = Run(
            model,
            dataset,
            options,
            optimizers=optimizers,
            num_devices=num_devices,
            checkpoints=checkpoints,
            snapshots=snapshots,
            writers=writers,
        )
        return _Play(run, steps, pool, console).until_stopped(caught)


@contextmanager
def _saved(checkpoints: Checkpoints | None) -> Iterator[None]:
    """Waits for what is being saved, whatever happened; of two errors the first is raised, with the other as a note."""
    try:
        yield
    except BaseException as first_error:
        try:
            _wait(checkpoints)
        except UserError as error:
            first_error.add_note(f"Besides, {error}.")
        raise
    _wait(checkpoints)


def _wait(checkpoints: Checkpoints | None) -> None:
    if checkpoints is not None:
        checkpoints.wait()


def _stopping(console: Console | None) -> Callable[[int], None]:
    """Acknowledges a signal."""

    def tell(signum: int) -> None:
        again = " (Ctrl-C again stops at once)" if signum == signal.SIGINT else ""
        if console:
            console.line(f"stopping after this call{again}")

    return tell


class _Call(NamedTuple):
    """The rounds from one step to another, and what the compiled function measured in them."""

    start: int
    end: int
    metrics: Mapping[str, Any]


class _Play:
    """The rounds of a run to its end, and what goes on between two calls of the compiled function."""

    def __init__(self, run: Run, steps: int, pool: ThreadPoolExecutor, console: Console | None):
        self._run, self._steps, self._pool, self._console = run, steps, pool, console
        every, often = run.options.evaluate_every, run.options.log_every
        # A call ends at a log point too where these are rare enough to cost nothing: their times are then their own.
        self._intervals = [every, *([often] if often >= _RARE else [])]
        self._began = self._settled = time.perf_counter()
        self._rounds = 1  # of the next call
        self._played: _Call | None = None  # the call that nobody has looked at yet

    def until_stopped(self, caught: list[int]) -> Result:
        """Plays to the last step, or until a signal is caught."""
        run, step, signum, evaluate_every = self._run, self._run.start, 0, self._run.options.evaluate_every
        if self._console and step < self._steps:
            self._console.begin(step, evaluate_every=evaluate_every)
        stop = self._next_stop(step, self._rounds)
        pending = self._fetch(step, stop)
        while step < self._steps and not (signum := agree(caught[0] if caught else 0)):
            limits = np.int32(step), np.int32(stop - step)
            run.state, metrics = run.rounds(run.state, run.feed.data, pending.result(), *limits)
            here, step = step, stop
            # While the device computes, the next batches are gathered and the call before is looked at.
            stop = self._next_stop(step, agree(self._rounds))
            pending = self._fetch(step, stop)
            self._settle()
            self._played = _Call(here, step, metrics)
            if step % evaluate_every == 0 or step == self._steps:
                self._settle()
                self._evaluate(step)
        self._settle()
        if step < self._steps:
            self._interrupt(step, signum)
        self._tell_best()
        return Result(first(run.state), run.figures, time.perf_counter() - self._began, run.start)

    def _next_stop(self, at: int, rounds: int) -> int:
        return min(at + rounds, self._steps, *((at // every + 1) * every for every in self._intervals))

    def _fetch(self, at: int, to: int) -> Future[Any]:
        return self._pool.submit(self._run.feed, at, to - at) if at < to else self._pool.submit(dict)

    def _settle(self) -> None:
        """Looks at what the last call left, once: whether it is finite, and what is to be written."""
        if self._played is None:
            return
        (start, end, metrics), self._played = self._played, None
        run = self._run
        values = {name: value[..., : end - start] for name, value in first(metrics).items()}
        check_finite(values, run.game, first_step=start)
        now = time.perf_counter()
        self._rounds = _adapt(self._rounds, end - start, now - self._settled, run.feed.length)
        self._settled = now
        values = for_log(values, first_step=start, every=measure_every(run.options))
        if self._console:
            self._console.write(end, short_names(Sums().add(values).means(), run.model), kind="train")
        self._log(start, end, values)

    def _log(self, here: int, end: int, values: Mapping[str, np.ndarray]) -> None:
        """Adds the rounds of a call to the sums, and writes their means at each log point that it reached."""
        run, every = self._run, self._run.options.log_every
        while here < end:
            point = min((here // every + 1) * every, end)
            run.logged.add({name: value[..., : point - here] for name, value in values.items()})
            values = {name: value[..., point - here :] for name, value in values.items()}
            if point % every == 0 or point == self._steps:
                run.write(point, short_names(run.logged.means(), run.model), kind="train")
                run.logged = Sums()
            here = point

    def _evaluate(self, step: int) -> None:
        """Evaluates, logs the figures, and keeps the state."""
        run = self._run
        self._tell("evaluating")
        run.figures = run.evaluate()
        check_figures(run.figures, run.game, step=step)
        run.write(step, run.figures, kind="evaluate")
        if self._console:
            self._console.write(step, run.figures, kind="evaluate")
        run.watch(step, steps=self._steps)  # before the checkpoint that a run would go on from
        self._tell("saving")
        run.save(step, evaluated=True)
        self._tell("")
        self._settled = time.perf_counter()

    def _tell_best(self) -> None:
        """Which checkpoint is looked at where nobody asks for the last, if it is another."""
        checkpoints = self._run.checkpoints
        if self._console is None or checkpoints is None:
            return
        best = checkpoints.best()
        if best is not None and best != self._steps:
            value = f"{checkpoints.objective(best):.4g}".replace("-", "−")
            self._console.line(f"best: step {best}, {self._run.model.objective} {value}; the last is kept beside it")

    def _interrupt(self, step: int, signum: int) -> NoReturn:
        self._tell("saving")
        self._run.save(step, evaluated=False)
        _wait(self._run.checkpoints)  # whoever interrupts is told that all is saved
        raise Interrupted(step, signum)

    def _tell(self, what: str) -> None:
        if self._console:
            self._console.say(what)


def _adapt(rounds: int, played: int, seconds: float, length: int) -> int:
    """Rounds of the next call: as many as fill ``_CALL_SECONDS``, growing gently past the first, compiling call."""
    return int(np.clip(_CALL_SECONDS / max(seconds / played, 1e-9), 1, min(4 * rounds, length)))
