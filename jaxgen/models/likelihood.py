"""The decoder's likelihood, shared by every family: what the network's outputs mean, and −log p(x | outputs)."""

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Float, PyTree

from jaxgen.losses import bernoulli_nll, continuous_bernoulli_nll, gaussian_nll, optimal_gaussian_scale
from jaxgen.model import Domain, device_axis

LikelihoodName = Literal["bernoulli", "continuous_bernoulli", "gaussian"]
#: With that of a table's columns, for a model that is told their widths.
TableLikelihoodName = Literal[LikelihoodName, "mixed"]
ScaleName = Literal["fixed", "shared", "per_dimension", "optimal"]

#: No learned standard deviation falls below this: a constant pixel would drive the likelihood to infinity.
SCALE_FLOOR = 1e-3
#: Of the running variance that evaluation uses: while the error falls, an older one would judge the newer worse.
_VARIANCE_DECAY = 0.9


class Likelihood(NamedTuple):
    """Pure functions around −log p(x | outputs).

    Attributes:
      init: ``() -> (params, statistics)`` of the likelihood's own.
      nll: ``(params, statistics, outputs, targets, mask=None) -> [batch]`` in nats, over what the mask observes.
      mean: ``outputs -> E[x]`` in network units.
      draw: ``(params, statistics, key, outputs) -> x``, with the observation's noise.
      observe: ``(statistics, outputs, targets, mask=None) -> (of this training batch, running)``: the statistics that
        the batch's own ``nll`` uses, and those that stay.
      terms: ``(params, statistics) -> {name: scalar}`` worth logging.
      domain: what the observations may be.
      precision: ``(params, statistics) -> 1/σ²`` of a Gaussian, the mean over dimensions, without a gradient; 1 of any
        other: by it squared distances are in nats.
    """

    init: Callable[[], tuple[PyTree, PyTree]]
    nll: Callable[..., Float[Array, " batch"]]
    mean: Callable[[Array], Array]
    draw: Callable[..., Array]
    observe: Callable[..., tuple[PyTree, PyTree]]
    terms: Callable[..., dict[str, Array]]
    domain: Domain
    precision: Callable[..., ArrayLike] = lambda _params, _statistics: 1.0


def squared_error(
    mean: Float[Array, "batch ..."], x: Float[Array, "batch ..."], mask: Array | None = None
) -> Float[Array, " batch"]:
    """‖mean − x‖² of each example, over what was observed."""
    error = jnp.square(mean - x)
    error = error if mask is None else jnp.where(mask, error, 0)
    return error.reshape(len(x), -1).sum(axis=-1)


def _unchanged(statistics: PyTree, *_: ArrayLike, mask: ArrayLike | None = None) -> tuple[PyTree, PyTree]:
    return statistics, statistics


