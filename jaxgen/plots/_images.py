"""Pictures made of pictures: grids, reconstructions, interpolations, the carpet of a latent plane."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Shaped
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from jaxgen.plots._points import paths, points
from jaxgen.plots._style import FAINT, MARK, PAPER, WIDTH, new_axes, styled

TILE = 64  # pixels that the longer side of a tile has at least, so that the gap is thin beside a small image
GAP = 4
NOT_FINITE = (0.835, 0.369, 0.0)  # the mark's colour: a NaN must be seen, not pass for black


def as_rgb(images: ArrayLike, *, leading: int, name: str) -> np.ndarray:
    """Images with `leading` axes before height and width, as [..., h, w, 3] in [0, 1]."""
    array = np.asarray(images)
    if array.dtype.kind in "iu" and array.max(initial=0) > 1:
        raise ValueError(f"{name} must lie in [0, 1], got integers up to {array.max()}; divide bytes by 255")
    array = array.astype(np.float32)
    if array.ndim == leading + 2:
        array = array[..., None]
    if array.ndim != leading + 3 or array.shape[-1] not in (1, 3) or 0 in array.shape:
        raise ValueError(
            f"{name} must have {leading} leading axes, then height, width and at most a channel axis of 1 "
            f"or 3, but its shape is {np.shape(images)}; reshape flat examples to images first"
        )
    good = np.isfinite(array).all(axis=-1, keepdims=True)
    return np.where(good, np.clip(array, 0.0, 1.0), np.array(NOT_FINITE, np.float32))


def mosaic(tiles: np.ndarray) -> tuple[np.ndarray, int, int]:
    """Tiles [rows, columns, h, w, 3] as one image with gaps, and the distance of tiles down and across."""
    rows, columns, height, width, _ = tiles.shape
    zoom = max(1, math.ceil(TILE / max(height, width)))
    tiles = tiles.repeat(zoom, axis=2).repeat(zoom, axis=3)
    down, across = height * zoom + GAP, width * zoom + GAP
    canvas = np.full((rows, down, columns, across, 3), 255, np.uint8)
    canvas[:, : down - GAP, :, : across - GAP] = (255 * tiles).round().transpose(0, 2, 1, 3, 4)
    return canvas.reshape(rows * down, columns * across, 3)[:-GAP, :-GAP], down, across


def show_mosaic(tiles: np.ndarray, *, title: str | None, margin: float = 0.0) -> tuple[Figure, Axes, int, int]:
    """A figure as high as its tiles ask; `margin` is the width in inches that labels on the left take."""
    canvas, down, across = mosaic(tiles)
    height = (WIDTH - margin) * canvas.shape[0] / canvas.shape[1]
    figure, axes = new_axes(height + 0.12 + (0.35 if title else 0.0), title=title)
    axes.imshow(canvas, extent=(0, canvas.shape[1], canvas.shape[0], 0))
    axes.spines[:].set_visible(False)
    axes.set(xticks=[], yticks=[])
    axes.tick_params(length=0)
    return figure, axes, down, across


def pad_to_rows(images: np.ndarray, columns: int) -> np.ndarray:
    """Images [n, h, w, 3] as rows of `columns`, the last row filled with blank paper."""
    missing = -len(images) % columns
    blank = np.ones((missing, *images.shape[1:]), images.dtype)
    return np.concatenate([images, blank]).reshape(-1, columns, *images.shape[1:])


@styled()
def image_grid(images: Shaped[ArrayLike, "..."], *, columns: int | None = None, title: str | None = None) -> Figure:
    """Images side by side, row by row.

    Values are clipped to [0, 1]; pixels that are not finite are painted orange, so that they are noticed.

    Args:
        images: [n, h, w] or [n, h, w, c] with c of 1 or 3, in [0, 1].
        columns: images in a row; by default about as many as rows, ten at most.
        title: heading inside the figure.

    Returns:
        The figure.

    Raises:
        ValueError: `images` is not a batch of images, or `columns` is below one.

    Example:
        >>> image_grid(np.zeros((10, 8, 8)), columns=5).axes[0].images[0].get_array().shape
        (132, 336, 3)
    """
    tiles = as_rgb(images, leading=1, name="images")
    columns = min(10, math.ceil(math.sqrt(len(tiles)))) if columns is None else columns
    if columns < 1:
        raise ValueError(f"columns must be at least 1, got {columns}; leave it out for a square grid")
    figure, *_ = show_mosaic(pad_to_rows(tiles, columns), title=title)
    return figure


@styled()
def samples(values: Shaped[ArrayLike, "..."], *, title: str | None = None) -> Figure:
    """What a model draws: a grid for images, a scatter for points of the plane.

    Args:
        values: images as in `image_grid`, or points [n, 2].
        title: heading inside the figure.

    Returns:
        The figure.

    Raises:
        ValueError: `values` is neither.

    Example:
        >>> len(samples(np.zeros((16, 2))).axes[0].collections)
        1
    """
    if _is_plane(values, leading=1):
        return points(values, title=title)
    return image_grid(values, title=title)


@styled()
def reconstructions(
    originals: Shaped[ArrayLike, "..."], reconstructed: Shaped[ArrayLike, "..."], *, columns: int = 8
) -> Figure:
    """Originals above what the model makes of them, in labelled rows; points are joined by lines.

    Args:
        originals: images [n, h, w] or [n, h, w, c] in [0, 1], or points [n, 2].
        reconstructed: the same shape.
        columns: pairs in a row.

    Returns:
        The figure.

    Raises:
        ValueError: the shapes differ, or are not those of images or points of the plane.

    Example:
        >>> figure = reconstructions(np.zeros((8, 4, 4)), np.ones((8, 4, 4)))
        >>> [label.get_text() for label in figure.axes[0].get_yticklabels()]
        ['data', 'model']
    """
    if np.shape(originals) != np.shape(reconstructed):
        raise ValueError(
            f"originals and reconstructed must have the same shape, got {np.shape(originals)} "
            f"and {np.shape(reconstructed)}; pass the pairs in the same order"
        )
    if _is_plane(originals, leading=1):
        return paths(np.stack([np.asarray(originals), np.asarray(reconstructed)], axis=1), ends=("data", "model"))
    columns = max(1, min(columns, np.shape(originals)[0]))
    kinds = [pad_to_rows(as_rgb(x, leading=1, name="images"), columns) for x in (originals, reconstructed)]
    tiles = np.stack(kinds, axis=1)  # [rows, 2, columns, h, w, 3]
    rows = len(tiles)
    tiles = tiles.reshape(2 * rows, *tiles.shape[2:])
    figure, axes, down, _ = show_mosaic(tiles, title=None, margin=0.6)
    axes.set_yticks([(row + 0.5) * down - GAP / 2 for row in range(2 * rows)], ["data", "model"] * rows)
    return figure


@styled()
def interpolation(frames: Shaped[ArrayLike, "rows steps ..."], *, title: str | None = None) -> Figure:
    """Rows of frames that lead from one example to another; the two ends are framed.

    Args:
        frames: [rows, steps, h, w] or [rows, steps, h, w, c] in [0, 1], or paths in the plane,
            [rows, steps, 2].
        title: heading inside the figure.

    Returns:
        The figure.

    Raises:
        ValueError: the shape is none of these, or a row has fewer than two frames.

    Example:
        >>> figure = interpolation(np.zeros((3, 5, 8, 8)))
        >>> [label.get_text() for label in figure.axes[0].get_xticklabels()]
        ['start', '0.25', '0.5', '0.75', 'end']
    """
    if np.ndim(frames) < 2 or np.shape(frames)[1] < 2:
        raise ValueError(f"frames must be [rows, steps, …] with at least two steps a row, got shape {np.shape(frames)}")
    if _is_plane(frames, leading=2):
        return paths(frames, ends=("start", "end"), title=title)
    tiles = as_rgb(frames, leading=2, name="frames")
    rows, steps = tiles.shape[:2]
    figure, axes, down, across = show_mosaic(tiles, title=title)
    figure.set_figheight(figure.get_figheight() + 0.3)
    for row in range(rows):
        for step in (0, steps - 1):
            corner = (step * across - GAP / 2, row * down - GAP / 2)
            frame = Rectangle(corner, across, down, fill=False, edgecolor=MARK, linewidth=2, clip_on=False)
            axes.add_patch(frame)
    shares = [100 * step / (steps - 1) for step in range(1, steps - 1)]
    labels = ["start", *(f"{share / 100:g}" if share == round(share) else "" for share in shares), "end"]
    axes.set_xticks([(step + 0.5) * across - GAP / 2 for step in range(steps)], labels)
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


def _is_plane(values: ArrayLike, *, leading: int) -> bool:
    shape = np.shape(values)
    return len(shape) == leading + 1 and shape[-1] == 2
