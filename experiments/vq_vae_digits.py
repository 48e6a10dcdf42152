"""VQ-VAE with a codebook of running averages, on digits.

command:   python experiments/vq_vae_digits.py
hardware:  two CPU cores
time:      40 seconds
expected:  squared error 0.005 a pixel on the last 297 digits, perplexity 48 of 64 codes
source:    own measurement; a codebook is healthy where its perplexity is a good part of its size
"""

from pathlib import Path

from figures import Figure, Outcome, evaluated, main, pictures

from jaxgen import runs
from jaxgen.training import Options


def run(*, seeds: int = 3, workdir: Path) -> Outcome:
    path = workdir / "vq_vae"
    options = Options(epochs=100, learning_rate=2e-3, schedule="cosine", seeds=seeds)
    runs.train("vq_vae", {"hidden": (32,)}, data="digits", workdir=path, options=options)
    values, own = evaluated(path), "own measurement"
    errors = [v / 64 for v in values["squared_error"]]
    figures = [
        Figure("squared error a pixel, test, pixels in [0, 1]", errors, "", None, own),
        Figure("perplexity over the test split, 64 codes", values["perplexity"], "codes", None, own),
        Figure("codes used by the test split", values["usage"], "share", None, own),
    ]
    caption = "The first test digits, and what a grid of 4×4 codes keeps of them."
    return Outcome(figures, pictures(path, {"reconstructions": caption}))


if __name__ == "__main__":
    main(run)