def make_likelihood(
    name: TableLikelihoodName,
    shape: Sequence[int],
    *,
    scale: ScaleName = "fixed",
    fixed_scale: float = 1.0,
    columns: Sequence[int] | None = None,
) -> Likelihood:
    """The likelihood of a name.

    - "bernoulli", "continuous_bernoulli": the outputs are logits;
    - "gaussian": the outputs are means, with one standard deviation: ``fixed``, learned and ``shared`` by all
      dimensions, learned ``per_dimension``, or ``optimal`` (Rybkin et al., 2021): the maximum-likelihood scale of each
      training batch, of which evaluation uses a running estimate over the last ten or so;
    - "mixed": a table's columns, each with its own: a Gaussian with a learned standard deviation for a number, a
      categorical distribution for a one-hot block, whose outputs are logits.

    Args:
      name: of the likelihood.
      shape: of one example.
      scale: which standard deviation a Gaussian has.
      fixed_scale: its value where it is fixed.
      columns: widths of the columns of a table of mixed types: 1 for a number, more for a one-hot block.

    Raises:
      ValueError: for an unknown name or scale, a fixed scale that is not positive, or columns that do not fit.
    """
    if scale not in ("fixed", "shared", "per_dimension", "optimal"):
        raise ValueError(f"scale must be fixed, shared, per_dimension or optimal, got {scale!r}")
    if name == "bernoulli" or name == "continuous_bernoulli":
        nll = bernoulli_nll if name == "bernoulli" else continuous_bernoulli_nll
        draw = _bernoulli_draw if name == "bernoulli" else _continuous_bernoulli_draw
        return Likelihood(
            init=lambda: ({}, {}),
            nll=lambda _p, _s, logits, targets, mask=None: nll(logits, targets, mask=mask),
            mean=jax.nn.sigmoid if name == "bernoulli" else _continuous_bernoulli_mean,
            draw=lambda _p, _s, key, logits: draw(key, logits),
            observe=_unchanged,
            terms=lambda _p, _s: {},
            domain="binary" if name == "bernoulli" else "unit",
        )
    if name == "mixed":
        return _mixed(tuple(shape), columns)
    if name != "gaussian":
        raise ValueError(f"likelihood must be bernoulli, continuous_bernoulli, gaussian or mixed, got {name!r}")
    if not fixed_scale > 0:
        raise ValueError(f"fixed_scale must be positive, got {fixed_scale}")
    return _gaussian(tuple(shape), scale, fixed_scale)


def _gaussian(shape: tuple[int, ...], scale: ScaleName, fixed_scale: float) -> Likelihood:
    def init() -> tuple[PyTree, PyTree]:
        if scale in ("shared", "per_dimension"):
            return {"log_scale": jnp.zeros(() if scale == "shared" else shape)}, {}
        return {}, {"variance": jnp.ones(()), "batches": jnp.zeros(())} if scale == "optimal" else {}

    def sigma(params: Any, statistics: Any) -> ArrayLike:
        if scale == "fixed":
            return fixed_scale
        if scale == "optimal":
            return jnp.maximum(jnp.sqrt(statistics["variance"]), SCALE_FLOOR)
        return _floored(params["log_scale"])

    def observe(
        statistics: Any, outputs: ArrayLike, targets: ArrayLike, mask: ArrayLike | None = None
    ) -> tuple[Any, Any]:
        # Of the mean of −log p(x|z) over the batch the gradient through the scale is zero; of a bound that weighs the
        # draws it is not.
        scale = optimal_gaussian_scale(outputs, targets, mask=mask, axis_name=device_axis())
        variance, batches = jnp.square(scale), statistics["batches"]
        # The mean of the first batches, a running mean later: what it starts from does not count.
        decay = jnp.minimum(_VARIANCE_DECAY, batches / (batches + 1))
        running = decay * statistics["variance"] + (1 - decay) * variance
        return {**statistics, "variance": variance}, {"variance": running, "batches": batches + 1}

    def nll(params: Any, statistics: Any, mean: ArrayLike, targets: ArrayLike, mask: ArrayLike | None = None) -> Array:
        return gaussian_nll(mean, targets, scale=sigma(params, statistics), mask=mask)

    return Likelihood(
        init=init,
        nll=nll,
        mean=lambda outputs: outputs,
        draw=lambda params, statistics, key, mean: (
            mean + sigma(params, statistics) * jax.random.normal(key, mean.shape, mean.dtype)
        ),
        observe=observe if scale == "optimal" else _unchanged,
        terms=lambda params, statistics: {} if scale == "fixed" else {"scale": jnp.mean(sigma(params, statistics))},
        domain="real",
        precision=lambda params, statistics: jax.lax.stop_gradient(jnp.mean(1 / jnp.square(sigma(params, statistics)))),
    )


def _floored(log_scale: ArrayLike) -> Array:
    """log σ is bounded below, smoothly, and free above: log floor + softplus(log σ − log floor)."""
    log_floor = math.log(SCALE_FLOOR)
    return jnp.exp(log_floor + jax.nn.softplus(jnp.asarray(log_scale) - log_floor))


