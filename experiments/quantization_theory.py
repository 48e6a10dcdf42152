"""Quantizers on one rate–distortion axis, from rounding to vector quantization, against what theory says of each.

command:   python experiments/quantization_theory.py
hardware:  two CPU cores
time:      about 2 minutes
expected:  Lloyd-Max to six digits of its table; space filling within 0.001 dB, shape 0.0005, memory 0.1; no quantizer
           below 2^(−2R)
source:    exact: Lloyd, 1982; Lookabaugh and Gray, 1989; Conway and Sloane, 1982; Shannon, 1959

The source is a unit Gaussian where nothing else is said; the other is a Laplace of unit variance. D is the squared
error a dimension, R the bits a dimension. At a high rate the best quantizer of k dimensions has (Zador, 1982)

    D = G ‖p‖ 2^(−2R),    ‖p‖ = (∫ p^(k/(k+2)))^((k+2)/k),

with G the second moment a dimension of a cell of volume one. For k = 1 that is Lloyd-Max (Panter and Dite, 1951), with
G = 1/12. What k dimensions gain over one is a product of three ratios, in dB a sum:

    space filling  (1/12) / G: cells rounder than a cube, whatever the source.
    shape          ‖p₁‖ of k = 1 over ‖p₁ ⊗ … ⊗ p₁‖ of k independent dimensions: codes in a ball and not in a cube. As k
                   grows it tends to what an entropy coder gains over a fixed rate.
    memory         ‖p₁ ⊗ … ⊗ p₁‖ over ‖p‖, both of k: dependence between dimensions; for a Gaussian |C|^(−1/k).

k-means has all three, and is measured on samples that it was not trained on. Its gain over Lloyd-Max is less than that
of a high rate: Lloyd-Max is then farther from its own limit, and k-means stops at a local optimum, in two dimensions
0.2 dB worse than hexagons.
"""

import math
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from figures import Figure, Outcome, main
from lattices import LATTICES, second_moment
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure as MatplotlibFigure
from scalar_quantizers import (
    SOURCES,
    Point,
    Source,
    decibel,
    lloyd,
    lloyd_levels,
    norm,
    rounded_to_integers,
    rounding,
    uniform,
)
from scipy.spatial import Voronoi

from jaxgen.plots import save
from jaxgen.plots._style import ACCENT, FAINT, INK, LINES, WIDTH, styled
from jaxgen.quantization import kmeans, lloyd_max_from_samples, nearest_code, optimal_scalar_quantizer

GAUSSIAN = SOURCES["Gaussian"]
#: Levels and steps of the scalar quantizers, and those of a high rate.
LEVELS, STEPS = (2, 4, 8, 16, 32), np.geomspace(0.08, 8, 80)
MANY, FINE = 4096, 1 / 256
#: Codes of the vector quantizers by dimension, the most codes, those that are drawn, and the correlation.
CODES = {2: (4, 16, 64, 256, 1024), 4: (4, 16, 64, 256), 8: (16, 64, 256)}
FINEST, DRAWN, CORRELATION = 1024, 64, 0.9


def autoregressive(dim: int, correlation: float) -> np.ndarray:
    """Covariance of a stationary AR(1) process of unit variance; the identity for no correlation."""
    return correlation ** np.abs(np.subtract.outer(np.arange(dim), np.arange(dim)))


def vector(seed: int, dim: int, num_codes: int, *, correlation: float = 0.0) -> tuple[np.ndarray, Point]:
    """k-means of a Gaussian: its codebook, and what it does to new samples."""
    covariance = autoregressive(dim, correlation)
    rng, root = np.random.default_rng(seed), np.linalg.cholesky(covariance)
    sizes = max(2**15, 64 * num_codes), 2**17
    train, test = ((rng.normal(size=(size, dim)) @ root.T).astype(np.float32) for size in sizes)
    codebook = np.asarray(kmeans(jax.random.key(seed), train, num_codes, max_iterations=100).centroids)
    error = test - codebook[np.asarray(nearest_code(test, codebook))]
    bound = float(np.linalg.det(covariance)) ** (1 / dim)
    return codebook, Point(math.log2(num_codes) / dim, float(np.square(error).mean(dtype=np.float64)), bound)


