"""What people do with a run: its figures, samples, and one self-contained page of pictures."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from jaxgen import plots
from jaxgen.data import Dataset, load
from jaxgen.data.prepare import make_prepare
from jaxgen.errors import UserError
from jaxgen.losses import bits_per_dim
from jaxgen.model import example_keys
from jaxgen.page import FigureRow, Picture, format_figure, render_page
from jaxgen.runs import Run, compilation_cache, open_run, read_config, write_json
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


class _Shown(NamedTuple):
    """A run, its data, and the first test examples in network units."""

    run: Run
    dataset: Dataset
    x: np.ndarray
    labels: np.ndarray | None

    def apply(self, function: Callable[..., Any], *arguments: Any) -> np.ndarray:
        return np.asarray(function(self.run.params, self.run.statistics, *arguments))

    @property
    def images(self) -> bool:
        return len(self.dataset.shape) == 3 and self.dataset.shape[-1] in (1, 3)

    @property
    def drawable(self) -> bool:
        return self.images or self.dataset.shape == (2,)


def _dataset(config: Mapping[str, Any]) -> Dataset:
    data = config["data"]
    dataset = load(data["name"], data_dir=config["data_dir"], seed=config["options"]["seed"], scale=data["scale"])
    if dataset.fingerprint != config["data"]["fingerprint"]:
        raise UserError(
            f"the data {dataset.name!r} changed since training: its fingerprint was {config['data']['fingerprint']} "
            f"and is now {dataset.fingerprint}; give back the old data or train again"
        )
    return dataset


def _prepare(dataset: Dataset, config: Mapping[str, Any]):
    options = config["options"]
    return make_prepare(scale=dataset.scale, binarize=options["binarize"], dequantize=options["dequantize"])


def evaluate(path: str | Path, *, which: str = "best", importance_samples: int | None = None) -> list[FigureRow]:
    """Figures of a run on its test split, over all its replicas; written to ``evaluation.json``.

    Args:
      path: the run's folder.
      which: checkpoint, "best" or "last".
      importance_samples: instead of the run's own number.

    Raises:
      UserError: if the folder is not a trained run, or the model estimates no log p(x).
    """
    compilation_cache()
    path = Path(path)
    config = read_config(path)
    overrides = {} if importance_samples is None else {"importance_samples": importance_samples}
    if overrides and "importance_samples" not in config["arguments"]:
        raise UserError(f"{config['model']} has no --importance-samples: it gives no estimate of log p(x)")
    dataset = _dataset(config)
    prepare, resident = _prepare(dataset, config), num_bytes(dataset.test) <= config["options"]["memory_budget"] * 2**20
    devices = Devices(jax.local_devices()[:1])
    rows, step, which_found, evaluator = [], 0, which, None
    for index in range(config["options"]["seeds"]):
        run = open_run(path, index=index, which=which, overrides=overrides)
        step, which_found = run.step, run.which
        evaluator = evaluator or evaluation.Evaluator(run.model, dataset.test, prepare, devices, resident=resident)
        means = evaluator(*replicate((run.params, run.statistics), devices))
        figures = evaluation.summarize(run.model, means, replicas=1)
        rows.append({**figures, **evaluation.coverage(run.model, dataset, run.params, run.statistics)})
    merged = {name: [row[name] for row in rows] if len(rows) > 1 else rows[0][name] for name in rows[0]}
    if config["options"]["dequantize"]:
        bound = merged.get("log_px", merged.get("elbo"))
        if bound is not None:
            width, dims = 1 / (dataset.scale + 1), int(np.prod(dataset.shape))
            bits = np.asarray(bits_per_dim(-np.asarray(bound), dims, bin_width=width))
            merged["bits_per_dim"] = bits.tolist()
    arguments = {**config["arguments"], **overrides}
    content = {"step": step, "checkpoint": which_found, "split": "test", "examples": len(dataset.test["x"])}
    write_json(path / "evaluation.json", {**content, "arguments": arguments, "figures": merged})
    return figure_rows(merged, arguments)


def _last(name: str) -> str:
    """The metric's own name: without its player, or the index of an entry of a vector."""
    return name.rsplit("/", 1)[-1]


def figure_rows(figures: Mapping[str, Any], arguments: Mapping[str, Any]) -> list[FigureRow]:
    """Figures as rows of a table, the known ones first; vectors are left to the pictures."""
    scalars = [name for name in figures if not _last(name).isdigit()]
    order = {name: position for position, name in enumerate(MEANINGS)}
    names = sorted(scalars, key=lambda name: order.get(_last(name), len(order)))
    rows = []
    for name in names:
        values = np.atleast_1d(np.asarray(figures[name], np.float64))
        spread = float(values.std(ddof=1)) if len(values) > 1 else None
        unit, note = MEANINGS.get(_last(name), ("", ""))
        rows.append(FigureRow(name, float(values.mean()), spread, unit, note.format_map(_Missing(arguments))))
    return rows


