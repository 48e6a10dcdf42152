"""What people do with a run: its figures, samples, and one self-contained page of pictures."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxgen import plots
from jaxgen.data import Dataset, load
from jaxgen.errors import UserError
from jaxgen.folder import read_config, write_json
from jaxgen.losses import bits_per_dim
from jaxgen.page import FigureRow, Picture, format_figure, render_page
from jaxgen.pictures import Shown, curves, last_part, pictures, sample_figure
from jaxgen.runs import Run, Which, compilation_cache, open_run, preparation
from jaxgen.training import evaluate as evaluation
from jaxgen.training.devices import Devices, replicate
from jaxgen.training.feed import num_bytes
from jaxgen.writers import read_jsonl

#: What an evaluated name means: its unit and how it was had.
MEANINGS: dict[str, tuple[str, str]] = {
    "log_px": ("nats", "log p(x), importance-weighted estimate with {importance_samples} samples"),
    "elbo": ("nats", "evidence lower bound"),
    "bits_per_dim": ("bits/dim", "of the data's own levels, from the bound on log p(x)"),
    "nll": ("nats", "−log p(x | code), the distortion"),
    "kl": ("nats", "KL(q(z|x) ‖ p(z)), the rate"),
    "rate": ("nats", "of the code"),
    "distortion": ("nats", "−log p(x | code)"),
    "loss": ("nats", "the objective that the best checkpoint minimizes"),
    "active_units": ("latents", "whose mean varies by more than 0.01 over the data"),
    "squared_error": ("", "of the reconstruction, summed over an example"),
    "commitment": ("", "squared distance of encodings to their codes, summed over an example"),
    "perplexity": ("codes", "exp entropy of the codes over the whole split"),
    "usage": ("share", "of the codebook that the split uses"),
    "dead_codes": ("codes", "that the split never uses"),
    "modes": ("modes", "with a sample within 3 σ, of 2500 samples"),
    "high_quality": ("share", "of 2500 samples within 3 σ of a mode"),
    "reverse_kl": ("nats", "of the modes' histogram to uniform"),
    "accuracy_real": ("share", "of real examples that the discriminator takes for real; ½ at equilibrium"),
    "accuracy_fake": ("share", "of generated examples that it takes for generated; ½ at equilibrium"),
    "value": (
        "",
        "of the game, minus the discriminator's loss; −log 4 at the equilibrium of minimax and non-saturating",
    ),
}


def evaluate(path: str | Path, *, which: Which = "best", importance_samples: int | None = None) -> list[FigureRow]:
    """Figures of a run on its test split, over all its replicas; written to ``evaluation.json``.

    Args:
      path: the run's folder.
      which: checkpoint, "best" or "last".
      importance_samples: instead of the run's own number.

    Raises:
      UserError: if the folder is not a trained run, or the model estimates no log p(x).
    """
    compilation_cache()
    config = read_config(Path(path))
    overrides = {} if importance_samples is None else {"importance_samples": importance_samples}
    if overrides and "importance_samples" not in config["arguments"]:
        raise UserError(f"{config['model']} has no --importance-samples: it gives no estimate of log p(x)")
    run, dataset = open_run(path, index=None, which=which, overrides=overrides), _dataset(config)
    figures = _evaluate(run, dataset)
    if config["options"]["dequantize"]:
        figures |= _bits(figures, dataset)
    arguments = {**config["arguments"], **overrides}
    content = {"step": run.step, "checkpoint": run.which, "split": "test", "examples": len(dataset.test["x"])}
    write_json(run.path / "evaluation.json", {**content, "arguments": arguments, "figures": figures})
    return figure_rows(figures, arguments)


def _dataset(config: Mapping[str, Any]) -> Dataset:
    data = config["data"]
    dataset = load(data["name"], data_dir=config["data_dir"], seed=config["options"]["seed"], scale=data["scale"])
    if dataset.fingerprint != data["fingerprint"]:
        raise UserError(
            f"the data {dataset.name!r} changed since training: its fingerprint was {data['fingerprint']} "
            f"and is now {dataset.fingerprint}; give back the old data or train again"
        )
    return dataset


def _evaluate(run: Run, dataset: Dataset) -> evaluation.Figures:
    """Figures of all replicas, as the trainer takes them; devices are as many as are here, which changes no figure."""
    options = run.config["options"]
    replicas, resident = options["seeds"], num_bytes(dataset.test) <= options["memory_budget"] * 2**20
    devices = Devices(jax.local_devices(), replicas)
    evaluator = evaluation.Evaluator(run.model, dataset.test, preparation(run.config), devices, resident=resident)
    learned = run.params, run.statistics
    figures = evaluation.summarize(run.model, evaluator(*replicate(learned, devices)), replicas=replicas)
    return figures | evaluation.coverage(run.model, dataset, *learned, replicas=replicas)


def _bits(figures: Mapping[str, Any], dataset: Dataset) -> dict[str, Any]:
    """Bits per dimension of the data's own levels, from the best bound on log p(x) that there is."""
    bound = figures.get("log_px", figures.get("elbo"))
    if bound is None:
        return {}
    bits = bits_per_dim(-np.asarray(bound), int(np.prod(dataset.shape)), bin_width=1 / (dataset.scale + 1))
    return {"bits_per_dim": np.asarray(bits).tolist()}


