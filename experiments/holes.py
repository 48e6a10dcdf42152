"""An autoencoder's plane of codes has holes, a VAE's has none: what noise decodes to.

command:   python experiments/holes.py
hardware:  two CPU cores
time:      1 minute
expected:  decoded noise lies 1.07 from the nearest digit under the VAE, 1.34 under the autoencoder
source:    own measurement; for comparison, the distance between real digits of the two splits

The same networks, 2 latents, on digits. Noise is drawn from what each offers: the VAE's prior N(0, I), and for the
autoencoder, which has none, a normal distribution of the mean and covariance of its codes. Judged by the squared
distance of a decoded image to the nearest training digit, and by that of each test digit to the nearest of 1500 decoded
images: what is no digit is far from all digits, what is never drawn leaves test digits alone.
"""

from pathlib import Path

import jax
import numpy as np
from figures import Figure, Outcome, evaluated, main, pictures

from jaxgen import runs
from jaxgen.data import load
from jaxgen.plots import image_grid, save
from jaxgen.training import Options

COMMON = {"latents": 2, "likelihood": "gaussian"}
OWN = {"autoencoder": {}, "vae": {"scale": "shared"}}
DRAWS = 1500


def nearest(of: np.ndarray, among: np.ndarray) -> float:
    """Mean squared distance of each row to the nearest of the others."""
    of, among = of.reshape(len(of), -1), among.reshape(len(among), -1)
    products = np.square(of).sum(axis=1)[:, None] - 2 * of @ among.T + np.square(among).sum(axis=1)
    return float(products.min(axis=1).mean())


def drawn(run: runs.Run, x: np.ndarray) -> np.ndarray:
    """Images that noise decodes to."""
    assert run.model.encode is not None
    assert run.model.decode is not None
    z = np.random.default_rng(0).normal(size=(DRAWS, COMMON["latents"]))
    if run.model.sample is None:
        codes = np.asarray(run.model.encode(run.params, run.statistics, x), np.float64)
        z = codes.mean(axis=0) + z @ np.linalg.cholesky(np.cov(codes.T)).T
    return np.asarray(jax.jit(run.model.decode)(run.params, run.statistics, z.astype(np.float32)))


def run(*, seeds: int = 3, workdir: Path) -> Outcome:
    digits = load("digits")
    train, test = ((split["x"] / digits.scale).astype(np.float32) for split in (digits.train, digits.test))
    options = Options(epochs=200, learning_rate=2e-3, schedule="cosine", seeds=seeds)
    far: dict[str, list[float]] = {}
    alone: dict[str, list[float]] = {}
    errors, shots = {}, {}
    for name, own in OWN.items():
        path = workdir / name
        runs.train(name, COMMON | own, data="digits", workdir=path, options=options)
        errors[name] = evaluated(path)["squared_error"]
        images = [drawn(runs.open_run(path, index=index, which="last"), train) for index in range(seeds)]
        far[name], alone[name] = [nearest(i, train) for i in images], [nearest(test, i) for i in images]
        what = "an autoencoder's codes" if name == "autoencoder" else "a VAE's prior"
        shots[f"{name}-noise"] = f"Noise of {what}, decoded.", save(image_grid(images[0][:64]), path / "noise.png")
        captions = {"carpet": f"What the {'VAE' if name == 'vae' else name} makes of the plane of its two latents."}
        shots |= {f"{name}-{key}": shot for key, shot in pictures(path, captions).items()}
    mean = {key: float(np.mean(values["autoencoder"])) for key, values in (("far", far), ("alone", alone))}
    own, other = "own measurement", "the autoencoder's"
    figures = [
        Figure("decoded noise to the nearest digit: autoencoder", far["autoencoder"], "", nearest(test, train), own),
        Figure("decoded noise to the nearest digit: VAE", far["vae"], "", mean["far"], other, 0.0, "below"),
        Figure("test digit to the nearest decoded: autoencoder", alone["autoencoder"], "", None, own),
        Figure("test digit to the nearest decoded: VAE", alone["vae"], "", mean["alone"], other, 0.0, "below"),
        Figure("squared error of reconstruction: autoencoder", errors["autoencoder"], "", None, own),
        Figure("squared error of reconstruction: VAE", errors["vae"], "", None, own),
    ]
    return Outcome(figures, shots)


if __name__ == "__main__":
    main(run)
