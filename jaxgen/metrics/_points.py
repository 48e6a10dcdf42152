"""Matrices of points, one row an example: what most metrics take."""

import numpy as np
from jax.typing import ArrayLike

from jaxgen._checks import require_real


def require_matrix(name: str, x: ArrayLike, *, min_rows: int = 1) -> None:
    """`x` is real, [rows, columns], with at least `min_rows` rows and one column."""
    require_real(name, x)
    shape = np.shape(x)
    if len(shape) != 2 or shape[1] < 1:
        raise ValueError(f"{name} must have shape [examples, dimensions], got {shape}; flatten each example")
    if shape[0] < min_rows:
        raise ValueError(f"{name} must hold at least {min_rows} rows, got shape {shape}; pass more examples")


def require_one_space(name_a: str, a: ArrayLike, name_b: str, b: ArrayLike, *, min_rows: int = 1) -> None:
    """Two such matrices whose points have the same dimensions."""
    require_matrix(name_a, a, min_rows=min_rows)
    require_matrix(name_b, b, min_rows=min_rows)
    if np.shape(a)[1] != np.shape(b)[1]:
        raise ValueError(
            f"{name_a} and {name_b} must have equal dimensions, got shapes {np.shape(a)} and {np.shape(b)}"
        )
