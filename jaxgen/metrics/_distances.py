"""Rows of pairwise matrices, a chunk at a time: a metric over 10⁴ × 10⁴ pairs never holds them all."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

CHUNK = 256


def map_rows(row_fn: Callable[..., Array], *rows: Array) -> Array:
    """`vmap(row_fn)` over the leading axis, computed and differentiated in chunks."""
    return jax.lax.map(lambda row: jax.checkpoint(row_fn)(*row), rows, batch_size=CHUNK)


def dot(columns: Array, row: Array) -> Array:
    """Inner products in full float32: tf32 or bfloat16 would round distances to three digits."""
    return jnp.matmul(columns, row, precision=jax.lax.Precision.HIGHEST)


def squared_distances(columns: Array, row: Array) -> Array:
    """‖columns[j] − row‖² for every j; subtract a common center first, so that no digits are lost."""
    if row.size <= 4:  # Differences cost no more than a matrix product here, and are exact.
        return jnp.sum(jnp.square(columns - row), axis=-1)
    squares = jnp.sum(jnp.square(columns), axis=-1) + jnp.sum(jnp.square(row)) - 2 * dot(columns, row)
    return jnp.maximum(squares, 0)
