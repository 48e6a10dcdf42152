"""The pictures of a run's page: curves of its history, and what its model makes of test examples."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from matplotlib.figure import Figure

from jaxgen import plots
from jaxgen.data import Dataset
from jaxgen.model import Batch, Model, example_keys
from jaxgen.runs import Run, preparation

#: Test examples that latents are shown of, and samples of a density in the plane.
_NUM_SHOWN, _NUM_POINTS = 1000, 2500

#: Terms that share a picture, in the order of the page: title, unit, names (the last part of a logged name).
_CURVES: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("Losses and their terms", "nats", ("loss", "nll", "kl")),
    ("Bounds on log p(x)", "nats", ("elbo", "log_px")),
    ("The discriminator's accuracy", "share", ("accuracy_real", "accuracy_fake")),
    ("Value of the game", "nats", ("value",)),
    ("Modes found", "modes", ("modes",)),
    ("High-quality share", "share", ("high_quality",)),
    ("Squared errors", "summed over an example", ("squared_error", "commitment")),
    ("Codes in use", "codes", ("perplexity",)),
    ("Scale of the likelihood", "standard deviation", ("scale",)),
    ("Weight of the KL term", "", ("kl_weight",)),
    ("Gradient norms", "", ("grad_norm",)),
)


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
      batch: the first test examples, as a model gets them.
    """

    def __init__(self, run: Run, dataset: Dataset):
        self.run, self.dataset = run, dataset
        self._compiled: dict[str, Callable[..., Any]] = {}
        prepare, count = preparation(run.config), min(_NUM_SHOWN, len(dataset.test["x"]))

        @jax.jit
        def prepared(raw: Mapping[str, Array]) -> Batch:
            position = jnp.arange(count)
            return prepare(example_keys(jax.random.key(0), position), {**raw, "position": position})

        batch = prepared({name: np.asarray(a[:count]) for name, a in dataset.test.items()})
        self.batch = {name: np.asarray(a) for name, a in batch.items()}

    @property
    def model(self) -> Model:
        return self.run.model

    @property
    def x(self) -> np.ndarray:
        return self.batch["x"]

    @property
    def labels(self) -> np.ndarray | None:
        return self.batch["label"] if self.dataset.num_classes else None

    @property
    def images(self) -> bool:
        return len(self.dataset.shape) == 3 and self.dataset.shape[-1] in (1, 3)

    @property
    def drawable(self) -> bool:
        return self.images or self.dataset.shape == (2,)

    def encode(self, count: int) -> np.ndarray:
        """Codes of the first examples."""
        return self._apply("encode", self.model.encode, self.x[:count], told=np.arange(count))

    def reconstruct(self, count: int) -> np.ndarray:
        """What the model makes of the first examples."""
        return self._apply("reconstruct", self.model.reconstruct, self.x[:count], told=np.arange(count))

    def decode(self, codes: np.ndarray, *, told: np.ndarray) -> np.ndarray:
        """What latents look like; a conditional model is told what the examples of the numbers ``told`` are."""
        return self._apply("decode", self.model.decode, codes.astype(np.float32), told=told)

    def sample(self, count: int, *, seed: int = 0) -> np.ndarray:
        """Samples; a conditional model is told what the first examples are, one after the other."""
        draw = self.model.sample
        assert draw is not None

        def sample(params: Any, statistics: Any, key: Array, **given: Array) -> Array:
            return draw(params, statistics, key, count, **given)

        return self._apply(f"sample {count}", sample, jax.random.key(seed), told=np.arange(count) % len(self.x))

    def _apply(self, name: str, function: Callable[..., Any] | None, *arrays: Any, told: np.ndarray) -> np.ndarray:
        assert function is not None
        condition = self.model.condition
        given = {} if condition is None else {"condition": self.batch[condition.name][told]}
        compiled = self._compiled.setdefault(name, jax.jit(function))
        return np.asarray(compiled(self.run.params, self.run.statistics, *arrays, **given))


def last_part(name: str) -> str:
    """The metric's own name: without its player, or the index of an entry of a vector."""
    return name.rsplit("/", 1)[-1]


