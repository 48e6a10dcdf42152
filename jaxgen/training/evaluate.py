"""The one evaluation loop: exact means over a split, and what follows from them."""

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import PyTree

from jaxgen.data import Dataset
from jaxgen.data.dataset import take_rows
from jaxgen.errors import UserError, nearest
from jaxgen.metrics import mode_counts, precision_recall, reverse_kl
from jaxgen.model import Model, example_keys
from jaxgen.training.devices import Devices, cut, first, parallel, place, share, sum_over_devices
from jaxgen.training.state import replica
from jaxgen.training.step import Prepare

#: A figure is one number, or one for each replica.
Figures = dict[str, float | list[float]]

_KEY = 0x5EED  # evaluation draws the same noise at every step, so that its curve shows the model alone
_COVERAGE_SAMPLES, _COVERAGE_SIGMAS = 2500, 3.0  # PacGAN's definition of a found mode
_NUM_COMPARED, _NEIGHBOUR = 1000, 3  # of samples and of test examples, at most; Kynkäänniemi's third neighbour


class Evaluator:
    """Evaluates one model on one split, again and again, with one compiled function."""

    def __init__(
        self,
        model: Model,
        arrays: Mapping[str, np.ndarray],
        prepare: Prepare,
        devices: Devices,
        *,
        batch_size: int = 500,
        resident: bool = True,
    ):
        self._model, self._arrays, self._devices = model, arrays, devices
        # A batch of each device is cut between examples that are judged as one.
        self._num_examples, count = len(arrays["x"]), devices.num_global * model.together
        self._batch_size = -(-min(batch_size, self._num_examples) // count) * count
        self._data = share(dict(arrays), devices) if resident else {}
        self._length = -(-self._num_examples // self._batch_size) if resident else 1
        self._run = parallel(
            _make_sums(model, prepare), devices, in_axes=(0, 0, None, 0), replica_axes=(0, 0, None, None)
        )

    def __call__(self, params: PyTree, statistics: PyTree) -> dict[str, np.ndarray]:
        """Means over the split of every metric of ``model.evaluate``, in float64: [...] or [replicas, ...].

        Args:
          params: with a device axis, as the trainer holds them.
          statistics: likewise.
        """
        step, totals = self._length * self._batch_size, {}
        starts = range(0, self._num_examples, step)
        feed = self._feed(0, step)
        for start in starts:
            found = self._run(params, statistics, self._data, feed)
            if start + step in starts:
                feed = self._feed(start + step, step)  # gathered and moved while the device computes
            for name, value in first(found).items():
                # value [(replicas,) length, ...]: the batches are added here, in float64
                added = np.asarray(value, np.float64).sum(axis=int(self._devices.replicas > 1))
                totals[name] = totals.get(name, 0.0) + added
        return {name: np.asarray(total / self._num_examples) for name, total in totals.items()}

    def _feed(self, start: int, count: int) -> dict[str, Array]:
        position = np.arange(start, start + count).reshape(-1, self._batch_size)
        position = cut(position, self._devices, axis=1)
        index = position % self._num_examples  # the first examples fill up the last batch, and its last pack
        feed = {"position": position, "weight": position < self._num_examples}
        if self._data:
            feed["index"] = index
        else:
            feed |= {name: take_rows(a, index) for name, a in self._arrays.items()}
        return place(feed, self._devices)


def _make_sums(model: Model, prepare: Prepare):
    def sums(params: PyTree, statistics: PyTree, data: Mapping[str, Array], feed: Mapping[str, Array]):
        def body(_, inputs: dict[str, Array]):
            weight, position = inputs.pop("weight"), inputs["position"]
            index = inputs.pop("index", None)
            raw = inputs if index is None else {name: a[index] for name, a in data.items()} | inputs
            prepare_key, key, _ = _keys()
            values = model.evaluate(params, statistics, prepare(example_keys(prepare_key, position), raw), key)

            def total(value: Array) -> Array:
                seen = weight.reshape(-1, *(1,) * (value.ndim - 1))
                return jnp.where(seen, value, 0).sum(axis=0)

            return None, {name: total(value) for name, value in values.items()}

        return sum_over_devices(jax.lax.scan(body, None, dict(feed))[1])

    return sums


def _keys() -> Array:
    """Of what happens to the raw examples, of the model's evaluation, and of the samples that are judged."""
    return jax.random.split(jax.random.key(_KEY), 3)


def summarize(model: Model, means: Mapping[str, np.ndarray], *, replicas: int) -> Figures:
    """Figures by name: of each replica where there are several; vectors as ``name/00``, ``name/01``, …"""
    rows = []
    for index in range(replicas):
        own = {name: np.asarray(replica(value, index, replicas=replicas)) for name, value in means.items()}
        with np.errstate(all="ignore"):  # what is not finite is named by the trainer
            rows.append(_flatten(model.summarize(own) if model.summarize else own))
    return rows[0] if replicas == 1 else {name: [row[name] for row in rows] for name in rows[0]}


def _flatten(figures: Mapping[str, Any]) -> dict[str, float]:
    flat = {}
    for name, value in figures.items():
        if np.ndim(value) == 0:
            flat[name] = float(value)
        else:
            flat |= {f"{name}/{i:02d}": float(v) for i, v in enumerate(np.ravel(value))}
    return flat


def check_objective(model: Model, figures: Figures) -> None:
    """Stops where the figure that the best checkpoint is chosen by is not evaluated: no best one would be kept.

    Raises:
      UserError: with the figures that are there.
    """
    if model.objective is not None and model.objective not in figures:
        raise UserError(
            f"the model's objective {model.objective!r} is no evaluated figure; {nearest(model.objective, figures)} "
            f"(with None the last checkpoint alone is kept)"
        )


def num_compared(model: Model, dataset: Dataset) -> int:
    """Test examples that as many samples are held against; none where a likelihood tells how good the model is."""
    count = min(_NUM_COMPARED, len(dataset.test["x"]))
    compares = model.sample is not None and model.objective is None and model.domain != "codes"
    return count if compares and count > _NEIGHBOUR else 0


def told_by_samples(model: Model, dataset: Dataset) -> bool:
    """Whether samples tell anything of a model: of modes that are known, or beside test examples."""
    return model.sample is not None and (dataset.modes is not None or num_compared(model, dataset) > 0)


@lru_cache(maxsize=4)  # without a bound every model that was ever evaluated would be kept
def _measure(sample: Callable[..., Array], prepare: Prepare, count: int, replicas: int):
    """Compiled: ``(params, statistics, told, modes, raw) -> figures`` of as many samples, each [] or [replicas]."""

    def measure(
        params: PyTree, statistics: PyTree, told: Mapping[str, Array], modes: tuple | None, raw: Mapping[str, Array]
    ) -> dict[str, Array]:
        key, figures = _keys(), {}
        samples = sample(params, statistics, key[2], count, **told)
        if modes is not None:
            centers, radius = modes
            # The nearest mode of a sample depends on no radius, so that both histograms come out of one search.
            near, all_ = jax.vmap(lambda r: mode_counts(samples, centers, radius=r))(jnp.stack([radius, jnp.inf]))
            figures |= {
                "modes": jnp.sum(near > 0),
                "high_quality": jnp.sum(near) / count,
                "reverse_kl": reverse_kl(all_),
            }
        if raw:
            x = prepare(example_keys(key[0], raw["position"]), raw)["x"]
            real, fake = (jnp.reshape(a, (len(x), -1)) for a in (x, samples[_evenly(count, len(x))]))
            found = precision_recall(real, fake, k=_NEIGHBOUR)
            figures |= {"precision": found.precision, "recall": found.recall}
        return figures

    return jax.jit(measure if replicas == 1 else jax.vmap(measure, in_axes=(0, 0, None, None, None)))


def _evenly(total: int, count: int) -> np.ndarray:
    """As many of the numbers below ``total``, evenly spaced or repeated."""
    return np.arange(count) * total // count


def told_evenly(model: Model, dataset: Dataset, count: int) -> dict[str, np.ndarray]:
    """What a conditional model is told of as many samples: what the test examples come with, evenly spaced or repeated.

    Returns:
      ``{"condition": [count, ...]}``; nothing for any other model.
    """
    if model.condition is None:
        return {}
    values = dataset.test[model.condition.name]
    return {"condition": np.asarray(values[_evenly(len(values), count)])}


def of_samples(
    model: Model, dataset: Dataset, params: PyTree, statistics: PyTree, *, prepare: Prepare, replicas: int = 1
) -> Figures:
    """What samples tell of a model: modes where the data's are known, precision and recall where no likelihood tells.

    Modes found, high-quality share and reverse KL are of 2500 samples. A sample is of high quality, and its mode found,
    within three standard deviations of a mode (PacGAN's definition). Precision and recall (`precision_recall`) are of
    all numbers of an example, in network units, between at most 1000 test examples and as many samples.
    A conditional model is told what the test examples come with, evenly spaced over the split or repeated.

    Args:
      params: without a device axis, with a replica axis if there are several replicas.
      statistics: likewise.
      prepare: raw batches to network units, as for the `Evaluator`.

    Returns:
      Nothing where the model does not sample, or neither applies.
    """
    if not told_by_samples(model, dataset):
        return {}
    count, modes, raw = (compared := num_compared(model, dataset)), None, {}
    if dataset.modes is not None:
        count = _COVERAGE_SAMPLES
        modes = np.asarray(dataset.modes.centers), np.float32(_COVERAGE_SIGMAS * dataset.modes.scale)
    if compared:
        position = _evenly(len(dataset.test["x"]), compared)
        raw = {name: take_rows(a, position) for name, a in dataset.test.items()} | {"position": position}
    told = told_evenly(model, dataset, count)
    assert model.sample is not None
    found = _measure(model.sample, prepare, count, replicas)(params, statistics, told, modes, raw)
    return {
        name: np.asarray(value, np.float64).tolist()
        for name, value in jax.device_get(jax.block_until_ready(found)).items()
    }
