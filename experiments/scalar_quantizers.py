"""Scalar quantizers of a Gaussian and a Laplace source, measured by integrals in closed form."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from scipy import integrate, optimize, special, stats

from jaxgen.quantization import lloyd_max

#: Stands for infinity, where a density and its product with any power are exactly 0.
FAR = 1e3
LINE = (-math.inf, math.inf)


class Source(NamedTuple):
    """A density of zero mean and unit variance.

    Attributes:
      law: its density.
      below: integrals of p, x p and x² p from −∞ to each point, [3, ...].
      entropy: differential, in nats, closed form.
      shape_gain: closed form, by dimension.
      lloyd_max: distortion of Lloyd-Max's quantizer by the number of levels, six digits.
      shape_table: shape gain in dB by dimension, three decimals.
    """

    law: Any
    below: Callable[[np.ndarray], np.ndarray]
    entropy: float
    shape_gain: Callable[[float], float]
    lloyd_max: dict[int, float]
    shape_table: dict[float, float]

    @property
    def bound(self) -> float:
        """D 2^(2R) that no quantizer goes below: Shannon's lower bound, which a Gaussian has at every rate."""
        return math.exp(2 * self.entropy) / (2 * math.pi * math.e)


def gaussian_below(x: np.ndarray) -> np.ndarray:
    p, mass = stats.norm.pdf(x), stats.norm.cdf(x)
    return np.stack([mass, -p, mass - x * p])


def laplace_below(x: np.ndarray) -> np.ndarray:
    b, away = math.sqrt(0.5), np.abs(x)
    tail = 0.5 * np.exp(-away / b)
    parts = np.stack([tail, -tail * (away + b), tail * (away**2 + 2 * b * away + 2 * b**2)])
    # To the right of 0 the tail is what is missing; the first moment is the same on either side.
    return np.where(x <= 0, parts, np.array([1.0, 0.0, 1.0]).reshape(3, *[1] * x.ndim) - parts * [[1], [-1], [1]])


SOURCES = {
    "Gaussian": Source(
        law=stats.norm(),
        below=gaussian_below,
        entropy=0.5 * math.log(2 * math.pi * math.e),
        shape_gain=lambda k: 3**1.5 / (math.e if k == math.inf else (1 + 2 / k) ** (k / 2 + 1)),
        lloyd_max={2: 0.363380, 4: 0.117482, 8: 0.0345478, 16: 0.00950101},
        shape_table={2: 1.136, 4: 1.874, 8: 2.311, math.inf: 2.814},
    ),
    "Laplace": Source(
        law=stats.laplace(scale=math.sqrt(0.5)),
        below=laplace_below,
        entropy=1 + 0.5 * math.log(2),
        shape_gain=lambda k: 27 / (math.e**2 if k == math.inf else (1 + 2 / k) ** (k + 2)),
        lloyd_max={2: 0.500000, 4: 0.176195, 8: 0.0544760, 16: 0.0153725},
        shape_table={2: 2.272, 4: 3.748, 8: 4.623, math.inf: 5.628},
    ),
}
GAUSSIAN = SOURCES["Gaussian"]


class Point(NamedTuple):
    """Bits and squared error a dimension, and Shannon's bound on D 2^(2R)."""

    rate: float
    distortion: float
    bound: float

    @property
    def above(self) -> float:
        """dB above the bound at this rate."""
        return decibel(self.distortion * 4**self.rate / self.bound)


def decibel(ratio: float) -> float:
    return 10 * math.log10(ratio)


def measured(source: Source, levels: np.ndarray, *, coded: bool = False) -> Point:
    """Of the nearest of the levels: rate log N, or the indices' entropy where they are coded."""
    edges = np.concatenate([[-FAR], (levels[1:] + levels[:-1]) / 2, [FAR]])
    mass, first, second = np.diff(source.below(edges), axis=1)
    distortion = np.sum(second - 2 * levels * first + levels**2 * mass)
    held = mass[mass > 0]
    rate = -float(held @ np.log2(held)) if coded else math.log2(len(levels))
    return Point(rate, float(distortion), source.bound)


def rounding(source: Source, step: float) -> Point:
    """To the nearest multiple of a step, and an entropy coder."""
    reach = math.ceil(30 / step)
    return measured(source, step * np.arange(-reach, reach + 1), coded=True)


def uniform(source: Source, num_levels: int) -> Point:
    """N levels of one distance, the best one."""
    places = np.arange(num_levels) - (num_levels - 1) / 2
    best = optimize.minimize_scalar(
        lambda step: measured(source, step * places).distortion, bounds=(0.5 / num_levels, 4), method="bounded"
    )
    return measured(source, best.x * places)


def lloyd_levels(source: Source, num_levels: int) -> np.ndarray:
    with jax.enable_x64(True):
        return np.asarray(lloyd_max(source.law.pdf, num_levels, support=LINE).levels)


def lloyd(source: Source, num_levels: int) -> Point:
    return measured(source, lloyd_levels(source, num_levels))


def rounded_to_integers(scale: float) -> float:
    """Squared error of a Gaussian rounded to integers, by the Fourier series of the error's square."""
    k = np.arange(1, 50)
    return 1 / 12 + float(np.sum((-1.0) ** k * np.exp(-2 * (np.pi * k * scale) ** 2) / (np.pi * k) ** 2))


def norm(source: Source, dim: float) -> float:
    """‖p₁ ⊗ … ⊗ p₁‖ of so many independent dimensions, by quadrature."""

    def integral(of: Callable[[float], float]) -> float:
        return 2 * integrate.quad(of, 0, math.inf, epsabs=0, epsrel=1e-11)[0]

    if dim == math.inf:
        return math.exp(2 * integral(lambda x: float(special.entr(source.law.pdf(x)))))
    return integral(lambda x: source.law.pdf(x) ** (dim / (dim + 2))) ** (dim + 2)
