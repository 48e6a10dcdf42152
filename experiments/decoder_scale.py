"""How wide is the decoder's Gaussian? Fixed, learned and optimal scales on Frey's faces.

command:   JAXGEN_DATA=data python experiments/decoder_scale.py
hardware:  two CPU cores
time:      5 minutes
expected:  learned scales reach the bound of the best of 5 fixed ones; the learned σ² is the squared error within 2%
source:    Rybkin, Daniilidis and Levine, 2021, for the method; exact for σ² = E(x − x̂)², where its gradient is zero

JAXGEN_DATA names the folder that holds frey/frey_rawface.mat: 1965 frames of 28×20 grey pixels, of
cs.nyu.edu/~roweis/data.html. A tenth of the frames, drawn at random, is the test split. Values are divided by 255, and
log p is a density of these.
"""

import math
from pathlib import Path

import numpy as np
from figures import Figure, Outcome, evaluated, main, pictures
from files import faces

from jaxgen import runs
from jaxgen.training import Options
from jaxgen.writers import read_jsonl

GRID = (1.0, 0.3, 0.1, 0.05, 0.02)
LEARNED = ("shared", "per_dimension", "optimal")
PIXELS = 560


def run(*, seeds: int = 3, workdir: Path) -> Outcome:
    data = faces(workdir)
    common = {"latents": 16, "hidden": (200,), "likelihood": "gaussian"}
    options = Options(epochs=300, batch_size=100, learning_rate=5e-3, schedule="cosine", seeds=seeds)
    settings = {f"σ = {value:g}": {"scale": "fixed", "fixed_scale": value} for value in GRID}
    settings |= {name: {"scale": name} for name in LEARNED}
    found = {}
    for name, setting in settings.items():
        path = workdir / name.replace(" = ", "-").replace("σ", "fixed")
        runs.train("vae", {**common, **setting}, data=str(data), workdir=path, options=options)
        found[name] = evaluated(path)
    best = max(settings, key=lambda name: np.mean(found[name]["elbo"]) if name not in LEARNED else -math.inf)
    reference = float(np.mean(found[best]["elbo"]))
    own, grid = "own measurement", f"the best of the grid, {best}"
    figures = [Figure(f"{name}: ELBO", found[name]["elbo"], "nats", None, own) for name in settings if name != best]
    figures = [figure for figure in figures if figure.name.split(":")[0] not in LEARNED]
    figures += [Figure(f"{name}: ELBO", found[name]["elbo"], "nats", reference, grid, 0.0, "above") for name in LEARNED]
    # −log p(x|z) at σ is PIXELS·log(σ√2π) + ‖x − x̂‖²/(2σ²): its mean tells E‖x − x̂‖² over draws of z.
    logged = [point for point in read_jsonl(workdir / "shared" / "metrics.jsonl") if point["kind"] == "train"][-1]
    sigma, nll = np.array(logged["scale"]), np.array(logged["nll"])
    squared = 2 * sigma**2 * (nll - PIXELS * np.log(math.sqrt(2 * math.pi) * sigma))
    ratio = np.atleast_1d(PIXELS * sigma**2 / squared)
    figures.append(
        Figure("shared: σ² over the squared error a pixel, training", ratio.tolist(), "", 1.0, "exact", 0.02)
    )
    caption = "Test frames, and what the VAE that learned its σ makes of their codes."
    return Outcome(figures, pictures(workdir / "shared", {"reconstructions": caption}))


if __name__ == "__main__":
    main(run)
