"""k-means: greedy k-means++ seeds, Lloyd's iteration, restarts."""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike
from jaxtyping import Float, Int, PRNGKeyArray

from jaxgen._checks import as_float, as_wide_float, require, require_count, require_finite
from jaxgen.quantization.nearest import nearest_centered


class KMeans(NamedTuple):
    """Centroids, each point's cluster, the summed squared distance to the centroids, and the iterations."""

    centroids: Float[Array, "clusters dim"]
    assignments: Int[Array, " points"]
    inertia: Float[Array, ""]
    num_iterations: Int[Array, ""]


def kmeans(
    key: PRNGKeyArray,
    points: Float[ArrayLike, "..."],
    num_clusters: int,
    *,
    num_restarts: int = 1,
    max_iterations: int = 300,
    init: Float[ArrayLike, "..."] | None = None,
) -> KMeans:
    r"""Clusters of least squared distance, by Lloyd's iteration from k-means++ seeds.

    .. math::
        \min_{c, k} \sum_i \lVert x_i - c_{k(i)} \rVert^2

    The seeds are greedy k-means++: each is the best of 2 + ⌊log K⌋ candidates drawn in proportion to the
    squared distance to the seeds before. Lloyd's iteration runs until no point changes its cluster. A
    cluster that lost all its points moves to the point farthest from its own centroid (the second such
    cluster to the second farthest point, and so on).

    Args:
        key: one key; unused where `init` is given.
        points: [points, dim], floating.
        num_clusters: number of clusters K.
        num_restarts: independent starts, of which the one of least inertia is returned.
        max_iterations: the most Lloyd iterations of one start.
        init: centroids to start from instead of seeds, [K, dim].

    Returns:
        `KMeans`; the inertia is a sum over points, in squared units of the points.

    Raises:
        ValueError: fewer points than clusters, num_clusters, num_restarts or max_iterations below one, an
            `init` of another shape, points that are not finite.
        TypeError: integer points.

    Reference:
        Lloyd, 1982; Arthur and Vassilvitskii, k-means++: the advantages of careful seeding, 2007.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> points = jnp.array([[0.0], [1.0], [9.0], [10.0]])
        >>> result = kmeans(jax.random.key(0), points, 2)
        >>> sorted(result.centroids.ravel().tolist()), float(result.inertia)
        ([0.5, 9.5], 1.0)
    """
    points = check_points(points, "num_clusters", num_clusters)
    num_clusters = require_count("num_clusters", num_clusters)
    num_restarts = require_count("num_restarts", num_restarts)
    max_iterations = require_count("max_iterations", max_iterations)
    if init is not None:
        given, init = init, as_float("init", init).astype(points.dtype)
        require_finite("init", given)
        require(
            init.shape == (num_clusters, points.shape[1]),
            f"init {init.shape} must be [num_clusters, dim] = {(num_clusters, points.shape[1])}",
        )
        num_restarts = 1
    return _kmeans(key, points, init, num_clusters, num_restarts, max_iterations)


def check_points(points: ArrayLike, name: str, number: int) -> Array:
    """Points as a finite matrix, float32 or float64, with at least as many rows as clusters."""
    given, points = points, as_wide_float("points", points)
    require(
        points.ndim == 2 and points.shape[1] >= 1,
        f"points must be [points, dim], of one dimension or more, got shape {points.shape}",
    )
    number = require_count(name, number)
    require(points.shape[0] >= number, f"points {points.shape} are fewer than {name} = {number}")
    require_finite("points", given)
    return points


