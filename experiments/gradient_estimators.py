"""Bias and variance of gradient estimators for discrete latents, against exact enumeration.

command:   python experiments/gradient_estimators.py
hardware:  two CPU cores
time:      1 minute for three seeds
expected:  REINFORCE within 4 standard errors of the exact gradient at 10^5 draws; Gumbel-softmax: soft, a bias that
           falls as τ^1 and a variance that grows as τ^−1; hard, the bias that enumeration foretells
source:    exact: all 256 states; Jang et al., 2017, and Maddison et al., 2017, for the trade of bias for variance

Eight Bernoulli latents and E_q log p(x|z) of one image under a small decoder: what a discrete VAE differentiates (its
KL has a closed form, the same for every estimator). A seed is other noise for the same model. One gradient is the mean
over four draws of z for every estimator, so that equal variances cost equally much.

Why powers of τ: the relaxed sample is σ(u/τ), with u logistic around the logit, and differs from the step 1[u > 0] only
where |u| is of order τ. So much probability lies there: the expectation and its gradient are off by order τ. The
sample's derivative is of order 1/τ there, and the mean of its square as well. Of this model the first order carries
far; in others the line bends from τ = 0.1 on. The hard sample's derivative is the same, but the decoder's is
taken at the corners: as τ → 0 it tends to (f′(0) + f′(1))/2 in place of f(1) − f(0), a trapezoid rule, whose error no
temperature removes.
"""

import itertools
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from figures import Figure, Outcome, main
from jax import Array
from jax.typing import ArrayLike
from matplotlib.figure import Figure as MatplotlibFigure

from jaxgen.estimators import gumbel_argmax, gumbel_softmax, leave_one_out_baseline, reinforce, vimco
from jaxgen.losses import bernoulli_nll, importance_weighted_bound
from jaxgen.plots import save
from jaxgen.plots._style import LINES, WIDTH, styled

LATENTS, HIDDEN, PIXELS = 8, 16, 12
STATES = np.array(list(itertools.product([0.0, 1.0], repeat=LATENTS)), np.float32)
TEMPERATURES = np.geomspace(0.05, 5.0, 9)
#: Where powers of τ are fitted: the bias above its noise, the variance where it is coldest.
BIAS_FIT, VARIANCE_FIT = slice(1, 5), slice(0, 4)
#: Draws of z an estimator, those a gradient averages, and gradients computed at a time.
SCORE_DRAWS, RELAXED_DRAWS = 100_000, 1_000_000
SAMPLES, CHUNK = 4, 1000

CONSTANT = "constant baseline"
SCORE = ("no baseline", CONSTANT, "leave-one-out baseline")
SOFT, HARD = RELAXED = ("soft", "hard")


class Toy(NamedTuple):
    """Logits of the latents, the decoder's two layers, and the image."""

    logits: np.ndarray
    inner: np.ndarray
    outer: np.ndarray
    image: np.ndarray


class Truth(NamedTuple):
    """Expected gradients: of the likelihood and of the bound [latents], of the hard sample [temperatures, latents]."""

    likelihood: Array
    bound: Array
    hard: Array


def make_toy(seed: int = 2) -> Toy:
    rng = np.random.default_rng(seed)
    logits, inner = rng.normal(size=LATENTS), rng.normal(size=(LATENTS, HIDDEN)) / 2
    outer = rng.normal(size=(HIDDEN, PIXELS)) * 2 / HIDDEN**0.5
    return Toy(*(a.astype(np.float32) for a in (logits, inner, outer, rng.integers(2, size=PIXELS))))


def log_likelihood(toy: Toy, states: ArrayLike) -> Array:
    """log p(x|z) in nats, [..., latents] -> [...]; z may lie between the corners."""
    logits = jnp.tanh((2 * jnp.asarray(states) - 1) @ toy.inner) @ toy.outer
    flat = logits.reshape(-1, PIXELS)
    return -bernoulli_nll(flat, jnp.broadcast_to(toy.image, flat.shape)).reshape(logits.shape[:-1])


def log_q(logits: ArrayLike, states: ArrayLike) -> Array:
    """log-probability of binary states, [..., latents] -> [...]."""
    return jnp.sum(states * jnp.asarray(logits) - jax.nn.softplus(logits), axis=-1)


