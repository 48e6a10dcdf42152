"""Shallow vector quantization: k-means as an autoencoder, a Gaussian mixture as a VAE, and what they generate.

command:   python experiments/shallow_vq.py
hardware:  two CPU cores
time:      about 1 minute
expected:  inertia of 10 clusters of raw digits within 1% of 1165127.5, of 64 as scikit-learn's; KL log K to 1e-5; the
           mixture's ELBO scikit-learn's log p(x) to 1e-3 nats
source:    exact: log K, sklearn.mixture, the likelihood of one Gaussian; k-means: scikit-learn's best of 100 starts

No network: z is one of K centroids, and x ~ N(μ_z, σ² I). The k-means autoencoder encodes to the nearest centroid: a
posterior of one code, whose KL to the uniform prior is log K whatever x is. The mixture has the exact posterior, so its
ELBO is log p(x). What an identity covariance means depends on the unit of a pixel. With pixels in [0, 1] it is wider
than digits vary in any direction: the centroids merge into one Gaussian, and the posterior is the prior. With pixels in
[0, 16], which is σ = 1/16 of [0, 1], it is k-means again. σ = 0.17 has about the greatest likelihood on test digits.

What it generates is weak: z ~ U(1 … K), x ~ N(μ_z, σ² I) is one of K blurred pictures, and all that differs between two
samples of one code is noise. In numbers: the share of a sample's variance that is noise, the squared distance of a
sample to the nearest training digit, and of a test digit to the nearest of 1500 samples, beside that to the nearest of
the 1500 training digits.
"""

import math
from pathlib import Path
from typing import Any, NamedTuple, cast

import jax
import numpy as np
from figures import Figure, Outcome, evaluated, main
from files import ALL, TEST, TRAIN, digits_file
from matplotlib.figure import Figure as MatplotlibFigure

from jaxgen import runs
from jaxgen.plots import image_grid, save
from jaxgen.quantization import kmeans
from jaxgen.training import Options

CLUSTERS, CODES, DRAWS = 10, 64, 1500
#: Inertia of all raw digits, 0 … 16, in 10 clusters: scikit-learn's best of 100 starts.
BEST = 1165127.5


def nearest(of: np.ndarray, among: np.ndarray) -> float:
    """Mean squared distance of each row to the nearest of the others."""
    of, among = of.reshape(len(of), -1), among.reshape(len(among), -1)
    products = np.square(of).sum(axis=1)[:, None] - 2 * of @ among.T + np.square(among).sum(axis=1)
    return float(products.min(axis=1).mean())


WIDE, NARROW, LIKELY = 1.0, 1 / 16, 0.17
NAMES = {WIDE: "σ = 1", NARROW: "σ = 1/16", LIKELY: "σ = 0.17"}


class Learned(NamedTuple):
    """Of each seed: centroids [codes, 64] and samples [draws, 64]; and the figures of the test split, by name."""

    centroids: list[np.ndarray]
    samples: list[np.ndarray]
    values: dict[str, list[float]]


def learn(path: Path, data: Path, *, seeds: int, **arguments: Any) -> Learned:
    options = Options(steps=1000, learning_rate=5e-3, schedule="cosine", seeds=seeds)
    runs.train("shallow_vq", arguments, data=str(data), workdir=path, options=options)
    centroids, samples = [], []
    for index in range(seeds):
        run = runs.open_run(path, index=index, which="last")
        assert run.model.decode is not None
        assert run.model.sample is not None
        codes = np.arange(arguments["num_codes"])
        for rows, images in (
            (centroids, run.model.decode(run.params, run.statistics, codes)),
            (samples, run.model.sample(run.params, run.statistics, jax.random.key(index), DRAWS)),
        ):
            rows.append(np.asarray(images, np.float64).reshape(len(images), -1))
    return Learned(centroids, samples, evaluated(path))


def log_likelihood(centroids: np.ndarray, x: np.ndarray, *, scale: float) -> float:
    """log p(x) of the mixture by scikit-learn, the mean over examples."""
    from sklearn.mixture import GaussianMixture

    count = len(centroids)
    mixture: Any = GaussianMixture(count, covariance_type="spherical")
    mixture.weights_, mixture.means_ = np.full(count, 1 / count), centroids
    mixture.covariances_, mixture.precisions_cholesky_ = np.full(count, scale**2), np.full(count, 1 / scale)
    return float(mixture.score(x))