def clusters(rng: np.random.Generator, num_samples: int) -> np.ndarray:
    """One wide cluster, and two narrow ones beside each other."""
    quarter = num_samples // 4
    parts = (0.0, 1.0, 2 * quarter), (10.0, 0.05, quarter), (12.0, 0.05, quarter)
    return np.concatenate([rng.normal(mean, scale, size) for mean, scale, size in parts])


class Measured(NamedTuple):
    """Vector quantizers of one seed.

    Attributes:
      points: of independent dimensions, by (dim, codes).
      correlated: of a correlated pair, the most codes.
      drawn: codebooks of pairs and their points, by the correlation.
    """

    points: dict[tuple[int, int], Point]
    correlated: Point
    drawn: dict[float, tuple[np.ndarray, Point]]


def measure(seed: int) -> Measured:
    found = {(dim, num_codes): vector(seed, dim, num_codes) for dim, counts in CODES.items() for num_codes in counts}
    pair, correlated = (vector(seed, 2, num_codes, correlation=CORRELATION) for num_codes in (DRAWN, FINEST))
    points = {key: point for key, (_, point) in found.items()}
    return Measured(points, correlated[1], {0.0: found[2, DRAWN], CORRELATION: pair})


def scalar_figures() -> list[Figure]:
    rows = []
    for name, source in SOURCES.items():
        for num_levels, known in source.lloyd_max.items():
            half_unit = 0.5 * 10.0 ** (math.floor(math.log10(known)) - 5)
            ours = lloyd(source, num_levels).distortion
            label = f"{name}, Lloyd-Max, {num_levels} levels: D"
            rows.append(Figure(label, [ours], "", known, "exact: Lloyd-Max", half_unit))
    ours, known = rounding(GAUSSIAN, 2.0).distortion / 4, rounded_to_integers(0.5)
    rows.append(Figure("N(0, ½²) rounded to integers: D", [ours], "", known, "exact: Fourier series", 1e-12))
    fixed, coded = lloyd(GAUSSIAN, MANY), rounding(GAUSSIAN, FINE)
    for name, point, limit, source in (
        (f"Lloyd-Max, {MANY} levels", fixed, math.pi * math.sqrt(3) / 2, "exact: Panter and Dite"),
        ("rounding and an entropy coder", coded, math.pi * math.e / 6, "exact: πe/6"),
    ):
        rows.append(Figure(f"{name}: above the bound", [point.above], "dB", decibel(limit), source, 5e-3))
    return rows


def shape_figures() -> list[Figure]:
    rows, gaps = [], []
    for name, source in SOURCES.items():
        for dim, known in source.shape_table.items():
            ours = decibel(norm(source, 1) / norm(source, dim))
            gaps.append(abs(ours - decibel(source.shape_gain(dim))))
            label = f"shape gain, {name}, dimension {'∞' if dim == math.inf else dim}"
            rows.append(Figure(f"{label}: quadrature", [ours], "dB", known, "Lookabaugh and Gray, 1989", 5e-4))
        ours = lloyd(source, MANY).above - rounding(source, FINE).above
        known = decibel(source.shape_gain(math.inf))
        rows.append(Figure(f"{label}: quantizers", [ours], "dB", known, "exact: an entropy coder's gain", 5e-3))
    rows.append(Figure("shape gain: quadrature from closed form, most", [max(gaps)], "dB", 0.0, "exact", 1e-8))
    return rows


def sample_figures(*, seeds: int) -> list[Figure]:
    """Lloyd's iteration on samples beside the dynamic program."""
    alike, stuck, optimal = [], [], []
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        local, best = both(rng.normal(size=100_000), 8)
        alike.append(local / best - 1)
        local, best = both(clusters(rng, 40_000), 3)
        stuck.append(local)
        optimal.append(best)
    # Two levels in the wide cluster and one between the narrow ones, or a level for each.
    trapped, free = 0.5 * (1 - 2 / math.pi) + 0.5 * (1 + 0.05**2), 0.5 + 0.5 * 0.05**2
    name, exact = "three clusters, 3 levels", "exact: the levels'"
    return [
        Figure("Gaussian samples, 8 levels: Lloyd over optimum − 1", alike, "", 0.0, "log-concave", 1e-4, "below"),
        Figure(f"{name}: D where Lloyd stays", stuck, "", trapped, exact, 0.02 * trapped),
        Figure(f"{name}: D of the dynamic program", optimal, "", free, exact, 0.02 * free),
    ]