@functools.partial(jax.jit, static_argnums=(3, 4, 5))
def _kmeans(
    key: Array, points: Array, init: Array | None, num_clusters: int, num_restarts: int, max_iterations: int
) -> KMeans:
    # In a unit near the largest entry no square over- or underflows; a power of two, so that no digit changes.
    limit = jnp.finfo(points.dtype).maxexp - 28
    exponent = jnp.clip(jnp.frexp(jnp.max(jnp.abs(points)))[1], -limit, limit)
    unit = jnp.ldexp(jnp.ones((), points.dtype), exponent)
    # Far from the origin the products of the distances would lose their digits.
    center = jnp.mean(points / unit, axis=0)
    centered = points / unit - center
    start = None if init is None else init / unit - center

    def restart(best: KMeans, key: Array) -> tuple[KMeans, None]:
        seeds = _seeds(key, centered, num_clusters) if start is None else start
        result = _lloyd(centered, seeds, max_iterations)
        better = result.inertia < best.inertia
        return jax.tree.map(lambda new, old: jnp.where(better, new, old), result, best), None

    none = KMeans(
        centroids=jnp.zeros((num_clusters, points.shape[1]), points.dtype),
        assignments=jnp.zeros(points.shape[:1], jnp.int32),
        inertia=jnp.array(jnp.inf, points.dtype),
        num_iterations=jnp.array(0, jnp.int32),
    )
    best, _ = lax.scan(restart, none, jax.random.split(key, num_restarts))
    return best._replace(centroids=(best.centroids + center) * unit, inertia=best.inertia * unit * unit)


def _seeds(key: Array, points: Array, num_clusters: int) -> Array:
    """Greedy k-means++: each seed is the candidate that leaves the least inertia."""
    num_candidates = 2 + int(math.log(num_clusters))
    norms = jnp.sum(points * points, axis=1)
    first_key, key = jax.random.split(key)
    first = jax.random.randint(first_key, (1,), 0, points.shape[0])

    def distances(indices: Array) -> Array:
        products = jnp.matmul(points[indices], points.T, precision=lax.Precision.HIGHEST)
        return jnp.maximum(norms[indices, None] - 2 * products + norms, 0)

    def add(nearest: Array, key: Array) -> tuple[Array, Array]:
        candidates = jax.random.choice(key, points.shape[0], (num_candidates,), p=nearest)
        remaining = jnp.minimum(nearest, distances(candidates))
        winner = jnp.argmin(jnp.sum(remaining, axis=1))
        return remaining[winner], candidates[winner]

    _, others = lax.scan(add, distances(first)[0], jax.random.split(key, num_clusters - 1))
    return points[jnp.concatenate([first, others])]


def _lloyd(points: Array, centroids: Array, max_iterations: int) -> KMeans:
    """Assign, average, until no point changes its cluster."""
    num_clusters = centroids.shape[0]

    def step(state: tuple[Array, Array, Array, Array]) -> tuple[Array, Array, Array, Array]:
        centroids, assignments, _, iteration = state
        counts = jax.ops.segment_sum(jnp.ones_like(points[:, 0]), assignments, num_clusters)
        sums = jax.ops.segment_sum(points, assignments, num_clusters)
        means = sums / jnp.maximum(counts, 1)[:, None]
        centroids = lax.cond(jnp.any(counts == 0), _fill_empty, lambda *args: means, points, assignments, counts, means)
        new = nearest_centered(points, centroids)
        return centroids, new, jnp.any(new != assignments), iteration + 1

    state = (centroids, nearest_centered(points, centroids), jnp.array(True), jnp.array(0, jnp.int32))
    centroids, assignments, _, iterations = lax.while_loop(
        lambda state: state[2] & (state[3] < max_iterations), step, state
    )
    return KMeans(centroids, assignments, jnp.sum(_squared_error(points, centroids, assignments)), iterations)


def _fill_empty(points: Array, assignments: Array, counts: Array, means: Array) -> Array:
    """Put the r-th empty cluster where the r-th farthest point is."""
    errors = _squared_error(points, means, assignments)
    _, farthest = lax.top_k(errors, counts.shape[0])
    empty = counts == 0
    return jnp.where(empty[:, None], points[farthest[jnp.cumsum(empty) - 1]], means)


def _squared_error(points: Array, centroids: Array, assignments: Array) -> Array:
    return jnp.sum((points - centroids[assignments]) ** 2, axis=1)
