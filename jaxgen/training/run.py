"""One run on its devices: its data, its compiled functions, and what changes from round to round."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jaxgen.data import Dataset
from jaxgen.data.dataset import row_chunks
from jaxgen.data.prepare import make_prepare
from jaxgen.model import Model
from jaxgen.told import check_conditions
from jaxgen.training import evaluate as evaluation
from jaxgen.training import snapshots as watched
from jaxgen.training.checkpoint import Checkpoints
from jaxgen.training.devices import Devices, check_fits, choose, first, on_first, parallel, replicate
from jaxgen.training.feed import Feed, num_bytes
from jaxgen.training.logged import Sums
from jaxgen.training.nonfinite import Game
from jaxgen.training.options import Options, measure_every
from jaxgen.training.state import Creator, State
from jaxgen.training.step import Prepare, make_rounds
from jaxgen.writers import Writer

#: Rounds that one call can hold at the most.
_MAX_LENGTH = 128


class Run:
    """A run's data and compiled functions, and its state on the devices.

    Attributes:
      feed: batches of the training split.
      rounds: the compiled function.
      start: the step of the checkpoint that the run goes on from; 0 for a new one.
      state: on the devices, after the last call.
      figures: of the last evaluation.
      logged: sums since the last log point.
      game: what a message about values that are not finite tells.
    """

    def __init__(
        self,
        model: Model,
        dataset: Dataset,
        options: Options,
        *,
        optimizers: Mapping[str, Any],
        num_devices: int | None = None,
        checkpoints: Checkpoints | None = None,
        snapshots: watched.Snapshots | None = None,
        writers: tuple[Writer, ...] = (),
    ):
        self.model, self.options, self.checkpoints = model, options, checkpoints
        self._snapshots = snapshots
        check_conditions(dataset, model.condition)
        self._dataset, self._writers = dataset, writers
        self.game = Game(model.turns, len(dataset.train["x"]), options, lambda: _largest(dataset))
        seeds = range(options.seed, options.seed + options.seeds)
        self._devices = choose(num_devices, batch_size=options.batch_size, replicas=len(seeds), together=model.together)
        prepare = make_prepare(scale=dataset.scale, binarize=options.binarize, dequantize=options.dequantize)
        self._prepare = prepare
        self.feed = _feed(dataset, self._devices, options, seeds=seeds, updates=sum(model.turns.values()))
        resident = _resident(dataset.test, options)
        self._evaluator = evaluation.Evaluator(model, dataset.test, prepare, self._devices, resident=resident)
        self.rounds = parallel(
            make_rounds(model, optimizers, prepare, measure_every=measure_every(options)),
            self._devices,
            in_axes=(0, None, 0, None, None),
            replica_axes=(0, None, 0, None, None),
            donate=(0,),
        )
        self.start, self.figures, self.logged = 0, {}, Sums()
        self.state: State = replicate(self._begin(Creator(model, optimizers), prepare, seeds), self._devices)

    def _begin(self, creator: Creator, prepare: Prepare, seeds: Sequence[int]) -> State:
        """The newest checkpoint, for which nothing is initialized; else the state before the first round."""
        # The first two raw examples, in network units: shapes are all that initialization needs.
        raw = {name: np.asarray(a[:2]) for name, a in self._dataset.train.items()} | {"position": np.arange(2)}
        keys = jax.random.split(jax.random.key(0), 2)
        shapes = creator.shapes(jax.eval_shape(prepare, keys, raw), replicas=len(seeds))
        smaller = "the model's sizes, such as --hidden and --latents, or --seeds"
        check_fits(shapes, self._devices, what="parameters and optimizers", lower=smaller)
        if self.checkpoints is not None:
            restored = self.checkpoints.restore(shapes)
            if restored is not None:
                self.start, self.figures = restored.step, restored.record["figures"]
                self.logged = Sums(restored.record.get("logged"))
                self.game = self.game._replace(saved=True)
                return restored.state
        return creator(jax.jit(prepare)(keys, raw), seeds=seeds)

    def evaluate(self) -> evaluation.Figures:
        """Figures of the test split, and those of samples."""
        replicas, (params, statistics) = self.options.seeds, (self.state.params, self.state.statistics)
        means = self._evaluator(params, statistics)
        figures = evaluation.summarize(self.model, means, replicas=replicas)
        evaluation.check_objective(self.model, figures)
        if not evaluation.told_by_samples(self.model, self._dataset):
            return figures
        here, prepare = on_first((params, statistics)), self._prepare
        return figures | evaluation.of_samples(self.model, self._dataset, *here, prepare=prepare, replicas=replicas)

    def watch(self, step: int, *, steps: int) -> None:
        """Keeps what the model makes of the same noise as ever, where the evaluation of this step is one of those."""
        every, replicas = self.options.evaluate_every, self.options.seeds
        if self._snapshots is None or not watched.due(step, every=every, steps=steps):
            return
        here = on_first((self.state.params, self.state.statistics))
        examples = watched.draw(self.model, self._dataset, *here, replicas=replicas)
        if examples is not None:
            self._snapshots.save(step, examples)

    def write(self, step: int, values: Mapping[str, Any], *, kind: str) -> None:
        """One line in every log."""
        for writer in self._writers:
            writer.write(step, values, kind=kind)

    def save(self, step: int, *, evaluated: bool) -> None:
        """A checkpoint, which may be the best one where the figures are this step's."""
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


def _feed(dataset: Dataset, devices: Devices, options: Options, *, seeds: Sequence[int], updates: int) -> Feed:
    return Feed(
        dataset.train,
        devices,
        seeds=seeds,
        batch_size=options.batch_size,
        updates=updates,
        length=_MAX_LENGTH,
        resident=_resident(dataset.train, options),
    )


def _resident(split: Mapping[str, np.ndarray], options: Options) -> bool:
    """Whether a split may lie on the device."""
    return num_bytes(split) <= options.memory_budget * 2**20


def _largest(dataset: Dataset) -> float:
    """Magnitude of the largest training value in network units; a missing one is none."""
    parts = row_chunks(dataset.train["x"])
    return max(float(np.fmax.reduce(np.abs(part.astype(np.float32)), axis=None)) for part in parts) / dataset.scale
