"""VAEs on digits: the demo's, and one on bits that are drawn anew each time a digit is seen.

command:   python experiments/vae_digits.py
hardware:  two CPU cores
time:      1 minute
expected:  −log p(x) 22.2 nats on bits; log p(x) on grey values above 0, where probabilistic PCA stays
source:    own measurement; exact for probabilistic PCA, scikit-learn's PCA.score

Both learn the first 1500 digits and are judged on the last 297.
"""

from pathlib import Path

from figures import Figure, Outcome, evaluated, main, pictures

from jaxgen import runs
from jaxgen.data import load
from jaxgen.training import Options

DEMO = {"latents": 2, "likelihood": "gaussian", "scale": "shared"}


def linear_log_likelihood(latents: int) -> float:
    """Test log-likelihood of the best linear-Gaussian model, in nats an image."""
    from sklearn.decomposition import PCA

    digits = load("digits")
    train, test = (split["x"].reshape(-1, 64) / digits.scale for split in (digits.train, digits.test))
    return float(PCA(latents).fit(train).score(test))


def run(*, seeds: int = 3, workdir: Path) -> Outcome:
    demo, bits = workdir / "demo", workdir / "bits"
    options = Options(epochs=200, learning_rate=2e-3, schedule="cosine", seeds=seeds)
    runs.train("vae", DEMO, data="digits", workdir=demo, options=options)
    options = Options(epochs=300, schedule="cosine", seeds=seeds, binarize="dynamic")
    runs.train("vae", {"latents": 8}, data="digits", workdir=bits, options=options)
    of_demo, of_bits = (evaluated(path, importance_samples=500) for path in (demo, bits))
    linear = ("PPCA with 2 latents, sklearn PCA.score", 0.0, "above")
    own = "own measurement"
    figures = [
        Figure("demo: log p(x), grey, 2 latents", of_demo["log_px"], "nats", linear_log_likelihood(2), *linear),
        Figure("bits: −log p(x), 8 latents", [-v for v in of_bits["log_px"]], "nats", None, own),
        Figure("bits: ELBO", of_bits["elbo"], "nats", None, own),
        Figure("bits: KL to the prior", of_bits["kl"], "nats", None, own),
    ]
    captions = {
        "carpet": "What the demo's decoder makes of the plane of its two latents.",
        "latents": "The demo's latents of the 297 test digits: the labels were never seen.",
    }
    return Outcome(figures, pictures(demo, captions))


if __name__ == "__main__":
    main(run)
