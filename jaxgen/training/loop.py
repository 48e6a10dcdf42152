"""The trainer: the only place with effects, between calls of one compiled function."""

import itertools
import math
import signal
import threading
import time
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxgen.data import Dataset
from jaxgen.data.prepare import Binarize, make_prepare
from jaxgen.errors import UserError
from jaxgen.model import Model, check_players
from jaxgen.training import evaluate as evaluation
from jaxgen.training.checkpoint import Checkpoints
from jaxgen.training.devices import Devices, choose, first, parallel, replicate
from jaxgen.training.feed import Feed, num_bytes
from jaxgen.training.state import State, create, replica, stack
from jaxgen.training.step import make_rounds
from jaxgen.writers import Writer

Schedule = Literal["constant", "cosine", "staircase"]

#: A call of the compiled function aims at this many seconds: often enough for a progress bar and for Ctrl-C.
_CALL_SECONDS = 0.3
#: Rounds that one call can hold at the most.
_MAX_LENGTH = 128


class Options(NamedTuple):
    """How to train; everything here is recorded, and a run goes on only under the same options.

    Attributes:
      steps: Rounds to play; by default as many as the epochs need.
      epochs: Passes over the training split, where the steps are not given.
      batch_size: Examples of one update, over all devices.
      learning_rate: Of every player's optimizer.
      schedule: Learning rate over the run: constant, cosine to zero, or staircase: rate·10^(−i/7) in stage i = 0 … 7 of
        relative length 3^i (Burda et al., 2016).
      seed: Decides initialization, data order and noise.
      seeds: Replicas trained side by side in one compiled program, with seeds seed, seed + 1, …
      binarize: How grey values become bits: dynamic draws them each time an example is seen, threshold cuts at ½.
      dequantize: Fill the steps between grey levels with uniform noise.
      log_every: Rounds between two log points.
      evaluate_every: Rounds between two evaluations, each followed by a checkpoint; 0 is a twentieth of the run.
      memory_budget: MiB of a split that may lie on a device; a larger one is streamed from the host.
    """

    steps: int | None = None
    epochs: int = 20
    batch_size: int = 128
    learning_rate: float = 1e-3
    schedule: Schedule = "constant"
    seed: int = 0
    seeds: int = 1
    binarize: Binarize = "none"
    dequantize: bool = False
    log_every: int = 100
    evaluate_every: int = 0
    memory_budget: int = 1024


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


class NonFiniteError(UserError):
    """A loss or a gradient stopped being finite."""


class Interrupted(Exception):
    """SIGTERM or Ctrl-C: the run was saved and can go on."""

    def __init__(self, step: int, signum: int):
        super().__init__(f"stopped at step {step}")
        self.step, self.signum = step, signum


