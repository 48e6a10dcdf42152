"""Learning curves by term, and how a codebook is used."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Shaped
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter, LogLocator, MaxNLocator

from jaxgen.plots._style import ACCENT, FAINT, INK, LINES, WIDTH, legend_above, new_axes, styled

KINDS = {"train": {"linewidth": 1.2, "alpha": 0.55}, "evaluate": {"marker": "o", "markersize": 3.5}}
WHERE = {"train": "training", "evaluate": "test"}

_FAR_APART = 20  # times as large, and the smaller term is a flat line

MANY_LATENTS = 24  # beyond, their own numbers would not fit below the bars


@styled()
def curves(
    history: Sequence[Mapping[str, Any]],
    *,
    names: Sequence[str],
    ylabel: str = "nats",
    level: tuple[float, str] | None = None,
    whole: bool = False,
    title: str | None = None,
) -> Figure:
    """Learning curves by term: training thin, evaluation dotted; replicas as their mean with ± one deviation.

    Values that are not finite leave a gap. Where the first tenth of a curve would flatten the rest, the axis
    is cut and a note says from where the curve comes. Positive terms of which one would flatten another, more
    than 20 times as large, stand on a logarithmic axis.

    Args:
        history: log points as `jaxgen.writers.read_jsonl` gives them: "step", "kind", and a number, or a list
            with one number a replica, for each name.
        names: the terms to draw; a name that no log point holds is left out.
        ylabel: what is measured, with its unit.
        level: where the terms should end, and its name: a dashed line, which is always seen.
        whole: whether it is counted, so that the ticks are whole numbers.
        title: heading inside the figure.

    Returns:
        The figure.

    Raises:
        ValueError: no log point holds any of the names.

    Example:
        >>> history = [{"step": s, "kind": "train", "loss": 9.0 / s, "kl": 1.0} for s in (1, 2, 3)]
        >>> figure = curves(history, names=["loss", "kl"])
        >>> [line.get_ydata().tolist() for line in figure.axes[0].lines]
        [[9.0, 4.5, 3.0], [1.0, 1.0, 1.0]]
    """
    found = {(name, kind): _series(history, name, kind) for name in names for kind in KINDS}
    found = {key: series for key, series in found.items() if len(series[0])}
    if not found:
        raise ValueError(f"history holds none of {list(names)}; its log points hold {_names(history)}")
    terms = [name for name in names if any(name == term for term, _ in found)]
    colors = {name: LINES[i % len(LINES)] for i, name in enumerate(terms)}
    kinds = [kind for kind in KINDS if any(kind == seen for _, seen in found)]
    figure, axes = new_axes(WIDTH * 0.62, title=title)
    drawn = []
    for (name, kind), (steps, values) in found.items():
        style = KINDS[kind] if len(kinds) > 1 else {"marker": "o" if len(steps) == 1 else None}
        drawn.append((steps, _draw(axes, steps, values, color=colors[name], style=style)))
    if level is None and _far_apart([line for _, line in drawn]):
        axes.set_yscale("log")
        _label_decades(axes)
    else:
        _cut_the_first_points(axes, drawn)
    if level is not None:
        _mark(axes, *level)
    axes.set(xlabel="step", ylabel=ylabel)
    axes.grid(True, axis="y")
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    if whole:
        axes.yaxis.set_major_locator(MaxNLocator("auto", integer=True))
    _legend(axes, colors, kinds)
    return figure


def _series(history: Sequence[Mapping[str, Any]], name: str, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Steps [n] and values [n, replicas] of one term."""
    rows = [point for point in history if point["kind"] == kind and name in point]
    values = [np.atleast_1d(np.asarray(point[name], np.float64)) for point in rows]
    return np.asarray([point["step"] for point in rows]), np.stack(values) if rows else np.empty((0, 1))


def _names(history: Sequence[Mapping[str, Any]]) -> list[str]:
    return sorted({name for point in history for name in point} - {"step", "kind", "time"})


def _draw(axes: Axes, steps: np.ndarray, values: np.ndarray, *, color: str, style: dict) -> np.ndarray:
    """The line, and the band where there are replicas; returns the line."""
    values = np.where(np.isfinite(values), values, np.nan)
    mean = values.mean(axis=1)
    axes.plot(steps, mean, color=color, **style)
    if values.shape[1] > 1:
        spread = values.std(axis=1, ddof=1)
        axes.fill_between(steps, mean - spread, mean + spread, color=color, alpha=0.18, linewidth=0)
    return mean


def _far_apart(lines: list[np.ndarray]) -> bool:
    """Whether positive curves are of sizes, their medians, of which one is nothing beside another."""
    finite = [line[np.isfinite(line)] for line in lines]
    if not all(len(line) and np.all(line > 0) for line in finite):
        return False
    sizes = [float(np.median(line)) for line in finite]
    return max(sizes) > _FAR_APART * min(sizes)


def _label_decades(axes: Axes) -> None:
    """Ticks of a logarithmic axis: of less than three decades two each, for one alone is no scale."""
    low, high = axes.get_ylim()
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 3) if high < 1000 * low else (1,)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter("")


