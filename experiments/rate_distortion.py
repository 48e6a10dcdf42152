"""β-VAEs against Shannon: rate and distortion over β, and the latents that collapse one after another.

command:   python experiments/rate_distortion.py
hardware:  two CPU cores
time:      6 minutes
expected:  the linear model within 0.2% of Shannon's D/2 + βR and of as many active units; a network below
source:    exact: reverse water-filling (Cover and Thomas, Elements of Information Theory, theorem 10.3.3)

With a Gaussian decoder of scale 1 the loss is D/2 + β R, for D = E‖x − x̂‖² and R the KL term in nats. A linear model's
optimum is Shannon's: where λ are the variances along the principal axes of the data, R = Σ ½ log(λ/β) over λ > β and
D = Σ min(λ, β). An axis with less variance than β is not worth its rate, and its latent collapses. Both models learn
all 1797 digits and are measured on them. The linear one bears its whole KL term from the start: a warm-up lets all
latents share the axes first, and the weakest axis, which is worth least, is gathered into one latent last. In one run
of twelve two latents still share it at the end.
"""

import math
from pathlib import Path

import numpy as np
from figures import Figure, Outcome, evaluated, main
from files import ALL, digits_file
from matplotlib.figure import Figure as MatplotlibFigure

from jaxgen import runs
from jaxgen.plots import save
from jaxgen.plots._style import LINES, WIDTH, styled
from jaxgen.training import Options

#: Each between two variances of the data that are 18% apart or more, so that no axis is on the verge.
BETAS = (0.053, 0.127, 0.25, 0.47)
LATENTS = 20
MODELS = {"linear": (), "network": (128, 128)}

Measured = dict[str, dict[str, np.ndarray]]  # [β, seeds] by quantity, by model; "kl" is [β, seeds, latents]


def water_filling(variances: np.ndarray, level: float) -> tuple[float, float, int]:
    """Rate in nats, distortion, and the axes that have a rate, of a Gaussian source."""
    active = variances > level
    return (
        0.5 * float(np.log(variances[active] / level).sum()),
        float(np.minimum(variances, level).sum()),
        int(active.sum()),
    )


def expected_distortion(run: runs.Run, images: np.ndarray) -> float:
    """D of a linear model without drawing: ‖x − x̂(μ)‖² + Σ σ_d² ‖w_d‖², a mean over the images."""
    model, learned = run.model, (run.params, run.statistics)
    assert model.posterior is not None
    assert model.decode is not None
    mean, logvar = model.posterior(*learned, images)
    basis = np.concatenate([np.zeros((1, LATENTS)), np.eye(LATENTS)]).astype(np.float32)
    columns = np.asarray(model.decode(*learned, basis), np.float64).reshape(len(basis), -1)
    lengths = np.square(columns[1:] - columns[0]).sum(axis=1)
    errors = np.square(images - np.asarray(model.decode(*learned, mean))).reshape(len(images), -1).sum(axis=1)
    return float(errors.mean() + (np.exp(np.asarray(logvar, np.float64)) @ lengths).mean())


def measure(data: Path, rows: np.ndarray, workdir: Path, *, seeds: int) -> Measured:
    measured: Measured = {}
    images = rows.astype(np.float32).reshape(-1, 8, 8, 1)
    for name, hidden in MODELS.items():
        found = []
        for beta in BETAS:
            path = workdir / f"{name}-{beta:g}"
            model = {"latents": LATENTS, "hidden": hidden, "likelihood": "gaussian", "beta": beta}
            options = Options(steps=3000, batch_size=599, learning_rate=5e-3, schedule="cosine", seeds=seeds)
            if name == "linear":
                options = options._replace(steps=8000, batch_size=len(rows), learning_rate=3e-2)
            model |= {"kl_warmup": 0 if name == "linear" else 500, "importance_samples": 0}
            runs.train("vae", model, data=str(data), workdir=path, options=options)
            values = evaluated(path)
            distortion = 2 * (np.array(values["nll"]) - 32 * math.log(2 * math.pi))
            if name == "linear":
                opened = [runs.open_run(path, index=index, which="last") for index in range(seeds)]
                distortion = [expected_distortion(run, images) for run in opened]
            # A latent has no fixed place: those of a replica are compared by their order.
            spectrum = np.sort([values[f"kl_dim/{latent:02d}"] for latent in range(LATENTS)], axis=0)[::-1].T
            found.append(
                {"rate": values["kl"], "active": values["active_units"], "distortion": distortion, "kl": spectrum}
            )
        measured[name] = {key: np.array([values[key] for values in found]) for key in found[0]}
    return measured


