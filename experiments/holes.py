"""An autoencoder's plane of codes has more holes than a VAE's: where noise falls, and what it decodes to.

command:   python experiments/holes.py
hardware:  two CPU cores
time:      about 2 minutes
expected:  21% of an autoencoder's noise falls between the codes, 7% of a VAE's; a classifier doubts 0.34 and 0.30 nats
source:    own measurement; of the codes of test digits 1% fall there, by the choice of the distance

The same networks, 2 latents, on digits. Noise is drawn from what each offers: the VAE's prior N(0, I), and for the
autoencoder, which has none, a normal distribution of the mean and covariance of its codes. A point is in a hole where
the nearest code of a training digit is farther than it is for 99% of the test digits: the distance is the plane's own,
so that a wide or a narrow plane makes no difference. Besides, a classifier of real digits reads what noise decodes to;
its doubt is the entropy of the class. The distance of a decoded image to the nearest digit would not do, since a
blurred image is near to many.

The holes are a matter of where noise falls more than of what it decodes to: the classifier doubts a hole of the
autoencoder's about as much as the rest of its plane.
"""

from pathlib import Path

import jax
import numpy as np
from classifier import splits
from figures import Figure, Outcome, evaluated, main, pictures
from generated import Judge
from sklearn.neighbors import NearestNeighbors

from jaxgen import runs
from jaxgen.plots import image_grid, save
from jaxgen.training import Options

COMMON = {"latents": 2, "likelihood": "gaussian"}
OWN = {"autoencoder": {}, "vae": {"scale": "shared"}}
DRAWS = 10_000


def in_holes(noise: np.ndarray, train: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Which points are farther from the nearest training code than 99% of the test codes are.

    Args:
      noise: [points, latents].
      train: codes, [examples, latents].
      test: likewise.
    """
    near = NearestNeighbors(n_neighbors=1).fit(train)
    distances = [near.kneighbors(points)[0][:, 0] for points in (noise, test)]
    return distances[0] > np.quantile(distances[1], 0.99)


def decoded_noise(run: runs.Run, train: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Images that noise decodes to, and which of it is in a hole."""
    assert run.model.encode is not None
    assert run.model.decode is not None
    z = np.random.default_rng(0).normal(size=(DRAWS, COMMON["latents"]))
    codes, others = (np.asarray(run.model.encode(run.params, run.statistics, x), np.float64) for x in (train, test))
    if run.model.sample is None:
        z = codes.mean(axis=0) + z @ np.linalg.cholesky(np.cov(codes.T)).T
    images = np.asarray(jax.jit(run.model.decode)(run.params, run.statistics, z.astype(np.float32)))
    return images, in_holes(z, codes, others)


def run(*, seeds: int = 3, workdir: Path) -> Outcome:
    train, test = splits("digits")
    judge = Judge("digits")
    options = Options(epochs=200, learning_rate=2e-3, schedule="cosine", seeds=seeds)
    empty: dict[str, list[float]] = {}
    doubt: dict[str, list[float]] = {}
    inside: dict[str, list[float]] = {}
    errors, shots = {}, {}
    for name, own in OWN.items():
        path = workdir / name
        runs.train(name, COMMON | own, data="digits", workdir=path, options=options)
        errors[name] = evaluated(path)["squared_error"]
        replicas = [runs.open_run(path, index=index, which="last") for index in range(seeds)]
        found = [decoded_noise(replica, train.x, test.x) for replica in replicas]
        empty[name] = [100 * float(holes.mean()) for _, holes in found]
        doubt[name] = [judge.doubt(images)[0] for images, _ in found]
        inside[name] = [judge.doubt(images[holes])[0] for images, holes in found]
        what = "an autoencoder's codes" if name == "autoencoder" else "a VAE's prior"
        grid = image_grid(found[0][0][:64])
        shots[f"{name}-noise"] = f"Noise of {what}, decoded.", save(grid, path / "noise.png")
        captions = {"carpet": f"What the {'VAE' if name == 'vae' else name} makes of the plane of its two latents."}
        shots |= {f"{name}-{key}": shot for key, shot in pictures(path, captions).items()}
    own, other = "own measurement", "the autoencoder's"
    figures = [Figure("doubt of a test digit", [judge.doubt(test.x)[0]], "nats", None, own)]
    for what, unit, values in (("noise in holes", "%", empty), ("doubt of decoded noise", "nats", doubt)):
        reference = float(np.mean(values["autoencoder"]))
        figures += [
            Figure(f"{what}: autoencoder", values["autoencoder"], unit, None, own),
            Figure(f"{what}: VAE", values["vae"], unit, reference, other, 0.0, "below"),
        ]
    figures += [
        Figure("doubt of noise in holes: autoencoder", inside["autoencoder"], "nats", None, own),
        Figure("doubt of noise in holes: VAE", inside["vae"], "nats", None, own),
        Figure("squared error of reconstruction: autoencoder", errors["autoencoder"], "", None, own),
        Figure("squared error of reconstruction: VAE", errors["vae"], "", None, own),
    ]
    return Outcome(figures, shots)


if __name__ == "__main__":
    main(run)
