"""Lattices with rounder cells than the cube's: the nearest point of each, and the error that its cell makes.

Conway and Sloane, Fast quantizing and decoding algorithms for lattice quantizers and codes, 1982; Voronoi regions of
lattices, second moments of polytopes, and quantization, 1982.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np


class Lattice(NamedTuple):
    """A lattice, known by its search.

    Attributes:
      nearest: [..., dim] -> the nearest lattice point of each.
      period: [dim], sides of a box whose translates by lattice points fill space.
      volume: of a cell.
      second_moment: exact, of the cell and a dimension, scaled to volume one.
    """

    nearest: Callable[[np.ndarray], np.ndarray]
    period: np.ndarray
    volume: float
    second_moment: float


def nearest_even(x: np.ndarray) -> np.ndarray:
    """D_k, integers of an even sum: where rounding gives an odd one, the coordinate farthest from its integer goes the
    other way."""
    rounded = np.rint(x)
    off = x - rounded
    worst = np.abs(off).argmax(axis=-1)[..., None]
    other = np.where(np.take_along_axis(off, worst, axis=-1) < 0, -1.0, 1.0)
    flipped = rounded.copy()
    np.put_along_axis(flipped, worst, np.take_along_axis(rounded, worst, axis=-1) + other, axis=-1)
    odd = rounded.sum(axis=-1, keepdims=True) % 2 == 1
    return np.where(odd, flipped, rounded)


def nearest_of_two(x: np.ndarray, search: Callable[[np.ndarray], np.ndarray], shift: np.ndarray | float) -> np.ndarray:
    """The nearer of the nearest points of a lattice and of its shifted copy."""
    one, other = search(x), search(x - shift) + shift
    closer = np.square(x - one).sum(axis=-1) <= np.square(x - other).sum(axis=-1)
    return np.where(closer[..., None], one, other)


def nearest_hexagonal(x: np.ndarray) -> np.ndarray:
    """A2, as two copies of a lattice of rectangles."""
    sides = np.array([1.0, math.sqrt(3)])
    return nearest_of_two(x, lambda y: np.rint(y / sides) * sides, sides / 2)


def nearest_e8(x: np.ndarray) -> np.ndarray:
    """E8, as D8 and D8 + (½, …, ½)."""
    return nearest_of_two(x, nearest_even, 0.5)


LATTICES = {
    "A2": Lattice(nearest_hexagonal, np.array([1.0, math.sqrt(3)]), math.sqrt(3) / 2, 5 / (36 * math.sqrt(3))),
    "D4": Lattice(nearest_even, np.full(4, 2.0), 2.0, 13 / (120 * math.sqrt(2))),
    "E8": Lattice(nearest_e8, np.full(8, 2.0), 1.0, 929 / 12960),
}


def second_moment(lattice: Lattice, rng: np.random.Generator, *, num_points: int) -> float:
    """Mean squared distance to the nearest lattice point, for a dimension and a cell of volume one.

    A point that is uniform in the box is, about its nearest lattice point, uniform in the cell. The points are
    Kronecker's sequence from a random start, which fills the box more evenly than draws do.
    """
    dim = len(lattice.period)
    # The root above 1 of x^(dim + 1) = x + 1, whose powers are far from rational: the golden ratio for one dimension.
    root = max(np.roots([1, *[0] * (dim - 1), -1, -1]).real)
    steps = np.outer(np.arange(num_points), root ** -np.arange(1.0, dim + 1))
    points = (rng.uniform(size=dim) + steps) % 1 * lattice.period
    squared = np.square(points - lattice.nearest(points)).mean()
    return float(squared / lattice.volume ** (2 / dim))
