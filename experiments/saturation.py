"""Saturation: what is left of the generator's gradient as the discriminator grows sure, and what that costs.

command:   python experiments/saturation.py
hardware:  two CPU cores
time:      about 1 minute
expected:  where D(G(z)) is 1%, the minimax gradient is at most a tenth of the non-saturating one; in the last 500 of
           1500 rounds the non-saturating generator has half or more of its points within 3σ of a mode, the minimax one
           less than a tenth of that share
source:    own gates; Goodfellow et al., 2014, section 3, and for the measurement Arjovsky and Bottou, 2017, figure 2

A generator of points on a ring of 8 Gaussians stays as it was drawn while the discriminator learns to tell its points
from the data. After each of the discriminator's updates the gradient of either loss with respect to the generator's
weights is taken, over D(G(z)), the geometric mean of what D gives generated points. For one point the two differ by the
factor D/(1 − D), as ``exact_game.py`` measures; here are whole batches, and the weights behind them.

Then both play, with five updates of the discriminator in each round, so that it is ahead. Adam divides a gradient by
its own size, and the minimax generator gets nowhere even so: 0.1% of its points were of high quality, of the other's
61%. Points are drawn with the average of the generator's weights over its last 100 updates, since the last weights
alone swing about the modes.
"""

from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from figures import Figure, Outcome, main
from jax import Array
from matplotlib.figure import Figure as MatplotlibFigure

from jaxgen import models, runs
from jaxgen.data import load
from jaxgen.errors import UserError
from jaxgen.model import Model
from jaxgen.models.game import Objective
from jaxgen.plots import save
from jaxgen.plots._style import LINES, WIDTH, new_axes, styled
from jaxgen.training import Options
from jaxgen.training.state import create
from jaxgen.training.step import update
from jaxgen.writers import read_jsonl

LABELS: dict[Objective, str] = {"minimax": "minimax", "non_saturating": "non-saturating"}
OBJECTIVES = tuple(LABELS)
ARGUMENTS: dict[str, Any] = {"average": 0.99}
#: Updates of the discriminator against a generator that stays.
UPDATES, BATCH = 1000, 256
#: Rounds in which both play, and updates of the discriminator in each.
ROUNDS, TURNS = 1500, 5
#: Rounds between two looks at them, and the last ones over which figures are means.
OFTEN, LAST = 100, 500
#: D(G(z)) at which the two gradients are compared.
SURE = 0.01


class Frozen(NamedTuple):
    """Over the updates [updates] of a discriminator against a generator that stays.

    Attributes:
      belief: exp E log D(G(z)).
      norms: of the generator's gradient, by objective.
    """

    belief: Array
    norms: dict[str, Array]


def against_frozen(x: np.ndarray, seed: int) -> Frozen:
    """What the generator's gradient becomes while the discriminator alone learns."""
    games = {name: models.gan(shape=x.shape[1:], objective=name, **ARGUMENTS) for name in OBJECTIVES}
    game = games["non_saturating"]
    adam = optax.adam(1e-3, b1=0.5)
    optimizers = dict.fromkeys(game.turns, adam)

    def of_generator(model: Model, params: Any, statistics: Any, batch: Any, key: Array) -> tuple[Array, Array]:
        def loss(own: Any) -> Array:
            return model.losses["generator"]({**params, "generator": own}, statistics, batch, key, True)[0]

        value, gradient = jax.value_and_grad(loss)(params["generator"])
        return value, optax.tree.norm(gradient)

    @jax.jit
    def learn(state: Any, data: Array) -> Frozen:
        def turn(state: Any, key: Array):
            row_key, loss_key, look_key = jax.random.split(key, 3)
            rows = jax.random.randint(row_key, (BATCH,), 0, len(data))
            batch = {"x": data[rows], "position": jnp.arange(BATCH)}
            found = {n: of_generator(m, state.params, state.statistics, batch, look_key) for n, m in games.items()}
            state, _ = update(game, adam, "discriminator", state, batch, loss_key)
            # The non-saturating loss is −E log D(G(z)).
            belief = jnp.exp(-found["non_saturating"][0])
            return state, Frozen(belief, {name: norm for name, (_, norm) in found.items()})

        return jax.lax.scan(turn, state, jax.random.split(jax.random.key(seed), UPDATES))[1]

    first = {"x": jnp.asarray(x[:2]), "position": jnp.arange(2)}
    return jax.device_get(learn(create(game, optimizers, first, seed=seed), jnp.asarray(x)))


