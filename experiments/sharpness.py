"""Coverage against sharpness: a VAE, a GAN and a VAE-GAN of the same layers on the same digits, in one table.

command:   python experiments/sharpness.py
hardware:  two CPU cores; for --scale full one GPU, and MNIST in TFDS_DATA_DIR
time:      about 2 minutes; full is not yet measured
expected:  the VAE's samples and reconstructions have less than 1 of the data's gradient energy, and those of GAN and
           VAE-GAN are nearer to 1, with half or more of the precision and the recall of training digits; the VAE's
           reconstructions are nearer to the digits than the VAE-GAN's
source:    own gates; Larsen et al., 2016, for the VAE-GAN

Sharpness is gradient energy, the squared differences of neighbouring pixels, over that of the test digits: what is
blurred has less, what is noisy more, so that what counts is the distance from 1. Precision and recall are the shares of
samples among the test digits and of these among the samples, by the third nearest neighbour of pixels, for as many of
either: noise of the right energy has neither, and training digits in place of samples say what can be had. The VAE's
recall is the lowest and has no gate. Reconstruction is the squared error of a test digit, which a GAN has none of. The
VAE's likelihood is a Gaussian of learned scale, and its samples are means; the VAE-GAN holds reconstructions against
digits by the discriminator's features.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from figures import Figure, Outcome, Scale, main
from generated import as_shown, sampled

from jaxgen import runs
from jaxgen.data import load
from jaxgen.metrics import PrecisionRecall, precision_recall
from jaxgen.plots import image_grid, interpolation, save
from jaxgen.training import Options

#: Samples, and as many test digits or all there are, that are compared.
COMPARED, SHOWN = 2000, 10
#: Interpolations, and the frames of each.
PATHS, STEPS = 5, 11
#: What the models are called beside their pictures.
ROWS = ("VAE", "GAN", "VAE-GAN")
#: How figures end that say how far a sharpness is from the data's, and what is called that of reconstruction.
OFF, REBUILT = ", distance from 1", "squared error of reconstruction"


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


def sharpness_of(what: str, images: list[np.ndarray], x: np.ndarray) -> dict[str, list[float]]:
    """Gradient energy over that of the test digits, and how far it is from theirs: too little, or too much."""
    shares = [gradient_energy(found) / gradient_energy(x) for found in images]
    return {f"sharpness of {what}": shares, f"sharpness of {what}{OFF}": [abs(share - 1) for share in shares]}


def measure(opened: list[runs.Run], drawn: list[np.ndarray], x: np.ndarray) -> dict[str, list[float]]:
    """Of each replica: sharpness, coverage by as many samples as there are test digits ``x``, reconstruction."""
    real = x.reshape(len(x), -1)
    covered = [precision_recall(real, images.reshape(real.shape)) for images in drawn]
    found = sharpness_of("samples", drawn, x)
    found |= {what: [float(getattr(shares, what)) for shares in covered] for what in PrecisionRecall._fields}
    if opened[0].model.reconstruct is not None:
        again = [rebuilt(run, x) for run in opened]
        found |= sharpness_of("reconstructions", again, x)
        found[REBUILT] = [float(np.square(i - x).sum(axis=(1, 2, 3)).mean()) for i in again]
    return found


def gate_of(name: str, what: str, found: dict[str, dict[str, list[float]]], best: PrecisionRecall) -> tuple[Any, ...]:
    """Reference, source and tolerance of a model's figure: the VAE is blurred and near, the others sharp and cover."""
    adversarial = name != "VAE"
    if what.endswith(OFF) and adversarial:
        return float(np.mean(found["VAE"][what])), "own gate: the VAE's", 0.0, "below"
    if what.startswith("sharpness") and not what.endswith(OFF):
        return (1.0, "the data's") if adversarial else (1.0, "the data's", 0.0, "below")
    if what in best._fields and adversarial:
        return float(getattr(best, what)) / 2, "own gate: half of training digits'", 0.0, "above"
    if what == REBUILT and not adversarial:
        return float(np.mean(found["VAE-GAN"][what])), "own gate: the VAE-GAN's", 0.0, "below"
    return None, "own measurement"


def figures_of(found: dict[str, dict[str, list[float]]], best: PrecisionRecall) -> list[Figure]:
    """The table, a model after the other, with the gates between them; ``best`` is of training digits."""
    own = "own measurement"
    return [
        *(
            Figure(f"{name}: {what}", measured, "", *gate_of(name, what, found, best))
            for name, values in found.items()
            for what, measured in values.items()
        ),
        *(Figure(f"training digits: {what}", [float(share)], "", None, own) for what, share in best._asdict().items()),
    ]


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
            "Samples of the first seed, not chosen.",
        ),
        "reconstructions": (again, ["data", "VAE", "VAE-GAN"], "Test digits, and what VAE and VAE-GAN make of them."),
    }
    for key, (images, rows, caption) in grids.items():
        picture = image_grid(np.concatenate(images), columns=SHOWN, rows=rows)
        shots[key] = (caption, save(picture, workdir / f"{key}.png"))
    train = (load(setting.data).train["x"][: len(x)] / dataset.scale).astype(np.float32)
    best = precision_recall(*(images.reshape(len(x), -1) for images in (x, train)))
    return Outcome(figures_of(found, best), shots)


if __name__ == "__main__":
    main(run)
