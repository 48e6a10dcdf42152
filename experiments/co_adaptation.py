"""Border noise of generated digits, where the discriminator does not see a share of its inputs and where it sees all.

command:   python experiments/co_adaptation.py
hardware:  two CPU cores; for --scale full one GPU, and MNIST in TFDS_DATA_DIR
time:      about 2 minutes; full is not yet measured
expected:  less energy in the border with dropout, and less correlation: the 95% interval of the ratio within a pair
           lies below 1. On the small digits it does for the energy where half is hidden, which falls to a quarter; it
           is missed where a fifth is, and for the correlation
source:    own gate

The border is those pixels of the outermost frame in which fewer than 1% of training digits have ink: 10 of the 28 of
the small digits, all 108 of MNIST's. A real digit has next to nothing there. What a generator puts there is noise that
no single pixel gives away; its energy is the mean square of a border pixel, and how far pixels depend on one another is
the mean absolute correlation of neighbours in the border over the samples. Both are of what the generator puts out and
the discriminator sees: half of that noise lies below 0, where a picture would not show it. A discriminator that does
not see a share of the pixels, each time others, cannot lean on few of them. Whether digits get worse by it is told by
the precision, the share of samples among as many real test digits: after as many updates it falls from 0.67 to 0.43
where half is hidden. Seeds are pairs: they share initialization and order of data. The interval is that of the mean of
log ratios.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from classifier import splits
from figures import Figure, Outcome, Scale, main
from generated import as_shown, sampled
from pairs import ratio

from jaxgen import runs
from jaxgen.errors import UserError
from jaxgen.metrics import precision_recall
from jaxgen.plots import image_grid, save
from jaxgen.training import Options

DROPOUT = {"nothing hidden": 0.0, "a fifth hidden": 0.2, "half hidden": 0.5}
#: Generated digits that are measured, for each seed.
MEASURED, SHOWN = 2000, 20


class Setting(NamedTuple):
    """What differs between the scales."""

    data: str
    arguments: dict[str, Any]
    options: Options


#: One turn each, and samples of the last generator.
ORDINARY = {"discriminator_steps": 1, "average": 0.0}
SETTINGS: dict[Scale, Setting] = {
    "cpu": Setting(
        "digits", {"hidden": (128, 128)}, Options(steps=4000, batch_size=100, learning_rate=1e-3, schedule="cosine")
    ),
    "full": Setting(
        "mnist", {"hidden": (512, 512)}, Options(steps=20_000, batch_size=128, learning_rate=5e-4, schedule="cosine")
    ),
}


def border(images: np.ndarray) -> np.ndarray:
    """Whether a pixel [h, w] lies in the outermost frame and has ink in fewer than 1% of the images."""
    frame = np.ones(images.shape[1:3], bool)
    frame[1:-1, 1:-1] = False
    return frame & ((images[..., 0] > 0).mean(axis=0) < 0.01)


def energy(images: np.ndarray, pixels: np.ndarray) -> float:
    """Mean square of the pixels."""
    return float(np.square(images[..., 0][:, pixels]).mean())


def correlation(images: np.ndarray, pixels: np.ndarray) -> float:
    """Mean absolute correlation, over the images, of two of the pixels that touch."""
    places, values = np.argwhere(pixels), images[..., 0][:, pixels].astype(np.float64)
    touch = np.abs(places[:, None] - places).sum(axis=-1) == 1
    correlations = np.asarray(np.corrcoef(values.T))
    return float(np.abs(correlations[touch]).mean())


def precision(real: np.ndarray, images: np.ndarray) -> float:
    """Share of the images among the real ones, by the third nearest neighbour of pixels."""
    return float(precision_recall(*(x.reshape(len(x), -1) for x in (real, images))).precision)


def run(*, seeds: int = 5, scale: Scale = "cpu", workdir: Path) -> Outcome:
    if seeds < 2:
        raise UserError(f"a confidence interval needs two pairs or more, got --seeds {seeds}")
    setting = SETTINGS[scale]
    train, test = splits(setting.data)
    pixels, real, shown = border(train.x), test.x[:MEASURED], []
    energies, correlations, precisions = {}, {}, {}
    for name, share in DROPOUT.items():
        path, arguments = workdir / f"dropout-{share:g}", {**ORDINARY, **setting.arguments, "dropout": share}
        options = setting.options._replace(seeds=seeds)
        runs.train("gan", arguments, data=setting.data, workdir=path, options=options)
        drawn = [sampled(path, index=index, count=MEASURED) for index in range(seeds)]
        energies[name] = np.array([energy(images, pixels) for images in drawn])
        correlations[name] = np.array([correlation(images, pixels) for images in drawn])
        precisions[name] = [precision(real, as_shown(images[: len(real)])) for images in drawn]
        shown.append(drawn[0][:SHOWN])
    own = "own measurement"
    figures = [Figure("energy of a border pixel, real test digits", [energy(test.x, pixels)], "", None, own)]
    for what, found in (("energy of a border pixel", energies), ("correlation of neighbours", correlations)):
        plain, *others = found
        figures += [Figure(f"{what}, {name}", values.tolist(), "", None, own) for name, values in found.items()]
        for name in others:
            figures += ratio(f"{what}, {name} over {plain}", found[plain], found[name])
    figures += [Figure(f"precision, {name}", values, "share", None, own) for name, values in precisions.items()]
    # What is faint is made to show: the square root of the magnitude, black at 0.
    faint = np.sqrt(np.abs(np.concatenate([test.x[:SHOWN], *shown])))
    names = ["data", *(name.removesuffix(" hidden") for name in DROPOUT)]
    grid = image_grid(faint, columns=SHOWN // 2, rows=[name for name in names for _ in range(2)])
    caption = (
        "Test digits, and what the first seed generates, by how much of the discriminator's inputs is hidden: "
        "the root of each pixel's magnitude, so that faint noise shows."
    )
    return Outcome(figures, {"samples": (caption, save(grid, workdir / "samples.png"))})


if __name__ == "__main__":
    main(run)
