"""Mode collapse on a ring of 8 and a grid of 25 Gaussians: a GAN, plain and packed by four.

command:   python experiments/mode_collapse.py
hardware:  two CPU cores; for --scale full one GPU
time:      about 3 minutes; full is not yet measured
expected:  on the ring packed finds no fewer modes of 8 than plain, and has a smaller reverse KL; at full scale on the
           grid as well
source:    own gate; for comparison PacGAN, table 1: on the ring 6.3 modes of 8, 98.2% high quality and reverse KL 0.45,
           packed 7.8, 95.9% and 0.07; on the grid 17.3 of 25, 94.8% and 0.70, packed 24.8, 93.6% and 0.04

PacGAN's definitions: 2500 samples, each of high quality, and its mode found, within 3σ of a mode; the reverse KL is of
the samples' histogram over the nearest modes from the uniform one. A packed discriminator judges four examples
together, and so sees that a generator makes less than there is. Plain and packed differ in nothing else, and see as
many examples. Networks and training are not PacGAN's, which trains for much longer, so that its table is context.

On the grid the short training ends before the modes are sharp. Of points spread evenly over it 1.8% are of high
quality, and of the packed generator's no more: its even histogram is a blur's, and says nothing about packing.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from figures import Figure, Outcome, Scale, evaluated, main
from generated import sampled
from matplotlib.figure import Figure as MatplotlibFigure

from jaxgen import runs
from jaxgen.data import load
from jaxgen.plots import save
from jaxgen.plots._style import ACCENT, MARK, WIDTH, styled
from jaxgen.training import Options

PACKING = {"plain": 1, "packed by four": 4}
DATA = ("ring", "grid")
ARGUMENTS = {"noise_dim": 2, "activation": "leaky_relu", "average": 0.0, "discriminator_steps": 1}


class Setting(NamedTuple):
    """What differs between the scales; on the sets ``gated`` the packed one is held against the plain one."""

    hidden: tuple[int, ...]
    options: Options
    gated: tuple[str, ...]


SETTINGS: dict[Scale, Setting] = {
    "cpu": Setting((128, 128), Options(steps=6000, learning_rate=2e-3, schedule="cosine"), ("ring",)),
    "full": Setting((128, 128, 128), Options(steps=100_000, learning_rate=1e-3, schedule="cosine"), DATA),
}
#: Modes, high-quality share and reverse KL of PacGAN's table 1.
PUBLISHED = {
    ("ring", "plain"): (6.3, 0.982, 0.45),
    ("ring", "packed by four"): (7.8, 0.959, 0.07),
    ("grid", "plain"): (17.3, 0.948, 0.70),
    ("grid", "packed by four"): (24.8, 0.936, 0.04),
}


@styled()
def picture(drawn: dict[tuple[str, str], np.ndarray], modes: dict[tuple[str, str], list[float]]) -> MatplotlibFigure:
    """Samples, and a circle around each mode: a row for each data set, plain on the left."""
    figure = MatplotlibFigure(figsize=(WIDTH, 1.08 * WIDTH), layout="constrained")
    for axes, ((data, name), xy) in zip(figure.subplots(2, 2).flat, drawn.items()):
        centers = modes_of(data)
        axes.scatter(*xy.T, s=3, alpha=0.35, linewidths=0, color=ACCENT, rasterized=True)
        axes.scatter(*centers.T, s=70, linewidths=0.8, facecolors="none", edgecolors=MARK)
        limit = 1.35 * np.abs(centers).max()
        axes.set(xlim=(-limit, limit), ylim=(-limit, limit), xticks=[], yticks=[], aspect="equal")
        axes.spines[:].set_visible(True)
        found = ", ".join(f"{count:.0f}" for count in modes[data, name])
        axes.set_title(f"{data}, {name}\nmodes by seed: {found}", loc="left", fontsize=9.5)
    return figure


def modes_of(data: str) -> np.ndarray:
    modes = load(data).modes
    assert modes is not None
    return np.asarray(modes.centers)


def figures_of(measured: dict[tuple[str, str], dict[str, list[float]]], gated: tuple[str, ...]) -> list[Figure]:
    """PacGAN's three figures, ours beside its table; then what packing changes."""
    figures = []
    for (data, name), values in measured.items():
        of, context = f"{data}, {name}:", "PacGAN table 1, for comparison"
        modes, share, divergence = PUBLISHED[data, name]
        of_modes = f"of {len(modes_of(data))}"
        figures += [
            Figure(f"{of} modes", values["modes"], of_modes, modes, context, better="above"),
            Figure(f"{of} high quality", values["high_quality"], "share", share, context, better="above"),
            Figure(f"{of} reverse KL", values["reverse_kl"], "nats", divergence, context, better="below"),
        ]
    for data in gated:
        plain, packed = (measured[data, name] for name in PACKING)
        least, most = (float(np.mean(plain[name])) for name in ("modes", "reverse_kl"))
        gate = ("own gate: the plain one's", 0.0)
        figures += [
            Figure(f"{data}, packed: modes", packed["modes"], f"of {len(modes_of(data))}", least, *gate, "above"),
            Figure(f"{data}, packed: reverse KL", packed["reverse_kl"], "nats", most, *gate, "below"),
        ]
    return figures


def run(*, seeds: int = 5, scale: Scale = "cpu", workdir: Path) -> Outcome:
    setting, measured, drawn = SETTINGS[scale], {}, {}
    for data in DATA:
        for name, packing in PACKING.items():
            path = workdir / f"{data}-{packing}"
            arguments = {**ARGUMENTS, "hidden": setting.hidden, "packing": packing}
            options = setting.options._replace(seeds=seeds)
            runs.train("gan", arguments, data=data, workdir=path, options=options)
            measured[data, name] = evaluated(path)
            drawn[data, name] = sampled(path, index=0, count=2500)
    modes = {key: values["modes"] for key, values in measured.items()}
    caption = (
        "2500 samples of the first seed, and where the modes are, for a GAN whose discriminator judges examples one by "
        "one, and by four. Circles mark the modes and are wider than 3σ."
    )
    return Outcome(
        figures_of(measured, setting.gated),
        {"samples": (caption, save(picture(drawn, modes), workdir / "samples.png"))},
    )


if __name__ == "__main__":
    main(run)
