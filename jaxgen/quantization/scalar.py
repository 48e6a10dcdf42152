"""Scalar quantizers: Lloyd–Max on a density and on samples, and the global optimum by dynamic programming.

These run on the host, in float64, and return arrays of JAX's default float type.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Float, Int, Num
from scipy.linalg import solve_banded

from jaxgen._checks import as_float, require, require_count, require_finite, require_real
from jaxgen.quantization._quadrature import Moments, moments_of

_MAX_STEPS = 500
_MAX_ITERATIONS = 100_000


class ScalarQuantizer(NamedTuple):
    """Levels in ascending order, the inner boundaries halfway between them, and the mean squared error."""

    levels: Float[Array, " levels"]
    boundaries: Float[Array, " levels-1"]
    distortion: Float[Array, ""]


def quantize_scalar(
    values: Float[ArrayLike, "*batch"], quantizer: ScalarQuantizer
) -> tuple[Float[Array, "*batch"], Int[Array, "*batch"]]:
    r"""Nearest level of each value, and its index.

    .. math::
        k(x) = \# \{ j : b_j < x \}, \qquad \hat x = \ell_{k(x)}

    Args:
        values: [...], in the unit of the levels.
        quantizer: as returned by the functions of this module.

    Returns:
        The levels [...] and their indices, int32 [...]; a value on a boundary takes the lower level, and NaN
        stays NaN, with the last index.

    Raises:
        ValueError: a quantizer without levels, or with another number of boundaries than levels − 1.
        TypeError: integer values.

    Example:
        >>> import jax.numpy as jnp
        >>> quantizer = lloyd_max_from_samples(jnp.array([0.0, 1.0, 9.0, 10.0]), 2)
        >>> levels, indices = quantize_scalar(jnp.array([-3.0, 4.0, 6.0]), quantizer)
        >>> levels.tolist(), indices.tolist()
        ([0.5, 0.5, 9.5], [0, 0, 1])
    """
    values, levels = as_float("values", values), jnp.asarray(quantizer.levels)
    boundaries = jnp.asarray(quantizer.boundaries)
    require(
        levels.ndim == 1 and boundaries.shape == (levels.size - 1,),
        f"quantizer must have levels [K] and boundaries [K - 1], got {levels.shape} and {boundaries.shape}",
    )
    indices = jnp.searchsorted(boundaries, values, side="left").astype(jnp.int32)
    return jnp.where(jnp.isnan(values), jnp.nan, levels[indices]), indices


def lloyd_max(
    density: Callable[..., ArrayLike], num_levels: int, *, support: tuple[float | int, float | int]
) -> ScalarQuantizer:
    r"""Scalar quantizer of a density whose levels are centroids and whose boundaries are midpoints.

    .. math::
        \ell_k = \frac{\int_{b_{k-1}}^{b_k} x \, p(x) \, dx}{\int_{b_{k-1}}^{b_k} p(x) \, dx},
        \qquad b_k = \frac{\ell_k + \ell_{k+1}}{2}

    Solved by Newton's method on the levels, started from the point density p^(1/3), with a step of Lloyd's
    wherever Newton's would raise the distortion; the integrals are adaptive Gauss–Legendre quadrature. For a
    log-concave density the solution is unique and the global optimum; otherwise it is a local one.

    Args:
        density: maps an array of points to their densities, elementwise (NumPy, SciPy or JAX).
        num_levels: number of levels K; the rate is log2 K bits.
        support: (low, high), either of which may be infinite.

    Returns:
        `ScalarQuantizer`: levels [K], inner boundaries [K − 1], distortion in squared units of x.

    Raises:
        ValueError: num_levels below one; a density that is negative, not finite, does not integrate to one
            over the support or has no second moment.

    Reference:
        Lloyd, Least squares quantization in PCM, 1982; Max, Quantizing for minimum distortion, 1960.

    Example:
        >>> import jax.numpy as jnp
        >>> gaussian = lambda x: jnp.exp(-(x**2) / 2) / jnp.sqrt(2 * jnp.pi)
        >>> quantizer = lloyd_max(gaussian, 2, support=(-jnp.inf, jnp.inf))
        >>> [round(float(level), 4) for level in quantizer.levels], round(float(quantizer.distortion), 5)
        ([-0.7979, 0.7979], 0.36338)
    """
    num_levels = require_count("num_levels", num_levels)
    moments = moments_of(density, support)
    variance = moments.cumulative[2, -1]
    levels = _start(moments, num_levels)
    state, moved = _lloyd_step(moments, levels), np.inf
    for _ in range(_MAX_STEPS):
        centroids, bands, distortion = state
        # Newton on centroids(levels) − levels = 0, whose Jacobian is tridiagonal; the shortened step where
        # the whole one would raise the distortion, and Lloyd's own step where even that does.
        newton = solve_banded((1, 1), bands, centroids - levels)
        for length in (1.0, 0.5, 0.25, 0.125, None):
            proposal = centroids if length is None else levels + length * newton
            if np.all(np.diff(np.concatenate([[support[0]], proposal, [support[1]]])) > 0):
                state = _lloyd_step(moments, proposal)
                if length is None or state.distortion <= distortion + 1e-13 * variance:
                    break
        last_moved, moved = moved, np.max(np.abs(proposal - levels)) / np.sqrt(variance)
        levels = proposal
        # Newton's steps square the error until only rounding is left; Lloyd's shrink slowly.
        settled = length == 1 and (moved <= 1e-9 or (moved <= 1e-5 and moved > last_moved / 2))
        if settled or moved <= 1e-14:
            break
    return _quantizer(levels, state.distortion)


def lloyd_max_from_samples(samples: Num[ArrayLike, "..."], num_levels: int) -> ScalarQuantizer:
    r"""Scalar quantizer of data by Lloyd's iteration, until no sample changes its level.

    .. math::
        \ell_k = \frac{1}{n_k} \sum_{i : b_{k-1} < x_i \le b_k} x_i,
        \qquad b_k = \frac{\ell_k + \ell_{k+1}}{2}

    One iteration costs O(K log N) on the sorted samples' prefix sums. The result is a local optimum;
    `optimal_scalar_quantizer` is the global one. A level left without samples moves to the sample farthest
    from its own level.

    Args:
        samples: [...], any shape, taken together.
        num_levels: number of levels K, at most the number of distinct samples.

    Returns:
        `ScalarQuantizer`: levels [K], inner boundaries [K − 1], mean squared error.

    Raises:
        ValueError: num_levels below one or above the number of distinct samples; samples that are not finite.

    Reference:
        Lloyd, Least squares quantization in PCM, 1982.

    Example:
        >>> import jax.numpy as jnp
        >>> quantizer = lloyd_max_from_samples(jnp.array([0.0, 1.0, 9.0, 10.0]), 2)
        >>> quantizer.levels.tolist(), quantizer.boundaries.tolist(), float(quantizer.distortion)
        ([0.5, 9.5], [5.0], 0.25)
    """
    num_levels = require_count("num_levels", num_levels)
    data = _SortedSamples.of(samples, num_levels)
    # Quantiles of the point density p^(1/3): a gap between samples is 1/p, and there are p of them.
    gaps = np.concatenate([[0.0], np.cumsum(np.diff(data.values) ** (2 / 3))])
    levels = np.interp((np.arange(num_levels) + 0.5) / num_levels * gaps[-1], gaps, data.values)
    ends = data.cells(levels)
    for iteration in range(_MAX_ITERATIONS):
        previous, ends = ends, data.cells(levels)
        weight = np.diff(data.weight[ends])
        if np.all(weight > 0):
            if iteration and np.array_equal(ends, previous):
                break
            levels = np.diff(data.first[ends]) / weight
        else:
            levels = _move_one_empty(data, levels, ends, weight)
    return _quantizer(levels + data.center, data.distortion(ends))


def optimal_scalar_quantizer(samples: Num[ArrayLike, "..."], num_levels: int) -> ScalarQuantizer:
    r"""The scalar quantizer of data with the least mean squared error of all.

    .. math::
        D_k(i) = \min_{j < i} \, D_{k-1}(j) + \sum_{j \le l < i} (x_l - \bar x_{j:i})^2

    Dynamic programming over the sorted samples. The cost of a cell satisfies the quadrangle inequality, so
    the best j grows with i and divide and conquer finds a whole row in O(N log N): O(K N log N) together
    (10^5 samples and 64 levels take seconds), with K·N numbers of memory.

    Args:
        samples: [...], any shape, taken together.
        num_levels: number of levels K, at most the number of distinct samples.

    Returns:
        `ScalarQuantizer`: levels [K], inner boundaries [K − 1], mean squared error.

    Raises:
        ValueError: num_levels below one or above the number of distinct samples; samples that are not finite.

    Reference:
        Bruce, Optimum quantization, 1965; Wu, Optimal quantization by matrix searching, 1991.

    Example:
        >>> import jax.numpy as jnp
        >>> quantizer = optimal_scalar_quantizer(jnp.array([0.0, 1.0, 9.0, 10.0, 20.0]), 3)
        >>> quantizer.levels.tolist(), round(float(quantizer.distortion), 6)
        ([0.5, 9.5, 20.0], 0.2)
    """
    num_levels = require_count("num_levels", num_levels)
    data = _SortedSamples.of(samples, num_levels)
    n = len(data.values)
    best = data.second - data.first**2 / np.maximum(data.weight, data.weight[1])
    choices = np.zeros((num_levels, n + 1), np.int32)
    for level in range(1, num_levels):
        best, choices[level] = _monge_row(data, best, level)
    ends = np.empty(num_levels + 1, np.int64)
    ends[-1] = n
    for level in range(num_levels - 1, -1, -1):
        ends[level] = choices[level][ends[level + 1]]
    levels = np.diff(data.first[ends]) / np.diff(data.weight[ends])
    return _quantizer(levels + data.center, data.distortion(ends))


class _SortedSamples(NamedTuple):
    """Distinct sorted values about their mean, and prefix sums of weight, weight·x and weight·x²."""

    center: float
    values: np.ndarray
    weight: np.ndarray
    first: np.ndarray
    second: np.ndarray

    @classmethod
    def of(cls, samples: ArrayLike, num_levels: int) -> "_SortedSamples":
        require_real("samples", samples)
        flat = np.asarray(samples, np.float64).ravel()
        require_finite("samples", flat)
        values, repeats = np.unique(flat, return_counts=True)
        require(
            len(values) >= num_levels,
            f"samples hold {len(values)} distinct values, too few for num_levels = {num_levels}",
        )
        center = float(np.mean(flat))
        values = values - center
        sums = (np.concatenate([[0.0], np.cumsum(repeats * values**power)]) for power in range(3))
        return cls(center, values, *sums)

    def cells(self, levels: np.ndarray) -> np.ndarray:
        """Where each level's samples begin and end, from 0 to n."""
        inner = np.searchsorted(self.values, (levels[:-1] + levels[1:]) / 2, side="right")
        return np.concatenate([[0], inner, [len(self.values)]])

    def distortion(self, ends: np.ndarray) -> float:
        """Mean squared error about the centroids of the cells."""
        first, weight = np.diff(self.first[ends]), np.diff(self.weight[ends])
        levels = np.repeat(first / weight, np.diff(ends))
        return float(np.sum(np.diff(self.weight) * (self.values - levels) ** 2) / self.weight[-1])


