"""Which codes may stand at a place, where those of several codebooks are numbered through."""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int, Real


def first_codes(
    size: int, *, grids: Sequence[tuple[int, int]], stages: int, shape: tuple[int, ...]
) -> Int[np.ndarray, "..."]:
    """Number of the first code of each place's own codebook.

    Args:
      size: codes of all codebooks together, as many of each.
      grids: height and width of the grids that the codes of one example fill row by row, coarse first, each of
        codebooks of its own.
      stages: codes of one place, side by side, each of a codebook of its own.
      shape: of one example's codes.

    >>> first_codes(12, grids=((1, 4), (1, 2)), stages=2, shape=(6,)).tolist()
    [0, 3, 0, 3, 6, 9]
    """
    place = np.arange(math.prod(shape))
    level = np.searchsorted(np.cumsum([math.prod(grid) for grid in grids])[:-1], place, side="right")
    book = level * stages + place % stages
    return np.asarray(_own(size, grids, stages) * book, np.int32).reshape(shape)


def misplaced(
    codes: Real[np.ndarray, "examples ..."], size: int, *, grids: Sequence[tuple[int, int]], stages: int
) -> str | None:
    """The first code that is none of its place's own codebook, in words; ``None`` where there is none.

    Args:
      codes: whole numbers.
      size: as of ``first_codes``, as are the others.

    >>> misplaced(np.array([[0, 3], [4, 2]]), 6, grids=(), stages=2)
    'code 4 at [0] of an example, where codes lie in 0 … 2'
    """
    first, own = first_codes(size, grids=grids, stages=stages, shape=codes.shape[1:]), _own(size, grids, stages)
    wrong = (codes < first) | (codes >= first + own)
    if not wrong.any():
        return None
    example, *place = np.argwhere(wrong)[0].tolist()
    low, where = int(first[tuple(place)]), f" at {place} of an example" if place else ""
    return f"code {int(codes[(example, *place)])}{where}, where codes lie in {low} … {low + own - 1}"


def _own(size: int, grids: Sequence[tuple[int, int]], stages: int) -> int:
    """Codes of each codebook."""
    return size // (max(1, len(grids)) * stages)