def first_sure(belief: np.ndarray) -> int:
    """The update after which the discriminator first gives generated points less than ``SURE``.

    Raises:
      UserError: if it never does: there is nothing to compare then.
    """
    if not (belief < SURE).any():
        raise UserError(f"D(G(z)) fell to {belief.min():.3g} in {len(belief)} updates and not to {SURE}; give it more")
    return int(np.argmax(belief < SURE))


class Played(NamedTuple):
    """What the logs say of a run, [log points] and [log points, seeds]."""

    steps: np.ndarray
    norms: np.ndarray
    quality: np.ndarray


def play(path: Path, objective: Objective, *, seeds: int) -> Played:
    """Both players from the start, the discriminator ahead."""
    arguments = {**ARGUMENTS, "objective": objective, "discriminator_steps": TURNS}
    options = Options(steps=ROUNDS, learning_rate=2e-3, seeds=seeds, log_every=OFTEN, evaluate_every=OFTEN)
    runs.train("gan", arguments, data="ring", workdir=path, options=options)
    points = read_jsonl(path / "metrics.jsonl")
    trained, evaluated = ([p for p in points if p["kind"] == kind] for kind in ("train", "evaluate"))
    return Played(
        np.array([point["step"] for point in trained]),
        np.array([np.atleast_1d(point["generator/grad_norm"]) for point in trained]),
        np.array([np.atleast_1d(point["high_quality"]) for point in evaluated]),
    )


@styled()
def against_belief(frozen: list[Frozen]) -> MatplotlibFigure:
    """The generator's gradient over D(G(z)), a line for each seed."""
    figure, axes = new_axes(0.62 * WIDTH)
    for name, color in zip(OBJECTIVES, LINES):
        for index, found in enumerate(frozen):
            axes.loglog(found.belief, found.norms[name], color=color, linewidth=1.2, label=LABELS[name] * (not index))
    axes.invert_xaxis()
    axes.set(xlabel="D(G(z)), falling as the discriminator learns", ylabel="norm of the generator's gradient")
    axes.grid(True)
    axes.legend()
    return figure


@styled()
def early(played: dict[Objective, Played]) -> MatplotlibFigure:
    """Gradient norm above and high quality below over rounds: means over seeds, and each seed thin."""
    figure = MatplotlibFigure(figsize=(WIDTH, WIDTH), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True)
    for name, color in zip(OBJECTIVES, LINES):
        found = played[name]
        for axes, values, mean in (
            (above, found.norms, np.exp(np.log(found.norms).mean(axis=1))),
            (below, found.quality, found.quality.mean(axis=1)),
        ):
            axes.plot(found.steps, values, color=color, linewidth=0.7, alpha=0.5)
            axes.plot(found.steps, mean, color=color, label=LABELS[name])
            axes.grid(True)
    above.set(yscale="log", ylabel="norm of G's gradient")
    below.set(xlabel=f"rounds, {TURNS} updates of D in each", ylabel="high quality, share", ylim=(0, None))
    above.legend()
    return figure


def run(*, seeds: int = 3, workdir: Path) -> Outcome:
    points = np.asarray(load("ring").train["x"])
    frozen = [against_frozen(points, seed) for seed in range(seeds)]
    ratios = []
    for found in frozen:
        at = first_sure(np.asarray(found.belief))
        ratios.append(float(found.norms["minimax"][at] / found.norms["non_saturating"][at]))
    played: dict[Objective, Played] = {name: play(workdir / name, name, seeds=seeds) for name in OBJECTIVES}
    norms, quality = (
        {name: getattr(p, what)[-LAST // OFTEN :].mean(axis=0) for name, p in played.items()}
        for what in ("norms", "quality")
    )
    own, gate = "own measurement", "own gate"
    few, a_tenth = float(quality["non_saturating"].mean()) / 10, "own gate: a tenth of that"
    figures = [
        Figure("G stays: minimax over non-saturating norm at D(G(z)) = 1%", ratios, "", 0.1, gate, 0.0, "below"),
        *(Figure(f"{LABELS[name]}: norm of G's gradient", norms[name].tolist(), "", None, own) for name in played),
        Figure("non-saturating: high quality", quality["non_saturating"].tolist(), "share", 0.5, gate, 0.0, "above"),
        Figure("minimax: high quality", quality["minimax"].tolist(), "share", few, a_tenth, 0.0, "below"),
    ]
    shots = {
        "gradient": (
            "The generator's gradient while the discriminator learns against it, by seed.",
            against_belief(frozen),
        ),
        "training": (
            "Both play, the discriminator ahead: mean over seeds, of norms the geometric one, and each seed thin.",
            early(played),
        ),
    }
    return Outcome(figures, {name: (text, save(f, workdir / f"{name}.png")) for name, (text, f) in shots.items()})


if __name__ == "__main__":
    main(run)
