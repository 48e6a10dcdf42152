"""A prior over the codes of a VQ-VAE: how many bits an image takes, and what its draws look like.

command:   TFDS_DATA_DIR=/path/to/sets python experiments/code_prior.py
hardware:  two CPU cores, MNIST and Fashion-MNIST in TFDS_DATA_DIR; for --scale full one GPU
time:      about 15 minutes (37 beside other work); full 10 minutes on an H200 that trained two other
           experiments beside it
expected:  codes compressed below the 96 bits of uniform ones (digits; the other sets: 441); a classifier reads the
           prior's draws with less doubt than uniform codes, and sees 8 of 10 classes or more in them
source:    own gates

log p(x) ≥ log p(x | codes) + log p(codes) at the codes of x, so −log₂ p(x | codes) − log₂ p(codes) is an upper bound of
the bits of an image, here of its grey levels: they are dequantized, and the likelihood is a Gaussian of the best scale.
Beside it stands the bound of a VAE with the same likelihood and as many parameters, within a tenth of them, as the
VQ-VAE and its prior have together.

The judge is a classifier that has seen real images of the set alone. The entropy of what it makes of one picture is its
doubt. The exponential of the entropy of its mean answer is how many classes it sees in all pictures together: 10 where
they are balanced, and as many where it doubts everything, so that it is read beside the doubt.
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
    """What differs between sets and scales: the codes, the prior over them, the VAE that has as many parameters."""

    data: str
    quantizer: dict[str, Any]
    prior: dict[str, Any]
    vae: dict[str, Any]
    options: Options
    prior_options: Options


#: In 600 updates, running counts of decay 0.99 hardly fall to the hundredth of a vector of the default.
REVIVED = {"revival": 1.0}
_SMALL = {"features": 64, "layers": 2}
_STEPS = Options(learning_rate=2e-3, schedule="cosine", batch_size=64)
_EPOCHS = Options(epochs=10, learning_rate=1e-3, schedule="cosine")


def _images(data: str) -> Setting:
    """MNIST, or a set of its kind, as far as two cores come in some minutes."""
    return Setting(
        *(data, {"hidden": (32, 32), "num_codes": 512, **REVIVED}, _SMALL, {"hidden": (35, 35), "latents": 32}),
        _STEPS._replace(steps=600, learning_rate=5e-3, dequantize=True),
        _STEPS._replace(steps=800),
    )


def _whole(data: str) -> Setting:
    return Setting(
        *(data, {"hidden": (64, 64), "num_codes": 512}, {"features": 128, "layers": 4}),
        {"hidden": (124, 124), "latents": 32},
        _EPOCHS._replace(dequantize=True),
        _EPOCHS,
    )


SETTINGS: dict[Scale, tuple[Setting, ...]] = {
    "cpu": (
        Setting(
            *("digits", {"hidden": (32,), "num_codes": 64}, _SMALL, {"hidden": (218,), "latents": 10}),
            Options(epochs=150, learning_rate=2e-3, schedule="cosine", dequantize=True),
            Options(steps=400, learning_rate=2e-3, schedule="cosine"),
        ),
        _images("mnist"),
        _images("fashion_mnist"),
    ),
    "full": (_whole("mnist"), _whole("fashion_mnist")),
}


def draws(run: runs.Run, *, seed: int) -> np.ndarray:
    assert run.model.sample is not None
    sample = jax.jit(run.model.sample, static_argnums=3)
    return np.asarray(sample(run.params, run.statistics, jax.random.key(seed), JUDGED))


def run(*, seeds: int = 3, scale: Scale = "cpu", workdir: Path) -> Outcome:
    figures, shown = [], {}
    for setting in SETTINGS[scale]:
        found = of_set(setting, seeds=seeds, workdir=workdir / setting.data)
        figures += found.figures
        shown |= found.pictures
    return Outcome(figures, shown)


def of_set(setting: Setting, *, seeds: int, workdir: Path) -> Outcome:
    """Figures and pictures of one data set, whose name they bear."""
    judge, path = Judge(setting.data), workdir / "vq_vae"
    options = setting.options._replace(seeds=seeds)
    runs.train("vq_vae", setting.quantizer, data=setting.data, workdir=path, options=options)
    arguments = {"network": "conv", "likelihood": "gaussian", "scale": "optimal", "importance_samples": 0}
    runs.train("vae", arguments | setting.vae, data=setting.data, workdir=workdir / "vae", options=options)
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
    drawn = {"prior": "Codes drawn from the prior, decoded", "uniform": "Codes drawn uniformly, decoded"}
    return Outcome(
        [figure._replace(name=f"{setting.data}: {figure.name}") for figure in figures],
        {f"{setting.data}-{name}": (f"{caption}: {setting.data}.", shown[name]) for name, caption in drawn.items()},
    )


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
        Figure("VAE of the same size", vae["bits_per_dim"], "bits/dim", None, own),
    ]


def of_doubt(doubts: list[dict[str, tuple[float, float]]], real: tuple[float, float]) -> list[Figure]:
    """How the judge reads draws: its doubt in nats, and the classes that it sees."""
    doubt, classes = ({name: [d[name][i] for d in doubts] for name in doubts[0]} for i in (0, 1))
    limit, own = float(np.mean(doubt["uniform"])), "own measurement"
    return [
        Figure("the judge's doubt: real images", [real[0]], "nats", None, own),
        Figure("the judge's doubt: the prior", doubt["prior"], "nats", limit, "uniform codes", 0.0, "below"),
        Figure("the judge's doubt: uniform codes", doubt["uniform"], "nats", None, own),
        Figure("classes seen: real images", [real[1]], "of 10", None, own),
        Figure("classes seen: the prior", classes["prior"], "of 10", 8.0, "own gate", 0.0, "above"),
        Figure("classes seen: uniform codes", classes["uniform"], "of 10", None, own),
    ]


if __name__ == "__main__":
    main(run)
