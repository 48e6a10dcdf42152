"""Linear VAE against probabilistic PCA, on all 1797 digits.

command:   python experiments/linear_vae.py
hardware:  two CPU cores
time:      2 to 3 minutes
expected:  ELBO 0.0057 nats an image with 2 latents and 17.4519 with 10, within 0.01
source:    exact: scikit-learn's PCA.score, the maximum log-likelihood (Tipping and Bishop, 1999)

With a linear encoder and decoder and one learned σ, the best ELBO is the maximum likelihood of probabilistic PCA
(Lucas et al., 2019): the posterior is Gaussian, and diagonal once the latents turn to the principal axes. That turn is
slow, hence the high rate, the whole set as one batch and a rate that falls to zero.
"""

from pathlib import Path

from figures import Figure, Outcome, evaluated, main, pictures
from files import ALL, digits_file

from jaxgen import runs
from jaxgen.training import Options

TOLERANCE = 0.01


def run(*, seeds: int = 3, workdir: Path) -> Outcome:
    from sklearn.decomposition import PCA

    data, rows, _ = digits_file(workdir, train=ALL, test=ALL)
    options = Options(batch_size=len(rows), learning_rate=3e-2, schedule="cosine", seeds=seeds, log_every=500)
    figures = []
    for latents, steps in ((2, 6000), (10, 12_000)):
        arguments = {
            "latents": latents,
            "hidden": (),
            "likelihood": "gaussian",
            "scale": "shared",
            "importance_samples": 1,
        }
        path = workdir / f"latents-{latents}"
        runs.train("vae", arguments, data=str(data), workdir=path, options=options._replace(steps=steps))
        best = float(PCA(latents).fit(rows).score(rows))
        source = "exact: PPCA, sklearn PCA.score"
        # One importance sample estimates the ELBO without bias, and without noise where the posterior is exact.
        for name, samples in (("ELBO", 1), ("log p(x), 64 samples", 64)):
            values = evaluated(path, importance_samples=samples)["log_px"]
            figures.append(Figure(f"{name}, {latents} latents", values, "nats", best, source, TOLERANCE))
    caption = "Means of 64 draws from the linear model with 10 latents: what a Gaussian can say about digits."
    return Outcome(figures, pictures(workdir / "latents-10", {"samples": caption}))


if __name__ == "__main__":
    main(run)
