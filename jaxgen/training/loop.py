"""The trainer: the only place with effects, between calls of one compiled function."""

import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxgen.console import Console
from jaxgen.data import Dataset
from jaxgen.data.dataset import row_chunks
from jaxgen.data.prepare import make_prepare
from jaxgen.errors import UserError
from jaxgen.model import Model, check_players
from jaxgen.training import evaluate as evaluation
from jaxgen.training.checkpoint import Checkpoints
from jaxgen.training.devices import Devices, agree, check_fits, choose, first, on_first, parallel, replicate
from jaxgen.training.feed import Feed, num_bytes
from jaxgen.training.nonfinite import Game, check_figures, check_finite
from jaxgen.training.options import Options, make_optimizers, measure_every, num_steps, with_intervals
from jaxgen.training.signals import Interrupted, collect_signals
from jaxgen.training.state import Creator, State
from jaxgen.training.step import Prepare, make_rounds
from jaxgen.writers import Writer

#: A call of the compiled function aims at this many seconds: often enough for a progress bar and for Ctrl-C.
_CALL_SECONDS = 0.5
#: Rounds that one call can hold at the most.
_MAX_LENGTH = 128
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
        run = _Run(model, dataset, options, optimizers, num_devices, checkpoints, writers)
        return _play(run, steps, pool, caught, console)


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


class _Run:
    """One run's compiled functions, data, and state on the devices."""

    def __init__(self, model, dataset, options, optimizers, num_devices, checkpoints, writers):
        self.model, self.dataset, self.options = model, dataset, options
        self.checkpoints, self.writers = checkpoints, writers
        self.game = Game(model.turns, len(dataset.train["x"]), options, lambda: _largest(dataset))
        seeds = range(options.seed, options.seed + options.seeds)
        self.devices: Devices = choose(num_devices, batch_size=options.batch_size, replicas=len(seeds))
        prepare = make_prepare(scale=dataset.scale, binarize=options.binarize, dequantize=options.dequantize)
        budget = options.memory_budget * 2**20
        self.feed = Feed(
            dataset.train,
            self.devices,
            seeds=seeds,
            batch_size=options.batch_size,
            updates=sum(model.turns.values()),
            length=_MAX_LENGTH,
            resident=num_bytes(dataset.train) <= budget,
        )
        self.evaluator = evaluation.Evaluator(
            model, dataset.test, prepare, self.devices, resident=num_bytes(dataset.test) <= budget
        )
        self.rounds = parallel(
            make_rounds(model, optimizers, prepare, measure_every=measure_every(options)),
            self.devices,
            in_axes=(0, None, 0, None, None),
            replica_axes=(0, None, 0, None, None),
            donate=(0,),
        )
        self.start, self.figures, self.logged = 0, {}, _Sums()
        self.state = replicate(self._begin(Creator(model, optimizers), prepare, seeds), self.devices)

    def _begin(self, creator: Creator, prepare: Prepare, seeds: Sequence[int]) -> State:
        """The newest checkpoint, for which nothing is initialized; else the state before the first round."""
        # The first two raw examples, in network units: shapes are all that initialization needs.
        raw = {name: np.asarray(a[:2]) for name, a in self.dataset.train.items()} | {"position": np.arange(2)}
        keys = jax.random.split(jax.random.key(0), 2)
        shapes = creator.shapes(jax.eval_shape(prepare, keys, raw), replicas=len(seeds))
        smaller = "the model's sizes, such as --hidden and --latents, or --seeds"
        check_fits(shapes, self.devices, what="parameters and optimizers", lower=smaller)
        if self.checkpoints is not None:
            restored = self.checkpoints.restore(shapes)
            if restored is not None:
                self.start, self.figures = restored.step, restored.record["figures"]
                self.logged = _Sums(restored.record.get("logged"))
                self.game = self.game._replace(saved=True)
                return restored.state
        return creator(jax.jit(prepare)(keys, raw), seeds=seeds)

    def evaluate(self) -> evaluation.Figures:
        """Figures of the test split, and the mode coverage where modes are known."""
        replicas, (params, statistics) = self.options.seeds, (self.state.params, self.state.statistics)
        means = self.evaluator(params, statistics)
        figures = evaluation.summarize(self.model, means, replicas=replicas)
        evaluation.check_objective(self.model, figures)
        if self.dataset.modes is not None and self.model.sample is not None:
            here = on_first((params, statistics))
            figures |= evaluation.coverage(self.model, self.dataset, *here, replicas=replicas)
        return figures

    def write(self, step: int, values: Mapping[str, Any], kind: str) -> None:
        for writer in self.writers:
            writer.write(step, values, kind=kind)

    def save(self, step: int, *, evaluated: bool) -> None:
        if self.checkpoints is None:
            return
        objective = self.figures.get(self.model.objective) if evaluated and self.model.objective else None
        self.checkpoints.save(
            step,
            first(self.state),
            {"figures": self.figures, "logged": self.logged.record()},
            objective=None if objective is None else float(np.mean(objective)),
        )
        self.game = self.game._replace(saved=True)


