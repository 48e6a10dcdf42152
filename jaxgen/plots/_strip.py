"""The same noise over a training: a row of images each, or the whole cloud of points."""

import math
from collections.abc import Sequence

import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Shaped
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from jaxgen.plots._images import as_rgb, check_rows, is_plane, name_columns, show_mosaic
from jaxgen.plots._style import ACCENT, FAINT, WIDTH, styled

ACROSS = 5  # clouds in a row, so that each is wide enough to be seen on a phone


@styled()
def strip(
    frames: Shaped[ArrayLike, "..."],
    steps: Sequence[int],
    *,
    rows: Sequence[str] = (),
    reference: Shaped[ArrayLike, "..."] | None = None,
) -> Figure:
    """What the same noise becomes as a model learns: a column for each step, or a small scatter of points each.

    Args:
        frames: [steps, n, h, w] or [steps, n, h, w, c] in [0, 1], whose n images are rows, or points [steps, n, 2].
        steps: when each was drawn.
        rows: a name for each row of images, such as the class it was asked for.
        reference: [m, 2], real points, drawn grey below; they set how much of the plane is seen.

    Returns:
        The figure.

    Raises:
        ValueError: `frames` is neither, `steps` are not as many, or `rows` are not as many as the rows.

    Example:
        >>> figure = strip(np.zeros((3, 2, 8, 8)), [500, 1000, 1500])
        >>> [label.get_text() for label in figure.axes[0].get_xticklabels()]
        ['500', '1k', '1.5k']
    """
    if not len(steps) or len(steps) != np.shape(frames)[0]:
        raise ValueError(f"steps must say when each of {np.shape(frames)[0]} frames was drawn, got {list(steps)}")
    names = [EngFormatter(sep="")(step) for step in steps]
    if is_plane(frames, leading=2):
        return _clouds(np.asarray(frames, np.float64), names, reference)
    tiles = as_rgb(frames, leading=2, name="frames").swapaxes(0, 1)
    check_rows(rows, len(tiles))
    figure, axes, _, across = show_mosaic(tiles, rows=rows)
    name_columns(figure, axes, across, names)
    figure.set_figheight(figure.get_figheight() + 0.2)
    axes.set_xlabel("step")
    return figure


def _clouds(frames: np.ndarray, names: Sequence[str], reference: ArrayLike | None) -> Figure:
    down = math.ceil(len(frames) / ACROSS)
    figure = Figure(figsize=(WIDTH, down * (WIDTH / ACROSS + 0.25)), layout="constrained")
    panels = np.ravel(figure.subplots(down, ACROSS, sharex=True, sharey=True, squeeze=False))
    real = np.asarray(frames[-1] if reference is None else reference, np.float64)
    real = real[np.isfinite(real).all(axis=1)]
    center, reach = _square(real)
    for axes, points, name in zip(panels, frames, names):
        if reference is not None:
            axes.scatter(*real.T, s=2, linewidths=0, color=FAINT, alpha=0.5, rasterized=True)
        axes.scatter(*points.T, s=3, linewidths=0, color=ACCENT, alpha=0.6, rasterized=True)
        axes.set_title(f"step {name}", size=9.5)
        axes.set(xticks=[], yticks=[], xlim=center[0] + reach, ylim=center[1] + reach)
        axes.set_aspect("equal")
        axes.spines[:].set_visible(True)
    for axes in panels[len(frames) :]:
        axes.set_visible(False)
    return figure


def _square(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The middle of points, and how far from it in each direction a square around them reaches, with some room."""
    if not len(points):
        return np.zeros(2), np.array([-1.0, 1.0])
    low, high = points.min(axis=0), points.max(axis=0)
    reach = 0.65 * max(float((high - low).max()), 1e-6)
    return (low + high) / 2, np.array([-reach, reach])