def clustering_figures(workdir: Path, *, seeds: int) -> list[Figure]:
    """k-means, the function and the model, beside scikit-learn's."""
    from sklearn.cluster import KMeans

    data, rows, _ = digits_file(workdir, train=ALL, test=ALL)
    raw = (16 * rows).astype(np.float32)
    inertia = [float(kmeans(jax.random.key(seed), raw, CLUSTERS, num_restarts=100).inertia) for seed in range(seeds)]
    few = learn(workdir / "clusters", data, seeds=seeds, num_codes=CLUSTERS)
    trained = [256 * len(rows) * nearest(rows, centroids) for centroids in few.centroids]
    data, train, test = digits_file(workdir, train=TRAIN, test=TEST)
    many = learn(workdir / "kmeans", data, seeds=seeds, num_codes=CODES)
    theirs = KMeans(CODES, n_init=cast(Any, 10), random_state=0).fit(train).cluster_centers_
    best, ten, name = "sklearn, best of 100 starts", "sklearn, best of 10 starts", f"{CODES} codes: squared error"
    figures = [
        Figure("10 clusters of raw digits: inertia, kmeans, 100 starts", inertia, "", BEST, best, 1e-3 * BEST),
        Figure("10 clusters of raw digits: inertia, trained", trained, "", BEST, best, 1e-2 * BEST),
    ]
    for split, x in (("training", train), ("test", test)):
        ours, reference = [nearest(x, centroids) for centroids in many.centroids], nearest(x, theirs)
        figures.append(Figure(f"{name}, {split}", ours, "", reference, ten, 1e-2 * reference, "below"))
    kl = many.values["kl"]
    return [*figures, Figure(f"{CODES} codes: KL to the prior", kl, "nats", math.log(CODES), "exact: log K", 1e-5)]


def mixture_figures(scale: float, learned: Learned, train: np.ndarray, test: np.ndarray) -> list[Figure]:
    from sklearn.decomposition import PCA

    name, own, exact = NAMES[scale], "own measurement", "exact: sklearn.mixture"
    elbo, kl = learned.values["elbo"], learned.values["kl"]
    off = [bound - log_likelihood(c, test, scale=scale) for bound, c in zip(elbo, learned.centroids)]
    rows = [Figure(f"{name}: ELBO − log p(x)", off, "nats", 0.0, exact, 1e-3)]
    if scale == WIDE:
        gaussian = -0.5 * (nearest(test, train.mean(axis=0)[None]) + 64 * math.log(2 * math.pi))
        rows.append(Figure(f"{name}: log p(x)", elbo, "nats", gaussian, "exact: one Gaussian", 0.01))
    else:
        linear = float(PCA(10).fit(train).score(test))
        rows.append(Figure(f"{name}: log p(x)", elbo, "nats", linear, "PPCA, 10 latents, for comparison"))
    limits: dict[float, tuple[float | None, str, float | None]] = {
        WIDE: (0.0, "exact: one Gaussian", 1e-3),
        NARROW: (math.log(CODES), "log K, as σ → 0", 0.05),
        LIKELY: (None, own, None),
    }
    rows.append(Figure(f"{name}: KL to the prior", kl, "nats", *limits[scale]))
    real = nearest(test, train)
    far, alone = [nearest(s, train) for s in learned.samples], [nearest(test, s) for s in learned.samples]
    noise = [64 * scale**2 / (64 * scale**2 + c.var(axis=0).sum()) for c in learned.centroids]
    # Averages of many digits are nearer to each than they are to one another: the narrow samples are not far, but few.
    gate = None if scale == NARROW else 0.0
    return [
        *rows,
        Figure(f"{name}: noise in the samples", noise, "of the variance", None, own),
        Figure(f"{name}: sample to the nearest digit", far, "", real, "a test digit", gate, "above"),
        Figure(f"{name}: test digit to the nearest sample", alone, "", real, "to the nearest digit", 0.0, "above"),
    ]


def picture(mixtures: dict[float, Learned], test: np.ndarray) -> MatplotlibFigure:
    """Real digits, centroids, and samples of each width, the first of each."""
    kinds = {"test digits": test, "centroids": mixtures[LIKELY].centroids[0]}
    kinds |= {NAMES[scale]: mixtures[scale].samples[0] for scale in sorted(mixtures)}
    tiles = np.concatenate([images[:10] for images in kinds.values()]).reshape(-1, 8, 8)
    return image_grid(tiles, columns=10, rows=list(kinds))


def run(*, seeds: int = 3, workdir: Path) -> Outcome:
    data, train, test = digits_file(workdir, train=TRAIN, test=TEST)
    rows, mixtures = clustering_figures(workdir, seeds=seeds), {}
    for scale in NAMES:
        path = workdir / f"mixture-{scale:g}"
        mixtures[scale] = learn(path, data, seeds=seeds, num_codes=CODES, kind="gmm", fixed_scale=scale)
        rows += mixture_figures(scale, mixtures[scale], train, test)
    caption = (
        "Test digits, the centroids of a mixture, and what mixtures of three widths generate: blurred centroids, the "
        "same few again and again, or noise."
    )
    return Outcome(rows, {"samples": (caption, save(picture(mixtures, test), workdir / "samples.png"))})


if __name__ == "__main__":
    main(run)
