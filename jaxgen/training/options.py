"""How to train: the recorded hyperparameters, and what follows from them before the first round."""

import math
from collections import Counter
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, get_args

import optax

from jaxgen.data.prepare import Binarize
from jaxgen.errors import UserError, nearest
from jaxgen.model import Model, check_players

Schedule = Literal["constant", "cosine", "staircase"]


class Options(NamedTuple):
    """How to train; everything here is recorded, and a run goes on only under the same options.

    Attributes:
      steps: Rounds to play; 5000 where neither steps nor epochs are given.
      epochs: Passes over the training split, instead of steps.
      batch_size: Examples of one update, over all devices.
      learning_rate: Of every player's optimizer.
      schedule: Learning rate over the run: constant, cosine to zero, or staircase: rate·10^(−i/7) in stage i = 0 … 7 of
        relative length 3^i (Burda et al., 2016).
      seed: Decides initialization, data order and noise.
      seeds: Replicas trained side by side in one compiled program, with seeds seed, seed + 1, …; the best checkpoint is
        that of their mean objective.
      binarize: How grey values become bits: dynamic draws them each time an example is seen, threshold cuts at ½.
      dequantize: Fill the steps between grey levels with uniform noise.
      log_every: Rounds between two log points; 0 is a fiftieth of the run, at most 100.
      evaluate_every: Rounds between two evaluations, each followed by a checkpoint; 0 is a tenth of the run.
      memory_budget: MiB of a split that may lie on a device; a larger one is streamed from the host.
    """

    steps: int | None = None
    epochs: int | None = None
    batch_size: int = 128
    learning_rate: float = 1e-3
    schedule: Schedule = "constant"
    seed: int = 0
    seeds: int = 1
    binarize: Binarize = "none"
    dequantize: bool = False
    log_every: int = 0
    evaluate_every: int = 0
    memory_budget: int = 1024


#: Rounds of a run that is told neither steps nor epochs: minutes on two cores, and enough to have learned something.
DEFAULT_STEPS = 5000


def num_steps(options: Options, *, num_examples: int, updates: int) -> int:
    """Rounds of a run: an epoch is as many rounds as use every example once.

    Raises:
      UserError: for numbers out of range, steps and epochs both given, an unknown schedule or binarization, or a batch
        larger than the set.
    """
    for name in ("steps", "epochs", "batch_size", "seeds", "memory_budget"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise UserError(f"--{name.replace('_', '-')} must be at least 1, got {value}")
    check_seeds(options.seed, options.seeds)
    for name in ("log_every", "evaluate_every"):
        if getattr(options, name) < 0:
            raise UserError(f"--{name.replace('_', '-')} must not be negative, got {getattr(options, name)}")
    for name, choices in (("schedule", Schedule), ("binarize", Binarize)):
        value = getattr(options, name)
        if value not in get_args(choices):  # the command line checks it, Python does not
            raise UserError(f"--{name} {value!r} is not known; {nearest(str(value), get_args(choices))}")
    if options.steps is not None and options.epochs is not None:
        raise UserError(
            f"--steps {options.steps} and --epochs {options.epochs} each say how long to train; give one of them"
        )
    if not 0 < options.learning_rate < math.inf:
        raise UserError(f"--learning-rate must be positive and finite, got {options.learning_rate}; try 0.001")
    if options.batch_size > num_examples:
        raise UserError(
            f"the batch of {options.batch_size} is larger than the {num_examples} training examples; "
            f"give --batch-size {num_examples} or less"
        )
    if options.epochs is None:
        steps = options.steps or DEFAULT_STEPS
    else:
        steps = max(1, options.epochs * (num_examples // options.batch_size) // updates)
    for name, count in {
        "--seeds": options.seeds,
        "--steps" if options.steps else "the steps of --epochs": steps,
    }.items():
        if count >= 2**31:  # a state counts its steps in 32 bits
            raise UserError(f"{name} must be below 2³¹, got {count}")
    return steps


def check_seeds(seed: int, count: int = 1) -> None:
    """Stops on seeds that JAX would take for others: its keys keep the lowest 32 bits.

    Raises:
      UserError: for a negative seed, or one whose last replica's is not below 2³².
    """
    if seed < 0:
        raise UserError(f"--seed must not be negative, got {seed}")
    last = seed + count - 1
    if last >= 2**32:
        reached = f"--seed is {seed}" if count == 1 else f"--seeds {count} reach {last} from --seed {seed}"
        raise UserError(f"{reached}, but seeds go up to {2**32 - 1}; take a smaller --seed")


def with_intervals(options: Options, steps: int) -> Options:
    """The options with what 0 stands for in the intervals between log points and between evaluations."""
    return options._replace(
        log_every=options.log_every or max(1, min(100, steps // 50)),
        evaluate_every=options.evaluate_every or max(1, steps // 10),
    )


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
    """The model's own optimizers, or Adam for every player.

    Raises:
      ValueError: if the model's own optimizers do not name its players.
    """
    optimizers = {}
    for player, turns in model.turns.items():
        schedule = learning_rate_schedule(options, steps * turns)
        made = model.optimizers(schedule) if model.optimizers else dict.fromkeys(model.turns, optax.adam(schedule))
        check_players(model, optimizers=made)
        optimizers[player] = made[player]
    return optimizers