class _Missing(dict):
    def __missing__(self, key: str) -> str:
        return "?"


def figure_text(row: FigureRow) -> str:
    """A row as the command line prints it."""
    return " ".join(part for part in (format_figure(row.value, row.spread), row.unit) if part)


def _sample_figure(shown: _Shown, values: np.ndarray) -> Figure:
    if shown.dataset.shape == (2,):
        modes = shown.dataset.modes
        known = {} if modes is None else {"centers": modes.centers, "radius": 3 * modes.scale}
        return plots.points(values, reference=shown.x, **known)
    return plots.samples(values)


def _show(path: Path, *, index: int, which: str) -> _Shown:
    run = open_run(path, index=index, which=which)
    dataset = _dataset(run.config)
    count = min(1000, len(dataset.test["x"]))
    raw = {name: jnp.asarray(np.asarray(a[:count])) for name, a in dataset.test.items()}
    keys = example_keys(jax.random.key(0), jnp.arange(count))
    batch = _prepare(dataset, run.config)(keys, raw)
    labels = batch.get("label")
    return _Shown(run, dataset, np.asarray(batch["x"]), None if labels is None else np.asarray(labels))


def sample(
    path: str | Path, *, num: int, seed: int = 0, index: int = 0, which: str = "best", out: Path | None = None
) -> list[Path]:
    """Writes samples of a run as ``.npz`` and, where they can be drawn, as a picture beside it.

    Raises:
      UserError: if the model does not sample, or fewer than one is asked for.
    """
    compilation_cache()
    if num < 1:
        raise UserError(f"--num must be at least 1, got {num}")
    shown = _show(Path(path), index=index, which=which)
    model = shown.run.model
    if model.sample is None:
        raise UserError(f"{shown.run.config['model']} is not a generative model: it does not sample")
    values = shown.apply(model.sample, jax.random.key(seed), num)
    target = Path(out) if out else Path(path) / "samples.npz"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        np.savez(target, x=values)
        written = [target.with_suffix(".npz")]
        if shown.drawable:
            written.append(plots.save(_sample_figure(shown, values[:100]), target.with_suffix(".png")))
    except OSError as error:
        raise UserError(f"{target} cannot be written ({error.strerror}); give another --out") from error
    return written


def write(path: str | Path, *, index: int = 0, which: str = "best") -> Path:
    """Draws a run's pictures and writes its page.

    Args:
      path: the run's folder.
      index: the replica that the pictures show; curves and figures cover all.
      which: checkpoint, "best" or "last".

    Returns:
      The page, ``report.html`` in the run's folder.
    """
    compilation_cache()
    path = Path(path)
    shown = _show(path, index=index, which=which)
    config, history = shown.run.config, read_jsonl(path / "metrics.jsonl")
    evaluated = [p for p in history if p["kind"] == "evaluate" and p["step"] <= shown.run.step]
    figures = {k: v for k, v in (evaluated[-1] if evaluated else {}).items() if k not in ("step", "kind", "time")}
    pictures = []
    try:
        for name, title, caption, section, figure in [*_curves(history), *_pictures(shown, figures)]:
            png = plots.save(figure, path / "plots" / f"{name}.png")
            pictures.append(Picture(title, caption, png, f"{title}: {caption}", section))
        page = render_page(
            title=f"{config['model']} on {Path(config['data']['name']).name}",
            subtitle=_subtitle(shown, index),
            facts=_facts(shown, history),
            figures=figure_rows(figures, config["arguments"]),
            pictures=pictures,
            command=config["command"],
            details=_details(config),
        )
        target = path / "report.html"
        target.write_text(page, encoding="utf-8")
    except OSError as error:
        raise UserError(f"the report in {path} cannot be written ({error.strerror}); free space there") from error
    return target


def _subtitle(shown: _Shown, index: int) -> str:
    replicas = shown.run.config["options"]["seeds"]
    several = f" Figures are mean ± standard deviation over {replicas} seeds;" if replicas > 1 else ""
    whose = f" pictures show replica {index}." if replicas > 1 else ""
    return f"Figures and pictures of the {shown.run.which} checkpoint, step {shown.run.step:,}.{several}{whose}"


def _facts(shown: _Shown, history: list[dict[str, Any]]) -> list[tuple[str, str]]:
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


_Drawn = Iterator[tuple[str, str, str, str, Figure]]


