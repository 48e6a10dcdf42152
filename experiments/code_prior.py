"""A prior over the codes of a VQ-VAE: how many bits an image takes, and what its draws look like.

command:   python experiments/code_prior.py
hardware:  two CPU cores; for --scale full one GPU, and MNIST in TFDS_DATA_DIR
time:      3 minutes; full is not yet measured
expected:  codes compressed below the 96 bits of uniform ones (full: 441); a classifier reads the prior's draws with
           less doubt than uniform codes, and sees 8 of 10 classes or more in them
source:    own gates

log p(x) ≥ log p(x | codes) + log p(codes) at the codes of x, so −log₂ p(x | codes) − log₂ p(codes) is an upper bound of
the bits of an image, here of its grey levels: they are dequantized, and the likelihood is a Gaussian of the best scale.
Beside it stands the bound of a VAE with the same channels and likelihood, whose prior is fixed; how many parameters
each has is told.

The judge is a classifier that has seen real digits alone. The entropy of what it makes of one picture is its doubt. The
exponential of the entropy of its mean answer is how many classes it sees in all pictures together: 10 where they are
balanced, and as many where it doubts everything, so that it is read beside the doubt.
Codes drawn uniformly are codes that the decoder knows, next to others than it knows.
"""

from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from figures import Figure, Outcome, Scale, evaluated, main
from generated import Judge, num_parameters

from jaxgen import plots, runs
from jaxgen.apply import encode
from jaxgen.data import load
from jaxgen.losses import bits_per_dim
from jaxgen.priors import run_behind, with_prior
from jaxgen.training import Options

#: Draws that are judged, for each seed.
JUDGED = 1000


class Setting(NamedTuple):
    """What differs between the scales: the codes, the prior over them, the VAE beside them."""

    data: str
    quantizer: dict[str, Any]
    prior: dict[str, Any]
    latents: int
    options: Options
    prior_options: Options


SETTINGS: dict[Scale, Setting] = {
    "cpu": Setting(
        *("digits", {"hidden": (32,), "num_codes": 64}, {"features": 64, "layers": 2}, 10),
        Options(epochs=150, learning_rate=2e-3, schedule="cosine", dequantize=True),
        Options(steps=400, learning_rate=2e-3, schedule="cosine"),
    ),
    "full": Setting(
        *("mnist", {"hidden": (64, 64), "num_codes": 512}, {"features": 128, "layers": 4}, 32),
        Options(epochs=15, learning_rate=1e-3, schedule="cosine", dequantize=True),
        Options(epochs=15, learning_rate=1e-3, schedule="cosine"),
    ),
}


def draws(run: runs.Run, *, seed: int) -> np.ndarray:
    assert run.model.sample is not None
    sample = jax.jit(run.model.sample, static_argnums=3)
    return np.asarray(sample(run.params, run.statistics, jax.random.key(seed), JUDGED))


def run(*, seeds: int = 3, scale: Scale = "cpu", workdir: Path) -> Outcome:
    setting, judge, path = SETTINGS[scale], Judge(SETTINGS[scale].data), workdir / "vq_vae"
    options = setting.options._replace(seeds=seeds)
    runs.train("vq_vae", setting.quantizer, data=setting.data, workdir=path, options=options)
    arguments = {"network": "conv", "hidden": setting.quantizer["hidden"], "latents": setting.latents}
    arguments |= {"likelihood": "gaussian", "scale": "optimal", "importance_samples": 0}
    runs.train("vae", arguments, data=setting.data, workdir=workdir / "vae", options=options)
    found, doubts, shown = [], [], {}
    for seed in range(seeds):
        codes = encode(path, replica=seed, checkpoint="last", out=workdir / f"codes-{seed}.npz")
        folder = workdir / f"prior-{seed}"
        given = setting.prior_options._replace(seed=seed)
        runs.train("code_prior", setting.prior, data=str(codes), workdir=folder, options=given)
        found.append({name: values[0] for name, values in evaluated(folder).items()})
        prior = runs.open_run(folder, which="last")
        base = run_behind(prior)
        assert base is not None
        images = {"prior": draws(with_prior(base, prior), seed=seed), "uniform": draws(base, seed=seed)}
        doubts.append({name: judge.doubt(drawn) for name, drawn in images.items()})
        if not seed:
            shown = {
                name: plots.save(plots.samples(drawn[:64]), workdir / f"{name}.png") for name, drawn in images.items()
            }
    figures = of_bits(setting, evaluated(path), evaluated(workdir / "vae"), found)
    for name, folder in {"VQ-VAE": path, "its prior": workdir / "prior-0", "VAE": workdir / "vae"}.items():
        figures.append(Figure(f"parameters: {name}", [num_parameters(folder)], "", None, "own measurement"))
    figures += of_doubt(doubts, judge.doubt(np.asarray(load(setting.data).test["x"]) / load(setting.data).scale))
    captions = {"prior": "Codes drawn from the prior, decoded.", "uniform": "Codes drawn uniformly, decoded."}
    return Outcome(figures, {name: (caption, shown[name]) for name, caption in captions.items()})


def of_bits(
    setting: Setting, codes: dict[str, list[float]], vae: dict[str, list[float]], prior: list[dict[str, float]]
) -> list[Figure]:
    """What an image takes, in bits of its codes and in bits a dimension."""
    dataset, own = load(setting.data), "own measurement"
    dims, width = int(np.prod(dataset.shape)), 1 / (dataset.scale + 1)

    def a_dim(nats: Any, *, density: bool) -> list[float]:
        return np.atleast_1d(
            np.asarray(bits_per_dim(np.asarray(nats), dims, bin_width=width if density else 1.0))
        ).tolist()

    uniform = float(np.mean(codes["rate"]) / np.log(2))
    kept, rate = [p["nll"] for p in prior], [p["rate"] for p in prior]
    return [
        Figure(
            "codes under the prior", [p["code_bits"] for p in prior], "bits", uniform, "uniform codes", 0.0, "below"
        ),
        Figure("reconstruction", a_dim(kept, density=True), "bits/dim", None, own),
        Figure("codes", a_dim(rate, density=False), "bits/dim", None, own),
        Figure("VQ-VAE with its prior", [p["bits_per_dim"] for p in prior], "bits/dim", None, own),
        Figure("VQ-VAE with uniform codes", codes["bits_per_dim"], "bits/dim", None, own),
        Figure("VAE of the same channels", vae["bits_per_dim"], "bits/dim", None, own),
    ]


def of_doubt(doubts: list[dict[str, tuple[float, float]]], real: tuple[float, float]) -> list[Figure]:
    """How the judge reads draws: its doubt in nats, and the classes that it sees."""
    doubt, classes = ({name: [d[name][i] for d in doubts] for name in doubts[0]} for i in (0, 1))
    limit, own = float(np.mean(doubt["uniform"])), "own measurement"
    return [
        Figure("the judge's doubt: real digits", [real[0]], "nats", None, own),
        Figure("the judge's doubt: the prior", doubt["prior"], "nats", limit, "uniform codes", 0.0, "below"),
        Figure("the judge's doubt: uniform codes", doubt["uniform"], "nats", None, own),
        Figure("classes seen: real digits", [real[1]], "of 10", None, own),
        Figure("classes seen: the prior", classes["prior"], "of 10", 8.0, "own gate", 0.0, "above"),
        Figure("classes seen: uniform codes", classes["uniform"], "of 10", None, own),
    ]


if __name__ == "__main__":
    main(run)
