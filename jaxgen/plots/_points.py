"""Points of the plane: samples beside their target, paths, the latent scatter."""

from typing import Any

import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Shaped
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from matplotlib.patheffects import withStroke

from jaxgen.plots._style import (
    ACCENT,
    FAINT,
    INK,
    MARK,
    PAPER,
    WIDTH,
    class_color,
    legend_above,
    new_axes,
    styled,
)

MANY_CLASSES = 20  # beyond, integer labels are read as a quantity


def _finite_rows(array: np.ndarray) -> np.ndarray:
    return np.asarray(np.isfinite(array).reshape(len(array), -1).all(axis=1))


def _tell_what_is_left_out(axes: Axes, finite: np.ndarray) -> None:
    if not finite.all():
        note = f"{len(finite) - finite.sum()} of {len(finite)} points are not finite"
        axes.text(0.01, 0.01, note, transform=axes.transAxes, color=MARK)


def _scatter(axes: Axes, xy: np.ndarray, **options: Any):
    """Smaller and fainter dots the more there are, so that density shows instead of a blot."""
    size = float(np.clip(400 / max(len(xy), 1) ** 0.5, 3, 20))
    alpha = float(np.clip(60 / max(len(xy), 1) ** 0.6, 0.35, 0.85))
    style = {"s": size, "alpha": alpha, "linewidths": 0, "rasterized": True} | options
    return axes.scatter(xy[:, 0], xy[:, 1], **style)


@styled()
def points(
    samples: Shaped[ArrayLike, "..."],
    *,
    reference: Shaped[ArrayLike, "..."] | None = None,
    centers: Shaped[ArrayLike, "..."] | None = None,
    radius: float | None = None,
    title: str | None = None,
) -> Figure:
    """Samples of the plane, over the data they should resemble and the modes they should cover.

    Points that are not finite are left out, and their number is written.

    Args:
        samples: [n, 2].
        reference: [m, 2], real data, drawn grey below.
        centers: [modes, 2], drawn as crosses.
        radius: distance, in the unit of the data, within which a sample counts for a centre; drawn as
            circles.
        title: heading inside the figure.

    Returns:
        The figure.

    Raises:
        ValueError: an array is not [n, 2], or a radius comes without centres.

    Example:
        >>> figure = points(np.zeros((10, 2)), centers=np.eye(2), radius=0.1)
        >>> [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
        ['samples', 'modes, radius 0.1']
    """
    xy = _plane(samples, "samples")
    if radius is not None and centers is None:
        raise ValueError(f"radius={radius:g} needs centers, the points it is measured from")
    figure, axes = new_axes(WIDTH * 0.9, title=title)
    if reference is not None:
        _scatter(axes, _plane(reference, "reference"), color=FAINT, label="data")
    finite = _finite_rows(xy)
    _scatter(axes, xy[finite], color=ACCENT, label="samples")
    if centers is not None:
        modes = _plane(centers, "centers")
        label = "modes" if radius is None else f"modes, radius {radius:g}"
        axes.scatter(modes[:, 0], modes[:, 1], marker="+", s=60, linewidths=1.4, color=MARK, label=label)
        for x, y in modes if radius is not None else ():
            axes.add_patch(Circle((x, y), radius or 0.0, fill=False, edgecolor=MARK, linewidth=1))
    _tell_what_is_left_out(axes, finite)
    axes.set(xlabel="$x_1$", ylabel="$x_2$")
    axes.set_aspect("equal", adjustable="datalim")
    if axes.collections[1:]:
        legend_above(axes, axes.collections, marks=True)
    return figure


def paths(frames: ArrayLike, *, ends: tuple[str, str], title: str | None = None) -> Figure:
    """Rows of points [rows, steps, 2] as lines, with their two ends marked and named."""
    rows = np.asarray(frames, np.float64)
    rows = rows[_finite_rows(rows)]
    figure, axes = new_axes(WIDTH * 0.9, title=title)
    for row in rows:
        axes.plot(row[:, 0], row[:, 1], color=FAINT, linewidth=0.9, zorder=1)
    if rows.shape[1] > 2:
        _scatter(axes, rows[:, 1:-1].reshape(-1, 2), color=FAINT, zorder=1)
    axes.scatter(*rows[:, 0].T, s=16, color=ACCENT, label=ends[0], zorder=2)
    axes.scatter(*rows[:, -1].T, s=22, color=MARK, marker="^", label=ends[1], zorder=3)
    axes.set(xlabel="$x_1$", ylabel="$x_2$")
    axes.set_aspect("equal", adjustable="datalim")
    legend_above(axes, axes.collections[-2:], marks=True)
    return figure


