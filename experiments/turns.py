"""How many updates the discriminator takes before the generator takes its own: k and l on a ring of 8 Gaussians.

command:   python experiments/turns.py
hardware:  two CPU cores
time:      about 3 minutes
expected:  k = l = 1 finds 7 of 8 modes or more; the more turns D has to one of G, the better it tells real from
           generated: the 95% interval of the rank correlation of its accuracy with k/l lies above 0
source:    own gates

In each round the discriminator is updated k times and the generator l times, each time on a fresh batch. All nine pairs
of 1, 2 and 5 may spend as much: 4000 updates of either player together, so that k = l = 5 plays a fifth of the rounds
of k = l = 1. D's accuracy is the mean of its shares of test points taken for real and of generated ones taken for
generated; at the equilibrium it is ½. Each seed has a rank correlation (Spearman) over the nine pairs, and the interval
is that of its mean over seeds, through Fisher's transformation. The average of the generator's weights reaches over 100
of its updates and not, as in ``gan_ring.py``, over 1000, which are more than G has where k is 5.
"""

from pathlib import Path
from typing import Any

import numpy as np
from figures import Figure, Outcome, evaluated, main
from matplotlib.figure import Figure as MatplotlibFigure
from pairs import interval

from jaxgen import runs
from jaxgen.errors import UserError
from jaxgen.plots import save
from jaxgen.plots._style import LINES, WIDTH, styled
from jaxgen.training import Options
from jaxgen.writers import read_jsonl

TURNS = (1, 2, 5)
UPDATES, EVALUATIONS = 4000, 10
ARGUMENTS = {"average": 0.99}

Measured = dict[tuple[int, int], dict[str, np.ndarray]]  # by (k, l): [seeds], and "curve" [evaluations, seeds]


def accuracy(values: dict[str, list[float]]) -> np.ndarray:
    """Of the discriminator, on as many real as generated examples."""
    return np.mean([values[f"discriminator/accuracy_{of}"] for of in ("real", "fake")], axis=0)


def measure(workdir: Path, *, seeds: int) -> Measured:
    measured: Measured = {}
    for k in TURNS:
        for ell in TURNS:
            path, steps = workdir / f"{k}-{ell}", UPDATES // (k + ell)
            arguments = {**ARGUMENTS, "discriminator_steps": k, "generator_steps": ell}
            options = Options(steps=steps, seeds=seeds, evaluate_every=steps // EVALUATIONS)
            runs.train("gan", arguments, data="ring", workdir=path, options=options)
            values = evaluated(path)
            points = [p for p in read_jsonl(path / "metrics.jsonl") if p["kind"] == "evaluate"]
            measured[k, ell] = {
                "modes": np.array(values["modes"]),
                "high_quality": np.array(values["high_quality"]),
                "accuracy": accuracy(values),
                "steps": (k + ell) * np.array([point["step"] for point in points]),
                "curve": np.array([np.atleast_1d(point["high_quality"]) for point in points]),
            }
    return measured


@styled()
def heat_maps(measured: Measured) -> MatplotlibFigure:
    """Means over seeds: a map for each quantity, k downwards and l across."""
    names = {"modes": "modes, of 8", "high_quality": "high quality", "accuracy": "D's accuracy"}
    figure = MatplotlibFigure(figsize=(WIDTH, 0.42 * WIDTH), layout="constrained")
    for axes, (name, title) in zip(figure.subplots(1, len(names), sharey=True), names.items()):
        values = np.array([[measured[k, ell][name].mean() for ell in TURNS] for k in TURNS])
        low, high = {"modes": (0, 8), "high_quality": (0, 1), "accuracy": (0.4, 1)}[name]
        axes.imshow(values, cmap="viridis", vmin=low, vmax=high)
        for (row, column), value in np.ndenumerate(values):
            color = "white" if value < (low + high) / 2 else "black"
            axes.text(column, row, f"{value:.1f}" if name == "modes" else f"{value:.2f}", color=color, ha="center")
        places = range(len(TURNS))
        axes.set_xticks(places, map(str, TURNS))
        axes.set_yticks(places, map(str, TURNS))
        axes.set_title(title, loc="left", fontsize=10.5)
        axes.set_xlabel("l, turns of G")
        axes.spines[:].set_visible(False)
    figure.axes[0].set_ylabel("k, turns of D")
    return figure


@styled()
def curves(measured: Measured) -> MatplotlibFigure:
    """High quality over all updates: a panel for each k, a line for each l."""
    figure = MatplotlibFigure(figsize=(WIDTH, 0.5 * WIDTH), layout="constrained")
    for axes, k in zip(figure.subplots(1, len(TURNS), sharex=True, sharey=True), TURNS):
        for ell, color in zip(TURNS, LINES):
            found = measured[k, ell]
            axes.plot(found["steps"] / 1000, found["curve"].mean(axis=1), color=color, label=f"l = {ell}")
        axes.set_title(f"k = {k}", loc="left", fontsize=10.5)
        axes.set(ylim=(0, 1), xlim=(0, None))
        axes.grid(True)
    figure.axes[0].set_ylabel("high quality, share")
    figure.axes[1].set_xlabel("updates of both players, thousands")
    figure.axes[0].legend()
    return figure


def rank_correlations(measured: Measured) -> np.ndarray:
    """Spearman's, of D's accuracy with k/l over the pairs, of each seed."""
    from scipy.stats import spearmanr

    accuracies = np.stack([values["accuracy"] for values in measured.values()], axis=1)
    return np.array([spearmanr([k / ell for k, ell in measured], row)[0] for row in accuracies])


def run(*, seeds: int = 5, workdir: Path) -> Outcome:
    if seeds < 2:
        raise UserError(f"a confidence interval needs two seeds or more, got --seeds {seeds}")
    measured = measure(workdir, seeds=seeds)
    own, figures = "own measurement", []
    for (k, ell), values in measured.items():
        gate: tuple[Any, ...] = (7.0, "own gate", 0.0, "above") if (k, ell) == (1, 1) else (None, own)
        of = f"k = {k}, l = {ell}:"
        figures += [
            Figure(f"{of} modes", values["modes"].tolist(), "of 8", *gate),
            Figure(f"{of} high quality", values["high_quality"].tolist(), "share", None, own),
            Figure(f"{of} D's accuracy", values["accuracy"].tolist(), "share", None, own),
        ]
    ranks = rank_correlations(measured)
    # Fisher's transformation: on its own scale an interval would leave [−1, 1].
    low, high = np.tanh(interval(np.arctanh(ranks))).tolist()
    of = "rank correlation of D's accuracy with k/l"
    figures += [
        Figure(of, ranks.tolist(), "", None, own),
        Figure(f"{of}, lower end of 95%", [low], "", 0.0, "own gate: it rises", 0.0, "above"),
        Figure(f"{of}, upper end of 95%", [high], "", None, own),
    ]
    shown = {
        "map": ("Modes, high quality and D's accuracy on a ring of 8, means over seeds.", heat_maps(measured)),
        "curves": ("High quality over the updates of both players, means over seeds.", curves(measured)),
    }
    return Outcome(figures, {name: (text, save(f, workdir / f"{name}.png")) for name, (text, f) in shown.items()})


if __name__ == "__main__":
    main(run)
