"""Stacked digits: how many of a thousand kinds a GAN generates, and how evenly, plain and packed.

command:   python experiments/stacked_modes.py
hardware:  two CPU cores; for --scale full one GPU, and MNIST in TFDS_DATA_DIR
time:      about 3 minutes; full is not yet measured
expected:  packed, of 1000 kinds no fewer than plain, and no less evenly. Missed on the small digits, by less than seeds
           differ: the plain one does not collapse there, it finds 995, KL 0.35; the packed one 990, KL 0.39, after as
           many updates
source:    own gate; for comparison at full scale PacGAN, table 2: DCGAN 99 kinds and KL 3.40 nats, packed by four 1000
           and 0.07

An example is three digits, one in each channel of a picture, and its kind the number that they make: 1000 kinds, each
as likely. A classifier that has seen single digits alone reads each channel. A kind is found if one of 25,600 samples
is read as it, and the divergence is that of the kinds' histogram from the uniform one. As many stacks of test digits,
read by the same classifier, say what can be had. Everything on the small digits is as by default, and both networks are
the same but for the inputs of the discriminator, which judges four examples together where they are packed.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from figures import Figure, Outcome, Scale, main
from generated import Judge, as_shown, sampled
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure as MatplotlibFigure

from jaxgen import runs
from jaxgen.data import load
from jaxgen.metrics import reverse_kl
from jaxgen.plots import image_grid, save
from jaxgen.plots._style import WIDTH, styled
from jaxgen.training import Options

KINDS, SAMPLES, SHOWN = 1000, 25_600, 16
PACKING = {"plain": 1, "packed": 4}


class Setting(NamedTuple):
    """What differs between the scales; `published` are modes and KL, plain and packed."""

    single: str
    arguments: dict[str, Any]
    options: Options
    published: dict[str, tuple[float, float]]


SETTINGS: dict[Scale, Setting] = {
    "cpu": Setting("digits", {}, Options(steps=3000), {}),
    "full": Setting(
        "mnist",
        {"hidden": (512, 512), "noise_dim": 64},
        Options(steps=30_000, learning_rate=5e-4),
        {"plain": (99, 3.4), "packed": (1000, 0.07)},
    ),
}


def kinds(judge: Judge, images: np.ndarray) -> np.ndarray:
    """How many images [n, h, w, 3] are read as each of the 1000 numbers that three digits make."""
    read = sum(place * judge.read(images[..., channel]) for channel, place in enumerate((100, 10, 1)))
    return np.bincount(read, minlength=KINDS)


def real_examples(data: str) -> np.ndarray:
    """As many stacks of test digits as are generated, from the test splits of several seeds."""
    stacks, seed = [], 0
    while sum(map(len, stacks)) < SAMPLES:
        dataset = load(data, seed=seed)
        stacks.append(dataset.test["x"] / np.float32(dataset.scale))
        seed += 1
    return np.concatenate(stacks)[:SAMPLES]


def side_by_side(images: np.ndarray) -> np.ndarray:
    """The channels of images [n, h, w, 3] as grey pictures [n, h, 3 w], from left to right."""
    return np.concatenate(np.moveaxis(images, -1, 0), axis=-1)


def evenness(counts: np.ndarray) -> tuple[list[float], list[float]]:
    """Kinds found and their KL to uniform, of histograms [seeds, 1000]."""
    return (counts > 0).sum(axis=1).astype(float).tolist(), [float(reverse_kl(row)) for row in counts]


def figures_of(name: str, counts: np.ndarray, published: tuple[float, float] | None) -> list[Figure]:
    """Kinds found and how evenly, beside what PacGAN published."""
    kinds_found, divergence = evenness(counts)
    of, source = published or (None, None), "PacGAN table 2, for comparison" if published else "own measurement"
    return [
        Figure(f"{name}: kinds found", kinds_found, f"of {KINDS}", of[0], source, better="above"),
        Figure(f"{name}: KL to uniform", divergence, "nats", of[1], source, better="below"),
    ]


def compared(plain: np.ndarray, packed: np.ndarray) -> list[Figure]:
    """What packing changes."""
    (least, most), (kinds_found, divergence) = ([np.mean(v) for v in evenness(plain)], evenness(packed))
    gate = ("own gate: the plain one's", 0.0)
    return [
        Figure("packed against plain: kinds found", kinds_found, f"of {KINDS}", float(least), *gate, "above"),
        Figure("packed against plain: KL to uniform", divergence, "nats", float(most), *gate, "below"),
    ]


@styled()
def histogram(found: dict[str, np.ndarray]) -> MatplotlibFigure:
    """Samples of each kind: a block for each first digit, a row for each second, a column for each third."""
    figure = MatplotlibFigure(figsize=(WIDTH, 0.43 * WIDTH * len(found)), layout="constrained")
    for axes, (name, counts) in zip(figure.subplots(len(found), 1), found.items()):
        blocks = counts.reshape(2, 5, 10, 10).transpose(0, 2, 1, 3).astype(float)
        shown = np.full((2, 11, 5, 11), np.nan)
        shown[:, :10, :, :10] = blocks
        shown = shown.reshape(22, 55)[:21, :54]
        image = axes.imshow(np.where(shown == 0, 0.5, shown), norm=LogNorm(0.5, 500), cmap="viridis")
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
        axes.set_title(f"{name}: {np.count_nonzero(counts)} of {KINDS} kinds", loc="left", fontsize=10.5)
        figure.colorbar(image, ax=axes, label="samples", shrink=0.8).outline.set_visible(False)  # pyright: ignore
    return figure


def run(*, seeds: int = 3, scale: Scale = "cpu", workdir: Path) -> Outcome:
    setting = SETTINGS[scale]
    options, judge, data = setting.options._replace(seeds=seeds), Judge(setting.single), f"stacked_{setting.single}"
    figures, found, shots = [], {}, []
    for name, packing in PACKING.items():
        path = workdir / f"packing-{packing}"
        arguments = {**setting.arguments, "packing": packing}
        runs.train("gan", arguments, data=data, workdir=path, options=options)
        images = [as_shown(sampled(path, index=index, count=SAMPLES)) for index in range(seeds)]
        found[name] = np.stack([kinds(judge, x) for x in images])
        shots.append(side_by_side(images[0][:SHOWN]))
        figures += figures_of(name, found[name], setting.published.get(name))
    figures += compared(*found.values())
    figures += figures_of("real test examples", kinds(judge, real_examples(data))[None], None)
    return Outcome(figures, pictures(found, np.concatenate(shots), workdir))


def pictures(found: dict[str, np.ndarray], images: np.ndarray, workdir: Path) -> dict[str, tuple[str, Path]]:
    grid = image_grid(images, columns=SHOWN // 4, rows=[name for name in PACKING for _ in range(4)])
    first = {name: counts[0] for name, counts in found.items()}
    return {
        "kinds": (
            "Samples of each kind, first seed: a block for each digit of the first channel, 0 to 4 above and 5 to 9 "
            "below, in it a row for each of the second and a column for each of the third. The darkest were not found.",
            save(histogram(first), workdir / "kinds.png"),
        ),
        "samples": (
            "What the first seed generates, not chosen: the three channels side by side.",
            save(grid, workdir / "samples.png"),
        ),
    }


if __name__ == "__main__":
    main(run)
