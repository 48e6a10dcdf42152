"""Naming what stopped being finite first: the player, the term, the step and the batch."""

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from jaxgen.errors import UserError
from jaxgen.training.evaluate import Figures
from jaxgen.training.options import Options

#: Data of this size in network units are named beside the learning rate.
_LARGE = 1e3


class NonFiniteError(UserError):
    """A loss or a gradient stopped being finite."""


class Game(NamedTuple):
    """What a message needs beside the values: who plays how often, on how many examples, under which options.

    ``largest`` computes the largest magnitude of the training examples in network units; ``saved`` is whether there is
    a checkpoint to go on from.
    """

    turns: Mapping[str, int]
    num_examples: int
    options: Options
    largest: Callable[[], float] = lambda: 0.0
    saved: bool = False


def check_finite(values: Mapping[str, np.ndarray], game: Game, *, first_step: int) -> None:
    """Stops where something is not finite, and names what was so first.

    Args:
      values: what the compiled rounds handed back, ``{"player/metric": [(replicas,) rounds]}``.
      game: what the message is made from.
      first_step: rounds played before these.

    Raises:
      NonFiniteError: with the player, the term, the step and the batch.
    """
    flat = {name: value.reshape(-1, value.shape[-1]) for name, value in values.items()}
    bad = {name: np.argwhere(~np.isfinite(value).T) for name, value in flat.items()}
    bad = {name: where[0] for name, where in bad.items() if len(where)}
    if not bad:
        return
    players = list(game.turns)

    def order(name: str) -> tuple[int, int, bool, bool]:
        """The earliest round; within it who plays first; a term of the loss before the loss, the gradient last."""
        player, term = name.split("/", 1)
        return int(bad[name][0]), players.index(player), term == "loss", term == "grad_norm"

    name = min(bad, key=order)
    player, term = name.split("/", 1)
    step, index = (int(i) for i in bad[name])
    finite = {other: float(flat[f"{player}/finite/{other}"][index, step]) for other in players}
    broken = [other for other in players if finite[other] < 1]
    if broken and term != "grad_norm":
        # Parameters were broken before this loss: by the gradient of their player's update before it.
        earlier = players.index(broken[0]) < players.index(player) or finite[broken[0]] > 0
        player, term, step = broken[0], "grad_norm", step if earlier else step - 1
    raise NonFiniteError(_what_broke(game, player, term, first_step + step, index))


def _what_broke(game: Game, player: str, term: str, step: int, index: int) -> str:
    players, turns = list(game.turns), game.turns[player]
    played = step * sum(game.turns.values()) + sum(game.turns[p] for p in players[: players.index(player)])
    epoch, batch = divmod(played, game.num_examples // game.options.batch_size)
    whose = f" in replica {index}" if game.options.seeds > 1 else ""
    several = "" if turns == 1 else f"one of {turns} batches from "
    term = "the gradient" if term == "grad_norm" else f"the term {term!r}"
    return (
        f"{term} of player {player!r} is not finite{whose} at step {step + 1} "
        f"({several}batch {batch + 1} of epoch {epoch + 1}); {_what_is_left(game)}, "
        f"try a smaller --learning-rate than {game.options.learning_rate:g}{_how_large(game)}"
    )


def _what_is_left(game: Game) -> str:
    return "the last checkpoint is kept" if game.saved else "nothing was saved yet"


def _how_large(game: Game) -> str:
    largest = game.largest()
    return f", or a larger --data-scale: the data reach {largest:.3g} in network units" if largest > _LARGE else ""


def check_figures(figures: Figures, game: Game, *, step: int) -> None:
    """Stops where an evaluated figure is not finite.

    Raises:
      NonFiniteError: naming the figure and the step.
    """
    for name, value in figures.items():
        if not all(map(math.isfinite, np.atleast_1d(value))):
            raise NonFiniteError(
                f"the evaluated {name!r} is {value} at step {step}; {_what_is_left(game)}, "
                f"try a smaller learning rate or look at the test data{_how_large(game)}"
            )
