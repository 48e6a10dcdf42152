"""Pictures of models that have learned nothing, and the images in them."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen import runs
from jaxgen.data import load
from jaxgen.folder import describe
from jaxgen.pictures import pictures
from jaxgen.shown import Shown
from jaxgen.training import Options

OPTIONS = Options(steps=2, batch_size=16, log_every=1, evaluate_every=1)


def initialized(name, arguments, *, dataset=None):
    """A model as it was initialized, beside its data, the digits unless said otherwise."""
    dataset = dataset or load("digits")
    full = runs.complete(name, arguments, dataset)
    model, config = runs.build(name, full), describe(name, full, dataset, OPTIONS)
    batch = {key: jnp.asarray(a[:4]) for key, a in dataset.test.items()} | {"position": jnp.arange(4)}
    batch["x"] = batch["x"] / dataset.scale
    params, statistics = jax.jit(model.init)(jax.random.key(0), batch)
    return Shown(runs.Run(Path(name), config, model, params, statistics, 0, "last"), dataset)


def drawn(shown, figures=None):
    return {picture.name: picture for picture in pictures(shown, figures or {})}


def tiles(figure, rows, columns):
    """The first channel of each 8×8 image of a mosaic, [rows, columns, 8, 8]."""
    canvas = np.asarray(figure.axes[0].images[0].get_array())[..., 0] / 255
    return np.stack(
        [[canvas[68 * r : 68 * r + 64 : 8, 68 * c : 68 * c + 64 : 8] for c in range(columns)] for r in range(rows)]
    )


def clipped(images):
    return np.clip(np.asarray(images)[..., 0], 0, 1)


def labels_of(figure):
    return [label.get_text() for label in figure.axes[0].get_yticklabels()]
