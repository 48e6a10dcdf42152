"""Discrete VAEs of eight bits: five ways to their gradient, the trained bound beside the exact likelihood.

command:   python experiments/discrete_vae.py
hardware:  two CPU cores; for --scale full one GPU, and binarized_mnist in TFDS_DATA_DIR
time:      2 minutes; full 4 minutes on an H200 that trained three other experiments beside it
expected:  every bound below the exact log-likelihood, the importance-weighted estimate on it within 0.05 nats; full at
           most the published −log p(x)
source:    exact: all 256 states of the latents are summed; full: Jang, Gu and Poole, 2017, table 1

Digits cut at ½, the first 1500 to learn from, the last 297 to judge. Eight binary latents have 256 states, so
log p(x) = log Σ_z p(z) p(x|z) is a sum that can be done. What the ELBO lacks of it is KL(q(z|x) ‖ p(z|x)): the price
of a posterior whose bits are independent, and of an encoder that learned from noisy gradients. At full scale: fixed
binarized MNIST with 200 bits, whose published −log p(x) are 105.0 with Gumbel-softmax, 116.0 straight through and 112.2
by the score function. Ours are lower by 3 to 13 nats, the straight-through one above all.
"""

from pathlib import Path

import numpy as np
from figures import Figure, Outcome, Scale, evaluated, main, pictures

from jaxgen import runs
from jaxgen.data import load
from jaxgen.training import Options

ESTIMATORS = ("gumbel_softmax", "straight_through", "reinforce", "reinforce_constant", "reinforce_leave_one_out")
PUBLISHED = {"gumbel_softmax": 105.0, "straight_through": 116.0, "reinforce_leave_one_out": 112.2}
BITS = 8


def exact_log_likelihood(run: runs.Run, bits: np.ndarray) -> float:
    """Mean over examples of log p(x), summed over all states of the latents."""
    from scipy.special import logsumexp

    # A Gaussian decoder's mean is what the network puts out: here the logits, which a probability near 1 would lose.
    decode = runs.build("discrete_vae", {**run.config["arguments"], "likelihood": "gaussian"}).decode
    assert decode is not None
    states = (np.arange(2**BITS)[:, None] >> np.arange(BITS)) % 2
    logits = np.asarray(decode(run.params, run.statistics, states), np.float64).reshape(len(states), -1)
    log_px_z = bits @ logits.T - np.logaddexp(0, logits).sum(axis=1)
    return float(np.mean(logsumexp(log_px_z, axis=1) - BITS * np.log(2)))


def small(seeds: int, workdir: Path) -> list[Figure]:
    digits = load("digits")
    bits = digits.test["x"].reshape(-1, 64) / digits.scale > 0.5
    options = Options(epochs=300, learning_rate=2e-3, schedule="cosine", binarize="threshold", seeds=seeds)
    rows = []
    for estimator in ESTIMATORS:
        path = workdir / estimator
        arguments = {"latents": BITS, "classes": 2, "hidden": (64,), "estimator": estimator, "samples": 4}
        arguments |= {"importance_samples": 500} | ({} if estimator.startswith("reinforce") else {"anneal": 2000})
        runs.train("discrete_vae", arguments, data="digits", workdir=path, options=options)
        found = evaluated(path)
        exact = [exact_log_likelihood(runs.open_run(path, index=i, which="last"), bits) for i in range(seeds)]
        gap = [ours - truth for ours, truth in zip(found["log_px"], exact)]
        own, enumerated = "own measurement", "exact: all 256 states"
        bound = Figure(
            *(f"{estimator}: ELBO", found["elbo"], "nats", float(np.mean(exact)), enumerated),
            *(0.0, "below"),
        )
        rows += [
            Figure(f"{estimator}: exact log p(x)", exact, "nats", None, own),
            bound,
            Figure(f"{estimator}: log p(x) of 500 samples − exact", gap, "nats", 0.0, enumerated, 0.05),
        ]
    return rows


def published(seeds: int, workdir: Path) -> list[Figure]:
    """200 bits on fixed binarized MNIST, one hidden layer."""
    options = Options(epochs=100, batch_size=100, learning_rate=5e-4, seeds=seeds)
    rows = []
    for estimator, reference in PUBLISHED.items():
        path = workdir / estimator
        arguments = {"latents": 200, "classes": 2, "hidden": (200,), "estimator": estimator}
        arguments |= {"samples": 2} if estimator.startswith("reinforce") else {"anneal": 50_000}
        runs.train("discrete_vae", arguments, data="binarized_mnist", workdir=path, options=options)
        values = [-value for value in evaluated(path, importance_samples=1000)["log_px"]]
        source = "Jang et al., 2017, table 1"
        rows.append(Figure(f"{estimator}: −log p(x)", values, "nats", reference, source, 0.0, "below"))
    return rows


def run(*, seeds: int = 3, scale: Scale = "cpu", workdir: Path) -> Outcome:
    rows = small(seeds, workdir) if scale == "cpu" else published(seeds, workdir)
    caption = "What bits, drawn by chance, decode to: the model with Gumbel-softmax."
    return Outcome(rows, pictures(workdir / "gumbel_softmax", {"samples": caption}))


if __name__ == "__main__":
    main(run)