def _mixed(shape: tuple[int, ...], columns: Sequence[int] | None) -> Likelihood:
    if columns is None or len(shape) != 1 or sum(columns) != shape[0] or min(columns) < 1:
        raise ValueError(
            f"the mixed likelihood needs a table whose `columns` say the width of each, {shape} together, got {columns}"
        )
    starts = np.cumsum([0, *columns[:-1]])
    numbers = starts[np.array(columns) == 1]
    blocks = [slice(start, start + width) for start, width in zip(starts, columns) if width > 1]

    def sigma(params: Any) -> Array:
        return _floored(params["log_scale"])

    def nll(params: Any, _statistics: Any, outputs: ArrayLike, targets: ArrayLike, mask: ArrayLike | None = None):
        outputs, targets = jnp.asarray(outputs), jnp.asarray(targets)
        seen = jnp.ones(targets.shape, bool) if mask is None else jnp.asarray(mask)
        targets = jnp.where(seen, targets, 0)  # before anything is multiplied: the gradient of NaN · 0 is NaN
        total = gaussian_nll(outputs[:, numbers], targets[:, numbers], scale=sigma(params), mask=seen[:, numbers])
        for block in blocks:
            # A category is observed as a whole, or its targets are all 0.
            total = total - (targets[:, block] * jax.nn.log_softmax(outputs[:, block])).sum(axis=-1)
        return total

    def each(outputs: Array, on_numbers: Callable[[Array], Array], on_block: Callable[[int, Array], Array]) -> Array:
        values = outputs.at[..., numbers].set(on_numbers(outputs[..., numbers]))
        for index, block in enumerate(blocks):
            values = values.at[..., block].set(on_block(index, outputs[..., block]))
        return values

    def draw(params: Any, _statistics: Any, key: Array, outputs: Array) -> Array:
        def category(index: int, logits: Array) -> Array:
            choice = jax.random.categorical(jax.random.fold_in(key, index + 1), logits)
            return jax.nn.one_hot(choice, logits.shape[-1], dtype=logits.dtype)

        def number(mean: Array) -> Array:
            return mean + sigma(params) * jax.random.normal(jax.random.fold_in(key, 0), mean.shape, mean.dtype)

        return each(outputs, number, category)

    return Likelihood(
        init=lambda: ({"log_scale": jnp.zeros(len(numbers))}, {}),
        nll=nll,
        mean=lambda outputs: each(outputs, lambda mean: mean, lambda _, logits: jax.nn.softmax(logits)),
        draw=draw,
        observe=_unchanged,
        terms=lambda params, _s: {"scale": jnp.mean(sigma(params))},
        domain="real",
    )


def _bernoulli_draw(key: Array, logits: Array) -> Array:
    return jax.random.bernoulli(key, jax.nn.sigmoid(logits)).astype(logits.dtype)


def _continuous_bernoulli_draw(key: Array, logits: Array) -> Array:
    """x = log(1 + u(e^η − 1))/η, the inverse of the distribution function; u itself as η → 0, mirrored where η > 0."""
    uniform = jax.random.uniform(key, logits.shape, logits.dtype)
    small = jnp.abs(logits) < 1e-3
    down = -jnp.abs(jnp.where(small, 1.0, logits))
    x = jnp.log1p(uniform * jnp.expm1(down)) / down
    return jnp.clip(jnp.where(small, uniform, jnp.where(logits > 0, 1 - x, x)), 0, 1)


def _continuous_bernoulli_mean(logits: Array) -> Array:
    """E[x] = 1/(1 − e^(−η)) − 1/η = ½ + ½ coth(η/2) − 1/η, by its series 1/2 + η/12 − η³/720 near η = 0."""
    small = jnp.abs(logits) < 0.1
    safe = jnp.where(small, 1.0, logits)
    # Both branches need finite gradients: tanh saturates where exp would overflow, and the cube must not.
    near = jnp.where(small, logits, 0.0)
    return jnp.where(small, 0.5 + near / 12 - near**3 / 720, 0.5 + 0.5 / jnp.tanh(safe / 2) - 1 / safe)