def _monge_row(data: _SortedSamples, previous: np.ndarray, level: int) -> tuple[np.ndarray, np.ndarray]:
    """Best split j for every end i, all midpoints of one depth of the recursion at a time."""
    n = len(data.values)
    best, choice = np.full(n + 1, np.inf), np.zeros(n + 1, np.int32)
    gain = previous - data.second
    lows, highs = np.array([level + 1]), np.array([n])
    least, most = np.array([level]), np.array([n - 1])
    while lows.size:
        middle = (lows + highs) // 2
        length = np.minimum(most, middle - 1) - least + 1
        starts = np.concatenate([[0], np.cumsum(length)])
        split = np.arange(starts[-1]) + np.repeat(least - starts[:-1], length)
        first = np.repeat(data.first[middle], length) - data.first[split]
        weight = np.repeat(data.weight[middle], length) - data.weight[split]
        cost = gain[split] - first * first / weight
        least_cost = np.minimum.reduceat(cost, starts[:-1])
        hits = np.flatnonzero(cost == np.repeat(least_cost, length))
        winner = split[hits[np.searchsorted(hits, starts[:-1])]]
        best[middle], choice[middle] = least_cost + data.second[middle], winner
        lows, highs = np.concatenate([lows, middle + 1]), np.concatenate([middle - 1, highs])
        least, most = np.concatenate([least, winner]), np.concatenate([winner, most])
        kept = np.flatnonzero(lows <= highs)
        lows, highs, least, most = lows[kept], highs[kept], least[kept], most[kept]
    return best, choice


