"""VAE on digits, binarized anew each time a digit is seen.

command:   python experiments/vae_digits.py
hardware:  two CPU cores
time:      3 minutes
expected:  −log p(x) 0 nats on the last 297 digits, with 500 importance samples
source:    own measurement; the data are small and standard, but no published figure is known to us
"""

from pathlib import Path

from figures import Figure, Outcome, Scale, evaluated, main

from jaxgen import plots, runs
from jaxgen.data import load
from jaxgen.runs import open_run
from jaxgen.training import Options


def run(*, seeds: int = 3, scale: Scale = "cpu", workdir: Path) -> Outcome:
    import jax

    options = Options(epochs=300, learning_rate=1e-3, schedule="cosine", seeds=seeds, binarize="dynamic")
    path = workdir / "vae"
    runs.train("vae", {"latents": 8, "importance_samples": 0}, data="digits", workdir=path, options=options)
    values = evaluated(path, importance_samples=500)
    own = "own measurement"
    figures = [
        Figure("−log p(x), 500 samples, test", [-v for v in values["log_px"]], "nats", None, own),
        Figure("ELBO, test", values["elbo"], "nats", None, own),
        Figure("KL to the prior, test", values["kl"], "nats", None, own),
    ]
    trained, digits = open_run(path), load("digits")
    originals = digits.test["x"][:16] / digits.scale
    drawn = trained.model.sample(trained.params, trained.statistics, jax.random.key(0), 64)
    made = trained.model.reconstruct(trained.params, trained.statistics, originals)
    return Outcome(
        figures,
        {
            "samples": ("Means of 64 draws from the prior, not chosen.", plots.samples(drawn)),
            "reconstructions": (
                "The first 16 test digits, grey, and what the model makes of them.",
                plots.reconstructions(originals, made),
            ),
        },
    )


if __name__ == "__main__":
    main(run)