def figure_rows(figures: Mapping[str, Any], arguments: Mapping[str, Any]) -> list[FigureRow]:
    """Figures as rows of a table, the known ones first; vectors are left to the pictures."""
    scalars = [name for name in figures if not last_part(name).isdigit()]
    order = {name: position for position, name in enumerate(MEANINGS)}
    names = sorted(scalars, key=lambda name: order.get(last_part(name), len(order)))
    rows = []
    for name in names:
        values = np.atleast_1d(np.asarray(figures[name], np.float64))
        spread = float(values.std(ddof=1)) if len(values) > 1 else None
        unit, note = MEANINGS.get(last_part(name), ("", ""))
        rows.append(FigureRow(name, float(values.mean()), spread, unit, note.format_map(_Missing(arguments))))
    return rows


class _Missing(dict):
    def __missing__(self, key: str) -> str:
        return "?"


def figure_text(row: FigureRow) -> str:
    """A row as the command line prints it."""
    return " ".join(part for part in (format_figure(row.value, row.spread), row.unit) if part)


def sample(
    path: str | Path, *, num: int, seed: int = 0, index: int = 0, which: Which = "best", out: Path | None = None
) -> list[Path]:
    """Writes samples of a run as ``.npz`` and, where they can be drawn, as a picture beside it.

    Raises:
      UserError: if the model does not sample, or fewer than one is asked for.
    """
    compilation_cache()
    if num < 1:
        raise UserError(f"--num must be at least 1, got {num}")
    run = open_run(path, index=index, which=which)
    if run.model.sample is None:
        raise UserError(f"{run.config['model']} is not a generative model: it does not sample")
    shown = Shown(run, _dataset(run.config))
    values = shown.sample(num, seed=seed)
    target = Path(out) if out else Path(path) / "samples.npz"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        np.savez(target, x=values)
        written = [target.with_suffix(".npz")]
        if shown.drawable:
            written.append(plots.save(sample_figure(shown, values[:100]), target.with_suffix(".png")))
    except OSError as error:
        raise UserError(f"{target} cannot be written ({error.strerror}); give another --out") from error
    return written


def write(path: str | Path, *, index: int = 0, which: Which = "best") -> Path:
    """Draws a run's pictures and writes its page.

    Args:
      path: the run's folder.
      index: the replica that the pictures show; curves and figures cover all.
      which: checkpoint, "best" or "last".

    Returns:
      The page, ``report.html`` in the run's folder.
    """
    compilation_cache()
    path, run = Path(path), open_run(path, index=index, which=which)
    shown, history = Shown(run, _dataset(run.config)), read_jsonl(path / "metrics.jsonl")
    evaluated = [p for p in history if p["kind"] == "evaluate" and p["step"] <= run.step]
    figures = {k: v for k, v in (evaluated[-1] if evaluated else {}).items() if k not in ("step", "kind", "time")}
    target, shots = path / "report.html", []
    try:
        for name, title, caption, section, figure in [*curves(history), *pictures(shown, figures)]:
            png = plots.save(figure, path / "plots" / f"{name}.png")
            shots.append(Picture(title, caption, png, f"{title}: {caption}", section))
        page = render_page(
            title=f"{run.config['model']} on {Path(run.config['data']['name']).name}",
            subtitle=_subtitle(shown, index),
            facts=_facts(shown, history),
            figures=figure_rows(figures, run.config["arguments"]),
            pictures=shots,
            command=run.config["command"],
            details=_details(run.config),
        )
        target.write_text(page, encoding="utf-8")
    except OSError as error:
        raise UserError(f"the report in {path} cannot be written ({error.strerror}); free space there") from error
    return target


def _subtitle(shown: Shown, index: int) -> str:
    replicas = shown.run.config["options"]["seeds"]
    several = f" Figures are mean ± standard deviation over {replicas} seeds;" if replicas > 1 else ""
    whose = f" pictures show replica {index}." if replicas > 1 else ""
    return f"Figures and pictures of the {shown.run.which} checkpoint, step {shown.run.step:,}.{several}{whose}"


def _facts(shown: Shown, history: list[dict[str, Any]]) -> list[tuple[str, str]]:
    options, dataset = shown.run.config["options"], shown.dataset
    count = sum(np.size(leaf) for leaf in jax.tree.leaves(shown.run.params))
    return [
        (
            "data",
            f"{len(dataset.train['x']):,} train, {len(dataset.test['x']):,} test, {'×'.join(map(str, dataset.shape))}",
        ),
        ("steps", f"{max((p['step'] for p in history), default=0):,} of batch {options['batch_size']}"),
        ("parameters", f"{count:,}"),
        ("seeds", str(options["seeds"]) if options["seeds"] > 1 else str(options["seed"])),
    ]


def _details(config: Mapping[str, Any]) -> dict[str, str]:
    arguments = {k: v for k, v in config["arguments"].items() if k != "shape"}
    return {
        "model": ", ".join(f"{k}={v}" for k, v in arguments.items()),
        "training": ", ".join(f"{k}={v}" for k, v in config["options"].items()),
        "data fingerprint": config["data"]["fingerprint"],
        "devices": config["devices"],
        "versions": ", ".join(f"{k} {v}" for k, v in config["versions"].items()),
        "revision": config["revision"] or "not recorded",
        "started": config["started"],
    }
