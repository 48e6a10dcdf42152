"""What a latent space knows of the data: I(x; z), the rate, and the aggregate posterior, of VAE, β-VAE and InfoVAE.

command:   python experiments/information.py
hardware:  two CPU cores
time:      2 minutes
expected:  I(x; z) 4.7 nats of a rate of 5.8 in the VAE; InfoVAE keeps more, and q(z) about as near to the prior
source:    own measurement; that the rate is I(x; z) + KL(q(z) ‖ p(z)) is exact (Hoffman and Johnson, 2016)

Digits as grey values, a Gaussian decoder of scale 0.3, eight latents, measured on the 1500 digits learned from
(q(z) is theirs). With N examples no estimate of I(x; z) exceeds log N = 7.3 nats. The weight λ = 100 of the MMD is a
choice: at 1000 its noise over a batch drowns the reconstruction, and every latent collapses.
"""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from figures import Figure, Outcome, main, pictures

from jaxgen import runs
from jaxgen.data import load
from jaxgen.losses import kl_decomposition, kl_diagonal_gaussian, maximum_mean_discrepancy
from jaxgen.training import Options

COMMON = {"latents": 8, "likelihood": "gaussian", "fixed_scale": 0.3, "hidden": (128, 128)}
MODELS = {
    "VAE": ("vae", {}),
    "β-VAE, β = 4": ("vae", {"beta": 4.0}),
    "InfoVAE, α = 1, λ = 100": ("info_vae", {"alpha": 1.0, "mmd_weight": 100.0}),
    "InfoVAE, α = 0.5, λ = 100": ("info_vae", {"alpha": 0.5, "mmd_weight": 100.0}),
}
DRAWS = 50


def measure(run: runs.Run, x: np.ndarray) -> dict[str, float]:
    """Rate, I(x; z) and KL(q(z) ‖ p(z)) in nats, and MMD² of q(z) from the prior, averaged over draws of z."""
    assert run.model.posterior is not None
    mean, logvar = run.model.posterior(run.params, run.statistics, x)

    @jax.jit
    def of_draw(key: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        own, prior = jax.random.normal(key, (2, *mean.shape))
        z = mean + jnp.exp(0.5 * logvar) * own
        terms = kl_decomposition(z, mean, logvar, dataset_size=len(mean), estimator="stratified")
        aggregate = terms.total_correlation + terms.dimension_wise_kl
        mmd = maximum_mean_discrepancy(z, prior, kernel="imq")
        return terms.mutual_information.mean(), aggregate.mean(), mmd

    found = np.mean([of_draw(jax.random.key(index)) for index in range(DRAWS)], axis=0)
    names = ("I(x; z)", "KL(q(z) ‖ p(z))", "MMD²")
    return dict(zip(names, map(float, found))) | {"rate": float(kl_diagonal_gaussian(mean, logvar).mean())}


def run(*, seeds: int = 3, workdir: Path) -> Outcome:
    digits = load("digits")
    x = (digits.train["x"] / digits.scale).astype(np.float32)
    options = Options(epochs=200, learning_rate=2e-3, schedule="cosine", seeds=seeds)
    found: dict[str, dict[str, list[float]]] = {}
    paths = {name: workdir / f"{index}-{model}" for index, (name, (model, _)) in enumerate(MODELS.items())}
    for name, (model, own) in MODELS.items():
        runs.train(model, COMMON | own, data="digits", workdir=paths[name], options=options)
        rows = [measure(runs.open_run(paths[name], index=index, which="last"), x) for index in range(seeds)]
        found[name] = {key: [row[key] for row in rows] for key in rows[0]}
    own, exact, figures = "own measurement", "exact: rate = I + KL(q(z) ‖ p(z))", []
    plain = {key: float(np.mean(values)) for key, values in found["VAE"].items()}
    for name, values in found.items():
        total = [a + b for a, b in zip(values["I(x; z)"], values["KL(q(z) ‖ p(z))"])]
        rate = float(np.mean(values["rate"]))
        figures.append(Figure(f"{name}: I(x; z) + KL(q(z) ‖ p(z))", total, "nats", rate, exact, 0.01 * rate))
        kept = Figure(f"{name}: I(x; z)", values["I(x; z)"], "nats", None, own)
        if "InfoVAE" in name:
            kept = kept._replace(reference=plain["I(x; z)"], source="the VAE's", tolerance=0.0, better="above")
        figures.append(kept)
        figures.append(Figure(f"{name}: MMD²", values["MMD²"], "", None, own))
    caption = "Latents of an InfoVAE, the mutual information unpenalized: the test digits by label."
    return Outcome(figures, pictures(paths["InfoVAE, α = 1, λ = 100"], {"latents": caption}))


if __name__ == "__main__":
    main(run)
