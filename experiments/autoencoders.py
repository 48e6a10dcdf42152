"""Autoencoders held against closed forms: the linear one is PCA, the linear denoising one is Wiener's filter.

command:   python experiments/autoencoders.py
hardware:  two CPU cores
time:      3 minutes
expected:  squared error an image of PCA, within 0.1%, and its subspace; of the best linear denoiser, within 1%;
           a network that denoises digits it has not seen better than the best linear map
source:    exact: scikit-learn's PCA; W = C(C + σ²I)⁻¹ for the covariance C of the data

A linear autoencoder trained on squared error spans the principal subspace (Baldi and Hornik, 1989). The best linear
denoiser of x + σε is x̂ = m + W(x̃ − m); its expected squared error is σ² tr W.

Error and subspace are not learned equally fast: component 21 in the place of component 20 costs 0.15% of the error and
turns the subspace by 90°. The gradient along such a swap is as small as the gap between the two eigenvalues: of three
seeds, Adam left one 17° off after 6000 updates, at the best of three rates. Muon gives every direction of a weight's
gradient the same length, and was 0.01° off after 1500; the linear autoencoders are trained with it, at rate 0.1.
"""

from pathlib import Path

import numpy as np
import optax
from figures import Figure, Outcome, evaluated, main, pictures
from files import ALL, TEST, TRAIN, digits_file

from jaxgen import runs
from jaxgen.training import Options

LINEAR = {"hidden": (), "likelihood": "gaussian"}
LEVELS = (0.1, 0.25, 0.5)


def affine(run: runs.Run) -> tuple[np.ndarray, np.ndarray]:
    """W and b of a linear model's reconstruction W x + b."""
    assert run.model.reconstruct is not None
    basis = np.concatenate([np.zeros((1, 64)), np.eye(64)]).reshape(-1, 8, 8, 1).astype(np.float32)
    values = np.asarray(run.model.reconstruct(run.params, run.statistics, basis), np.float64).reshape(-1, 64)
    return (values[1:] - values[0]).T, values[0]


def largest_angle(weights: np.ndarray, components: np.ndarray) -> float:
    """The largest principal angle, in degrees, between the column space of a map and the span of components."""
    from scipy.linalg import subspace_angles

    left = np.linalg.svd(weights)[0][:, : len(components)]
    return float(np.rad2deg(subspace_angles(left, components.T).max()))


def expected_error(weights: np.ndarray, bias: np.ndarray, rows: np.ndarray, level: float) -> float:
    """E‖x − W(x + σε) − b‖² over rows and noise, without drawing any."""
    rest = rows - rows @ weights.T - bias
    return float(np.square(rest).sum(axis=1).mean() + level**2 * np.square(weights).sum())


def wiener(rows: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray]:
    """The best linear denoiser of the rows: W and b."""
    mean, covariance = rows.mean(axis=0), np.cov(rows.T, bias=True)
    weights = covariance @ np.linalg.inv(covariance + level**2 * np.eye(len(covariance)))
    return weights, mean - weights @ mean


def replicas(path: Path, seeds: int) -> list[runs.Run]:
    return [runs.open_run(path, index=index, which="last") for index in range(seeds)]


def run(*, seeds: int = 3, workdir: Path) -> Outcome:
    from sklearn.decomposition import PCA

    figures = []
    whole, rows, _ = digits_file(workdir, train=ALL, test=ALL)
    full_batch = Options(batch_size=len(rows), schedule="cosine", seeds=seeds, log_every=500)
    steps, rate = 2000, 0.1
    muon = {"autoencoder": optax.contrib.muon(optax.cosine_decay_schedule(rate, steps))}
    for latents in (2, 10, 20, 32):
        path = workdir / f"linear-{latents}"
        arguments = {**LINEAR, "latents": latents}
        options = full_batch._replace(steps=steps, learning_rate=rate)
        runs.train("autoencoder", arguments, data=str(whole), workdir=path, options=options, optimizers=muon)
        pca = PCA(latents).fit(rows)
        best = float(np.square(rows - pca.inverse_transform(pca.transform(rows))).sum(axis=1).mean())
        values, exact = evaluated(path)["squared_error"], "exact: sklearn PCA"
        figures.append(Figure(f"linear, {latents} latents: squared error", values, "", best, exact, 1e-3 * best))
        angles = [largest_angle(affine(run)[0], np.asarray(pca.components_)) for run in replicas(path, seeds)]
        figures.append(Figure(f"linear, {latents} latents: angle to PCA", angles, "degrees", 0.0, exact, 1.0, "below"))

    first, rows, unseen = digits_file(workdir, train=TRAIN, test=TEST)
    wide = Options(steps=1200, batch_size=250, learning_rate=3e-3, schedule="cosine", seeds=seeds)
    for level in LEVELS:
        path = workdir / f"denoising-linear-{level}"
        arguments = {**LINEAR, "latents": 64, "level": level}
        options = full_batch._replace(batch_size=1500, steps=3000, learning_rate=3e-3)
        runs.train("denoising_autoencoder", arguments, data=str(first), workdir=path, options=options)
        best = expected_error(*wiener(rows, level), rows, level)
        values = [expected_error(*affine(run), rows, level) for run in replicas(path, seeds)]
        exact = "exact: W = C(C + σ²I)⁻¹"
        figures.append(Figure(f"linear denoising, σ = {level}: squared error", values, "", best, exact, 1e-2 * best))

        path = workdir / f"denoising-{level}"
        arguments = {"latents": 64, "level": level, "hidden": (512,)}
        runs.train("denoising_autoencoder", arguments, data=str(first), workdir=path, options=wide)
        best = expected_error(*wiener(rows, level), unseen, level)
        linear = "the best linear denoiser of the training digits, on the test digits"
        values = evaluated(path)["squared_error"]
        figures.append(Figure(f"denoising, σ = {level}: test error", values, "", best, linear, 0.0, "below"))
    caption = "Test digits, the same with noise of σ = 0.5, and what the autoencoder makes of them."
    return Outcome(figures, pictures(workdir / "denoising-0.5", {"reconstructions": caption}))


if __name__ == "__main__":
    main(run)
