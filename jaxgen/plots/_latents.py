"""Pictures of a latent space, decoded: from one example to another, along one latent, over a plane of two."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Shaped
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from jaxgen.plots._images import GAP, as_rgb, check_rows, is_plane, name_columns, show_mosaic
from jaxgen.plots._points import paths
from jaxgen.plots._style import FAINT, MARK, PAPER, styled


@styled()
def interpolation(
    frames: Shaped[ArrayLike, "rows steps ..."], *, rows: Sequence[str] = (), title: str | None = None
) -> Figure:
    """Rows of frames that lead from one example to another; the two ends are framed.

    Args:
        frames: [rows, steps, h, w] or [rows, steps, h, w, c] in [0, 1], or paths in the plane,
            [rows, steps, 2].
        rows: a name for each row of images, such as the kind of path.
        title: heading inside the figure.

    Returns:
        The figure.

    Raises:
        ValueError: the shape is none of these, a row has fewer than two frames, or `rows` are not as many as the
            rows.

    Example:
        >>> figure = interpolation(np.zeros((3, 5, 8, 8)))
        >>> [label.get_text() for label in figure.axes[0].get_xticklabels()]
        ['start', '0.25', '0.5', '0.75', 'end']
    """
    if np.ndim(frames) < 2 or np.shape(frames)[1] < 2:
        raise ValueError(f"frames must be [rows, steps, …] with at least two steps a row, got shape {np.shape(frames)}")
    check_rows(rows, np.shape(frames)[0])
    if is_plane(frames, leading=2):
        return paths(frames, ends=("start", "end"), title=title)
    tiles = as_rgb(frames, leading=2, name="frames")
    steps = tiles.shape[1]
    figure, axes, down, across = show_mosaic(tiles, title=title, rows=rows)
    for row in range(len(tiles)):
        for step in (0, steps - 1):
            corner = (step * across - GAP / 2, row * down - GAP / 2)
            frame = Rectangle(corner, across, down, fill=False, edgecolor=MARK, linewidth=2, clip_on=False)
            axes.add_patch(frame)
    shares = [100 * step / (steps - 1) for step in range(1, steps - 1)]
    name_columns(figure, axes, across, ["start", *(f"{s / 100:g}" if s == round(s) else "" for s in shares), "end"])
    return figure


@styled()
def traversals(
    frames: Shaped[ArrayLike, "..."],
    values: Shaped[ArrayLike, "..."],
    *,
    rows: Sequence[str] = (),
    xlabel: str = "value of the latent",
) -> Figure:
    """What changes when one latent is moved and the others stay, a row for each latent.

    Args:
        frames: [rows, steps, h, w] or [rows, steps, h, w, c] in [0, 1].
        values: [steps], the latent's value in each column, growing.
        rows: a name for each row, such as the latent's number.
        xlabel: what `values` are, with their unit.

    Returns:
        The figure.

    Raises:
        ValueError: the shapes do not fit together, or `rows` are not as many as the rows.

    Example:
        >>> figure = traversals(np.zeros((2, 5, 8, 8)), np.linspace(-2.0, 2.0, 5), rows=["latent 3", "latent 1"])
        >>> [label.get_text() for label in figure.axes[0].get_xticklabels()]
        ['−2', '−1', '0', '1', '2']
    """
    tiles, at = as_rgb(frames, leading=2, name="frames"), np.asarray(values, np.float64)
    if at.shape != tiles.shape[1:2] or np.any(np.diff(at) <= 0):
        raise ValueError(f"values must be {tiles.shape[1]} growing numbers, one for each column, got {at.tolist()}")
    check_rows(rows, len(tiles))
    figure, axes, _, across = show_mosaic(tiles, rows=rows)
    figure.set_figheight(figure.get_figheight() + 0.5)
    axes.set(xlabel=xlabel)
    _latent_ticks(axes.set_xticks, at, across)
    axes.tick_params(axis="x", length=3, color=FAINT)
    return figure


@styled()
def carpet(images: Shaped[ArrayLike, "..."], grid: Shaped[ArrayLike, "..."], *, title: str | None = None) -> Figure:
    """Decoded images where their two latents lie, on axes in latent units; the second latent grows upwards.

    Args:
        images: [..., h, w] or [..., h, w, c] in [0, 1], decoded at the points of `grid`, in any order.
        grid: [..., 2], the latents; the points of a full grid, evenly spaced or not.
        title: heading inside the figure.

    Returns:
        The figure.

    Raises:
        ValueError: `grid` is no full grid of the plane, or `images` does not match it.

    Example:
        >>> z = np.linspace(-2.0, 2.0, 3)
        >>> grid = np.stack(np.meshgrid(z, z), axis=-1)
        >>> carpet(np.zeros((3, 3, 8, 8)), grid).axes[0].get_xlabel()
        'latent 1'
    """
    latents = np.asarray(grid, np.float64)
    leading = latents.ndim - 1
    tiles = as_rgb(images, leading=leading, name="images")
    if latents.shape[-1] != 2 or tiles.shape[:leading] != latents.shape[:-1]:
        raise ValueError(
            f"grid must hold two latents for each image, got shape {latents.shape} for images {np.shape(images)}"
        )
    tiles, latents = tiles.reshape(-1, *tiles.shape[leading:]), latents.reshape(-1, 2).round(6)
    across, column = np.unique(latents[:, 0], return_inverse=True)
    up, row = np.unique(latents[:, 1], return_inverse=True)
    if len({*zip(row.tolist(), column.tolist())}) != len(across) * len(up) or len(tiles) != len(across) * len(up):
        raise ValueError(
            f"grid must be a full grid: {len(across)} × {len(up)} different latents need as many images, "
            f"got {len(tiles)}; build it with numpy.meshgrid"
        )
    placed = np.empty((len(up), len(across), *tiles.shape[1:]), tiles.dtype)
    placed[len(up) - 1 - row, column] = tiles
    figure, axes, tile_height, tile_width = show_mosaic(placed, title=title, margin=0.6)
    down = len(up) * tile_height - GAP
    figure.set_figheight(figure.get_figheight() + 0.45)
    axes.set(xlabel="latent 1", ylabel="latent 2")
    _latent_ticks(axes.set_xticks, across, tile_width)
    _latent_ticks(lambda at, names: axes.set_yticks(down - at, names), up, tile_height)
    axes.tick_params(length=3, color=FAINT)
    axes.set_facecolor(PAPER)
    return figure


def _latent_ticks(set_ticks: Callable[..., Any], values: np.ndarray, size: int) -> None:
    """Round latents where they lie between the centres of the tiles, so on uneven grids too."""
    centers = (np.arange(len(values)) + 0.5) * size - GAP / 2
    round_values = MaxNLocator(6, steps=[1, 2, 5, 10]).tick_values(values[0], values[-1]) if len(values) > 1 else values
    inside = [v for v in round_values if values[0] - 1e-9 <= v <= values[-1] + 1e-9]
    set_ticks(np.interp(inside, values, centers), [f"{v + 0:g}".replace("-", "−") for v in inside])