def _cut_the_first_points(axes: Axes, drawn: list[tuple[np.ndarray, np.ndarray]]) -> None:
    """Limits from what follows the first tenth, where all of it would hide the rest; then say what is cut."""
    last = max(int(steps[-1]) for steps, _ in drawn)
    whole = np.concatenate([line for _, line in drawn])
    later = np.concatenate([line[steps > last / 10] for steps, line in drawn])
    whole, later = whole[np.isfinite(whole)], later[np.isfinite(later)]
    if len(later) < 10 or np.ptp(whole) < 6 * np.ptp(later) or np.ptp(later) == 0:
        return
    low, high = later.min(), later.max()
    margin = 0.25 * (high - low)
    axes.set_ylim(max(whole.min(), low - margin), min(whole.max(), high + margin))
    for arrow, extreme, beyond, at in (
        ("↑", whole.max(), whole.max() > high + margin, 0.95),
        ("↓", whole.min(), whole.min() < low - margin, 0.05),
    ):
        if beyond:
            note = f"{arrow} from {extreme:.4g}".replace("-", "−")
            axes.text(0.03, at, note, transform=axes.transAxes, va="center", color=FAINT)


def _mark(axes: Axes, at: float, name: str) -> None:
    """A dashed line across, with its name above its right end, inside the limits that the curves have."""
    low, high = axes.get_ylim()
    room = 0.08 * max(high - low, abs(at - low), abs(at - high))
    axes.set_ylim(min(low, at - room), max(high, at + room))
    axes.axhline(at, color=INK, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
    place = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points", "ha": "right"}
    axes.annotate(name, (1, at), (-3, 4), size=9.5, **place)


def _legend(axes: Axes, colors: dict[str, str], kinds: list[str]) -> None:
    """Colours name the terms; line styles name the kinds, once, in grey, where there are two."""
    entries = [Line2D([], [], color=color, label=name) for name, color in colors.items()]
    entries += [Line2D([], [], color=FAINT, label=WHERE[kind], **KINDS[kind]) for kind in kinds[: 2 * (len(kinds) > 1)]]
    legend_above(axes, entries)


@styled()
def code_usage(frequencies: Shaped[ArrayLike, "..."], *, title: str | None = None) -> Figure:
    """How often each code of a codebook is used, most used first, with the perplexity exp(−Σ p log p).

    Args:
        frequencies: [codes], counts or shares of use.
        title: heading inside the figure.

    Returns:
        The figure.

    Raises:
        ValueError: not one finite, non-negative number a code, or all are zero.

    Example:
        >>> code_usage(np.array([4, 4, 0, 0])).axes[0].texts[-1].get_text()
        'perplexity 2.0 of 4 codes · 2 never used'
    """
    counts = np.asarray(frequencies, np.float64)
    if counts.ndim != 1 or not np.isfinite(counts).all() or (counts < 0).any() or counts.sum() == 0:
        raise ValueError(
            "frequencies must be one finite, non-negative number a code and not all zero, "
            f"got shape {counts.shape} with sum {counts.sum():g}"
        )
    shares = np.sort(counts / counts.sum())[::-1]
    used = shares[shares > 0]
    codes, alive = len(shares), len(used)
    perplexity = np.exp(-(used * np.log(used)).sum())
    figure, axes = new_axes(WIDTH * 0.6, title=title)
    axes.stairs(100 * used, np.arange(alive + 1), fill=True, color=ACCENT, alpha=0.85)
    axes.axhline(100 / codes, color=INK, linewidth=1, linestyle=(0, (4, 3)))
    axes.annotate("equal use", (codes, 100 / codes), (-3, 4), textcoords="offset points", ha="right", size=9.5)
    if alive < codes:
        axes.axvspan(alive, codes, color=FAINT, alpha=0.18, linewidth=0)
    low = 40 * min(used[-1], 1 / codes)
    axes.set(yscale="log", xlim=(0, codes), ylim=(low, max(200 * used[0], 30 * low)))
    axes.set(xlabel="codes, most used first", ylabel="share of use, %")
    _label_decades(axes)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    unused = f" · {codes - alive} never used" if alive < codes else ""
    axes.text(0, 1.04, f"perplexity {perplexity:.1f} of {codes} codes{unused}", transform=axes.transAxes)
    return figure


@styled()
def latent_usage(kl: Shaped[ArrayLike, "..."], *, title: str | None = None) -> Figure:
    """The KL to the prior that each latent carries, most first: collapsed latents carry none.

    Up to 24 bars have the number of their latent below them, counted from 1.

    Args:
        kl: [latents], nats, means over the data.
        title: heading inside the figure.

    Returns:
        The figure.

    Raises:
        ValueError: not one finite number a latent.

    Example:
        >>> latent_usage(np.array([0.0, 1.5, 0.5])).axes[0].texts[-1].get_text()
        '2 nats in all · 1 of 3 latents below 0.01'
    """
    nats = np.asarray(kl, np.float64)
    if nats.ndim != 1 or not len(nats) or not np.isfinite(nats).all():
        raise ValueError(f"kl must be one finite number a latent, got shape {nats.shape}")
    order = np.argsort(-nats, kind="stable")
    nats, rank = nats[order], np.arange(1, len(nats) + 1)
    figure, axes = new_axes(WIDTH * 0.6, title=title)
    axes.bar(rank, nats, color=ACCENT, alpha=0.85)
    axes.set(ylabel="KL to the prior, nats", xlim=(0.4, len(nats) + 0.6))
    if len(nats) <= MANY_LATENTS:
        axes.set_xticks(rank, [str(latent + 1) for latent in order])
        axes.set_xlabel("number of the latent, most used first")
    else:
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
        axes.set_xlabel("rank of the latent, most used first")
    collapsed = f" · {np.sum(nats < 0.01)} of {len(nats)} latents below 0.01" if np.any(nats < 0.01) else ""
    axes.text(0, 1.04, f"{nats.sum():.4g} nats in all{collapsed}", transform=axes.transAxes)
    return figure