@styled()
def embedding(
    codes: Shaped[ArrayLike, "..."],
    labels: Shaped[ArrayLike, "..."] | None = None,
    *,
    title: str | None = None,
) -> Figure:
    """The latents of a batch as points: two as they are, more through their first two principal components.

    Points that are not finite are left out, and their number is written.

    Args:
        codes: [n, d], means of the latents. With d = 1 the second axis is the share of points below.
        labels: [n]; integers or strings give classes, named in the legend and in the scatter; real numbers,
            or more than 20 different integers, give a colour scale.
        title: heading inside the figure.

    Returns:
        The figure; the axes say whether they are latents or components, and how much variance these explain.

    Raises:
        ValueError: `codes` is not [n, d], or `labels` does not match it.

    Example:
        >>> codes = np.array([[3.0, 0.0, 0.0], [-3.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, -1.0, 0.0]])
        >>> embedding(codes, np.array([0, 0, 1, 1])).axes[0].get_xlabel()
        'component 1 of 3 (90% of variance)'
    """
    xy = np.asarray(codes, np.float64)
    if xy.ndim != 2 or 0 in xy.shape:
        raise ValueError(f"codes must be [n, d], got shape {xy.shape}; flatten latents with more axes first")
    marks = None if labels is None else np.asarray(labels)
    if marks is not None and marks.shape != xy.shape[:1]:
        raise ValueError(f"labels must be [n] with n = {len(xy)}, one for each code, got shape {marks.shape}")
    finite = _finite_rows(xy)
    xy, marks = xy[finite], None if marks is None else marks[finite]
    xy, names = _to_plane(xy)
    figure, axes = new_axes(WIDTH * 0.9, title=title)
    if marks is None:
        _scatter(axes, xy, color=ACCENT)
    elif marks.dtype.kind == "f" or (marks.dtype.kind in "iu" and len(np.unique(marks)) > MANY_CLASSES):
        colored = _scatter(axes, xy, c=marks.astype(float), cmap="viridis")
        figure.colorbar(colored, ax=axes, label="label", shrink=0.8).outline.set_visible(False)  # pyright: ignore
    else:
        _classes(axes, xy, marks)
    _tell_what_is_left_out(axes, finite)
    axes.set(xlabel=names[0], ylabel=names[1])
    axes.grid(True)
    if np.shape(codes)[1] > 1:
        axes.set_aspect("equal", adjustable="datalim")
    return figure


def _classes(axes: Axes, xy: np.ndarray, marks: np.ndarray) -> None:
    """Colours for the eye, the class's name at its median for eyes that see no difference."""
    classes = np.unique(marks)
    if not len(classes):
        return
    groups = [xy[marks == name] for name in classes]
    for index, (name, of_class) in enumerate(zip(classes, groups)):
        _scatter(axes, of_class, color=class_color(index, len(classes)), label=str(name))
    halo = [withStroke(linewidth=3, foreground=PAPER)]
    # About the room that a name takes, in shares of the axes: a dozen names fit in each row, two dozen in a column.
    span = np.maximum(np.ptp(xy, axis=0), np.finfo(np.float64).tiny)
    room = span * [max(0.035, 0.02 * max(len(str(name)) for name in classes)), 0.045]
    for (x, y), name in zip(apart(np.stack([np.median(g, axis=0) for g in groups]), room), classes):
        axes.text(x, y, str(name), ha="center", va="center", weight="bold", color=INK, path_effects=halo)
    legend_above(axes, axes.collections, marks=True)


def apart(places: np.ndarray, room: np.ndarray) -> np.ndarray:
    """Places [n, 2], moved no more than needed until no two lie within `room` [2] of each other in both directions.

    Pairs that overlap are pushed apart along the line between them, by half of what is missing each.
    """
    at, index = places / room, np.arange(len(places))
    # Equal places have no direction of their own.
    tie = 1e-6 * (index[:, None] - index)[..., None]
    for _ in range(200):
        gap = at[:, None] - at[None] + tie
        distance = np.abs(gap).max(axis=-1)
        close = (distance < 1) & ~np.eye(len(at), dtype=bool)
        if not close.any():
            break
        push = np.where(close, 0.5 * (1.02 - distance) / np.maximum(distance, 1e-9), 0)[..., None] * gap
        at = at + np.where(np.abs(push) > 1, np.sign(push), push).sum(axis=1)
    return at * room


def _to_plane(codes: np.ndarray) -> tuple[np.ndarray, tuple[str, str]]:
    """Codes [n, d] as [n, 2], and what the two axes are."""
    dims = codes.shape[1]
    if dims == 1:
        rank = codes[:, 0].argsort().argsort() / max(len(codes) - 1, 1)
        return np.stack([codes[:, 0], rank], axis=1), ("latent 1", "share of points below")
    if dims == 2 or len(codes) < 3:
        return codes[:, :2], ("latent 1", "latent 2")
    _, scales, directions = np.linalg.svd(codes - codes.mean(axis=0), full_matrices=False)
    signs = np.sign(np.take_along_axis(directions, np.abs(directions).argmax(axis=1)[:, None], axis=1))
    shares = scales**2 / max((scales**2).sum(), np.finfo(np.float64).tiny)
    names = [f"component {i + 1} of {dims} ({share:.0%} of variance)" for i, share in enumerate(shares[:2])]
    return (codes - codes.mean(axis=0)) @ (signs * directions)[:2].T, (names[0], names[1])


def _plane(values: ArrayLike, name: str) -> np.ndarray:
    array = np.asarray(values, np.float64)
    if array.ndim != 2 or array.shape[1] != 2:
        raise ValueError(f"{name} must be points of the plane, [n, 2], got shape {array.shape}")
    return array
