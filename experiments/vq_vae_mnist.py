"""VQ-VAE with 512 codes on MNIST and Fashion-MNIST: codes in use, with and without revival, and what they keep.

command:   TFDS_DATA_DIR=/path/to/sets python experiments/vq_vae_mnist.py
hardware:  two CPU cores; for --scale full one GPU
time:      about 15 minutes; full 7 minutes on an H200 that trained two other experiments beside it
expected:  the test split uses at least 95% of 512 codes with revival; the squared error is below that of 4×4 patches
           quantized by k-means at the same rate
source:    own gates

Both describe an image by 49 of 512 codes, 441 bits: a VQ-VAE whose encoder halves the image twice, and k-means on the
49 patches of 4×4 pixels, which sees nothing beyond a patch and decodes each by itself. Without revival two things are
missing: codes do not start on encodings but as normal draws, and one that is not chosen is not moved. Then 6 to
16 of 512 codes are used, and the error is two to four times as high, however long they train.
"""

from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from figures import Figure, Outcome, Scale, evaluated, main, pictures

from jaxgen import runs
from jaxgen.data import load
from jaxgen.quantization import kmeans, lookup, nearest_code
from jaxgen.training import Options

CODES, PATCH = 512, 4
#: Patches that k-means learns from.
LEARNED = 100_000


class Setting(NamedTuple):
    """What differs between the scales."""

    hidden: tuple[int, ...]
    revived: dict[str, Any]
    options: Options


SETTINGS: dict[Scale, Setting] = {
    "cpu": Setting(
        (32, 32), {"revival": 1.0}, Options(steps=1000, batch_size=64, learning_rate=5e-3, schedule="cosine")
    ),
    "full": Setting((64, 64), {}, Options(epochs=15, batch_size=128, learning_rate=1e-3, schedule="cosine")),
}


def patches(images: np.ndarray) -> np.ndarray:
    """[images · 49, 16], in units of the scaled data."""
    n, height, width = len(images), images.shape[1] // PATCH, images.shape[2] // PATCH
    cut = np.asarray(images).reshape(n, height, PATCH, width, PATCH).transpose(0, 1, 3, 2, 4)
    return (cut.reshape(-1, PATCH * PATCH) / 255).astype(np.float32)


def patch_error(data: str, *, seed: int) -> float:
    """Squared error a pixel of the test images, their patches at the nearest of as many centroids."""
    dataset = load(data)
    learned, judged = patches(dataset.train["x"]), patches(dataset.test["x"])
    chosen = np.random.default_rng(seed).choice(len(learned), LEARNED, replace=False)
    centroids = kmeans(jax.random.key(seed), learned[chosen], CODES).centroids
    index = nearest_code(judged, centroids, chunk_size=64)
    return float(np.square(np.asarray(lookup(centroids, index)) - judged).mean())


def of_set(data: str, setting: Setting, *, seeds: int, workdir: Path) -> tuple[list[Figure], Path]:
    """Figures of one data set, and the folder of the run with revival."""
    found, folder = {}, workdir / f"{data}-revived"
    for name, given in (("revived", setting.revived), ("never", {"revival": 0.0})):
        path = workdir / f"{data}-{name}"
        arguments: dict[str, Any] = {"num_codes": CODES, "hidden": setting.hidden, **given}
        runs.train("vq_vae", arguments, data=data, workdir=path, options=setting.options._replace(seeds=seeds))
        found[name] = evaluated(path)
    by_patches = [patch_error(data, seed=seed) for seed in range(seeds)]
    errors = {name: [value / 784 for value in values["squared_error"]] for name, values in found.items()}
    own, with_revival = "own measurement", found["revived"]
    figures = [
        Figure(f"{data}: codes in use", with_revival["usage"], "share", 0.95, "own gate", 0.0, "above"),
        Figure(f"{data}: codes in use, without revival", found["never"]["usage"], "share", None, own),
        Figure(f"{data}: perplexity", with_revival["perplexity"], "codes", None, own),
        Figure(f"{data}: perplexity, without revival", found["never"]["perplexity"], "codes", None, own),
        Figure(
            *(f"{data}: squared error a pixel", errors["revived"], "", float(np.mean(by_patches))),
            *("k-means on patches, as many bits", 0.0, "below"),
        ),
        Figure(f"{data}: squared error a pixel, without revival", errors["never"], "", None, own),
    ]
    return figures, folder


def run(*, seeds: int = 3, scale: Scale = "cpu", workdir: Path) -> Outcome:
    figures, shown = [], {}
    for data in ("mnist", "fashion_mnist"):
        found, folder = of_set(data, SETTINGS[scale], seeds=seeds, workdir=workdir)
        caption = f"The first test images of {data}, and what 49 of 512 codes keep of them."
        figures += found
        shown[data] = pictures(folder, {"reconstructions": caption})["reconstructions"]
    return Outcome(figures, shown)


if __name__ == "__main__":
    main(run)
