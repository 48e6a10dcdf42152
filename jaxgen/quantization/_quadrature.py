"""Moments of a density over arbitrary intervals, by adaptive Gauss–Legendre quadrature in float64."""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np
from jax.typing import ArrayLike

from jaxgen._checks import require

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(20)
_MAX_DEPTH = 60


class Moments(NamedTuple):
    """Integrals of p, (x−c)·p and (x−c)²·p from the support's lower end to each panel's edge."""

    density: Callable[[np.ndarray], np.ndarray]
    center: float
    edges: np.ndarray
    cumulative: np.ndarray

    def below(self, points: np.ndarray) -> np.ndarray:
        """The three integrals up to each point: [3, points]."""
        panel = np.clip(np.searchsorted(self.edges, points, side="right") - 1, 0, len(self.edges) - 2)
        partial = _panel_moments(self.density, self.edges[panel], points, self.center)
        return self.cumulative[:, panel] + partial


def moments_of(density: Callable[..., ArrayLike], support: tuple[float | int, float | int]) -> Moments:
    """Panels fine enough that each one's moments are exact to float64, kinks and jumps included."""
    require(len(support) == 2, f"support must be (low, high), got {support}")
    evaluate = _checked(density)
    low, high = _panels_to_start(float(support[0]), float(support[1]))
    lows, parts = _refine(evaluate, low, high)
    mass, first = parts[0].sum(), parts[1].sum()
    require(
        bool(abs(mass - 1) <= 1e-6),
        f"density must integrate to 1 over support {tuple(support)}, but integrates to {mass:.8g}: "
        "normalize it, or give a finite support around its mass",
    )
    second, ends = parts[2].sum(), parts[2][[0, -1]]
    require(
        bool(np.isfinite(second) and np.all(ends <= 1e-9 * second)) or bool(np.all(np.isfinite(support))),
        "density has no finite second moment over its support: give a finite support",
    )
    center, edges = float(first / mass), np.append(lows, high[-1])
    parts = _panel_moments(evaluate, edges[:-1], edges[1:], center)
    # Far panels that hold nothing but rounding would let a level stray there.
    heavy = np.flatnonzero(np.any(np.abs(parts) > 1e-17 * np.abs(parts).sum(axis=1, keepdims=True), axis=0))
    edges, parts = edges[heavy[0] : heavy[-1] + 2], parts[:, heavy[0] : heavy[-1] + 1]
    cumulative = np.concatenate([np.zeros((3, 1)), np.cumsum(parts, axis=1)], axis=1)
    return Moments(evaluate, center, edges, cumulative)


def _checked(density: Callable[..., ArrayLike]) -> Callable[[np.ndarray], np.ndarray]:
    def evaluate(x: np.ndarray) -> np.ndarray:
        with jax.enable_x64(True), np.errstate(all="ignore"):
            values = np.asarray(density(x), np.float64)
        require(values.shape == x.shape, f"density must keep the shape {x.shape}, but returned {values.shape}")
        bad = ~(np.isfinite(values) & (values >= 0))
        if np.any(bad):
            at = np.argmax(bad)
            raise ValueError(f"density must be finite and not negative, got {values.flat[at]} at {x.flat[at]:.8g}")
        return values

    return evaluate


def _panels_to_start(low: float, high: float) -> tuple[np.ndarray, np.ndarray]:
    """Equal panels on a finite support; towards an infinite end they double, so that any scale is met."""
    require(low < high, f"support must be (low, high) with low < high, got {(low, high)}")
    if math.isfinite(low) and math.isfinite(high):
        edges = np.linspace(low, high, 129)
    else:
        octaves = 2.0 ** np.arange(-40, 100)[:, None] * (1 + np.arange(8) / 8)
        away = np.concatenate([[0.0], octaves.ravel()])
        start = low if math.isfinite(low) else high if math.isfinite(high) else 0.0
        above = start + away if math.isinf(high) else np.array([start])
        below = start - away if math.isinf(low) else np.array([start])
        edges = np.unique(np.concatenate([below, above]))
    return edges[:-1], edges[1:]


def _panel_moments(
    evaluate: Callable[[np.ndarray], np.ndarray], low: np.ndarray, high: np.ndarray, center: float
) -> np.ndarray:
    """[3, panels] Gauss–Legendre integrals of p, (x−c)p and (x−c)²p."""
    half = (high - low)[:, None] / 2
    x = (low + high)[:, None] / 2 + half * _NODES
    p = evaluate(x) * half * _WEIGHTS
    return np.stack([p.sum(1), ((x - center) * p).sum(1), ((x - center) ** 2 * p).sum(1)])


def _refine(
    evaluate: Callable[[np.ndarray], np.ndarray], low: np.ndarray, high: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Halve every panel whose moments differ from its halves'; lower edges in order, and the moments."""
    done_low, done_parts = [], []
    parts = _panel_moments(evaluate, low, high, 0.0)
    scale = np.maximum(np.abs(parts).sum(axis=1, keepdims=True), 1e-300)
    for depth in range(_MAX_DEPTH):
        middle = (low + high) / 2
        left = _panel_moments(evaluate, low, middle, 0.0)
        right = _panel_moments(evaluate, middle, high, 0.0)
        error = np.abs(left + right - parts)
        scale = np.maximum(scale, np.abs(left + right).sum(axis=1, keepdims=True))
        split = np.any(error > 1e-14 * scale, axis=0) & (depth < _MAX_DEPTH - 1)
        done_low.append(low[~split])
        done_parts.append(parts[:, ~split])
        if not split.any():
            break
        low, high = (
            np.concatenate([low[split], middle[split]]),
            np.concatenate([middle[split], high[split]]),
        )
        parts = np.concatenate([left[:, split], right[:, split]], axis=1)
    lows, all_parts = np.concatenate(done_low), np.concatenate(done_parts, axis=1)
    order = np.argsort(lows)
    return lows[order], all_parts[:, order]
