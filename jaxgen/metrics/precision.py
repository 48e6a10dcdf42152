"""Precision and recall of generated features."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Float

from jaxgen._checks import as_widened, require_count, require_finite
from jaxgen.metrics._distances import map_rows, squared_distances
from jaxgen.metrics._points import require_one_space


class PrecisionRecall(NamedTuple):
    """Share of generated points among the real ones, and of real points among the generated ones."""

    precision: Float[Array, ""]
    recall: Float[Array, ""]


def precision_recall(
    real: Float[ArrayLike, "*shape_real"], fake: Float[ArrayLike, "*shape_fake"], *, k: int = 3
) -> PrecisionRecall:
    r"""Fidelity and diversity of generated features, by their nearest neighbours.

    .. math::
        \text{precision} &= \frac1M \sum_{f} \mathbb 1\left[f \in \bigcup_r B(r, \rho_k(r))\right], \\
        \text{recall} &= \frac1N \sum_{r} \mathbb 1\left[r \in \bigcup_f B(f, \rho_k(f))\right]

    ρₖ is the distance of a point to its k-th nearest neighbour within its own set, and B a closed ball. Both
    lie in [0, 1] and 1 is best. They depend on the numbers of points, the features and k: report all three.

    Args:
      real: [N, dims], features of real data.
      fake: [M, dims], features of generated data.
      k: the neighbour that sets the radius, at least 1 and less than N and M.

    Returns:
      `PrecisionRecall(precision, recall)`.

    Raises:
      ValueError: if an argument is not a matrix or not finite, the dimensions differ, or `k` is out of range.

    Reference:
      Kynkäänniemi, Karras, Laine, Lehtinen, Aila, Improved precision and recall metric for assessing
      generative models, 2019.

    Example:
      >>> import jax.numpy as jnp
      >>> real, fake = jnp.array([[0.0], [1.0], [2.0], [3.0]]), jnp.array([[0.0], [0.4], [4.5], [5.0]])
      >>> [share.item() for share in precision_recall(real, fake, k=1)]
      [0.5, 0.25]
    """
    require_one_space("real", real, "fake", fake)
    require_finite("real", real)
    require_finite("fake", fake)
    fewest = min(np.shape(real)[0], np.shape(fake)[0])
    k = require_count("k", k, least=0)
    if not 1 <= k < fewest:
        raise ValueError(f"k must be at least 1 and less than the number of points ({fewest}), got {k}")
    real, fake = as_widened("real", real), as_widened("fake", fake)
    center = jnp.mean(real, axis=0)
    real, fake = real - center, fake - center
    return PrecisionRecall(_share_inside(fake, real, k), _share_inside(real, fake, k))


@partial(jax.jit, static_argnames="k")
def _share_inside(points: Array, support: Array, k: int) -> Array:
    """Share of points inside at least one ball of the support."""
    squared_radii = _squared_radii(support, k)
    inside = map_rows(lambda row: jnp.any(squared_distances(support, row) <= squared_radii), points)
    return jnp.mean(inside.astype(points.dtype))


def _squared_radii(points: Array, k: int) -> Array:
    """Squared distance of each point to its k-th nearest other point."""
    num_points = points.shape[0]

    def squared_radius(index: Array, row: Array) -> Array:
        others = jnp.where(jnp.arange(num_points) == index, jnp.inf, squared_distances(points, row))
        return _kth_smallest(others, k)

    return map_rows(squared_radius, jnp.arange(num_points), points)


def _kth_smallest(values: Array, k: int) -> Array:
    """The k-th of the sorted values in k passes of minima: XLA's top_k on CPU takes ten times as long."""

    def next_value(_: ArrayLike, reached: tuple[Array, Array]) -> tuple[Array, Array]:
        value, rank = reached
        larger = jnp.min(jnp.where(values > value, values, jnp.inf))
        larger_rank = rank + jnp.sum(values == larger)
        done = rank >= k
        return jnp.where(done, value, larger), jnp.where(done, rank, larger_rank)

    start = jnp.full((), -jnp.inf, values.dtype), jnp.zeros((), int)
    return jax.lax.fori_loop(0, k, next_value, start)[0]
