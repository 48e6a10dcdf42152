"""Every rung of quantization on one axis, on digits: bits a pixel against the squared error that is left.

command:   python experiments/ladder.py
hardware:  two CPU cores
time:      about 5 minutes
expected:  at equal bits a pixel, 1 and 2, Lloyd-Max below rounding and k-means of 2×2 patches below Lloyd-Max; at 1.5
           bits a VQ-VAE below k-means; a learned prior takes bits from its codes
source:    own gates

A rung is a way to say an image of 8×8 pixels in [0, 1] in whole numbers; its rate is what these take with codes of one
length, and with a learned prior −log₂ p(codes). Rounding and Lloyd-Max say each pixel by itself, k-means and the
Gaussian mixture each patch of 2×2, a shallow vector quantizer the image as one of a few, a VQ-VAE a grid of places
whose encodings have seen their surroundings, and VQ-VAE-2 two grids. All are fitted to the 1500 training digits and
measured on the 297 test digits.

A mixture is no quantizer of least error: a component's covariance decides with its mean which points are its own, and
the point is decoded to the mean all the same. Priors overfit 1500 digits: the last of 400 updates is not their best.
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from figures import Figure, Outcome, evaluated, main
from matplotlib.figure import Figure as MatplotlibFigure

from jaxgen import runs
from jaxgen.apply import encode
from jaxgen.data import load
from jaxgen.plots import save
from jaxgen.plots._style import LINES, WIDTH, styled
from jaxgen.quantization import (
    gaussian_mixture,
    kmeans,
    lloyd_max_from_samples,
    lookup,
    mixture_log_joint,
    nearest_code,
    quantize_scalar,
)
from jaxgen.training import Options

PIXELS, PATCH = 64, 2
LEVELS, PATCH_CODES, IMAGE_CODES = (2, 4, 8), (4, 16, 64, 256), (4, 16, 64, 256)
#: Codes of each grid and the places of all, of a VQ-VAE and of VQ-VAE-2.
GRIDS: dict[str, dict[str, tuple[dict[str, Any], int, int]]] = {
    "vq_vae": {"2×2": ({"hidden": (32, 32)}, 64, 4), "4×4": ({"hidden": (32,)}, 64, 16)},
    "vq_vae2": {"2×2 and 4×4": ({"hidden": (32,)}, 64, 20)},
}
PRICED = ", learned prior"
NAMES = {"vq_vae": "VQ-VAE", "vq_vae2": "VQ-VAE-2"}


class Point(NamedTuple):
    """One quantizer: bits a pixel and squared error a pixel, of each seed."""

    rate: list[float]
    error: list[float]


Rungs = dict[str, list[Point]]
#: ``(training vectors, codes, key)`` to what a vector is decoded to.
Fit = Callable[[np.ndarray, int, jax.Array], Callable[[np.ndarray], Any]]


def images(split: str) -> np.ndarray:
    """[images, 8, 8], in [0, 1]."""
    dataset = load("digits")
    return np.asarray(getattr(dataset, split)["x"], np.float32)[..., 0] / dataset.scale


def patches(x: np.ndarray) -> np.ndarray:
    """[images · 16, 4]."""
    side = x.shape[1] // PATCH
    return x.reshape(-1, side, PATCH, side, PATCH).swapaxes(2, 3).reshape(-1, PATCH * PATCH)


def rounded(train: np.ndarray, levels: int, key: jax.Array) -> Callable[[np.ndarray], Any]:
    """To the nearest of equally spaced levels from 0 to 1, of which none depends on the data."""
    return lambda x: np.round(x * (levels - 1)) / (levels - 1)


def of_levels(train: np.ndarray, levels: int, key: jax.Array) -> Callable[[np.ndarray], Any]:
    found = lloyd_max_from_samples(train.ravel(), levels)
    return lambda x: quantize_scalar(x, found)[0]


def of_clusters(train: np.ndarray, codes: int, key: jax.Array) -> Callable[[np.ndarray], Any]:
    centroids = kmeans(key, train, codes, num_restarts=3).centroids
    return lambda x: lookup(centroids, nearest_code(x, centroids))


def of_mixture(train: np.ndarray, codes: int, key: jax.Array) -> Callable[[np.ndarray], Any]:
    """The mean of the component that a point most likely belongs to."""
    mixture = gaussian_mixture(key, train, codes, covariance="diagonal", ridge=1e-4, max_iterations=50)
    return lambda x: lookup(mixture.means, jnp.argmax(mixture_log_joint(x, mixture), axis=1))


def fitted(
    fit: Callable[..., Callable[[np.ndarray], Any]], view: Callable, codes: tuple[int, ...], seeds: int
) -> list[Point]:
    """Quantizers of vectors that ``view`` makes of images, for each number of codes."""
    train, test = view(images("train")), view(images("test"))
    points = []
    for number in codes:
        rate = math.log2(number) * len(test) / len(images("test")) / PIXELS
        each = [fit(train, number, jax.random.key(seed))(test) for seed in range(seeds)]
        points.append(Point([rate] * seeds, [float(np.square(np.asarray(found) - test).mean()) for found in each]))
    return points


def pixels(x: np.ndarray) -> np.ndarray:
    return x.reshape(-1)


def shallow(path: Path, *, seeds: int) -> list[Point]:
    """The whole image as one code, learned as a model."""
    points = []
    for codes in IMAGE_CODES:
        options = Options(steps=1000, learning_rate=1e-3, schedule="cosine", seeds=seeds)
        runs.train("shallow_vq", {"num_codes": codes}, data="digits", workdir=path / f"{codes}", options=options)
        errors = [error / PIXELS for error in evaluated(path / f"{codes}")["squared_error"]]
        points.append(Point([math.log2(codes) / PIXELS] * seeds, errors))
    return points


def of_grids(model: str, workdir: Path, *, seeds: int) -> tuple[list[Point], list[Point]]:
    """A model's points with codes of one length, and with a prior learned of each seed's codes."""
    uniform, coded = [], []
    for name, (arguments, codes, places) in GRIDS[model].items():
        path = workdir / name.replace(" ", "-")
        options = Options(epochs=150, learning_rate=2e-3, schedule="cosine", seeds=seeds)
        runs.train(model, arguments | {"num_codes": codes}, data="digits", workdir=path, options=options)
        errors = [error / PIXELS for error in evaluated(path)["squared_error"]]
        uniform.append(Point([places * math.log2(codes) / PIXELS] * seeds, errors))
        bits = [bits_under_prior(path, seed) for seed in range(seeds)]
        coded.append(Point([count / PIXELS for count in bits], errors))
    return uniform, coded


def bits_under_prior(path: Path, seed: int) -> float:
    """−log₂ p(codes) of a test digit, the mean, under a prior learned of the training digits' codes."""
    codes = encode(path, replica=seed, checkpoint="last", out=path / f"codes-{seed}.npz")
    folder = path / f"prior-{seed}"
    options = Options(steps=400, learning_rate=2e-3, schedule="cosine", seed=seed)
    runs.train("code_prior", {"features": 64, "layers": 2}, data=str(codes), workdir=folder, options=options)
    return evaluated(folder)["code_bits"][0]


