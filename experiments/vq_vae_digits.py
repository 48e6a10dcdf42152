"""VQ-VAE with a codebook of running averages, on digits.

command:   python experiments/vq_vae_digits.py
hardware:  two CPU cores
time:      3 minutes
expected:  squared error 0 a pixel on the last 297 digits, 0 of 64 codes in effective use
source:    own measurement; a codebook is healthy where its perplexity is a good part of its size
"""

from pathlib import Path

from figures import Figure, Outcome, Scale, evaluated, main

from jaxgen import plots, runs
from jaxgen.data import load
from jaxgen.runs import open_run
from jaxgen.training import Options


def run(*, seeds: int = 3, scale: Scale = "cpu", workdir: Path) -> Outcome:
    path = workdir / "vq_vae"
    options = Options(epochs=100, learning_rate=2e-3, schedule="cosine", seeds=seeds)
    runs.train("vq_vae", {"hidden": (32,)}, data="digits", workdir=path, options=options)
    values, digits = evaluated(path), load("digits")
    pixels, own = digits.train["x"][0].size, "own measurement"
    errors = [v / pixels for v in values["squared_error"]]
    figures = [
        Figure("squared error a pixel, test, pixels in [0, 1]", errors, "", None, own),
        Figure("perplexity over the test split, 64 codes", values["perplexity"], "codes", None, own),
        Figure("codes used by the test split", values["usage"], "share", None, own),
    ]
    trained = open_run(path)
    originals = digits.test["x"][:16] / digits.scale
    made = trained.model.reconstruct(trained.params, trained.statistics, originals)
    caption = "The first 16 test digits, and what a grid of 4×4 codes keeps of them."
    return Outcome(figures, {"reconstructions": (caption, plots.reconstructions(originals, made))})


if __name__ == "__main__":
    main(run)