def num_steps(options: Options, *, num_examples: int, updates: int) -> int:
    """Rounds of a run: an epoch is as many rounds as use every example once.

    Raises:
      UserError: for steps or epochs that are not positive, or a batch larger than the set.
    """
    for name in ("steps", "epochs", "batch_size", "seeds", "log_every", "memory_budget"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise UserError(f"--{name.replace('_', '-')} must be at least 1, got {value}")
    for name in ("seed", "evaluate_every"):
        if getattr(options, name) < 0:
            raise UserError(f"--{name.replace('_', '-')} must not be negative, got {getattr(options, name)}")
    if not 0 < options.learning_rate < math.inf:
        raise UserError(f"--learning-rate must be positive and finite, got {options.learning_rate}")
    if options.batch_size > num_examples:
        raise UserError(
            f"the batch of {options.batch_size} is larger than the {num_examples} training examples; "
            f"give --batch-size {num_examples} or less"
        )
    return options.steps or max(1, options.epochs * (num_examples // options.batch_size) // updates)


def learning_rate_schedule(options: Options, updates: int) -> optax.Schedule:
    """The learning rate as a function of a player's own updates."""
    rate = options.learning_rate
    if options.schedule == "constant":
        return optax.constant_schedule(rate)
    if options.schedule == "cosine":
        return optax.cosine_decay_schedule(rate, updates)
    # Stages of a short run may end at the same update, and none of the seven factors is lost.
    ends = Counter(round(updates * (3**i - 1) / 2 / 3280) for i in range(1, 8))
    return optax.piecewise_constant_schedule(rate, {end: 10 ** (-n / 7) for end, n in ends.items()})


def measure_every(options: Options) -> int:
    """Steps between two measured gradient norms: ten, or fewer where every log point needs one."""
    return min(10, options.log_every)


def make_optimizers(model: Model, options: Options, steps: int) -> Mapping[str, Any]:
    """The model's own optimizers, or Adam for every player."""
    optimizers = {}
    for player, turns in model.turns.items():
        schedule = learning_rate_schedule(options, steps * turns)
        optimizers[player] = model.optimizers(schedule)[player] if model.optimizers else optax.adam(schedule)
    return optimizers


def train(
    model: Model,
    dataset: Dataset,
    options: Options = Options(),  # noqa: B008 (immutable)
    *,
    optimizers: Mapping[str, Any] | None = None,
    num_devices: int | None = None,
    checkpoints: Checkpoints | None = None,
    writers: tuple[Writer, ...] = (),
    console: Writer | None = None,
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
      console: a writer that is told of every call and not of log points alone, for a progress bar.

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
    if optimizers is None:
        optimizers = make_optimizers(model, options, steps)
    run = _Run(model, dataset, options, optimizers, num_devices, checkpoints, writers)
    with _signals() as caught, ThreadPoolExecutor(1, thread_name_prefix="feed") as pool:
        try:
            return _play(run, steps, pool, caught, console)
        finally:
            if checkpoints is not None:
                checkpoints.wait()


class _Run:
    """One run's compiled functions, data, and state on the devices."""

    def __init__(self, model, dataset, options, optimizers, num_devices, checkpoints, writers):
        self.model, self.dataset, self.options = model, dataset, options
        self.checkpoints, self.writers = checkpoints, writers
        self.updates = sum(model.turns.values())
        seeds = [options.seed + i for i in range(options.seeds)]
        self.devices: Devices = choose(num_devices, batch_size=options.batch_size, replicas=len(seeds))
        prepare = make_prepare(scale=dataset.scale, binarize=options.binarize, dequantize=options.dequantize)
        budget = options.memory_budget * 2**20
        self.feed = Feed(
            dataset.train,
            self.devices,
            seeds=seeds,
            batch_size=options.batch_size,
            updates=self.updates,
            length=_MAX_LENGTH,
            resident=num_bytes(dataset.train) <= budget,
        )
        self.evaluator = evaluation.Evaluator(
            model, dataset.test, prepare, self.devices, resident=num_bytes(dataset.test) <= budget
        )
        self.rounds = parallel(
            make_rounds(model, optimizers, prepare, measure_every=measure_every(options)),
            self.devices,
            in_axes=(0, None, 0, None),
            replica_axes=(0, None, 0, None),
            donate=(0,),
        )
        # The first two raw examples, in network units: shapes are all that initialization needs.
        raw = {name: np.asarray(a[:2]) for name, a in dataset.train.items()} | {"position": np.arange(2)}
        batch = prepare(jax.random.split(jax.random.key(0), 2), jax.tree.map(jnp.asarray, raw))
        state = stack([create(model, optimizers, batch, seed=seed) for seed in seeds])
        self.start, self.figures = 0, {}
        if checkpoints is not None:
            restored = checkpoints.restore(state)
            if restored is not None:
                self.start, self.figures = restored.step, restored.record["figures"]
                state = restored.state
        self.state = replicate(state, self.devices)

    def evaluate(self) -> evaluation.Figures:
        """Figures of the test split, and the mode coverage where modes are known."""
        means = self.evaluator(self.state.params, self.state.statistics)
        replicas = self.options.seeds
        figures = evaluation.summarize(self.model, means, replicas=replicas)
        if self.dataset.modes is not None and self.model.sample is not None:
            host = first((self.state.params, self.state.statistics))
            rows = [
                evaluation.coverage(self.model, self.dataset, *replica(host, i, replicas=replicas))
                for i in range(replicas)
            ]
            figures |= rows[0] if replicas == 1 else {name: [row[name] for row in rows] for name in rows[0]}
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
            {"figures": self.figures},
            objective=None if objective is None else float(np.mean(objective)),
        )


def _play(run: _Run, steps: int, pool: ThreadPoolExecutor, caught: list[int], console: Writer | None) -> Result:
    options, model = run.options, run.model
    evaluate_every = options.evaluate_every or max(1, steps // 20)
    began, step, logged = time.perf_counter(), run.start, []

    def next_stop(at: int, rounds: int) -> int:
        return min(at + rounds, steps, *((at // every + 1) * every for every in (options.log_every, evaluate_every)))

    def fetch(at: int, to: int) -> Future[Any]:
        return pool.submit(run.feed, at, to - at) if at < to else pool.submit(dict)

    def settle(here: int, to: int, metrics: Mapping[str, Any]) -> None:
        """Looks at what a call left: whether it is finite, and what is to be written."""
        nonlocal rounds, logged, settled
        values = {name: value[..., : to - here] for name, value in first(metrics).items()}
        _check_finite(values, run, first_step=here)
        now = time.perf_counter()
        rounds, settled = _adapt(rounds, to - here, now - settled, run.feed.length), now
        logged.append(_for_log(values, first_step=here, every=measure_every(options)))
        if console:
            console.write(to, _means(logged[-1:], model), kind="train")
        if to % options.log_every == 0 or to == steps:
            run.write(to, _means(logged, model), "train")
            logged = []

    rounds, settled, played = 1, began, None
    stop = next_stop(step, rounds)
    pending = fetch(step, stop)
    while step < steps and not caught:
        run.state, metrics = run.rounds(run.state, run.feed.data, pending.result(), np.int32(stop - step))
        here, step = step, stop
        # While the device computes, the next batches are gathered and the call before is looked at.
        stop = next_stop(step, rounds)
        pending = fetch(step, stop)
        if played:
            settle(*played)
        played = here, step, metrics
        if caught or step % evaluate_every == 0 or step == steps:
            settle(*played)
            played = None
        if step % evaluate_every == 0 or step == steps:
            run.figures = run.evaluate()
            _check_figures(run.figures, step)
            run.write(step, run.figures, "evaluate")
            if console:
                console.write(step, run.figures, kind="evaluate")
            run.save(step, evaluated=True)
            settled = time.perf_counter()
    if played:
        settle(*played)
    if step < steps:
        run.save(step, evaluated=False)
        raise Interrupted(step, caught[0])
    return Result(first(run.state), run.figures, time.perf_counter() - began, run.start)


def _adapt(rounds: int, played: int, seconds: float, length: int) -> int:
    """Rounds of the next call: as many as fill ``_CALL_SECONDS``, growing gently past the first, compiling call."""
    return int(np.clip(_CALL_SECONDS / max(seconds / played, 1e-9), 1, min(4 * rounds, length)))


def _number(value: np.ndarray | np.float64) -> float | list[float]:
    return np.asarray(value, np.float64).tolist()


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


def _means(logged: list[dict[str, np.ndarray]], model: Model) -> dict[str, Any]:
    """Means over the rounds since the last log point; a norm that was measured in none of them is left out."""
    joined = {name: np.concatenate([v[name] for v in logged], axis=-1) for name in logged[0]}
    joined = {name: v[..., ~np.isnan(v).reshape(-1, v.shape[-1]).any(axis=0)] for name, v in joined.items()}
    means = {name: _number(np.mean(v, axis=-1, dtype=np.float64)) for name, v in joined.items() if v.shape[-1]}
    return _short_names(means, model)


def _check_finite(values: Mapping[str, np.ndarray], run: _Run, *, first_step: int) -> None:
    """Stops where something is not finite, and names what was so first.

    Raises:
      NonFiniteError: with the player, the term, the step and the batch.
    """
    flat = {name: value.reshape(-1, value.shape[-1]) for name, value in values.items()}
    bad = {name: np.argwhere(~np.isfinite(value).T) for name, value in flat.items()}
    bad = {name: where[0] for name, where in bad.items() if len(where)}
    if not bad:
        return
    players = list(run.model.turns)

    def order(name: str) -> tuple[int, int, bool, bool]:
        """The earliest round; within it who plays first; a term of the loss before the loss, the gradient last."""
        player, term = name.split("/", 1)
        return int(bad[name][0]), players.index(player), term == "loss", term == "grad_norm"

    name = min(bad, key=order)
    player, term = name.split("/", 1)
    step, index = (int(i) for i in bad[name])
    finite = {other: float(flat[f"{player}/finite/{other}"][index, step]) for other in players}
    broken = [other for other in players if finite[other] < 1]
    if broken and term != "grad_norm":
        # Parameters were broken before this loss: by the gradient of their player's update before it.
        earlier = players.index(broken[0]) < players.index(player) or finite[broken[0]] > 0
        player, term, step = broken[0], "grad_norm", step if earlier else step - 1
    raise NonFiniteError(_what_broke(run, player, term, first_step + step, index))


def _what_broke(run: _Run, player: str, term: str, step: int, index: int) -> str:
    players, turns = list(run.model.turns), run.model.turns[player]
    played = step * run.updates + sum(run.model.turns[p] for p in players[: players.index(player)])
    epoch, batch = divmod(played, len(run.dataset.train["x"]) // run.options.batch_size)
    whose = f" in replica {index}" if run.options.seeds > 1 else ""
    several = "" if turns == 1 else f"one of {turns} batches from "
    term = "the gradient" if term == "grad_norm" else f"the term {term!r}"
    return (
        f"{term} of player {player!r} is not finite{whose} at step {step + 1} "
        f"({several}batch {batch + 1} of epoch {epoch + 1}); the last checkpoint is kept, "
        f"try a smaller --learning-rate than {run.options.learning_rate:g}"
    )


def _check_figures(figures: evaluation.Figures, step: int) -> None:
    for name, value in figures.items():
        if not all(math.isfinite(v) for v in itertools.chain(np.atleast_1d(value))) and name != "reverse_kl":
            raise NonFiniteError(
                f"the evaluated {name!r} is {value} at step {step}; the last checkpoint is kept, "
                f"try a smaller learning rate or look at the test data"
            )


@contextmanager
def _signals():
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
