"""Mode collapse on a ring of 8 and a grid of 25 Gaussians: a GAN, plain and packed by four.

command:   python experiments/mode_collapse.py
hardware:  two CPU cores; for --scale full one GPU
time:      3 minutes; full is not yet measured
expected:  packed finds at least 1 mode more than plain, with half of its reverse KL or less and half of its high
           quality or more. Met by the ring. Missed by the grid, by all three
source:    own gates; for comparison PacGAN, table 1: on the ring 6.3 modes of 8, 98.2% high quality and reverse KL
           0.45, packed 7.8, 95.9% and 0.07; on the grid 17.3 of 25, 94.8% and 0.70, packed 24.8, 93.6% and 0.04

PacGAN's definitions: 2500 samples, each of high quality, and its mode found, within 3σ of a mode; the reverse KL is of
the samples' histogram over the nearest modes from the uniform one. A packed discriminator judges four examples
together, and so sees that a generator makes less than there is. Plain and packed differ in nothing else, and see as
many examples. Networks and training are not PacGAN's, which trains for much longer, so that its table is context.

Modes and reverse KL alone are no praise: points spread evenly over the plane find most of the modes, and all of them
alike, which their high quality gives away. They stand beside as the level of chance.

Everything is as by default but the noise on the ring, which has eight dimensions: with two the plain generator does not
collapse there, and packing has nothing to mend. With eight it finds 6 modes, and packed all 8, evenly but less sharply.
On the grid the plain one is sharp and has collapsed, to 13 modes of 25. Packed generators are a blur there, 2% of high
quality, and no more even. Neither packing by two nor a batch of 512, nor four turns of the discriminator on a batch of
256, brought more than 6% in a trial of three seeds each.
"""

from pathlib import Path
from typing import Any

import numpy as np
from figures import Better, Figure, Outcome, Scale, evaluated, main
from generated import sampled
from matplotlib.axes import Axes
from matplotlib.figure import Figure as MatplotlibFigure

from jaxgen import runs
from jaxgen.data import load
from jaxgen.metrics import mode_counts, mode_coverage, reverse_kl
from jaxgen.plots import save
from jaxgen.plots._style import ACCENT, MARK, WIDTH, styled
from jaxgen.training import Options

PACKING = {"plain": 1, "packed by four": 4}
#: What each data set's GAN has beside the default settings.
ARGUMENTS: dict[str, dict[str, Any]] = {"ring": {"noise_dim": 8}, "grid": {}}
OPTIONS: dict[Scale, Options] = {"cpu": Options(steps=4000), "full": Options(steps=50_000)}
DRAWN = 2500
#: What is measured, by its key in an evaluation: its name, and which is better.
QUANTITIES: dict[str, tuple[str, Better]] = {
    "modes": ("modes", "above"),
    "high_quality": ("high quality, share", "above"),
    "reverse_kl": ("reverse KL, nats", "below"),
}
#: Modes, high-quality share and reverse KL of PacGAN's table 1.
PUBLISHED = {
    ("ring", "plain"): (6.3, 0.982, 0.45),
    ("ring", "packed by four"): (7.8, 0.959, 0.07),
    ("grid", "plain"): (17.3, 0.948, 0.70),
    ("grid", "packed by four"): (24.8, 0.936, 0.04),
}


def show_samples(axes: Axes, xy: np.ndarray, data: str) -> None:
    """Points of the plane, and a circle around each mode of the data."""
    centers = modes_of(data)
    axes.scatter(*xy.T, s=3, alpha=0.35, linewidths=0, color=ACCENT, rasterized=True)
    axes.scatter(*centers.T, s=70, linewidths=0.8, facecolors="none", edgecolors=MARK)
    limit = 1.35 * np.abs(centers).max()
    axes.set(xlim=(-limit, limit), ylim=(-limit, limit), xticks=[], yticks=[], aspect="equal")
    axes.spines[:].set_visible(True)


