"""The kernel distance between two sets of features."""

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Float

from jaxgen._checks import as_widened
from jaxgen.metrics._distances import dot, map_rows
from jaxgen.metrics._points import require_one_space


def kernel_distance(x: Float[ArrayLike, "*shape_x"], y: Float[ArrayLike, "*shape_y"]) -> Float[Array, ""]:
    r"""Unbiased squared maximum mean discrepancy under a cubic kernel; on Inception features, KID.

    .. math::
        &\frac{1}{n(n-1)} \sum_{i \ne j} k(x_i, x_j) + \frac{1}{m(m-1)} \sum_{i \ne j} k(y_i, y_j)
        - \frac{2}{nm} \sum_{i,j} k(x_i, y_j), \\
        &k(x, y) = (x^\top y / d + 1)^3

    Its mean is 0, the best, where the two distributions share their first three moments; a single value may
    be negative. Unlike the Fréchet distance its mean does not depend on the number of examples.

    Args:
      x: [n, d], features of one set.
      y: [m, d], features of the other.

    Returns:
      A scalar. Float32 features are summed in float32, good to about 1e-6 of the kernel's size.

    Raises:
      ValueError: if an argument is not a matrix of two rows or more, or the dimensions differ.

    Reference:
      Bińkowski, Sutherland, Arbel, Gretton, Demystifying MMD GANs, 2018; there averaged over subsets.

    Example:
      >>> import jax.numpy as jnp
      >>> kernel_distance(jnp.array([[0.0], [1.0]]), jnp.array([[0.0], [2.0]])).item()
      -13.0
    """
    require_one_space("x", x, "y", y, min_rows=2)
    x, y = as_widened("x", x), as_widened("y", y)
    return _mean_of_pairs(x) + _mean_of_pairs(y) - 2 * jnp.mean(_row_sums(x, y)) / y.shape[0]


@jax.jit
def _row_sums(rows: Array, columns: Array) -> Array:
    """Σⱼ k(xᵢ, yⱼ) for each i."""
    return map_rows(lambda row: jnp.sum((dot(columns, row) / columns.shape[1] + 1) ** 3), rows)


@jax.jit
def _mean_of_pairs(points: Array) -> Array:
    """Mean of k over ordered pairs of different points: the unbiased estimate leaves the diagonal out."""
    num_points, num_dims = points.shape

    def row_sum(index: Array, row: Array) -> Array:
        kernel = (dot(points, row) / num_dims + 1) ** 3
        return jnp.sum(jnp.where(jnp.arange(num_points) == index, 0, kernel))

    return jnp.mean(map_rows(row_sum, jnp.arange(num_points), points)) / (num_points - 1)
