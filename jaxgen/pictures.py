"""The pictures of a run's page: curves of its history, and what its model makes of test examples."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from jaxgen import plots
from jaxgen.latent_pictures import code_pictures, latent_pictures
from jaxgen.meanings import MEANINGS, SAID_TWICE, at_equilibrium, last_part
from jaxgen.model import Model
from jaxgen.runs import SNAPSHOTS
from jaxgen.shown import Drawn, Shown
from jaxgen.training import Snapshots
from jaxgen.training.snapshots import classes_in_turn

#: Samples of a density in the plane; classes, samples of each and test examples that are completed.
_NUM_POINTS, _NUM_CLASSES, _NUM_OF_CLASS, _NUM_COMPLETED = 2500, 12, 8, 6
#: Images of one picture, at most.
_NUM_IMAGES = 100

#: Terms that share a picture, in the order of the page: title, unit, names (the last part of a logged name).
_CURVES: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("Loss and its terms", "nats", ("loss", "nll", "kl")),
    ("Likelihood of the features", "nats", ("feature_nll",)),
    ("Bounds on log p(x)", "nats", ("elbo", "log_px")),
    ("The discriminator's accuracy", "share", ("accuracy_real", "accuracy_fake", "accuracy_reconstructed")),
    ("Value of the game", "", ("value",)),
    ("Penalty of the discriminator's slope", "penalty", ("penalty",)),
    ("Modes found", "modes", ("modes",)),
    ("High-quality share", "share", ("high_quality",)),
    ("Samples among test examples, and those among samples", "share", ("precision", "recall")),
    ("Squared errors", "summed over an example", ("squared_error", "commitment")),
    ("Codes in use", "codes", ("perplexity",)),
    ("Share of the codes in use", "share", ("usage",)),
    ("Size of an example's codes", "bits", ("code_bits",)),
    ("Distance of the codes from the prior", "squared MMD", ("mmd",)),
    ("Links of latents to groups", "links", ("links",)),
    ("Scale of the likelihood", "standard deviation", ("scale",)),
    ("Weight of the KL term", "weight", ("kl_weight",)),
    ("Temperature of the relaxation", "temperature", ("temperature",)),
    ("Layer that is learned", "layer", ("layer",)),
    ("Gradient norms", "norm of the gradient", ("grad_norm",)),
)

#: What is counted, of which no half is there.
_COUNTED = ("modes", "links", "layer")


def curves(history: list[dict[str, Any]], run: Mapping[str, Any], *, nats: bool) -> Iterator[Drawn]:
    """One picture for the terms that belong together, of those that were logged, and one for each unknown term.

    Args:
      history: the log points.
      run: what is told of it, as to `figure_rows`: where a game's equilibrium lies is marked.
      nats: whether the loss is known to be in nats.
    """
    seen = sorted({name for point in history for name in point} - {"step", "kind", "time"})
    scalars = [name for name in seen if not last_part(name).isdigit()]
    grouped = {member for *_, members in _CURVES for member in members} | MEANINGS.keys() | SAID_TWICE.keys()
    unknown = [(name, "", (last_part(name),)) for name in scalars if last_part(name) not in grouped]
    for title, unit, members in [*_CURVES, *unknown]:
        names = [name for member in members for name in scalars if last_part(name) == member]
        if not names:
            continue
        kinds = {point["kind"] for point in history if any(name in point for name in names)}
        where = {"train": "training batches", "evaluate": "the test split"}
        caption = "On " + " and ".join(where[kind] for kind in sorted(kinds, reverse=True))
        caption += " (dots)." if len(kinds) > 1 else "."
        optimal = (run.get("likelihood"), run.get("scale")) == ("gaussian", "optimal")
        if optimal and "nll" in members and len(kinds) > 1:
            caption += " Each batch is judged at its own scale, the test split at a running one."
        label = unit if nats or unit != "nats" else members[0]
        levels = [level for member in members if (level := at_equilibrium(member, run)) is not None]
        level, whole = levels[0] if levels else None, members[0] in _COUNTED
        figure = plots.curves(history, names=names, ylabel=label or title, level=level, whole=whole)
        yield Drawn(f"curves_{members[0]}", title, caption, "Training", figure)


def over_time(shown: Shown, index: int) -> Iterator[Drawn]:
    """What the same noise became, evaluation by evaluation, where that was kept.

    Args:
      shown: the run.
      index: the replica.
    """
    watched = Snapshots(shown.run.path / SNAPSHOTS).read()
    if watched is None or not shown.drawable:
        return
    frames = watched.examples if shown.run.config["options"]["seeds"] == 1 else watched.examples[:, index]
    caption, rows, condition = "The same noise after evaluations, the latest last.", [], shown.model.condition
    caption += _by_average(shown)
    if shown.model.codes is not None:
        caption += f" {_said(shown.model)}"
    if shown.images and condition is not None and condition.classes:
        rows = [str(label) for label in classes_in_turn(frames.shape[1], condition.size)]
        caption += " A row for each class asked for."
    reference = None if shown.images else shown.x
    figure = plots.strip(frames, watched.steps, rows=rows, reference=reference)
    yield Drawn("over_time", "Samples over time", caption, "Training", figure)


def pictures(shown: Shown, figures: Mapping[str, Any]) -> Iterator[Drawn]:
    """What the model can do, drawn: what it cannot is left out.

    Args:
      shown: the run, of one replica.
      figures: its last evaluation, of the same replica.
    """
    model = shown.model
    if model.reconstruct and shown.drawable:
        yield _reconstructions(shown)
    if model.impute and shown.images and shown.dataset.shape[0] > 1:
        yield _completions(shown)
    if model.sample and shown.drawable:
        yield _samples(shown)
    if model.codes is not None and model.codes.shared and not model.codes.grids and shown.drawable:
        yield _centroids(shown)
    shares = _entries(figures, "kl_dim")
    if model.encode and len(shown.x) > 1:
        codes = shown.encode(len(shown.x))
        if model.codes is not None:
            yield from code_pictures(shown, codes, model.codes)
        elif model.latents is not None:
            yield from latent_pictures(shown, codes, shares)
    if shares is not None:
        caption = "Mean KL of each latent's posterior to the prior, over the test split."
        yield Drawn("kl_dim", "KL by latent", caption, "Latents", plots.latent_usage(shares))
    norms = _entries(figures, "group_norm")
    if norms is not None and model.latents is not None:
        caption = (
            "How strongly each latent reaches each group of variables: the norm of its weights into the group's "
            "generator. Blank is exactly 0: there is no link."
        )
        figure = plots.group_links(norms.reshape(model.latents, -1))
        yield Drawn("group_links", "Latents that drive groups", caption, "Latents", figure)


def _reconstructions(shown: Shown) -> Drawn:
    model, count = shown.model, min(16 if shown.model.corrupt else 24, len(shown.x))
    x = shown.x[:count]
    if model.corrupt is None:
        caption, corrupted = "Test examples above, what the model makes of them below.", None
    else:
        caption = "Test examples, what the model is shown of them, and what it makes of that."
        corrupted = shown.corrupt(count)
    reconstructed = shown.reconstruct(x if corrupted is None else corrupted)
    figure = plots.reconstructions(x, reconstructed, corrupted=corrupted)
    return Drawn("reconstructions", "Reconstructions", caption, "Pictures", figure)


def _completions(shown: Shown) -> Drawn:
    """The lower half of each example, drawn anew from the upper one."""
    x = shown.x[: min(_NUM_COMPLETED, len(shown.x))]
    hidden = x.copy()
    hidden[:, (x.shape[1] + 1) // 2 :] = np.nan
    caption = (
        "Test examples, the same with their lower half hidden, and five completions drawn for each: "
        "what is shown is kept, what is hidden is the model's."
    )
    figure = plots.completions(x, hidden, shown.impute(hidden, 5))
    return Drawn("completions", "Completions", caption, "Pictures", figure)


def _centroids(shown: Shown) -> Drawn:
    """What an example may become, where it is one code."""
    codes = shown.model.codes
    assert codes is not None
    count = min(codes.size, 144 if shown.images else _NUM_POINTS)
    more = f" The first {count} of {codes.size}." if count < codes.size else ""
    figure = sample_figure(shown, shown.decode(np.arange(count), examples=np.zeros(count, int)))
    return Drawn("centroids", "Centroids", f"What each code is decoded to.{more}", "Pictures", figure)


def _said(model: Model) -> str:
    """The model's own word about its samples."""
    return ((model.sample and model.sample.__doc__) or "Drawn from the prior, not chosen.").split("\n")[0]