def both(samples: np.ndarray, num_levels: int) -> tuple[float, float]:
    """Distortion of Lloyd's local optimum and of the global one."""
    local, best = (fit(samples, num_levels) for fit in (lloyd_max_from_samples, optimal_scalar_quantizer))
    return float(local.distortion), float(best.distortion)


def lattice_figures(*, seeds: int) -> list[Figure]:
    rows = []
    for name, lattice in LATTICES.items():
        found = [second_moment(lattice, np.random.default_rng(seed), num_points=2**19) for seed in range(seeds)]
        ours = [decibel(1 / 12 / moment) for moment in found]
        known = decibel(1 / 12 / lattice.second_moment)
        rows.append(Figure(f"space filling, {name}", ours, "dB", known, "exact: Conway and Sloane, 1982", 1e-3))
    return rows


def vector_figures(several: list[Measured]) -> list[Figure]:
    memory = [decibel(m.points[2, FINEST].distortion / m.correlated.distortion) for m in several]
    known = -decibel(1 - CORRELATION**2) / 2
    rows = [Figure(f"memory, a pair with ρ = {CORRELATION:g}", memory, "dB", known, "exact: |C|^(−1/2)", 0.1)]
    for dim, lattice in ((2, "A2"), (4, "D4")):
        scalar = lloyd(GAUSSIAN, round(256 ** (1 / dim)))
        ours = [scalar.above - measured.points[dim, 256].above for measured in several]
        limit = decibel(1 / 12 / LATTICES[lattice].second_moment * GAUSSIAN.shape_gain(dim))
        label = f"{dim} dimensions, 256 codes: k-means over Lloyd-Max"
        rows.append(Figure(label, ours, "dB", limit, "limit of high rate, for comparison", better="above"))
    return rows


def scalar_points(source: Source) -> list[Point]:
    """Every scalar quantizer that is drawn, of either source."""
    fixed = [of(source, num_levels) for of in (uniform, lloyd) for num_levels in LEVELS]
    return fixed + [rounding(source, step) for step in STEPS]


@styled()
def ladder(several: list[Measured]) -> MatplotlibFigure:
    """D over R above; below, how far each lies above the bound, with the limits of a high rate at the right."""
    figure = MatplotlibFigure(figsize=(WIDTH, 1.5 * WIDTH), layout="constrained")
    panels = figure.subplots(2, 1, sharex=True, height_ratios=(1, 1.4))
    limit = math.pi * math.sqrt(3) / 2
    rungs: list[tuple[str, list[list[Point]], float | None]] = [
        ("rounding to N levels", [[uniform(GAUSSIAN, n)] for n in LEVELS], None),
        ("Lloyd-Max", [[lloyd(GAUSSIAN, n)] for n in LEVELS], limit),
    ]
    for dim, name in ((2, "A2"), (4, "D4"), (8, "E8")):
        best = limit * 12 * LATTICES[name].second_moment / GAUSSIAN.shape_gain(dim)
        points = [[measured.points[dim, num_codes] for measured in several] for num_codes in CODES[dim]]
        rungs.append((f"k-means, {dim} dimensions", points, best))
    rungs.append(("rounding, entropy coded", [[rounding(GAUSSIAN, step)] for step in STEPS], math.pi * math.e / 6))
    for (name, points, high), color in zip(rungs, (*LINES[:3], LINES[4], INK, LINES[5])):
        rate = [same[0].rate for same in points]
        look = {"color": color, "label": name, "linewidth": 1.3}
        look |= {} if len(points) > 10 else {"marker": "o", "markersize": 4}
        panels[0].semilogy(rate, [np.mean([p.distortion for p in same]) for same in points], **look)
        panels[1].plot(rate, [np.mean([p.above for p in same]) for same in points], **look)
        if high is not None:
            panels[1].plot([5.15, 5.4], 2 * [decibel(high)], color=color, linewidth=3, solid_capstyle="butt")
    rate = np.array([0.0, 5.4])
    panels[0].semilogy(rate, 4.0**-rate, color=FAINT, label="the bound, 2^(−2R)")
    panels[1].axhline(0, color=FAINT)
    panels[1].annotate(
        "the bound: below lies no quantizer", (5.05, 0), (0, 4), ha="right", textcoords="offset points", size=9
    )
    panels[0].set(ylabel="squared error D", ylim=(5e-4, 1.2))
    panels[1].set(xlabel="rate R, bits a dimension", ylabel="above the bound, dB", xlim=(0, 5.4), ylim=(-0.2, 5.8))
    panels[0].legend()
    for axes in panels:
        axes.grid(True)
    return figure


