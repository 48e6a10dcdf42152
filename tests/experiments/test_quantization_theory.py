"""Lattice searches against the nearest of all points, scalar quantizers' integrals against SciPy's quadrature."""

import itertools

import numpy as np
import pytest
from lattices import LATTICES
from scalar_quantizers import SOURCES, measured, rounded_to_integers, rounding
from scipy import integrate


def points_around(name):
    """All points of a lattice within 2 of any point of [0, 1)^dim, by its definition."""
    if name == "A2":
        pairs = np.array(list(itertools.product(range(-6, 7), repeat=2)), float)
        return pairs @ np.array([[1, 0], [0.5, np.sqrt(0.75)]])
    integers = np.array(list(itertools.product(range(-1, 3), repeat=int(name[1]))), float)
    even = integers[integers.sum(axis=1) % 2 == 0]
    return even if name == "D4" else np.concatenate([even, even - 0.5])


@pytest.mark.parametrize("name", LATTICES)
def test_the_search_finds_the_nearest_of_all_lattice_points(name):
    lattice, around = LATTICES[name], points_around(name)
    x = np.random.default_rng(0).uniform(size=(20, len(lattice.period)))
    nearest = np.array([around[np.square(around - row).sum(axis=1).argmin()] for row in x])
    np.testing.assert_allclose(lattice.nearest(x), nearest, atol=1e-12)
    # The box is a period: what is found moves along with it.
    np.testing.assert_allclose(lattice.nearest(x + lattice.period), nearest + lattice.period, atol=1e-12)
    np.testing.assert_allclose(lattice.nearest(around[:50]), around[:50], atol=1e-12)


@pytest.mark.parametrize("name", SOURCES)
def test_distortion_and_entropy_are_those_of_quadrature(name):
    source, levels = SOURCES[name], np.array([-1.7, -0.4, 0.3, 0.5, 2.2])
    ends = [-np.inf, *(levels[1:] + levels[:-1]) / 2, np.inf]

    def integral(f, low, high):
        points = [low, *([0.0] if low < 0 < high else []), high]
        return sum(integrate.quad(f, *pair, epsabs=1e-13)[0] for pair in itertools.pairwise(points))

    cells = list(zip(levels, ends, ends[1:]))
    mass = np.array([integral(source.law.pdf, low, high) for _, low, high in cells])
    error = sum(integral(lambda x, y=y: (x - y) ** 2 * source.law.pdf(x), low, high) for y, low, high in cells)
    coded = measured(source, levels, coded=True)
    assert coded.distortion == pytest.approx(error, rel=1e-10)
    assert coded.rate == pytest.approx(-mass @ np.log2(mass), rel=1e-10)
    assert measured(source, levels).rate == pytest.approx(np.log2(5), rel=1e-12)
    assert source.bound == pytest.approx(np.exp(2 * source.law.entropy()) / (2 * np.pi * np.e), rel=1e-12)


@pytest.mark.parametrize("scale", [0.2, 0.5, 1.0])
def test_rounding_to_integers_has_the_error_of_its_fourier_series(scale):
    cells = rounding(SOURCES["Gaussian"], 1 / scale).distortion * scale**2
    assert cells == pytest.approx(rounded_to_integers(scale), rel=1e-9)