def exact_gradient(toy: Toy) -> Array:
    """∇ E_q log p(x|z), over all states."""
    rewards = log_likelihood(toy, STATES)
    return jax.grad(lambda logits: jnp.exp(log_q(logits, STATES)) @ rewards)(toy.logits)


def exact_bound_gradient(toy: Toy) -> Array:
    """Gradient of the importance-weighted bound of two samples (under a flat prior), over all pairs of states."""
    rewards = log_likelihood(toy, STATES)

    def bound(logits: Array) -> Array:
        log_prob = log_q(logits, STATES)
        weights = rewards - log_prob
        pairs = importance_weighted_bound(jnp.stack(jnp.broadcast_arrays(weights[:, None], weights[None])))
        return jnp.exp(log_prob) @ pairs @ jnp.exp(log_prob)

    return jax.grad(bound)(toy.logits)


def hard_gradient(toy: Toy, temperature: float) -> Array:
    """Expectation of the hard Gumbel-softmax's gradient; at temperature 0 its limit.

    The other latents are corners, to be enumerated. Of a latent's own, the derivative σ′(u/τ)/τ times the density of u
    is integrated over either side of 0, in the variable σ(u/τ).
    """
    slopes = jax.vmap(jax.grad(partial(log_likelihood, toy)))(STATES)
    probs = jax.nn.sigmoid(toy.logits)
    others = jnp.exp(log_q(toy.logits, STATES))[:, None] / jnp.where(STATES == 1, probs, 1 - probs)
    nodes, weights = np.polynomial.legendre.leggauss(200)
    below = (nodes[:, None] + 1) / 4  # in [0, 1/2], where the sample is 0
    distance = temperature * np.log(below / (1 - below))
    off, on = (weights / 4 @ logistic_density(side * distance - toy.logits) for side in (1, -1))
    return jnp.sum(others * slopes * jnp.where(STATES == 1, on, off), axis=0)


def logistic_density(u: np.ndarray) -> np.ndarray:
    odds = np.exp(-np.abs(u))
    return odds / np.square(1 + odds)


def draw(key: Array, logits: Array, num_samples: int) -> Array:
    """Exact samples [samples, latents], without a gradient."""
    return gumbel_argmax(key, two_classes(jax.lax.stop_gradient(logits), num_samples)).astype(logits.dtype)


def two_classes(logits: Array, num_samples: int) -> Array:
    """Bernoulli logits as those of two classes, repeated: [samples, latents, 2]."""
    return jnp.broadcast_to(jnp.stack([jnp.zeros_like(logits), logits], axis=-1), (num_samples, LATENTS, 2))


# The estimators: surrogates of (toy, logits, key, …), whose gradient in the logits is the estimate.


def relaxed(toy: Toy, logits: Array, key: Array, temperature: Array, *, hard: bool) -> Array:
    states = gumbel_softmax(key, two_classes(logits, SAMPLES), temperature=temperature, hard=hard)[..., 1]
    return log_likelihood(toy, states).mean()


def score(toy: Toy, logits: Array, key: Array, *, baseline: Callable[[Array], Array]) -> Array:
    states = draw(key, logits, SAMPLES)
    rewards = log_likelihood(toy, states)
    return reinforce(log_q(logits, states), rewards, baseline=baseline(rewards)).mean()


def bound_of_two(toy: Toy, logits: Array, key: Array) -> Array:
    states = draw(key, logits, 2)
    log_prob = log_q(logits, states)
    return vimco(log_prob, log_likelihood(toy, states) - log_prob)


class Moments(NamedTuple):
    """Mean of the gradients, variance of a single one (both [latents]), and how many there were."""

    mean: np.ndarray
    variance: np.ndarray
    count: int

    def standard_errors(self, exact: ArrayLike) -> float:
        """The largest error of a component, in standard errors of its mean."""
        return float(np.max(np.abs(self.mean - exact) / np.sqrt(self.variance / self.count)))

    def bias(self, exact: ArrayLike) -> float:
        """The norm of the bias; what noise the mean still has is taken off its square."""
        squared = np.sum(np.square(self.mean - exact)) - np.sum(self.variance) / self.count
        return float(np.sqrt(max(squared, 0.0)))


Surrogate = Callable[..., Array]


