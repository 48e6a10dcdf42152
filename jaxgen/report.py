"""What people do with a run: its figures, samples, and one self-contained page of pictures."""

import inspect
import json
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxgen import plots
from jaxgen.beside import check_comparable, side_by_side
from jaxgen.errors import UserError
from jaxgen.evaluations import bound_of, by_prior, dataset_of, information
from jaxgen.evaluations import evaluate as evaluate
from jaxgen.mapped import save_arrays
from jaxgen.meanings import figure_rows, in_nats
from jaxgen.page import FigureRow, Picture, format_figure, render_page
from jaxgen.pictures import curves, over_time, pictures, sample_figure, uniform_samples
from jaxgen.priors import encoded_by, pair_of, prior_folder, with_prior
from jaxgen.runs import (
    DATA_ARGUMENTS,
    Run,
    Which,
    check_number,
    compilation_cache,
    factory,
    open_run,
)
from jaxgen.shown import Drawn, Shown
from jaxgen.told import as_told
from jaxgen.training.devices import Devices, check_fits
from jaxgen.training.evaluate import num_compared
from jaxgen.training.options import Options, check_seeds, num_steps
from jaxgen.unused import without_effect
from jaxgen.whole import whole
from jaxgen.writers import read_jsonl


def figure_text(row: FigureRow) -> str:
    """A row as the command line prints it."""
    return " ".join(part for part in (format_figure(row.value, row.spread), row.unit) if part)


def sample(
    path: str | Path,
    *,
    num: int,
    seed: int = 0,
    condition: Sequence[float] = (),
    index: int = 0,
    which: Which = "best",
    out: Path | None = None,
) -> list[Path]:
    """Writes samples of a run as ``.npz`` and, where they can be drawn, as a picture beside it.

    With those of a conditional model goes the ``condition`` that each was told: the one that was asked for, else the
    classes in turn, of which the picture has a row each, or what the test examples come with.

    Args:
      path: the run's folder.
      num: how many.
      seed: of the noise.
      condition: what all of them are told: the number of a class, or the numbers of a vector; empty asks for none.
      index: the replica.
      which: checkpoint, "best" or "last".
      out: the ``.npz`` to write; ``samples.npz`` in the run's folder by default, the picture beside it.

    Raises:
      UserError: if the model does not sample, fewer than one is asked for, or the condition is none that it is told.
    """
    compilation_cache()
    if num < 1:
        raise UserError(f"--num must be at least 1, got {num}")
    check_number("--num", num)
    check_seeds(seed)
    run = open_run(path, index=index, which=which)
    if run.model.sample is None:
        raise UserError(f"{run.config['model']} is not a generative model: it does not sample")
    shown, alone = _shown(run, index)
    if alone is not None:
        place = run.path if run.model.domain == "codes" else prior_folder(run.path)
        print(f"codes are drawn from the prior in {place}", file=sys.stderr)
    elif _uniform(shown):
        warnings.warn(
            f"codes are drawn uniformly, which shows why a prior over them is needed; {_how_to_learn(run, index)}",
            stacklevel=2,
        )
    asked = None if len(condition) == 0 else as_told(run.config["model"], condition, shown.model.condition)
    samples = jax.ShapeDtypeStruct((num, *shown.dataset.shape), np.float32)
    check_fits(samples, Devices(jax.local_devices()[:1]), what="samples", lower="--num")
    told = shown.to_tell(num) if asked is None else np.repeat(asked[None], num, axis=0)
    arrays = {"x": shown.sample(num, seed=seed, told=told), "condition": told}
    target = save_arrays(out or Path(path) / "samples.npz", {name: a for name, a in arrays.items() if a is not None})
    if not shown.drawable:
        return [target]
    picture = target.with_suffix(".png")
    try:
        figure = sample_figure(shown, arrays["x"], classes=None if asked is not None else told)
        return [target, plots.save(figure, picture)]
    except OSError as error:
        raise UserError(f"{picture} cannot be written ({error.strerror}); give another --out") from error


