"""Coverage against sharpness: a VAE, a GAN and a VAE-GAN of the same layers on the same digits, in one table.

command:   python experiments/sharpness.py
hardware:  two CPU cores; for --scale full one GPU, and MNIST in TFDS_DATA_DIR
time:      about 2 minutes; full is not yet measured
expected:  samples of GAN and VAE-GAN sharper than the VAE's, whose samples and reconstructions have less than 1 of the
           data's gradient energy; the VAE's reconstructions nearer to the digits than the VAE-GAN's
source:    own gate; Larsen et al., 2016, for the VAE-GAN

Sharpness is gradient energy, the squared differences of neighbouring pixels, over that of the test digits: what is
blurred has less, what is noisy more. Precision and recall are the shares of samples among the test digits and of these
among the samples, by the third nearest neighbour of pixels, for as many of either. Reconstruction is the squared error
of a test digit, which a GAN has none of. The VAE's likelihood is a Gaussian of learned scale, and its samples are
means; the VAE-GAN holds reconstructions against digits by the discriminator's features.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from figures import Figure, Outcome, Scale, main
from generated import sampled

from jaxgen import runs
from jaxgen.data import load
from jaxgen.metrics import precision_recall
from jaxgen.plots import image_grid, interpolation, save
from jaxgen.training import Options

#: Samples, and as many test digits or all there are, that are compared.
COMPARED, SHOWN = 2000, 10
#: Interpolations, and the frames of each.
PATHS, STEPS = 5, 11
#: What the models are called beside their pictures.
ROWS = ("VAE", "GAN", "both")


class Setting(NamedTuple):
    """What differs between the scales; ``size`` are dimensions of latents and noise."""

    data: str
    hidden: tuple[int, ...]
    size: int
    steps: int
    rates: dict[str, float]


SETTINGS: dict[Scale, Setting] = {
    "cpu": Setting("digits", (256, 128), 16, 5000, {"VAE": 2e-3, "GAN": 1e-3, "VAE-GAN": 1e-3}),
    "full": Setting("mnist", (512, 256), 32, 30_000, {"VAE": 1e-3, "GAN": 5e-4, "VAE-GAN": 5e-4}),
}


def models(setting: Setting) -> dict[str, tuple[str, dict[str, Any]]]:
    """Factories and their arguments, by the name in the table."""
    size, common = setting.size, {"hidden": setting.hidden}
    return {
        "VAE": ("vae", {**common, "latents": size, "likelihood": "gaussian", "scale": "shared"}),
        "GAN": ("gan", {**common, "noise_dim": size, "penalty": "r1", "penalty_weight": 1.0, "discriminator_steps": 1}),
        "VAE-GAN": ("vae_gan", {**common, "latents": size}),
    }


def gradient_energy(images: np.ndarray) -> float:
    """Σ (difference of neighbouring pixels)², down and across, of an image [n, h, w, c]; a mean over images."""
    return sum(float(np.square(np.diff(images, axis=axis)).sum(axis=(1, 2, 3)).mean()) for axis in (1, 2))


def as_shown(images: np.ndarray) -> np.ndarray:
    return np.clip(images, 0, 1)


def rebuilt(run: runs.Run, x: np.ndarray) -> np.ndarray:
    assert run.model.reconstruct is not None
    return as_shown(np.asarray(run.model.reconstruct(run.params, run.statistics, x)))


def between(run: runs.Run, x: np.ndarray) -> np.ndarray:
    """From each image of the first half to one of the second: decoded codes, the images at the ends."""
    assert run.model.encode is not None
    assert run.model.decode is not None
    start, end = np.split(np.asarray(run.model.encode(run.params, run.statistics, x)), 2)
    share = np.linspace(0, 1, STEPS, dtype=np.float32)[1:-1, None]
    codes = (1 - share) * start[:, None] + share * end[:, None]
    decoded = np.asarray(run.model.decode(run.params, run.statistics, codes.reshape(-1, codes.shape[-1])))
    first, last = np.split(x[:, None], 2)
    return np.concatenate([first, decoded.reshape(len(first), -1, *x.shape[1:]), last], axis=1)


def measure(opened: list[runs.Run], drawn: list[np.ndarray], x: np.ndarray) -> dict[str, list[float]]:
    """Of each replica: sharpness, coverage by as many samples as there are test digits ``x``, reconstruction."""
    energy, real = gradient_energy(x), x.reshape(len(x), -1)
    covered = [precision_recall(real, images.reshape(real.shape)) for images in drawn]
    found = {
        "sharpness of samples": [gradient_energy(images) / energy for images in drawn],
        "precision": [float(share.precision) for share in covered],
        "recall": [float(share.recall) for share in covered],
    }
    if opened[0].model.reconstruct is not None:
        again = [rebuilt(run, x) for run in opened]
        found["sharpness of reconstructions"] = [gradient_energy(images) / energy for images in again]
        found["squared error of reconstruction"] = [float(np.square(i - x).sum(axis=(1, 2, 3)).mean()) for i in again]
    return found


def figures_of(found: dict[str, dict[str, list[float]]]) -> list[Figure]:
    """The table, a model after the other, with the gates between them."""
    blurred, figures = found["VAE"], []
    nearest = float(np.mean(found["VAE-GAN"]["squared error of reconstruction"]))
    for name, values in found.items():
        for what, measured in values.items():
            gate: tuple[Any, ...] = (None, "own measurement")
            if what.startswith("sharpness"):
                least = ("own gate: the VAE's", 0.0, "above")
                gate = (1.0, "the data's", 0.0, "below") if name == "VAE" else (float(np.mean(blurred[what])), *least)
            if name == "VAE" and what.startswith("squared"):
                gate = (nearest, "own gate: the VAE-GAN's", 0.0, "below")
            figures.append(Figure(f"{name}: {what}", measured, "", *gate))
    return figures


def run(*, seeds: int = 3, scale: Scale = "cpu", workdir: Path) -> Outcome:
    setting = SETTINGS[scale]
    dataset = load(setting.data)
    x = (dataset.test["x"][:COMPARED] / dataset.scale).astype(np.float32)
    found, shown, again, shots = {}, [], [x[:SHOWN]], {}
    for name, (model, arguments) in models(setting).items():
        path = workdir / name
        options = Options(steps=setting.steps, learning_rate=setting.rates[name], schedule="cosine", seeds=seeds)
        runs.train(model, arguments, data=setting.data, workdir=path, options=options)
        opened = [runs.open_run(path, index=index, which="last") for index in range(seeds)]
        drawn = [as_shown(sampled(path, index=index, count=len(x))) for index in range(seeds)]
        found[name] = measure(opened, drawn, x)
        shown.append(drawn[0][: 3 * SHOWN])
        if opened[0].model.reconstruct is not None:
            again.append(rebuilt(opened[0], x[:SHOWN]))
        if name == "VAE-GAN":
            shots["interpolation"] = (
                "From one test digit's code to another's, decoded by a VAE-GAN; framed are the digits themselves.",
                save(interpolation(between(opened[0], x[: 2 * PATHS])), workdir / "interpolation.png"),
            )
    grids = {
        "samples": (
            shown,
            [row for row in ROWS for _ in range(3)],
            "Samples of the first seed, not chosen; both: the VAE-GAN.",
        ),
        "reconstructions": (again, ["data", "VAE", "both"], "Test digits, and what VAE and VAE-GAN make of them."),
    }
    for key, (images, rows, caption) in grids.items():
        picture = image_grid(np.concatenate(images), columns=SHOWN, rows=rows)
        shots[key] = (caption, save(picture, workdir / f"{key}.png"))
    return Outcome(figures_of(found), shots)


if __name__ == "__main__":
    main(run)
