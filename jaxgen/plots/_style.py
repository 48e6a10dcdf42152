"""One look for every picture: quiet axes, colours that survive colour blindness, letters a phone can show."""

import math
from collections.abc import Sequence
from typing import Any

import matplotlib
from matplotlib import rcParamsDefault
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure

WIDTH = 5.6  # inches; 10.5 pt on this width is still 9 px high on a phone 390 px wide
DPI = 200  # twice the 100 px an inch at which a page shows them

INK, FAINT, PAPER = "#1f2933", "#8a949e", "#ffffff"
ACCENT = "#0072b2"
MARK = "#d55e00"

# Okabe and Ito (2008), without the yellow that white paper swallows: lines, at most a handful together.
LINES = (ACCENT, MARK, "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#5b6770")
# Tol's "muted" set and the blue of his "bright" one: points of up to ten classes.
CLASSES = (
    "#332288",
    "#ddcc77",
    "#cc6677",
    "#88ccee",
    "#117733",
    "#aa4499",
    "#999933",
    "#882255",
    "#44aa99",
    "#4477aa",
)

# Whoever imports this may have set a style of their own: ours starts from matplotlib's defaults, not from it.
_NOT_LOOKS = (
    "backend",
    "interactive",
    "toolbar",
    "timezone",
    "tk.",
    "webagg",
    "docstring",
    "keymap",
    "date.",
)
_DEFAULTS = {key: value for key, value in rcParamsDefault.items() if not key.startswith(_NOT_LOOKS)}

STYLE: dict[Any, Any] = _DEFAULTS | {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],  # shipped with matplotlib, so the same letters everywhere
    "font.size": 10.5,
    "text.color": INK,
    "text.usetex": False,
    "figure.facecolor": PAPER,
    "figure.dpi": 100,
    "savefig.facecolor": PAPER,
    "axes.facecolor": PAPER,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.labelsize": 10.5,
    "figure.titlesize": 11.5,
    "figure.titleweight": "bold",
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
    "grid.color": "#e4e8ec",
    "grid.linewidth": 0.8,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 9.5,
    "ytick.labelsize": 9.5,
    "xtick.major.size": 3,
    "ytick.major.size": 3,
    "legend.frameon": False,
    "legend.fontsize": 9.5,
    "legend.handlelength": 1.6,
    "legend.borderpad": 0.2,
    "lines.linewidth": 1.8,
    "lines.solid_capstyle": "round",
    "figure.constrained_layout.h_pad": 0.06,
    "figure.constrained_layout.w_pad": 0.06,
}


def styled():
    """The style, for the length of a call (as a decorator) or of a `with` block."""
    return matplotlib.rc_context(STYLE)


def new_axes(height: float, *, title: str | None = None) -> tuple[Figure, Axes]:
    """A figure outside pyplot, so that nothing keeps it alive but its owner."""
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    axes = figure.add_subplot()
    if title:
        figure.suptitle(title, x=0.015, ha="left")  # above the legend, too
    return figure, axes


def class_color(index: int, count: int):
    """The colour of class `index` of `count`: distinct up to ten, along one scale beyond."""
    if count <= len(CLASSES):
        return CLASSES[index]
    return matplotlib.colormaps["viridis"](index / (count - 1))


def legend_above(axes: Axes, handles: Sequence[Any], *, marks: bool = False) -> None:
    """The legend on top, out of the data's way, row by row in as few rows as the width holds."""
    if not handles:
        return
    labels = [str(handle.get_label()) for handle in handles]
    widths = [len(label) + (3 if marks else 6) for label in labels]  # in letters; 62 fit
    fitting = len(labels) if sum(widths) <= 62 else max(1, 62 // max(widths))
    rows = math.ceil(len(labels) / fitting)
    columns = math.ceil(len(labels) / rows)
    figure = axes.get_figure(root=True)
    if figure is not None:  # more rows make a higher figure, not a flatter plot
        figure.set_figheight(figure.get_figheight() + 0.21 * (rows - 1))
    by_column = [handle for column in range(columns) for handle in handles[column::columns]]
    legend = axes.legend(
        handles=by_column,
        loc="lower left",
        bbox_to_anchor=(0, 1),
        ncols=columns,
        columnspacing=0.9 if marks else 1.2,
        handletextpad=0.1 if marks else 0.5,
        borderaxespad=0.2,
    )
    for handle in legend.legend_handles if marks else ():
        if isinstance(handle, PathCollection):
            handle.set_alpha(1.0)
            handle.set_sizes([36.0])