@partial(jax.jit, static_argnums=(0, 1))
def _sums(surrogate: Surrogate, num_chunks: int, near: Array, logits: Array, key: Array, *args: Array):
    """Sums of the gradients' differences from a point near their mean, and of the squares of these."""

    def add_chunk(sums: tuple[Array, Array], key: Array) -> tuple[tuple[Array, Array], None]:
        keys = jax.random.split(key, CHUNK)
        differences = jax.vmap(lambda k: jax.grad(surrogate)(logits, k, *args))(keys) - near
        return (sums[0] + differences.sum(axis=0), sums[1] + jnp.square(differences).sum(axis=0)), None

    zeros = jnp.zeros_like(near)
    return jax.lax.scan(add_chunk, (zeros, zeros), jax.random.split(key, num_chunks))[0]


def measure(
    surrogate: Surrogate, near: Array, logits: ArrayLike, key: Array, *args: ArrayLike, num_gradients: int
) -> Moments:
    """Moments of ∇ surrogate(logits, key, *args) over keys; `near`, such as the exact gradient, saves digits."""
    num_chunks = math.ceil(num_gradients / CHUNK)
    count = num_chunks * CHUNK
    sums = _sums(surrogate, num_chunks, near, jnp.asarray(logits), key, *map(jnp.asarray, args))
    total, squares = (np.asarray(s, np.float64) for s in sums)
    return Moments(np.asarray(near) + total / count, (squares - total**2 / count) / (count - 1), count)


def power(values: np.ndarray, where: slice) -> list[float]:
    """The power of τ that [seeds, temperatures] follow, by least squares on logarithms, for each seed."""
    return np.polyfit(np.log(TEMPERATURES[where]), np.log(values[:, where]).T, 1)[0].tolist()


Measured = dict[str, list[list[Moments]]]  # [seeds][temperatures] by estimator; one for REINFORCE and VIMCO