def figures(measured: Measured, variances: np.ndarray) -> list[Figure]:
    linear, network = measured["linear"], measured["network"]
    exact, rows = "exact: reverse water-filling", []
    for index, beta in enumerate(BETAS):
        rate, distortion, active = water_filling(variances, beta)
        loss = distortion / 2 + beta * rate
        ours = (linear["distortion"] / 2 + beta * linear["rate"])[index]
        of = f"linear, β = {beta:g}:"
        rows += [
            Figure(f"{of} D/2 + βR", ours.tolist(), "", loss, exact, 2e-3 * loss),
            Figure(f"{of} rate", linear["rate"][index].tolist(), "nats", rate, exact, 0.02 * rate),
            Figure(f"{of} active units", linear["active"][index].tolist(), "", active, exact, 0.5),
        ]
    for index, beta in enumerate(BETAS):
        rate, distortion, _ = water_filling(variances, beta)
        loss = distortion / 2 + beta * rate
        ours = (network["distortion"] / 2 + beta * network["rate"])[index]
        rows.append(Figure(f"network, β = {beta:g}: D/2 + βR", ours.tolist(), "", loss, exact, 0.0, "below"))
    return rows


@styled()
def picture(measured: Measured, variances: np.ndarray) -> MatplotlibFigure:
    """Distortion against rate, above; active units against β, below."""
    figure = MatplotlibFigure(figsize=(WIDTH, 1.15 * WIDTH), layout="constrained")
    curve, units = figure.subplots(2, 1)
    levels = np.geomspace(BETAS[0] / 1.5, BETAS[-1] * 1.5, 400)
    rates, distortions, counts = np.array([water_filling(variances, level) for level in levels]).T
    curve.plot(rates, distortions, color="#8a949e", linewidth=1.3)
    curve.annotate("Shannon's curve of a Gaussian", (rates[250], distortions[250]), (6, 4), textcoords="offset points")
    units.step(levels, counts, color="#8a949e", linewidth=1.3)
    units.annotate("axes with more variance than β", (levels[60], counts[60]), (6, 4), textcoords="offset points")
    for (name, values), color in zip(measured.items(), LINES):
        look = {"color": color, "marker": "o", "markersize": 4.5, "linestyle": "none" if name == "linear" else "-"}
        label = f"{name} β-VAE"
        curve.plot(values["rate"].mean(axis=1), values["distortion"].mean(axis=1), label=label, **look)
        spread = values["active"].std(axis=1, ddof=1) if values["rate"].shape[1] > 1 else None
        units.errorbar(BETAS, values["active"].mean(axis=1), spread, label=label, **look)
    curve.set(xlabel="rate R, nats an image", ylabel="distortion D", ylim=(0, None))
    units.set(xlabel="β", ylabel="active units", xscale="log")
    units.set_xticks(BETAS, [f"{beta:g}" for beta in BETAS])
    units.set_xticks([], minor=True)
    for axes in (curve, units):
        axes.grid(True)
        axes.legend()
    return figure


@styled()
def spectra(measured: Measured, variances: np.ndarray) -> MatplotlibFigure:
    """KL term of each latent, largest first: a panel for each model, a line for each β, the exact one below it."""
    figure = MatplotlibFigure(figsize=(WIDTH, 1.15 * WIDTH), layout="constrained")
    panels = figure.subplots(2, 1, sharex=True, sharey=True)
    rank, largest = np.arange(1, LATENTS + 1), np.sort(variances)[::-1][:LATENTS]
    for axes, (name, values) in zip(panels, measured.items()):
        for row, (beta, color) in enumerate(zip(BETAS, LINES)):
            if name == "linear":
                exact = 0.5 * np.log(np.maximum(largest / beta, 1.0))
                axes.plot(rank, exact, color=color, linewidth=5, alpha=0.25)
            mean = values["kl"][row].mean(axis=0)
            axes.plot(rank, mean, color=color, marker="o", markersize=3.5, linewidth=1.2, label=f"β = {beta:g}")
        axes.set(ylabel="KL, nats")
        axes.set_title(f"{name} β-VAE", loc="left", fontsize=10.5)
        axes.grid(True)
        axes.legend()
    panels[-1].set(xlabel="latent, by its KL", ylim=(0, None), xticks=[1, 5, 10, 15, 20])
    return figure


def run(*, seeds: int = 3, workdir: Path) -> Outcome:
    data, rows, _ = digits_file(workdir, train=ALL, test=ALL)
    variances = np.linalg.eigvalsh(np.cov(rows.T, bias=True))
    measured = measure(data, rows, workdir, seeds=seeds)
    caption = (
        "Rate and distortion of β-VAEs on digits. The linear one lies on Shannon's curve for a Gaussian of the same "
        "covariance, and keeps as many latents as axes have more variance than β; a network needs less rate."
    )
    shots = {"curve": (caption, save(picture(measured, variances), workdir / "curve.png"))}
    caption = (
        "KL term of each latent, largest first, the mean over seeds. As β grows latents collapse one after another; "
        "the wide lines are Shannon's ½ log(λ/β) for an axis of variance λ."
    )
    shots["spectrum"] = (caption, save(spectra(measured, variances), workdir / "spectrum.png"))
    return Outcome(figures(measured, variances), shots)


if __name__ == "__main__":
    main(run)