def _shown(run: Run, index: int) -> tuple[Shown, Shown | None]:
    """A run beside its data. With a prior over codes the two are one, whose samples are decoded, and behind them is
    the run alone."""
    base, prior = pair_of(run, replica=index)
    if base is None or prior is None:
        return Shown(run, dataset_of(run)), None
    dataset = dataset_of(base)
    return Shown(with_prior(base, prior), dataset), Shown(base, dataset)


def _how_to_learn(run: Run, index: int) -> str:
    """What gives a prior over the codes of this replica and checkpoint; ``--from`` serves the first replica's best."""
    if (index, run.which) == (0, "best"):
        return f"'jaxgen train code_prior --from {run.path}' learns one"
    encode = f"jaxgen encode {run.path} --replica {index} --checkpoint {run.which}"
    return f"'{encode}' writes those of this replica, and 'jaxgen train code_prior --data' of them learns one"


def _uniform(shown: Shown) -> bool:
    """Whether a run without a prior draws codes uniformly that are not so distributed."""
    codes = shown.model.codes
    return codes is not None and bool(codes.grids)


def write(path: str | Path, *, index: int = 0, which: Which = "best", beside: str | Path | None = None) -> Path:
    """Draws a run's pictures and writes its page.

    Args:
      path: the run's folder.
      index: the replica that the pictures show; curves and figures cover all.
      which: checkpoint, "best" or "last".
      beside: another run of the same data, whose pictures stand beside this run's: an autoencoder's beside a VAE's.

    Returns:
      The page, ``report.html`` in the run's folder.

    Raises:
      UserError: if a folder is no trained run, the other run is of other data, or the page cannot be written.
    """
    compilation_cache()
    path, run = Path(path), open_run(path, index=index, which=which)
    try:
        pictured, alone = _shown(run, index)
    except UserError as error:
        pictured, alone = Shown(run, dataset_of(run)), None
        lacks = "no samples" if run.model.domain == "codes" else "no prior"
        warnings.warn(f"the page has {lacks}: {error}", stacklevel=2)
    shown, history = pictured if alone is None else Shown(run, dataset_of(run)), _history(path / "metrics.jsonl")
    figures = _figures(run, history)
    if figures and "mutual_information" not in figures and run.model.posterior is not None:
        every = run if run.config["options"]["seeds"] == 1 else open_run(path, index=None, which=which)
        figures |= information(every, shown.dataset)
    if figures and "elbo" not in figures and run.model.domain == "codes":
        figures |= bound_of(run, figures)
    if run.model.codes is not None and alone is not None:
        figures |= by_prior(run)
    prior = run if run.model.domain == "codes" and alone is not None else None
    drawn = list(_all_pictures(pictured, alone, figures, index, prior=prior))
    subtitle = _subtitle(shown, index)
    if beside is not None:
        other = _other(shown, Path(beside), which)
        drawn = _with_another(shown, drawn, other)
        subtitle += f" Beside its pictures are those of {other.run.config['model']} in {beside}, {_checkpoint(other)}."
    target, shots = path / "report.html", []
    try:
        learned = [*curves(history, _told(shown), nats=in_nats(figures, _told(shown))), *over_time(shown, index)]
        for name, title, caption, section, figure in [*learned, *drawn]:
            png = plots.save(figure, path / "plots" / f"{name}.png")
            shots.append(Picture(title, caption, png, f"{title}: {caption}", section))
        page = render_page(
            title=f"{run.config['model']} on {Path(run.config['data']['name']).name}",
            subtitle=subtitle,
            notes=_notes(shown, history, figures),
            facts=_facts(shown, history),
            figures=figure_rows(figures, _told(shown)),
            pictures=shots,
            command=recipe(run.config, path),
            details=_details(run.config),
        )
        with whole(target) as partial:
            partial.write_text(page, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise UserError(f"the report in {path} cannot be written ({error.strerror}); free space there") from error
    return target


def _figures(run: Run, history: list[dict[str, Any]]) -> dict[str, Any]:
    """The last evaluation's up to the checkpoint, and what ``jaxgen evaluate`` found besides."""
    evaluated = [p for p in history if p["kind"] == "evaluate" and p["step"] <= run.step]
    last = {k: v for k, v in (evaluated[-1] if evaluated else {}).items() if k not in ("step", "kind", "time")}
    return _evaluated(run) | last


def _pictures(shown: Shown, figures: Mapping[str, Any], index: int, *, of: str = "") -> Iterator[Drawn]:
    """What the model makes of test examples, of one replica; ``of`` another run than the page's, in words."""
    own = {name: np.atleast_1d(value)[index if np.size(value) > 1 else 0] for name, value in figures.items()}
    replicas = shown.run.config["options"]["seeds"]
    for picture in pictures(shown, own):
        yield picture._replace(caption=f"{picture.caption} Replica {index}{of}.") if replicas > 1 else picture


def _all_pictures(
    shown: Shown, alone: Shown | None, figures: Mapping[str, Any], index: int, *, prior: Run | None
) -> Iterator[Drawn]:
    """Those of a run, with what uniform codes decode to beside the samples of a learned prior.

    On the page of the ``prior`` itself they are of the replica whose codes it has learned.
    """
    encoded = None if prior is None else encoded_by(prior)
    index, of = (index, "") if encoded is None else (encoded.replica, " of the run whose codes were learned")
    for picture in _pictures(shown, figures, index, of=of):
        yield picture
        if picture.name == "samples" and alone is not None and _uniform(alone):
            yield uniform_samples(alone)


def _other(shown: Shown, path: Path, which: Which) -> Shown:
    """The first replica of the run in another folder, on the same examples."""
    run = open_run(path, which=which)
    other = Shown(run, dataset_of(run))
    check_comparable(shown, other)
    return other


def _with_another(shown: Shown, drawn: list[Drawn], other: Shown) -> list[Drawn]:
    """A run's pictures, and another's beside them."""
    there = _pictures(other, _figures(other.run, _history(other.run.path / "metrics.jsonl")), 0)
    pair = shown.run, other.run
    names = [run.config["model"] for run in pair]
    if names[0] == names[1]:
        names = [str(run.path) for run in pair]
    return list(side_by_side(drawn, there, (names[0], names[1])))


def _evaluated(run: Run) -> dict[str, Any]:
    """What ``jaxgen evaluate`` found of this checkpoint, some of which no evaluation in training looks for."""
    try:
        found = json.loads((run.path / "evaluation.json").read_text(encoding="utf-8"))
        return found["figures"] if (found["step"], found["checkpoint"]) == (run.step, run.which) else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _history(path: Path) -> list[dict[str, Any]]:
    """The log points; without any the page has no curves and no figures, and the pictures are drawn all the same."""
    try:
        return read_jsonl(path)
    except OSError as error:
        warnings.warn(f"{path} cannot be read ({error.strerror}); the page shows no curves", stacklevel=3)
        return []


def _subtitle(shown: Shown, index: int) -> str:
    replicas = shown.run.config["options"]["seeds"]
    several = f" Figures are mean ± standard deviation over {replicas} seeds;" if replicas > 1 else ""
    whose = f" pictures show replica {index}." if replicas > 1 else ""
    return f"Figures and pictures of the test split by {_checkpoint(shown)}.{several}{whose}"


def _checkpoint(shown: Shown) -> str:
    return f"the {shown.run.which} checkpoint, step {shown.run.step:,}"


def _told(shown: Shown) -> dict[str, Any]:
    """What notes to the figures may say of the run."""
    told = {"num_compared": num_compared(shown.model, shown.dataset), "chosen_by": shown.model.objective}
    if shown.dataset.modes is not None:
        told["num_modes"] = len(shown.dataset.modes.centers)
    return shown.run.config["arguments"] | told


def _notes(shown: Shown, history: list[dict[str, Any]], figures: Mapping[str, Any]) -> list[str]:
    """What a reader must know before the figures: an unfinished run, figures that are not what they are called."""
    notes, step, total = [], _last_step(shown, history), _planned_steps(shown)
    if step < total:
        notes.append(f"This run is not finished: step {step:,} of {total:,}. The same command goes on.")
    observed = shown.batch["x"][shown.batch["mask"]] if "mask" in shown.batch else shown.batch["x"]
    if shown.model.domain == "binary" and np.any((observed != 0) & (observed != 1)):
        notes.append(
            "The data are grey values, and the Bernoulli likelihood is one of bits: nll, elbo and log_px are no "
            "log-likelihoods here, and compare with no other model's. Binarize the data, or take another likelihood."
        )
    if np.all(np.asarray(figures.get("active_units", 1)) == 0):
        notes.append(
            "No latent is active: the decoder makes the same of every code, so reconstructions and samples are one "
            "average. Train for longer, warm the KL term up, or give it a smaller weight."
        )
    if not shown.drawable and shown.model.domain != "codes":
        shape = "×".join(map(str, shown.dataset.shape))
        notes.append(f"Examples are not drawn: of shape {shape} they are neither images nor points of the plane.")
    return notes


def _last_step(shown: Shown, history: list[dict[str, Any]]) -> int:
    return max([shown.run.step, *(point["step"] for point in history)])


def _planned_steps(shown: Shown) -> int:
    """Of the run as it was started; a run of an earlier version may have recorded epochs beside its steps."""
    recorded, updates = shown.run.config["options"], sum(shown.model.turns.values())
    if recorded["steps"] is not None:
        return recorded["steps"]
    options = Options(**{name: value for name, value in recorded.items() if name in Options._fields})
    return num_steps(options, num_examples=len(shown.dataset.train["x"]), updates=updates)


def _facts(shown: Shown, history: list[dict[str, Any]]) -> list[tuple[str, str]]:
    options, dataset = shown.run.config["options"], shown.dataset
    count = sum(np.size(leaf) for leaf in jax.tree.leaves(shown.run.params))
    step, total, shape = _last_step(shown, history), _planned_steps(shown), dataset.shape
    each = f"{'×'.join(map(str, shape))} each" if len(shape) > 1 else f"{shape[0]} numbers each" if shape else "numbers"
    seed, replicas = options["seed"], options["seeds"]
    return [
        ("data", f"{len(dataset.train['x']):,} train, {len(dataset.test['x']):,} test, {each}"),
        ("steps", f"{step:,}{'' if step >= total else f' of {total:,}'}, batch {options['batch_size']}"),
        ("parameters", f"{count:,}"),
        ("seed", str(seed)) if replicas == 1 else ("seeds", f"{seed} to {seed + replicas - 1}"),
    ]


def recipe(config: Mapping[str, Any], path: Path) -> str:
    """What to type to get a run again: its command, a flag a line, or, of a run made from Python, the call."""
    command = config["command"]
    if command.startswith("jaxgen "):
        return command if len(command) <= 72 else command.replace(" --", " \\\n  --")
    defaults = {p.name: p.default for p in inspect.signature(factory(config["model"])).parameters.values()}
    arguments = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in config["arguments"].items()
        if name not in DATA_ARGUMENTS
    }
    arguments = {name: value for name, value in arguments.items() if value != defaults.get(name)}
    standard = Options()._asdict()
    options = [f"{name}={value!r}" for name, value in config["options"].items() if value != standard.get(name)]
    data = config["data"]["name"]
    lines = [repr(config["model"]), repr(arguments), f"data={data!r}", f"workdir={str(path)!r}"]
    lines += [f"options=Options({', '.join(options)})"] if options else []
    lines += [f"data_dir={config['data_dir']!r}"] if config["data_dir"] else []
    lines += [f"data_scale={config['data']['scale']!r}"]
    body = "".join(f"    {line},\n" for line in lines)
    origin = f"# by {command}\n" if command else ""
    return f"{origin}from jaxgen.runs import train\nfrom jaxgen.training import Options\n\ntrain(\n{body})"


def _details(config: Mapping[str, Any]) -> dict[str, str]:
    arguments = {k: v for k, v in config["arguments"].items() if k != "shape" and v is not None}
    unused = without_effect(arguments)
    return {
        "model": ", ".join(f"{k}={v}" for k, v in arguments.items() if k not in unused),
        "training": ", ".join(f"{k}={v}" for k, v in config["options"].items()),
        "data fingerprint": config["data"]["fingerprint"],
        "devices": config["devices"],
        "versions": ", ".join(f"{k} {v}" for k, v in config["versions"].items()),
        "revision": config["revision"] or "not recorded",
        "started": config["started"],
    }
