"""What a GAN can play for: each objective, penalty and bound that is built, on a ring of 8 Gaussians.

command:   python experiments/objectives.py
hardware:  two CPU cores
time:      about 3 minutes
expected:  each has at least 7 of 8 modes and 10% high quality in 2 of 3 seeds. Missed with spectral normalization,
           which has all modes and 4%
source:    own gate; objectives and penalties: Goodfellow et al., 2014; Mao et al., 2017; Lim and Ye, 2017; Gulrajani et
           al., 2017; Mescheder et al., 2018; Miyato et al., 2018

2500 samples, each of high quality, and its mode found, within 3σ of a mode: PacGAN's definitions. Each game spends as
much: 9000 updates of either player together. Of points spread evenly over the plane 0.4% are of high quality.

Not every game learns with the default settings, two turns of the discriminator and tanh. Minimax, the non-saturating
loss and R1 with a small weight do. With hinge and least squares single seeds lose modes, and one turn mends that. A
critic of bounded slope must be ahead of the generator, and has five turns: with two neither Wasserstein's nor spectral
normalization finds a mode. Wasserstein's has a gradient penalty of 0.1 in place of 10, as Gulrajani et al. have it for
points of the plane. The non-saturating loss with spectral normalization has leaky ReLU, whose slope the normalization
leaves near its bound: with tanh it found no mode even so, in any of three seeds.
"""

from pathlib import Path
from typing import Any

import numpy as np
from figures import Figure, Outcome, evaluated, main
from generated import sampled
from matplotlib.figure import Figure as MatplotlibFigure
from mode_collapse import show_samples

from jaxgen import runs
from jaxgen.plots import save
from jaxgen.plots._style import WIDTH, styled
from jaxgen.training import Options

#: What is played, beside the default settings.
GAMES: dict[str, dict[str, Any]] = {
    "minimax": {"objective": "minimax"},
    "non-saturating": {},
    "hinge": {"objective": "hinge", "discriminator_steps": 1},
    "least squares": {"objective": "least_squares", "discriminator_steps": 1},
    "Wasserstein": {"objective": "wasserstein", "penalty": "gradient", "penalty_weight": 0.1, "discriminator_steps": 5},
    "R1": {"penalty": "r1", "penalty_weight": 0.01},
    "spectral norm": {"spectral_norm": True, "activation": "leaky_relu", "discriminator_steps": 5},
}
#: Updates of either player together, and what a seed must reach.
UPDATES, MODES, QUALITY = 9000, 7, 0.1


@styled()
def picture(drawn: dict[str, np.ndarray]) -> MatplotlibFigure:
    """Samples of each game, and a circle around each mode."""
    figure = MatplotlibFigure(figsize=(WIDTH, 0.58 * WIDTH), layout="constrained")
    panels = figure.subplots(2, 4).ravel()
    for axes, (name, xy) in zip(panels, drawn.items()):
        show_samples(axes, xy, "ring")
        axes.set_title(name, loc="left", fontsize=9.5)
    for axes in panels[len(drawn) :]:
        axes.set_axis_off()
    return figure


def figures_of(name: str, values: dict[str, list[float]]) -> list[Figure]:
    """How many seeds learn the ring, and PacGAN's three figures."""
    own, seeds = "own measurement", len(values["modes"])
    good = sum(modes >= MODES and share >= QUALITY for modes, share in zip(values["modes"], values["high_quality"]))
    return [
        Figure(
            *(f"{name}: seeds with ≥ {MODES} modes and ≥ {QUALITY:.0%} high quality", [good], f"of {seeds}"),
            *(2 * seeds / 3, "own gate: 2 of 3", 0.0, "above"),
        ),
        Figure(f"{name}: modes", values["modes"], "of 8", None, own),
        Figure(f"{name}: high quality", values["high_quality"], "share", None, own),
        Figure(f"{name}: reverse KL", values["reverse_kl"], "nats", None, own),
    ]


def run(*, seeds: int = 3, workdir: Path) -> Outcome:
    figures, drawn = [], {}
    for name, arguments in GAMES.items():
        path = workdir / name.replace(" ", "-")
        options = Options(steps=UPDATES // (arguments.get("discriminator_steps", 2) + 1), seeds=seeds)
        runs.train("gan", arguments, data="ring", workdir=path, options=options)
        figures += figures_of(name, evaluated(path))
        drawn[name] = sampled(path, index=0, count=2500)
    caption = "2500 samples of the first seed of each game; circles mark the modes and are wider than 3σ."
    return Outcome(figures, {"samples": (caption, save(picture(drawn), workdir / "samples.png"))})


if __name__ == "__main__":
    main(run)