def _move_one_empty(data: _SortedSamples, levels: np.ndarray, ends: np.ndarray, weight: np.ndarray) -> np.ndarray:
    owner = np.repeat(np.arange(len(levels)), np.diff(ends))
    moved = levels.copy()
    moved[np.argmin(weight)] = data.values[np.argmax(np.abs(data.values - levels[owner]))]
    return np.sort(moved)


def _start(moments: Moments, num_levels: int) -> np.ndarray:
    """Quantiles of the density p^(1/3), the best one for many levels (Panter and Dite)."""
    pieces = np.linspace(moments.edges[:-1], moments.edges[1:], 16, axis=1, endpoint=False).ravel()
    edges = np.append(pieces, moments.edges[-1])
    middles = (edges[:-1] + edges[1:]) / 2
    share = np.concatenate([[0.0], np.cumsum(np.diff(edges) * np.cbrt(moments.density(middles)))])
    return np.interp((np.arange(num_levels) + 0.5) / num_levels * share[-1], share, edges)


class _LloydStep(NamedTuple):
    """Centroids of the cells, identity minus their derivative by the levels (in bands), distortion."""

    centroids: np.ndarray
    bands: np.ndarray
    distortion: float


def _lloyd_step(moments: Moments, levels: np.ndarray) -> _LloydStep:
    inner = (levels[:-1] + levels[1:]) / 2
    whole = moments.cumulative[:, [0, -1]]
    mass, first, second = np.diff(np.concatenate([whole[:, :1], moments.below(inner), whole[:, 1:]], axis=1), axis=1)
    shifted = levels - moments.center
    # Differences of cumulative integrals below 1e-15 are rounding: such a cell keeps its level.
    filled = mass > 1e-15
    safe_mass = np.where(filled, mass, 1.0)
    centroids = np.where(filled, first / safe_mass, shifted) + moments.center
    at_inner = moments.density(inner) if len(inner) else inner
    # The upper boundary of cell k moves by half of either level next to it.
    above = 0.5 * at_inner * (inner - centroids[:-1]) / safe_mass[:-1]
    below = 0.5 * at_inner * (centroids[1:] - inner) / safe_mass[1:]
    own = 1.0 - np.append(above, 0.0) - np.append(0.0, below)
    bands = np.stack([np.append(0.0, -above), own, np.append(-below, 0.0)])
    distortion = float(np.sum(second - 2 * shifted * first + shifted**2 * mass))
    return _LloydStep(centroids, bands, distortion)


def _quantizer(levels: np.ndarray, distortion: float) -> ScalarQuantizer:
    boundaries = (levels[:-1] + levels[1:]) / 2
    return ScalarQuantizer(jnp.asarray(levels), jnp.asarray(boundaries), jnp.asarray(distortion))
