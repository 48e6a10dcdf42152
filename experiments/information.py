"""What a latent space knows of the data: I(x; z), the rate, and the aggregate posterior, of VAE, β-VAE and InfoVAE.

command:   python experiments/information.py
hardware:  two CPU cores
time:      about 2 minutes
expected:  I(x; z) and KL(q(z) ‖ p(z)) of two latents within 1% of the integral; InfoVAE's I(x; z) above the VAE's
source:    exact: q(z) of two latents on a grid; the rest is own measurement

The rate, the mean KL term, is I(x; z) + KL(q(z) ‖ p(z)) (Hoffman and Johnson, 2016): what a code tells of its example,
and how far all codes together are from the prior. Digits as grey values, a Gaussian decoder of scale 0.3, eight
latents, measured on the 1500 digits learned from (q(z) is theirs) by draws of z. A VAE of two latents holds these
estimates against I = h(q(z)) − E h(q(z|x)) and the divergence of q(z), both integrated numerically.

Of N examples I(x; z) is at most log N, here 7.31 nats. InfoVAE with α = 1 pays nothing for information and reaches
that cap; its rate goes on growing, and all of the rest is KL(q(z) ‖ p(z)), 26 nats where the VAE has 1.1, though the
squared MMD that it pays for is small, 0.0010 beside the VAE's 0.0007. With α = 0.5 it keeps 5.8 nats where the VAE has
4.7, at a KL(q(z) ‖ p(z)) of 1.7 and an MMD² of 0.0002. The weight λ = 100 of the MMD is a choice.

Read as an information bottleneck (Alemi et al., 2018) the loss trades the same two quantities: the rate bounds the
information about x that the code keeps, the distortion is what is lost of the relevant, which here is x itself, and β
is the price of the one in the other. rate_distortion.py draws that curve.
"""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from figures import Figure, Outcome, main, pictures

from jaxgen import runs
from jaxgen.data import load
from jaxgen.losses import kl_decomposition, maximum_mean_discrepancy
from jaxgen.training import Options

COMMON = {"latents": 8, "likelihood": "gaussian", "fixed_scale": 0.3, "hidden": (128, 128)}
MODELS = {
    "VAE": ("vae", {}),
    "VAE of 2 latents": ("vae", {"latents": 2}),
    "β-VAE, β = 4": ("vae", {"beta": 4.0}),
    "InfoVAE, α = 1, λ = 100": ("info_vae", {"alpha": 1.0, "mmd_weight": 100.0}),
    "InfoVAE, α = 0.5, λ = 100": ("info_vae", {"alpha": 0.5, "mmd_weight": 100.0}),
}
TERMS = ("I(x; z)", "KL(q(z) ‖ p(z))")
DRAWS, POINTS = 50, 2000


def integrated(mean: np.ndarray, logvar: np.ndarray) -> dict[str, float]:
    """I(x; z) and KL(q(z) ‖ p(z)) in nats of two latents, q(z) = mean of q(z|x) on a grid.

    Args:
      mean: [examples, 2], of the posteriors.
      logvar: likewise.
    """
    from scipy.special import xlogy
    from scipy.stats import norm

    deviation = np.exp(logvar / 2)
    low, high = (mean - 7 * deviation).min(axis=0), (mean + 7 * deviation).max(axis=0)
    axes = np.linspace(low, high, POINTS)
    # Both dimensions of a posterior are independent: the grid of densities is a product of two matrices.
    along = [norm.pdf(axes[:, [d]], mean[:, d], deviation[:, d]) for d in range(2)]
    q = along[0] @ along[1].T / len(mean)
    cell = np.prod((high - low) / (POINTS - 1))
    entropy = -xlogy(q, q).sum() * cell
    of_posteriors = np.log(2 * np.pi * np.e) + np.log(deviation).sum(axis=1).mean()
    log_prior = norm.logpdf(axes[:, 0])[:, None] + norm.logpdf(axes[:, 1])
    return dict(zip(TERMS, (float(entropy - of_posteriors), float(-entropy - (q * log_prior).sum() * cell))))


def posterior(run: runs.Run, x: np.ndarray) -> tuple[jax.Array, jax.Array]:
    assert run.model.posterior is not None
    return run.model.posterior(run.params, run.statistics, x)


def measure(mean: jax.Array, logvar: jax.Array) -> dict[str, float]:
    """I(x; z) and KL(q(z) ‖ p(z)) in nats, and MMD² of q(z) from the prior, averaged over draws of z."""

    @jax.jit
    def of_draw(key: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        own, prior = jax.random.normal(key, (2, *mean.shape))
        z = mean + jnp.exp(0.5 * logvar) * own
        terms = kl_decomposition(z, mean, logvar, dataset_size=len(mean), estimator="stratified")
        aggregate = terms.total_correlation + terms.dimension_wise_kl
        mmd = maximum_mean_discrepancy(z, prior, kernel="imq")
        return terms.mutual_information.mean(), aggregate.mean(), mmd

    found = np.mean([of_draw(jax.random.key(index)) for index in range(DRAWS)], axis=0)
    return dict(zip((*TERMS, "MMD²"), map(float, found)))


def run(*, seeds: int = 3, workdir: Path) -> Outcome:
    digits = load("digits")
    x = (digits.train["x"] / digits.scale).astype(np.float32)
    options = Options(epochs=200, learning_rate=2e-3, schedule="cosine", seeds=seeds)
    found: dict[str, dict[str, list[float]]] = {}
    paths = {name: workdir / f"{index}-{model}" for index, (name, (model, _)) in enumerate(MODELS.items())}
    exact: dict[str, float] = {}
    for name, (model, own) in MODELS.items():
        runs.train(model, COMMON | own, data="digits", workdir=paths[name], options=options)
        replicas = [posterior(runs.open_run(paths[name], index=index, which="last"), x) for index in range(seeds)]
        rows = [measure(*q) for q in replicas]
        found[name] = {key: [row[key] for row in rows] for key in rows[0]}
        if own.get("latents") == 2:
            integrals = [integrated(*(np.asarray(a, np.float64) for a in q)) for q in replicas]
            exact = {f"{name}: {key}": float(np.mean([values[key] for values in integrals])) for key in TERMS}
    figures, informed = [], float(np.mean(found["VAE"]["I(x; z)"]))
    for name, values in found.items():
        for key, row in values.items():
            figure = Figure(f"{name}: {key}", row, "nats" if key in TERMS else "", None, "own measurement")
            if figure.name in exact:
                value = exact[figure.name]
                figure = figure._replace(reference=value, source="exact: q(z) on a grid", tolerance=0.01 * value)
            elif "InfoVAE" in name and key == "I(x; z)":
                figure = figure._replace(reference=informed, source="the VAE's", tolerance=0.0, better="above")
            figures.append(figure)
    caption = "Latents of an InfoVAE, the mutual information unpenalized: the test digits by label."
    return Outcome(figures, pictures(paths["InfoVAE, α = 1, λ = 100"], {"latents": caption}))


if __name__ == "__main__":
    main(run)
