"""Half of each digit's pixels missing at random: completions against the best linear ones.

command:   python experiments/imputation.py
hardware:  two CPU cores
time:      5 minutes
expected:  a linear VAE fills in as probabilistic PCA does, within 3%; a MIWAE that never saw a whole digit does better
           than the column mean and than PCA of mean-filled digits
source:    exact: the conditional mean of probabilistic PCA with 10 latents, on the same pixels

Squared error of a missing pixel on the last 297 digits; what is learned, is learned from the first 1500. A guess is the
mean of several completions. The linear VAE learns from whole digits, and its completions are drawn by pseudo-Gibbs
sampling, which is exact where the encoder is. The MIWAE (Mattei and Frellsen, 2019) learns from half digits. Both learn
the decoder's σ as well, from 1 on: until it has fallen below the spread of a pixel, the latents are not worth their
nats, and Adam moves log σ by no more than its rate in an update. So a rate of 1e-3 would spend most of the training.
"""

from pathlib import Path
from typing import Any

import jax
import numpy as np
from figures import Figure, Outcome, main, pictures
from files import TEST, TRAIN, digits_file

from jaxgen import runs
from jaxgen.training import Options

LATENTS = 10


def half_missing(folder: Path) -> tuple[Path, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """A file of digits with half their pixels NaN; the whole rows of both splits, and what is observed of them."""
    _, train, test = digits_file(folder, train=TRAIN, test=TEST)
    rng = np.random.default_rng(0)
    seen_train, seen_test = rng.uniform(size=train.shape) < 0.5, rng.uniform(size=test.shape) < 0.5
    path = folder / "half.npz"
    if not path.exists():
        x = [np.where(seen, rows, np.nan).astype(np.float32) for seen, rows in ((seen_train, train), (seen_test, test))]
        partial = path.with_name("partial.npz")
        np.savez(partial, x_train=x[0].reshape(-1, 8, 8, 1), x_test=x[1].reshape(-1, 8, 8, 1))
        partial.replace(path)
    return path, train, test, seen_train, seen_test


def conditional_mean(mean: np.ndarray, covariance: np.ndarray, rows: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """E[x_m | x_o] under a Gaussian, in place of what was not seen."""
    filled = rows.copy()
    for row, known in zip(filled, seen):
        gain = covariance[np.ix_(~known, known)] @ np.linalg.inv(covariance[np.ix_(known, known)])
        row[~known] = mean[~known] + gain @ (row[known] - mean[known])
    return filled


def guesses(path: Path, seeds: int, x: np.ndarray, **how: object) -> list[np.ndarray]:
    """The mean of a model's completions, for each replica."""
    replicas = [runs.open_run(path, index=index, which="last") for index in range(seeds)]
    impute = replicas[0].model.impute
    assert impute is not None

    @jax.jit
    def mean(params: Any, statistics: Any, key: jax.Array) -> jax.Array:
        # Parameters are arguments and no constants, so that the replicas share one program.
        return impute(params, statistics, x, key, 100, **how).mean(axis=0)

    def of(run: runs.Run) -> np.ndarray:
        learned = jax.device_put((run.params, run.statistics))
        return np.mean([mean(*learned, jax.random.key(i)) for i in range(4)], axis=0).reshape(len(x), -1)

    return [of(run) for run in replicas]


def run(*, seeds: int = 3, workdir: Path) -> Outcome:
    from sklearn.decomposition import PCA

    half, train, test, seen_train, seen_test = half_missing(workdir)
    whole, _, _ = digits_file(workdir, train=TRAIN, test=TEST)
    linear, miwae = workdir / "linear", workdir / "miwae"
    common = {"latents": LATENTS, "likelihood": "gaussian", "scale": "shared"}
    options = Options(batch_size=1500, learning_rate=3e-2, schedule="cosine", seeds=seeds, log_every=500)
    runs.train(
        "vae",
        {**common, "hidden": ()},
        data=str(whole),
        workdir=linear,
        options=options._replace(steps=6000),
    )
    options = Options(epochs=200, learning_rate=3e-3, schedule="cosine", seeds=seeds)
    runs.train(
        "vae",
        {**common, "hidden": (128, 128), "bound": "iwae", "samples": 10},
        data=str(half),
        workdir=miwae,
        options=options,
    )
    x = np.where(seen_test, test, np.nan).astype(np.float32).reshape(-1, 8, 8, 1)

    def error(filled: np.ndarray) -> float:
        return float(np.square(filled - test)[~seen_test].mean())

    pca = PCA(LATENTS).fit(train)
    exact = error(conditional_mean(pca.mean_, pca.get_covariance(), test, seen_test))
    column = np.where(seen_train, train, 0).sum(axis=0) / seen_train.sum(axis=0)
    filled = PCA(LATENTS).fit(np.where(seen_train, train, column))
    of_pca = error(filled.inverse_transform(filled.transform(np.where(seen_test, test, column))))
    of_linear = [error(g) for g in guesses(linear, seeds, x, method="gibbs", draws=50)]
    of_miwae = [error(g) for g in guesses(miwae, seeds, x, method="importance", draws=1000)]
    figures = [
        Figure("linear VAE, pseudo-Gibbs", of_linear, "", exact, "exact: PPCA's conditional mean", 0.03 * exact),
        Figure(
            "MIWAE, trained on half digits",
            of_miwae,
            "",
            error(np.where(seen_test, test, column)),
            "the column mean of what was seen",
            0.0,
            "below",
        ),
        Figure("MIWAE, trained on half digits", of_miwae, "", of_pca, "PCA of mean-filled digits", 0.0, "below"),
    ]
    return Outcome(figures, pictures(miwae, {"samples": "Drawn from a MIWAE that never saw a whole digit."}))


if __name__ == "__main__":
    main(run)