def _samples(shown: Shown) -> Drawn:
    model = shown.model
    assert model.sample is not None
    caption = _said(model) + _by_average(shown)
    if shown.images and model.condition is not None and model.condition.classes:
        rows = min(_NUM_CLASSES, model.condition.size)
        classes = np.repeat(np.arange(rows, dtype=np.int32), _NUM_OF_CLASS)
        figure = sample_figure(shown, shown.sample(len(classes), told=classes), classes=classes)
        return Drawn("samples", "Samples", f"{caption} A row for each class asked for.", "Pictures", figure)
    values = shown.sample(64 if shown.images else _NUM_POINTS)
    if model.condition is not None:
        caption += " Each is told what a test example comes with."
    if shown.dataset.modes is not None and not shown.images:
        caption += " Circles: 3 σ of the data around each mode, where a sample counts as of high quality."
    return Drawn("samples", "Samples", caption, "Pictures", sample_figure(shown, values))


def _by_average(shown: Shown) -> str:
    """For captions of what an averaged generator made: the last one is that whose losses and accuracies are told."""
    return " By the averaged generator." if shown.run.config["arguments"].get("average") else ""


def uniform_samples(shown: Shown) -> Drawn:
    """Of a run without its prior."""
    caption = "Codes drawn uniformly, decoded: each is one that the decoder knows, but next to others than it knows."
    return Drawn("uniform", "Samples without the prior", caption, "Pictures", sample_figure(shown, shown.sample(64)))