@styled()
def picture(drawn: dict[tuple[str, str], np.ndarray], modes: dict[tuple[str, str], list[float]]) -> MatplotlibFigure:
    """Samples, and a circle around each mode: a row for each data set, plain on the left."""
    figure = MatplotlibFigure(figsize=(WIDTH, 1.08 * WIDTH), layout="constrained")
    for axes, ((data, name), xy) in zip(figure.subplots(2, 2).flat, drawn.items()):
        show_samples(axes, xy, data)
        found = ", ".join(f"{count:.0f}" for count in modes[data, name])
        axes.set_title(f"{data}, {name}\nmodes by seed: {found}", loc="left", fontsize=9.5)
    return figure


def modes_of(data: str) -> np.ndarray:
    modes = load(data).modes
    assert modes is not None
    return np.asarray(modes.centers)


def spread_evenly(data: str, seed: int) -> np.ndarray:
    """As many points as are drawn, all over a square a quarter wider than the modes: what chance finds."""
    limit = 1.25 * np.abs(modes_of(data)).max()
    return np.random.default_rng(seed).uniform(-limit, limit, size=(DRAWN, 2)).astype(np.float32)


def coverage(xy: np.ndarray, data: str) -> dict[str, float]:
    """PacGAN's three figures of points."""
    modes = load(data).modes
    assert modes is not None
    found = mode_coverage(xy, modes.centers, radius=3 * modes.scale)
    divergence = reverse_kl(mode_counts(xy, modes.centers))
    return {"modes": float(found.modes), "high_quality": float(found.high_quality), "reverse_kl": float(divergence)}


def figures_of(data: str, measured: dict[str, dict[str, list[float]]]) -> list[Figure]:
    """PacGAN's three figures beside its table, and those of points spread evenly."""
    context, own, figures = "PacGAN table 1, for comparison", "own measurement", []
    for name, values in measured.items():
        for (key, (what, better)), published in zip(QUANTITIES.items(), PUBLISHED.get((data, name), (None,) * 3)):
            source = own if published is None else context
            figures.append(Figure(f"{data}, {name}: {what}", values[key], "", published, source, None, better))
    return figures


def compared(data: str, plain: dict[str, list[float]], packed: dict[str, list[float]]) -> list[Figure]:
    """What packing changes: more modes, more evenly, and not by a blur that lies on all of them alike."""
    modes, share, divergence = (float(np.mean(plain[key])) for key in QUANTITIES)
    gates: dict[str, tuple[Any, ...]] = {
        "modes": (modes + 1, "own gate: one above plain", 0.0, "above"),
        "high_quality": (share / 2, "own gate: half of plain", 0.0, "above"),
        "reverse_kl": (divergence / 2, "own gate: half of plain", 0.0, "below"),
    }
    return [Figure(f"{data}, packed: {QUANTITIES[key][0]}", packed[key], "", *gate) for key, gate in gates.items()]


def run(*, seeds: int = 5, scale: Scale = "cpu", workdir: Path) -> Outcome:
    options, figures, drawn, modes = OPTIONS[scale]._replace(seeds=seeds), [], {}, {}
    for data, arguments in ARGUMENTS.items():
        measured = {}
        for name, packing in PACKING.items():
            path = workdir / f"{data}-{packing}"
            runs.train("gan", {**arguments, "packing": packing}, data=data, workdir=path, options=options)
            measured[name] = evaluated(path)
            drawn[data, name], modes[data, name] = sampled(path, index=0, count=DRAWN), measured[name]["modes"]
        chance = [coverage(spread_evenly(data, seed), data) for seed in range(seeds)]
        measured["points spread evenly"] = {key: [found[key] for found in chance] for key in QUANTITIES}
        figures += figures_of(data, measured) + compared(data, *(measured[name] for name in PACKING))
    caption = (
        "2500 samples of the first seed, and where the modes are, for a GAN whose discriminator judges examples one by "
        "one, and by four. Circles mark the modes and are wider than 3σ."
    )
    return Outcome(figures, {"samples": (caption, save(picture(drawn, modes), workdir / "samples.png"))})


if __name__ == "__main__":
    main(run)