def _play(run: _Run, steps: int, pool: ThreadPoolExecutor, caught: list[int], console: Console | None) -> Result:
    options, model, evaluate_every = run.options, run.model, run.options.evaluate_every
    # A call ends at a log point too where these are rare enough to cost nothing, and their times are then their own.
    intervals = [every for every in (evaluate_every, options.log_every) if every >= _RARE or every == evaluate_every]
    began, step = time.perf_counter(), run.start

    def next_stop(at: int, rounds: int) -> int:
        return min(at + rounds, steps, *((at // every + 1) * every for every in intervals))

    def fetch(at: int, to: int) -> Future[Any]:
        return pool.submit(run.feed, at, to - at) if at < to else pool.submit(dict)

    def settle(here: int, to: int, metrics: Mapping[str, Any]) -> None:
        """Looks at what a call left: whether it is finite, and what is to be written."""
        nonlocal rounds, settled
        values = {name: value[..., : to - here] for name, value in first(metrics).items()}
        check_finite(values, run.game, first_step=here)
        now = time.perf_counter()
        rounds, settled = _adapt(rounds, to - here, now - settled, run.feed.length), now
        values = _for_log(values, first_step=here, every=measure_every(options))
        if console:
            console.write(to, _short_names(_Sums().add(values).means(), model), kind="train")
        while here < to:
            point = min((here // options.log_every + 1) * options.log_every, to)
            run.logged.add({name: value[..., : point - here] for name, value in values.items()})
            values = {name: value[..., point - here :] for name, value in values.items()}
            if point % options.log_every == 0 or point == steps:
                run.write(point, _short_names(run.logged.means(), model), "train")
                run.logged = _Sums()
            here = point

    def tell(what: str) -> None:
        if console:
            console.say(what)

    if console and step < steps:
        console.begin(step, evaluate_every=evaluate_every)
    rounds, settled, played, signum = 1, began, None, 0
    stop = next_stop(step, rounds)
    pending = fetch(step, stop)
    while step < steps and not (signum := agree(caught[0] if caught else 0)):
        limits = np.int32(step), np.int32(stop - step)
        run.state, metrics = run.rounds(run.state, run.feed.data, pending.result(), *limits)
        here, step = step, stop
        # While the device computes, the next batches are gathered and the call before is looked at.
        stop = next_stop(step, agree(rounds))
        pending = fetch(step, stop)
        if played:
            settle(*played)
        played = here, step, metrics
        if step % evaluate_every == 0 or step == steps:
            settle(*played)
            played = None
            tell("evaluating")
            run.figures = run.evaluate()
            check_figures(run.figures, run.game, step=step)
            run.write(step, run.figures, "evaluate")
            if console:
                console.write(step, run.figures, kind="evaluate")
            tell("saving")
            run.save(step, evaluated=True)
            tell("")
            settled = time.perf_counter()
    if played:
        settle(*played)
    if step < steps:
        tell("saving")
        run.save(step, evaluated=False)
        _wait(run.checkpoints)  # whoever interrupts is told that all is saved
        raise Interrupted(step, signum)
    return Result(first(run.state), run.figures, time.perf_counter() - began, run.start)


def _largest(dataset: Dataset) -> float:
    """Magnitude of the largest training value in network units; a missing one is none."""
    parts = row_chunks(dataset.train["x"])
    return max(float(np.fmax.reduce(np.abs(part.astype(np.float32)), axis=None)) for part in parts) / dataset.scale


def _adapt(rounds: int, played: int, seconds: float, length: int) -> int:
    """Rounds of the next call: as many as fill ``_CALL_SECONDS``, growing gently past the first, compiling call."""
    return int(np.clip(_CALL_SECONDS / max(seconds / played, 1e-9), 1, min(4 * rounds, length)))


def _short_names(values: Mapping[str, Any], model: Model) -> dict[str, Any]:
    """``player/metric``, or ``metric`` alone where there is one player."""
    return {name.split("/", 1)[1]: v for name, v in values.items()} if len(model.losses) == 1 else dict(values)


def _for_log(values: Mapping[str, np.ndarray], *, first_step: int, every: int) -> dict[str, np.ndarray]:
    """What goes into logs: gradient norms of every ``every``-th step, NaN elsewhere; not what serves checks alone."""
    kept = {name: value for name, value in values.items() if "/finite/" not in name}
    for name in kept:
        if name.endswith("/grad_norm"):
            steps = first_step + 1 + np.arange(kept[name].shape[-1])
            kept[name] = np.where(steps % every == 0, kept[name], np.nan)
    return kept


class _Sums:
    """Sums over the rounds since the last log point, which a checkpoint between two log points takes along.

    Rounds are added one after the other, so that nothing depends on how many a call held.
    """

    def __init__(self, recorded: Mapping[str, Any] | None = None):
        self._sums = {name: (np.asarray(total, np.float64), n) for name, (total, n) in (recorded or {}).items()}

    def add(self, values: Mapping[str, np.ndarray]) -> "_Sums":
        """Adds values [..., rounds]; a norm that was not measured in a round is NaN there and does not count."""
        for name, value in values.items():
            value = value[..., ~np.isnan(value).reshape(-1, value.shape[-1]).any(axis=0)].astype(np.float64)
            total, count = self._sums.get(name, (np.zeros(value.shape[:-1]), 0))
            total = np.cumsum(np.concatenate([total[..., None], value], axis=-1), axis=-1)[..., -1]
            self._sums[name] = total, count + value.shape[-1]
        return self

    def means(self) -> dict[str, float | list[float]]:
        """By name; a norm that was measured in none of the rounds is left out."""
        return {name: (total / count).tolist() for name, (total, count) in self._sums.items() if count}

    def record(self) -> dict[str, list[Any]]:
        """What JSON takes, and the constructor takes back."""
        return {name: [total.tolist(), count] for name, (total, count) in self._sums.items()}