def curves(history: list[dict[str, Any]]) -> Iterator[Drawn]:
    """One picture for the terms that belong together, of those that were logged."""
    seen = sorted({name for point in history for name in point} - {"step", "kind", "time"})
    for title, unit, members in _CURVES:
        names = [name for member in members for name in seen if last_part(name) == member]
        if names:
            kinds = {point["kind"] for point in history if any(name in point for name in names)}
            where = {"train": "training batches", "evaluate": "the test split"}
            caption = "On " + " and ".join(where[kind] for kind in sorted(kinds, reverse=True))
            caption += " (dots)." if len(kinds) > 1 else "."
            figure = plots.curves(history, names=names, ylabel=unit)
            yield Drawn(f"curves_{members[0]}", title, caption, "Training", figure)


def pictures(shown: Shown, figures: Mapping[str, Any]) -> Iterator[Drawn]:
    """What the model can do, drawn: what it cannot is left out."""
    model = shown.model
    if model.reconstruct and shown.drawable:
        count = min(16, len(shown.x))
        caption = "Test examples above, what the model makes of them below."
        figure = plots.reconstructions(shown.x[:count], shown.reconstruct(count))
        yield Drawn("reconstructions", "Reconstructions", caption, "Pictures", figure)
    if model.sample and shown.drawable:
        caption = (model.sample.__doc__ or "Drawn from the prior, not chosen.").split("\n")[0]
        figure = sample_figure(shown, shown.sample(64 if shown.images else _NUM_POINTS))
        yield Drawn("samples", "Samples", caption, "Pictures", figure)
    if model.encode and len(shown.x) > 1:
        codes = shown.encode(len(shown.x))
        if np.issubdtype(codes.dtype, np.integer):
            yield _codes(shown, codes)
        elif model.latents is not None:
            yield from _latents(shown, codes, model.latents)
    shares = [np.mean(value) for name, value in sorted(figures.items()) if name.startswith("kl_dim/")]
    if shares:
        caption = "Mean KL of each latent's posterior to the prior, over the test split."
        yield Drawn("kl_dim", "KL by latent", caption, "Latents", plots.latent_usage(np.array(shares)))


def sample_figure(shown: Shown, values: np.ndarray) -> Figure:
    """Samples as images, or as points beside the data's."""
    if shown.images:
        return plots.samples(values)
    modes = shown.dataset.modes
    known = {} if modes is None else {"centers": modes.centers, "radius": 3 * modes.scale}
    return plots.points(values, reference=shown.x, **known)


def _codes(shown: Shown, codes: np.ndarray) -> Drawn:
    figure = plots.code_usage(np.bincount(codes.ravel(), minlength=shown.run.config["arguments"]["num_codes"]))
    caption = f"How often {len(shown.x)} test examples use each code."
    return Drawn("codes", "Codebook usage", caption, "Latents", figure)


def _latents(shown: Shown, codes: np.ndarray, latents: int) -> Iterator[Drawn]:
    where = "." if latents <= 2 else ", on two principal components."
    caption = f"The encoder's mean of test examples{where}"
    yield Drawn("latents", "Latents", caption, "Latents", plots.embedding(codes, shown.labels))
    if not (shown.model.decode and shown.drawable):
        return
    rows, steps = min(6, len(codes) // 2), 7
    weights = np.linspace(0, 1, steps)[None, :, None]
    line = (1 - weights) * codes[:rows, None] + weights * codes[rows : 2 * rows, None]
    axis = np.linspace(-2.5, 2.5, 15)
    grid = np.stack(np.meshgrid(axis, axis), axis=-1)
    plane = grid if latents == 2 and shown.images else np.zeros((0, latents))
    # Both in one call: another number of latents would be another compilation.
    told = np.concatenate([np.repeat(np.arange(rows), steps), np.zeros(plane.size // latents, int)])
    decoded = shown.decode(np.concatenate([line.reshape(-1, latents), plane.reshape(-1, latents)]), told=told)
    between = decoded[: rows * steps].reshape(rows, steps, *shown.dataset.shape)
    frames = np.concatenate([shown.x[:rows, None], between, shown.x[rows : 2 * rows, None]], axis=1)
    caption = "Framed: two test examples. Between them: the straight line between their codes, decoded."
    yield Drawn("interpolation", "Interpolation", caption, "Latents", plots.interpolation(frames))
    if plane.size:
        caption = "The decoder's mean over the plane of two latents, in units of the prior's standard deviation."
        images = decoded[rows * steps :].reshape(*grid.shape[:2], *shown.dataset.shape)
        yield Drawn("carpet", "Carpet", caption, "Latents", plots.carpet(images, grid))
