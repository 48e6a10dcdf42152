"""The adversarial game where it can be solved: what the best discriminator is, and when the generator stops learning.

command:   python experiments/exact_game.py
hardware:  two CPU cores
time:      3 seconds for three seeds
expected:  D = p/(p + q) and the value −log 4 + 2·JSD(p, q), to 1e-3; the minimax generator's gradient falls as D(G(z)),
           the non-saturating one's does not
source:    exact: Goodfellow et al., 2014, section 4.1

Two distributions p and q over 12 symbols, drawn anew for each seed; the discriminator is one logit a symbol, and the
expectations of its loss are sums. Adam maximizes the value, which is concave in the logits.

Saturation: how much of a gradient reaches the generator through a sample that the discriminator is ever surer of. With
D(G(z)) = σ(ℓ) the minimax loss log(1 − D) has the slope −σ(ℓ) in ℓ, the non-saturating −log D the slope −σ(−ℓ): the
one dies as D does, the other tends to −1.
"""

from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from figures import Figure, Outcome, main
from jax import Array
from matplotlib.figure import Figure as MatplotlibFigure

from jaxgen import losses
from jaxgen.plots import save
from jaxgen.plots._style import LINES, WIDTH, styled

SYMBOLS, STEPS = 12, 20_000
#: How sure the discriminator is that a sample is generated: −logit of D(G(z)).
SURE = np.linspace(-4, 12, 33)


def solve(p: Array, q: Array) -> tuple[Array, Array]:
    """The best logits, and the value of the game there."""
    rate = optax.cosine_decay_schedule(0.1, STEPS)
    adam = optax.adam(rate)

    def loss(logits: Array) -> Array:
        # E_p[−log D] + E_q[−log(1 − D)]: the loss of a batch of all symbols, weighed by their probabilities.
        on_real = losses.minimax_discriminator_loss(logits, jnp.full_like(logits, -jnp.inf))
        on_fake = losses.minimax_discriminator_loss(jnp.full_like(logits, jnp.inf), logits)
        return p @ on_real + q @ on_fake

    def step(carry: tuple[Array, optax.OptState], _: None):
        logits, state = carry
        updates, state = adam.update(jax.grad(loss)(logits), state)
        return (logits + jnp.asarray(updates), state), None

    start = jnp.zeros_like(p)
    (logits, _), _ = jax.lax.scan(step, (start, adam.init(start)), None, length=STEPS)
    return logits, -loss(logits)


def divergence(p: np.ndarray, q: np.ndarray) -> float:
    """The Jensen–Shannon divergence, in nats."""
    middle = (p + q) / 2
    return float(0.5 * np.sum(p * np.log(p / middle)) + 0.5 * np.sum(q * np.log(q / middle)))


def slopes(loss: Callable[[Array], Array]) -> np.ndarray:
    """|d loss / d logit| of a generated sample, over how sure the discriminator is."""
    return np.abs(jax.vmap(jax.grad(lambda logit: loss(logit[None])[0]))(jnp.asarray(-SURE, jnp.float32)))


@styled()
def picture(minimax: np.ndarray, non_saturating: np.ndarray) -> MatplotlibFigure:
    figure = MatplotlibFigure(figsize=(WIDTH, 0.6 * WIDTH), layout="constrained")
    axes = figure.subplots()
    confidence = 1 / (1 + np.exp(SURE))
    for name, values, color in (("minimax", minimax, LINES[0]), ("non-saturating", non_saturating, LINES[1])):
        axes.loglog(confidence, values, label=name, color=color)
    axes.set_xlabel("D(G(z)), the discriminator's probability that a sample is real")
    axes.set_ylabel("gradient with respect to the logit")
    axes.legend()
    return figure


def run(*, seeds: int = 3, workdir: Path) -> Outcome:
    figures, values, errors = [], [], []
    for seed in range(seeds):
        p, q = np.random.default_rng(seed).dirichlet(np.ones(SYMBOLS), size=2)
        logits, value = jax.jit(solve)(jnp.asarray(p, jnp.float32), jnp.asarray(q, jnp.float32))
        errors.append(float(np.abs(jax.nn.sigmoid(logits) - p / (p + q)).max()))
        values.append((float(value), 2 * divergence(p, q) - np.log(4)))
    exact = "exact: Goodfellow et al., 2014"
    off = [value - expected for value, expected in values]
    figures.append(Figure("largest error of D", errors, "", 0.0, f"{exact}, D = p/(p + q)", 1e-3, "below"))
    figures.append(Figure("value − (−log 4 + 2·JSD)", off, "nats", 0.0, exact, 1e-3))
    minimax, non_saturating = map(slopes, (losses.minimax_generator_loss, losses.non_saturating_generator_loss))
    for name, found, expected in (
        ("minimax", minimax, 1 / (1 + np.exp(SURE))),
        ("non-saturating", non_saturating, 1 / (1 + np.exp(-SURE))),
    ):
        worst = float(np.abs(found / expected - 1).max())
        figures.append(Figure(f"{name}: largest relative error of the slope", [worst], "", 0.0, exact, 1e-4, "below"))
    path = save(picture(minimax, non_saturating), workdir / "saturation.png")
    caption = "How much a generated sample's gradient is worth, over how sure the discriminator is of it."
    return Outcome(figures, {"saturation": (caption, path)})


if __name__ == "__main__":
    main(run)