def measure_all(toy: Toy, truth: Truth, *, seeds: int) -> Measured:
    mean_reward = jnp.exp(log_q(toy.logits, STATES)) @ log_likelihood(toy, STATES)
    keys = [jax.random.key(seed) for seed in range(seeds)]
    measured: Measured = {}
    for name, baseline in zip(SCORE, (jnp.zeros_like, lambda rewards: mean_reward, leave_one_out_baseline)):
        at = partial(measure, partial(score, toy, baseline=baseline), truth.likelihood, toy.logits)
        measured[name] = [[at(key, num_gradients=SCORE_DRAWS // SAMPLES)] for key in keys]
    at = partial(measure, partial(bound_of_two, toy), truth.bound, toy.logits)
    measured["VIMCO"] = [[at(key, num_gradients=SCORE_DRAWS // 2)] for key in keys]
    for name in RELAXED:
        at = partial(measure, partial(relaxed, toy, hard=name == HARD), truth.likelihood, toy.logits)
        at = partial(at, num_gradients=RELAXED_DRAWS // SAMPLES)
        measured[name] = [[at(key, np.float32(temperature)) for temperature in TEMPERATURES] for key in keys]
    return measured


def relative(found: list[list[Moments]], exact: Array) -> tuple[np.ndarray, np.ndarray]:
    """Norm of the bias and variance of a gradient, both [seeds, temperatures], where the exact gradient has norm 1."""
    norm = float(jnp.linalg.norm(exact))
    bias = [[moments.bias(exact) / norm for moments in row] for row in found]
    variance = [[moments.variance.sum() / norm**2 for moments in row] for row in found]
    return np.array(bias), np.array(variance)


def figures(measured: Measured, truth: Truth) -> list[Figure]:
    own, enumerated, theory = "own measurement", "exact: all states", "theory, as τ → 0"
    exact, coldest = truth.likelihood, f"τ = {TEMPERATURES[0]:g}"
    errors = {name: [row[0].standard_errors(exact) for row in measured[name]] for name in SCORE}
    errors["VIMCO, 2 samples"] = [row[0].standard_errors(truth.bound) for row in measured["VIMCO"]]
    rows = [
        Figure(f"{_family(name)}: error at {SCORE_DRAWS:,} draws", values, "s.e.", 0.0, enumerated, 4.0, "below")
        for name, values in errors.items()
    ]
    bias, variance = relative(measured[SOFT], exact)
    expected = float(jnp.linalg.norm(truth.hard[0] - exact) / jnp.linalg.norm(exact))
    each = [max(m.standard_errors(mean) for m, mean in zip(row, truth.hard)) for row in measured[HARD]]
    rows += [
        Figure(f"soft: bias at {coldest}", bias[:, 0].tolist(), "of the norm", 0.0, theory, 0.04, "below"),
        Figure("soft: power of τ in the bias", power(bias, BIAS_FIT), "", 1.0, theory, 0.15),
        Figure("soft: power of τ in the variance", power(variance, VARIANCE_FIT), "", -1.0, theory, 0.1),
        Figure("soft: variance, coldest over hottest", (variance[:, 0] / variance[:, -1]).tolist(), "", None, own),
        Figure("hard: largest error of its expectation", each, "s.e.", 0.0, "exact: states, quadrature", 4.0, "below"),
        Figure(
            *(f"hard: bias at {coldest}", relative(measured[HARD], exact)[0][:, 0].tolist(), "of the norm"),
            *(expected, "exact: states, quadrature", 0.01),
        ),
    ]
    for name in SCORE:
        values = relative(measured[name], exact)[1][:, 0].tolist()
        rows.append(Figure(f"{_family(name)}: variance", values, "of the norm²", None, own))
    return rows


def _family(name: str) -> str:
    return f"REINFORCE, {name}" if name in SCORE else name


@styled()
def picture(measured: Measured, truth: Truth) -> MatplotlibFigure:
    """Bias above, variance below, against the temperature; what has no temperature as level lines."""
    figure = MatplotlibFigure(figsize=(WIDTH, 1.15 * WIDTH), layout="constrained")
    panels = figure.subplots(2, 1, sharex=True)
    for name, color in zip(RELAXED, LINES):
        for axes, values in zip(panels, relative(measured[name], truth.likelihood)):
            spread = values.std(axis=0, ddof=1) if len(values) > 1 else None
            axes.errorbar(TEMPERATURES, values.mean(axis=0), spread, color=color, marker="o", markersize=4.5)
    for name, color in zip(SCORE, LINES[2:]):
        level = relative(measured[name], truth.likelihood)[1].mean()
        # Unbiased: what 10^5 draws leave is the noise of their mean.
        for axes, value in zip(panels, (math.sqrt(level * SAMPLES / SCORE_DRAWS), level)):
            axes.axhline(value, color=color, linewidth=1.3, linestyle=(0, (4, 2)))
            side, va = (-3, "top") if name == CONSTANT else (2, "bottom")
            place = {"xytext": (-2, side), "textcoords": "offset points", "ha": "right", "va": va, "size": 9}
            axes.annotate(_family(name), (1, value), xycoords=axes.get_yaxis_transform(), color=color, **place)
    for name, color, at, shift in ((SOFT, LINES[0], 3, (9, -6)), (HARD, LINES[1], 1, (0, 7))):
        place = TEMPERATURES[at], relative(measured[name], truth.likelihood)[0][:, at].mean()
        panels[0].annotate(f"Gumbel-softmax, {name}", place, shift, textcoords="offset points", color=color, size=9)
    panels[0].set(ylabel="|bias| / |gradient|", xscale="log", yscale="log", ylim=(6e-3, 1.2))
    panels[1].set(ylabel="variance / |gradient|²", xscale="log", yscale="log", ylim=(2e-3, 400))
    panels[1].set_xlabel("temperature τ")
    for axes in panels:
        axes.grid(True)
        axes.xaxis.set_major_formatter("{x:g}")
    return figure


def run(*, seeds: int = 3, workdir: Path) -> Outcome:
    toy = make_toy()
    hard = jnp.stack([hard_gradient(toy, temperature) for temperature in TEMPERATURES])
    truth = Truth(exact_gradient(toy), exact_bound_gradient(toy), hard)
    measured = measure_all(toy, truth, seeds=seeds)
    caption = (
        "Eight binary latents: bias and variance of a gradient that averages four draws, against the temperature. The "
        "soft sample's bias falls as τ while its variance grows as 1/τ; the hard one keeps a bias. REINFORCE has no "
        "bias at all: its lines above are the noise that 100,000 draws leave. Bars: one deviation over seeds."
    )
    path = save(picture(measured, truth), workdir / "temperature.png")
    return Outcome(figures(measured, truth), {"temperature": (caption, path)})


if __name__ == "__main__":
    main(run)