@styled()
def picture(rungs: Rungs) -> MatplotlibFigure:
    figure = MatplotlibFigure(figsize=(WIDTH, WIDTH), layout="constrained")
    axes = figure.subplots()
    colors = dict(zip((name for name in rungs if not name.endswith(PRICED)), LINES, strict=True))
    for name, points in rungs.items():
        rate, error = (np.array([np.mean(getattr(point, of)) for point in points]) for of in ("rate", "error"))
        order, priced = np.argsort(rate), name.endswith(PRICED)
        color = colors[name.removesuffix(PRICED)]
        look: dict[str, Any] = {"marker": "s", "linestyle": "--", "mfc": "white"} if priced else {"marker": "o"}
        axes.plot(rate[order], error[order], color=color, label=name, markersize=5, linewidth=1.2, **look)
    axes.set(xscale="log", yscale="log", xlabel="bits a pixel", ylabel="squared error a pixel, pixels in [0, 1]")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.grid(True)
    axes.legend(fontsize=8.5)
    return figure


def gates(rungs: Rungs) -> list[Figure]:
    """Neighbouring rungs at equal bits a pixel, and what a prior takes off."""

    def at(name: str, bits: float) -> Point:
        return next(p for p in rungs[name] if math.isclose(p.rate[0], bits))

    def better(name: str, than: str, bits: float) -> Figure:
        limit = float(np.mean(at(than, bits).error))
        return Figure(f"{bits:g} bits a pixel: {name}", at(name, bits).error, "", limit, than, 0.0, "below")

    patch = "k-means, 2×2"
    figures = [better("Lloyd-Max", "rounding", bits) for bits in (1.0, 2.0)]
    figures += [better(patch, "Lloyd-Max", bits) for bits in (1.0, 2.0)]
    figures.append(better("VQ-VAE", patch, 1.5))
    for name in NAMES.values():
        for plain, coded in zip(rungs[name], rungs[name + PRICED], strict=True):
            label = f"{name} of {plain.rate[0]:.3g} bits a pixel"
            figures.append(Figure(f"{label}: with a prior", coded.rate, "bits", plain.rate[0], "uniform", 0.0, "below"))
    return figures


def run(*, seeds: int = 3, workdir: Path) -> Outcome:
    rungs: Rungs = {
        "rounding": fitted(rounded, pixels, LEVELS, seeds),
        "Lloyd-Max": fitted(of_levels, pixels, LEVELS, seeds),
        "k-means, 2×2": fitted(of_clusters, patches, PATCH_CODES, seeds),
        "Gaussian mixture, 2×2": fitted(of_mixture, patches, PATCH_CODES[:3], seeds),
        "shallow VQ": shallow(workdir / "shallow", seeds=seeds),
    }
    for model, name in NAMES.items():
        rungs[name], rungs[name + PRICED] = of_grids(model, workdir / model, seeds=seeds)
    own = "own measurement"
    figures = gates(rungs)
    for name, points in rungs.items():
        if not name.endswith(PRICED):
            figures += [Figure(f"{name}, {p.rate[0]:.3g} bits a pixel", p.error, "", None, own) for p in points]
    caption = (
        f"Test digits: squared error over bits a pixel, each rung in the mean of {seeds} seeds. Squares: the codes of "
        "the same model, priced by a learned prior."
    )
    return Outcome(figures, {"ladder": (caption, save(picture(rungs), workdir / "ladder.png"))})


if __name__ == "__main__":
    main(run)