def sample_figure(shown: Shown, values: np.ndarray, *, classes: np.ndarray | None = None) -> Figure:
    """Samples as images, or as points: beside the modes where they are known, beside the data elsewhere.

    Args:
      shown: the run.
      values: [samples, *shape]; a hundred images are drawn at the most, or 2500 points.
      classes: [samples], those that were asked for: images of one class then stand in a row.
    """
    told = shown.model.condition
    if shown.images and classes is not None and told is not None and told.classes:
        rows = np.unique(classes)[:_NUM_CLASSES]
        of_each = [values[classes == row][:_NUM_OF_CLASS] for row in rows]
        columns = min(map(len, of_each))
        grid = np.concatenate([row[:columns] for row in of_each])
        return plots.image_grid(grid, columns=columns, rows=[str(row) for row in rows])
    if shown.images:
        return plots.samples(values[:_NUM_IMAGES])
    modes = shown.dataset.modes
    if modes is None:
        return plots.points(values[:_NUM_POINTS], reference=shown.x)
    return plots.points(values[:_NUM_POINTS], centers=modes.centers, radius=3 * modes.scale)


def _entries(figures: Mapping[str, Any], vector: str) -> np.ndarray | None:
    """A vector of figures, which stand there one by one; ``None`` where there is none of that name."""
    names = [name for name in figures if name.startswith(f"{vector}/")]
    ordered = sorted(names, key=lambda name: int(last_part(name)))
    return np.array([figures[name] for name in ordered]) if names else None