#: Terms that share a picture, in the order of the page: title, unit, names (the last part of a logged name).
_CURVES: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("Losses and their terms", "nats", ("loss", "nll", "kl")),
    ("Bounds on log p(x)", "nats", ("elbo", "log_px")),
    ("The discriminator's accuracy", "share", ("accuracy_real", "accuracy_fake")),
    ("Value of the game", "nats", ("value",)),
    ("Modes found", "modes", ("modes",)),
    ("High-quality share", "share", ("high_quality",)),
    ("Squared errors", "summed over an example", ("squared_error", "commitment")),
    ("Codes in use", "codes", ("perplexity",)),
    ("Scale of the likelihood", "standard deviation", ("scale",)),
    ("Weight of the KL term", "", ("kl_weight",)),
    ("Gradient norms", "", ("grad_norm",)),
)


def _curves(history: list[dict[str, Any]]) -> _Drawn:
    seen = sorted({name for point in history for name in point} - {"step", "kind", "time"})
    for title, unit, members in _CURVES:
        names = [name for member in members for name in seen if _last(name) == member]
        if names:
            kinds = {point["kind"] for point in history if any(name in point for name in names)}
            where = {"train": "training batches", "evaluate": "the test split"}
            caption = "On " + " and ".join(where[kind] for kind in sorted(kinds, reverse=True))
            caption += " (dots)." if len(kinds) > 1 else "."
            name = f"curves_{members[0]}"
            yield name, title, caption, "Training", plots.curves(history, names=names, ylabel=unit)


def _pictures(shown: _Shown, figures: Mapping[str, Any]) -> _Drawn:
    model = shown.run.model
    if model.reconstruct and shown.drawable:
        originals = shown.x[:16]
        figure = plots.reconstructions(originals, shown.apply(model.reconstruct, originals))
        yield (
            "reconstructions",
            "Reconstructions",
            "Test examples above, what the model makes of them below.",
            "Pictures",
            figure,
        )
    if model.sample and shown.drawable:
        values = shown.apply(model.sample, jax.random.key(0), 64 if shown.images else 2500)
        caption = (model.sample.__doc__ or "Drawn from the prior, not chosen.").split("\n")[0]
        yield "samples", "Samples", caption, "Pictures", _sample_figure(shown, values)
    if model.encode and len(shown.x) > 1:
        yield from _latent_pictures(shown)
    shares = [np.mean(value) for name, value in sorted(figures.items()) if name.startswith("kl_dim/")]
    if shares:
        caption = "Mean KL of each latent's posterior to the prior, over the test split."
        yield "kl_dim", "KL by latent", caption, "Latents", plots.latent_usage(np.array(shares))


def _latent_pictures(shown: _Shown) -> _Drawn:
    model = shown.run.model
    assert model.encode is not None
    codes = shown.apply(model.encode, shown.x)
    if np.issubdtype(codes.dtype, np.integer):
        num_codes = shown.run.config["arguments"]["num_codes"]
        figure = plots.code_usage(np.bincount(codes.ravel(), minlength=num_codes))
        yield (
            "codes",
            "Codebook usage",
            f"How often {len(shown.x)} test examples use each code.",
            "Latents",
            figure,
        )
        return
    if model.latents is None:
        return
    caption = (
        "The encoder's mean of test examples" + ("" if model.latents <= 2 else ", on two principal components") + "."
    )
    yield "latents", "Latents", caption, "Latents", plots.embedding(codes, shown.labels)
    if not (model.decode and shown.drawable):
        return
    rows = min(6, len(codes) // 2)
    start, end = codes[:rows, None], codes[rows : 2 * rows, None]
    weights = np.linspace(0, 1, 7, dtype=np.float32)[None, :, None]
    path = (1 - weights) * start + weights * end
    decoded = shown.apply(model.decode, path.reshape(-1, model.latents)).reshape(rows, 7, *shown.dataset.shape)
    frames = np.concatenate([shown.x[:rows, None], decoded, shown.x[rows : 2 * rows, None]], axis=1)
    caption = "Framed: two test examples. Between them: the straight line between their codes, decoded."
    yield "interpolation", "Interpolation", caption, "Latents", plots.interpolation(frames)
    if model.latents == 2 and shown.images:
        axis = np.linspace(-2.5, 2.5, 15)
        grid = np.stack(np.meshgrid(axis, axis), axis=-1)
        images = shown.apply(model.decode, grid.reshape(-1, 2).astype(np.float32))
        caption = "The decoder's mean over the plane of two latents, in units of the prior's standard deviation."
        yield (
            "carpet",
            "Carpet",
            caption,
            "Latents",
            plots.carpet(images.reshape(*grid.shape[:2], *shown.dataset.shape), grid),
        )
