"""Games small enough to compute by hand, and a data set whose examples can be told apart."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxgen.data.dataset import Dataset, make_dataset
from jaxgen.model import Aux, Model, example_keys, over_devices

DIMS = 3


def numbered(num_train: int = 37, num_test: int = 13) -> Dataset:
    """Examples [DIMS] of moderate size; ``x[0]`` is the example's number / 64, so that each can be recognized."""
    generator = np.random.default_rng(0)
    x = generator.uniform(-1, 1, (num_train + num_test, DIMS)).astype(np.float32)
    x[:, 0] = np.arange(len(x)) / 64
    return make_dataset("numbered", {"x": x[:num_train]}, {"x": x[num_train:]}, scale=1.0)


def noise_of(key: Array, batch: Any) -> Array:
    """One draw [batch, DIMS] an example."""
    return jax.vmap(lambda k: jax.random.normal(k, (DIMS,)))(example_keys(key, batch["position"]))


def denoiser(*, player: str = "denoiser", spoil_at: int | None = None, spoil: str = "error") -> Model:
    """A linear denoiser with a running mean: one player, noise, statistics, a vector metric.

    ``spoil_at`` makes the term ``spoil`` of the update of that number (0 is the first), or its "gradient", NaN.
    """

    def init(key: Array, batch: Any):
        weights = 0.1 * jax.random.normal(key, (DIMS, DIMS))
        return {player: {"weights": weights, "bias": jnp.zeros(DIMS)}}, {
            "mean": jnp.zeros(DIMS),
            "updates": jnp.zeros((), jnp.int32),
        }

    def error(params: Any, x: Array, noise: Array) -> Array:
        return jnp.square((x + 0.1 * noise) @ params[player]["weights"] + params[player]["bias"] - x).sum(axis=-1)

    def loss(params: Any, statistics: Any, batch: Any, key: Array, train: bool):
        x, updates = batch["x"], statistics["updates"]
        value = error(params, x, noise_of(key, batch)).mean()
        mean = 0.9 * statistics["mean"] + 0.1 * over_devices(jax.lax.pmean, x.mean(axis=0))
        term, total = value, value
        if spoil_at is not None:
            bad = jnp.where(updates == spoil_at, jnp.nan, 0.0)
            term = term + (bad if spoil == "error" else 0)
            if spoil == "gradient":  # the value stays finite: bad · b is multiplied by zero only forwards
                bias = params[player]["bias"].sum()
                total = total + bad_gradient(bias, updates == spoil_at)
        return total, Aux({"error": term}, {"mean": mean, "updates": updates + 1})

    def evaluate(params: Any, statistics: Any, batch: Any, key: Array):
        value = error(params, batch["x"], noise_of(key, batch))
        return {"loss": value, "coordinates": batch["x"], "spread": value[:, None, None] * jnp.ones((2, 2))}

    return Model(init=init, losses={player: loss}, turns={player: 1}, evaluate=evaluate)


@jax.custom_jvp
def bad_gradient(value: Array, bad: Array) -> Array:
    """Zero, with a derivative that is NaN where ``bad``."""
    return jnp.zeros_like(value)


@bad_gradient.defjvp
def _bad_gradient_jvp(primals: Any, tangents: Any):
    value, bad = primals
    return bad_gradient(value, bad), jnp.where(bad, jnp.nan, 0.0) * tangents[0]


class Seen(NamedTuple):
    """What the spies of ``quadratic_game`` saw at each update: [updates, …]."""

    player: Array
    left: Array
    right: Array
    number: Array
    noise: Array


def quadratic_game(turns: dict[str, int], *, updates: int, batch_size: int) -> Model:
    """A game in two numbers a and b whose gradients are known, and which notes everything it sees.

    left minimizes ½·a² + a·b + a·m, right ½·b² − a·b + b·m, with m the mean of x[0] + noise[0] over the batch.
    """

    def init(key: Array, batch: Any):
        table = Seen(
            player=jnp.full((updates,), -1),
            left=jnp.zeros((updates,)),
            right=jnp.zeros((updates,)),
            number=jnp.zeros((updates, batch_size)),
            noise=jnp.zeros((updates, batch_size)),
        )
        return {"left": jnp.float32(0.7), "right": jnp.float32(-0.4)}, {
            "seen": table,
            "count": jnp.zeros((), jnp.int32),
        }

    def note(params: Any, statistics: Any, batch: Any, noise: Array, player: int):
        count = statistics["count"]
        row = Seen(jnp.asarray(player), params["left"], params["right"], 64 * batch["x"][:, 0], noise)
        seen = jax.tree.map(lambda table, value: table.at[count].set(value), statistics["seen"], row)
        return jax.lax.stop_gradient({"seen": seen, "count": count + 1})

    def game(own: str, other: str, sign: float, player: int):
        def loss(params: Any, statistics: Any, batch: Any, key: Array, train: bool):
            noise = noise_of(key, batch)[:, 0]
            mean = (batch["x"][:, 0] + noise).mean()
            value = params[own] ** 2 / 2 + sign * params[own] * params[other] + params[own] * mean
            return value, Aux({"mean": mean}, note(params, statistics, batch, noise, player))

        return loss

    def evaluate(params: Any, statistics: Any, batch: Any, key: Array):
        return {"loss": jnp.square(batch["x"]).sum(axis=-1)}

    losses = {"left": game("left", "right", 1.0, 0), "right": game("right", "left", -1.0, 1)}
    return Model(init=init, losses=losses, turns=turns, evaluate=evaluate)


class Counted:
    """A console that keeps what it is given, and may do something at a step."""

    def __init__(self, then: Any = None):
        self.points: list[tuple[int, str, dict[str, Any]]] = []
        self.said: list[str] = []
        self._then = then

    def begin(self, step: int, *, evaluate_every: int) -> None:
        self.said.append(f"begin {step}")

    def say(self, what: str) -> None:
        self.said.append(what)

    def line(self, text: str) -> None:
        self.said.append(text)

    def write(self, step: int, values: Any, *, kind: str) -> None:
        self.points.append((step, kind, dict(values)))
        if self._then:
            self._then(step, kind)

    def close(self) -> None:
        pass


def force_streaming(monkeypatch: Any, *, bytes_a_call: int) -> None:
    """Makes a small set too large for the device, under ``memory_budget=1``."""
    monkeypatch.setattr("jaxgen.training.run.num_bytes", lambda arrays: 2**21)
    monkeypatch.setattr("jaxgen.training.feed.STREAM_BYTES", bytes_a_call)
