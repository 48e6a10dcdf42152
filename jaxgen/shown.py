"""What the pictures of a page are made from: a run beside its first test examples."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from matplotlib.figure import Figure

from jaxgen.data import Dataset
from jaxgen.model import Batch, Model
from jaxgen.runs import Run, preparation, preparation_keys
from jaxgen.training.snapshots import classes_in_turn

#: Test examples that latents are shown of.
_NUM_SHOWN = 1000


class Drawn(NamedTuple):
    """One picture: the name of its file, what stands above and below it, and under which heading."""

    name: str
    title: str
    caption: str
    section: str
    figure: Figure


class Shown:
    """A run beside its data's first test examples in network units; every function of its model compiled once.

    Attributes:
      run: the opened run.
      dataset: what it was trained on.
      batch: the first test examples, as a model's losses get them.
      x: the same as a model's other functions get them: NaN where nothing was observed.
    """

    def __init__(self, run: Run, dataset: Dataset):
        self.run, self.dataset = run, dataset
        self._compiled: dict[str, Callable[..., Any]] = {}
        prepare, count = preparation(run.config), min(_NUM_SHOWN, len(dataset.test["x"]))

        @jax.jit
        def prepared(raw: Mapping[str, Array]) -> Batch:
            position = jnp.arange(count)
            return prepare(preparation_keys("test", position), {**raw, "position": position})

        batch = prepared({name: np.asarray(a[:count]) for name, a in dataset.test.items()})
        self.batch = {name: np.asarray(a) for name, a in batch.items()}
        self.x = self.batch["x"]
        if "mask" in self.batch:
            self.x = np.where(self.batch["mask"], self.x, np.float32(np.nan))

    @property
    def model(self) -> Model:
        return self.run.model

    @property
    def labels(self) -> np.ndarray | None:
        return self.batch["label"] if self.dataset.num_classes else None

    @property
    def images(self) -> bool:
        return len(self.dataset.shape) == 3 and self.dataset.shape[-1] in (1, 3) and self.model.domain != "codes"

    @property
    def drawable(self) -> bool:
        return self.images or (self.dataset.shape == (2,) and self.model.domain != "codes")

    def encode(self, count: int) -> np.ndarray:
        """Codes of the first examples."""
        return self._apply("encode", self.model.encode, self.x[:count], told=self.conditions(np.arange(count)))

    def reconstruct(self, x: np.ndarray) -> np.ndarray:
        """What the model makes of the first examples, or of what became of them."""
        return self._apply("reconstruct", self.model.reconstruct, x, told=self.conditions(np.arange(len(x))))

    def decode(self, codes: np.ndarray, *, examples: np.ndarray) -> np.ndarray:
        """What latents look like; a conditional model is told what the examples of these numbers are."""
        codes = codes.astype(np.float32 if self.model.codes is None else np.int32)
        return self._apply("decode", self.model.decode, codes, told=self.conditions(examples))

    def corrupt(self, count: int) -> np.ndarray:
        """What a denoising model is shown of the first examples."""
        assert self.model.corrupt is not None
        return np.asarray(jax.jit(self.model.corrupt)(jax.random.key(0), self.x[:count]))

    def impute(self, x: np.ndarray, draws: int) -> np.ndarray:
        """Completions [draws, ...] of what is NaN in the first examples."""
        fill = self.model.impute
        assert fill is not None

        def impute(params: Any, statistics: Any, x: Array, key: Array, **given: Array) -> Array:
            return fill(params, statistics, x, key, draws, **given)

        return self._apply("impute", impute, x, jax.random.key(0), told=self.conditions(np.arange(len(x))))

    def sample(self, count: int, *, seed: int = 0, told: np.ndarray | None = None) -> np.ndarray:
        """Samples; a conditional model is told ``told``, or what `to_tell` has."""
        draw = self.model.sample
        assert draw is not None
        told = self.to_tell(count) if told is None else told

        def sample(params: Any, statistics: Any, key: Array, **given: Array) -> Array:
            return draw(params, statistics, key, count, **given)

        return self._apply(f"sample {count}", sample, jax.random.key(seed), told=told)

    def to_tell(self, count: int) -> np.ndarray | None:
        """For as many samples: the classes in turn, or what the test examples in turn come with."""
        condition = self.model.condition
        if condition is not None and condition.classes:
            return classes_in_turn(count, condition.size)
        return self.conditions(np.arange(count) % len(self.x))

    def conditions(self, examples: Sequence[int] | np.ndarray) -> np.ndarray | None:
        """What a conditional model is told of the examples of these numbers; ``None`` for any other."""
        condition = self.model.condition
        return None if condition is None else self.batch[condition.name][np.asarray(examples)]

    def _apply(
        self, name: str, function: Callable[..., Any] | None, *arrays: Any, told: np.ndarray | None
    ) -> np.ndarray:
        assert function is not None
        given = {} if told is None else {"condition": told}
        compiled = self._compiled.setdefault(name, jax.jit(function))
        return np.asarray(jax.block_until_ready(compiled(self.run.params, self.run.statistics, *arrays, **given)))