@styled()
def cells(drawn: dict[float, tuple[np.ndarray, Point]]) -> MatplotlibFigure:
    """Cells of pairs of Lloyd-Max levels above, of k-means below; independent left, correlated right."""
    figure = MatplotlibFigure(figsize=(WIDTH, 1.08 * WIDTH), layout="constrained")
    num_levels = math.isqrt(DRAWN)
    pairs = np.stack(np.meshgrid(*2 * [lloyd_levels(GAUSSIAN, num_levels)]), axis=-1).reshape(-1, 2)
    alone = pairs, lloyd(GAUSSIAN, num_levels)
    for column, (correlation, together) in zip(figure.subplots(2, 2, sharex=True, sharey=True).T, drawn.items()):
        samples = np.random.default_rng(0).multivariate_normal(np.zeros(2), autoregressive(2, correlation), 1000)
        source = f"ρ = {correlation:g}" if correlation else "independent"
        for axes, (codes, point), name in zip(column, (alone, together), ("Lloyd-Max", "k-means")):
            draw_cells(axes, codes, samples)
            axes.set_title(f"{name}, {source}: D = {point.distortion:.4f}", size=9.5)
    return figure


def draw_cells(axes: Axes, codes: np.ndarray, samples: np.ndarray) -> None:
    # Four far points close the outer cells.
    diagram = Voronoi(np.concatenate([codes, 100.0 * np.array([[1, 0], [-1, 0], [0, 1], [0, -1]])]))
    edges = [diagram.vertices[ends] for ends in diagram.ridge_vertices if -1 not in ends]
    axes.scatter(*samples.T, s=2, color=FAINT, alpha=0.4, linewidths=0)
    axes.add_collection(LineCollection(edges, colors=ACCENT, linewidths=0.8))
    axes.scatter(*codes.T, s=6, color=INK, linewidths=0)
    axes.set(xlim=(-3.4, 3.4), ylim=(-3.4, 3.4), aspect="equal")


def run(*, seeds: int = 3, workdir: Path) -> Outcome:
    several = [measure(seed) for seed in range(seeds)]
    points = [point for measured in several for point in (*measured.points.values(), measured.correlated)]
    points += [point for source in SOURCES.values() for point in scalar_points(source)]
    least = min(point.above for point in points)
    rows = scalar_figures() + sample_figures(seeds=seeds)
    rows += lattice_figures(seeds=seeds) + shape_figures() + vector_figures(several)
    name = f"{len(points)} quantizers: least above the bound"
    rows.append(Figure(name, [least], "dB", 0.0, "exact: Shannon", 0.0, "above"))
    caption = (
        "A unit Gaussian: squared error and rate of each rung, and how far it is above the bound; the means of "
        f"{seeds} seeds for k-means, on samples that it was not trained on. Strokes at the right: the limits of a "
        "high rate, for k-means those of the lattices A2, D4 and E8."
    )
    shots = {"ladder": (caption, save(ladder(several), workdir / "ladder.png"))}
    caption = (
        "64 codes for two dimensions, three bits each, and their cells. Levels for each dimension alone waste codes on "
        f"the corners, and most codes where the two are correlated, ρ = {CORRELATION:g}; k-means puts them where the "
        "samples are."
    )
    shots["cells"] = (caption, save(cells(several[0].drawn), workdir / "cells.png"))
    return Outcome(rows, shots)


if __name__ == "__main__":
    main(run)
