"""Pictures made of pictures: grids, reconstructions, completions; and the mosaic that all of them are."""

import math
from collections.abc import Sequence

import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Shaped
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jaxgen.plots._points import paths, points
from jaxgen.plots._style import WIDTH, new_axes, styled

TILE = 64  # pixels that the longer side of a tile has at least, so that the gap is thin beside a small image
GAP = 4
NOT_FINITE = (0.835, 0.369, 0.0)  # the mark's colour: a NaN must be seen, not pass for black
HATCH = (150, 218)  # greys of the stripes over what was not observed, whose colour no image holds by itself


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


def mosaic(tiles: np.ndarray, *, missing: np.ndarray | None = None) -> tuple[np.ndarray, int, int]:
    """Tiles [rows, columns, h, w, 3] as one image with gaps, and the distance of tiles down and across.

    Pixels that were not observed, where `missing` [rows, columns, h, w] is True, are hatched.
    """
    rows, columns, height, width, _ = tiles.shape
    zoom = max(1, math.ceil(TILE / max(height, width)))
    tiles = (255 * tiles).round().astype(np.uint8).repeat(zoom, axis=2).repeat(zoom, axis=3)
    if missing is not None:
        stripe = np.add.outer(np.arange(height * zoom), np.arange(width * zoom)) // 3 % 3 == 0
        hatch = np.where(stripe, *HATCH).astype(np.uint8)[..., None]
        tiles = np.where(missing.repeat(zoom, axis=2).repeat(zoom, axis=3)[..., None], hatch, tiles)
    down, across = height * zoom + GAP, width * zoom + GAP
    canvas = np.full((rows, down, columns, across, 3), 255, np.uint8)
    canvas[:, : down - GAP, :, : across - GAP] = tiles.transpose(0, 2, 1, 3, 4)
    return canvas.reshape(rows * down, columns * across, 3)[:-GAP, :-GAP], down, across


def show_mosaic(
    tiles: np.ndarray,
    *,
    title: str | None = None,
    rows: Sequence[str] = (),
    margin: float = 0.0,
    missing: np.ndarray | None = None,
) -> tuple[Figure, Axes, int, int]:
    """A figure as high as its tiles ask; `rows` are named on the left, or `margin` inches are left for an axis."""
    canvas, down, across = mosaic(tiles, missing=missing)
    if rows:
        margin = 0.15 + 0.095 * max(map(len, rows))  # inches of the longest name
    height = (WIDTH - margin) * canvas.shape[0] / canvas.shape[1]
    figure, axes = new_axes(height + 0.12 + (0.35 if title else 0.0), title=title)
    axes.imshow(canvas, extent=(0, canvas.shape[1], canvas.shape[0], 0))
    axes.spines[:].set_visible(False)
    axes.set(xticks=[], yticks=[])
    if rows:
        axes.set_yticks([(row + 0.5) * down - GAP / 2 for row in range(len(rows))], list(rows))
    axes.tick_params(length=0)
    return figure, axes, down, across


def name_columns(figure: Figure, axes: Axes, across: int, names: Sequence[str]) -> None:
    """Names below the columns; an empty one leaves its column without."""
    figure.set_figheight(figure.get_figheight() + 0.3)
    axes.set_xticks([(column + 0.5) * across - GAP / 2 for column in range(len(names))], list(names))


def pad_to_rows(images: np.ndarray, columns: int, *, fill: float = 1.0) -> np.ndarray:
    """Images [n, ...] as rows of `columns`, the last row filled up: with blank paper, or what a mask has there."""
    blank = np.full((-len(images) % columns, *images.shape[1:]), fill, images.dtype)
    return np.concatenate([images, blank]).reshape(-1, columns, *images.shape[1:])


@styled()
def image_grid(
    images: Shaped[ArrayLike, "..."],
    *,
    columns: int | None = None,
    rows: Sequence[str] = (),
    title: str | None = None,
) -> Figure:
    """Images side by side, row by row.

    Values are clipped to [0, 1]; pixels that are not finite are painted orange, so that they are noticed.

    Args:
        images: [n, h, w] or [n, h, w, c] with c of 1 or 3, in [0, 1].
        columns: images in a row; by default about as many as rows, ten at most.
        rows: a name for each row, such as the class it was asked for.
        title: heading inside the figure.

    Returns:
        The figure.

    Raises:
        ValueError: `images` is not a batch of images, `columns` is below one, or `rows` are not as many as the
            rows.

    Example:
        >>> image_grid(np.zeros((10, 8, 8)), columns=5).axes[0].images[0].get_array().shape
        (132, 336, 3)
    """
    tiles = as_rgb(images, leading=1, name="images")
    columns = min(10, math.ceil(math.sqrt(len(tiles)))) if columns is None else columns
    if columns < 1:
        raise ValueError(f"columns must be at least 1, got {columns}; leave it out for a square grid")
    placed = pad_to_rows(tiles, columns)
    check_rows(rows, len(placed))
    return show_mosaic(placed, title=title, rows=rows)[0]


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
    if is_plane(values, leading=1):
        return points(values, title=title)
    return image_grid(values, title=title)


@styled()
def reconstructions(
    originals: Shaped[ArrayLike, "..."],
    reconstructed: Shaped[ArrayLike, "..."],
    *,
    corrupted: Shaped[ArrayLike, "..."] | None = None,
    columns: int = 8,
) -> Figure:
    """Originals above what the model makes of them, in labelled rows; points are joined by lines.

    Args:
        originals: images [n, h, w] or [n, h, w, c] in [0, 1], or points [n, 2]. What is NaN was not observed and is
            hatched.
        reconstructed: the same shape.
        corrupted: the same shape, what a denoising model was shown instead; a row of its own between the two.
        columns: examples in a row.

    Returns:
        The figure.

    Raises:
        ValueError: the shapes differ, or are not those of images or points of the plane.

    Example:
        >>> figure = reconstructions(np.zeros((8, 4, 4)), np.ones((8, 4, 4)))
        >>> [label.get_text() for label in figure.axes[0].get_yticklabels()]
        ['data', 'model']
    """
    kinds = {"data": originals, "corrupted": corrupted, "model": reconstructed}
    arrays = {name: values for name, values in kinds.items() if values is not None}
    shapes = [np.shape(values) for values in arrays.values()]
    if len(set(shapes)) > 1:
        raise ValueError(
            f"{', '.join(arrays)} must have the same shape, got {' and '.join(map(str, shapes))}; "
            f"pass them in the same order"
        )
    if is_plane(originals, leading=1):
        return paths(np.stack([np.asarray(values) for values in arrays.values()], axis=1), ends=("data", "model"))
    columns = max(1, min(columns, len(np.asarray(originals))))
    # [rows, kinds, columns, h, w, …], then every kind of a row below the other
    tiles = np.stack([pad_to_rows(as_rgb(x, leading=1, name="images"), columns) for x in arrays.values()], axis=1)
    # A NaN that the model made stays orange.
    unseen = [not_observed(x) & (name != "model") for name, x in arrays.items()]
    missing = np.stack([pad_to_rows(x, columns, fill=0.0) for x in unseen], axis=1)
    tiles, missing = (a.reshape(-1, *a.shape[2:]) for a in (tiles, missing))
    names = [*arrays] * (len(tiles) // len(arrays))
    return show_mosaic(tiles, rows=names, missing=missing)[0]


@styled()
def completions(
    originals: Shaped[ArrayLike, "..."], hidden: Shaped[ArrayLike, "..."], completed: Shaped[ArrayLike, "..."]
) -> Figure:
    """A row for each example: itself, the part of it that was shown, and what several draws make of the rest.

    Args:
        originals: images [n, h, w] or [n, h, w, c] in [0, 1].
        hidden: the same shape, NaN where nothing was shown; hatched.
        completed: [draws, n, h, w] or [draws, n, h, w, c].

    Returns:
        The figure.

    Raises:
        ValueError: the shapes do not fit together, or are not those of images.

    Example:
        >>> x = np.zeros((2, 4, 4))
        >>> figure = completions(x, np.where(np.arange(4) < 2, x, np.nan), np.zeros((3, 2, 4, 4)))
        >>> [label.get_text() for label in figure.axes[0].get_xticklabels()]
        ['data', 'shown', '1', '2', '3']
    """
    if np.shape(hidden) != np.shape(originals) or np.shape(completed)[1:] != np.shape(originals):
        raise ValueError(
            f"hidden must have the shape of originals, and completed one more axis in front of it, got "
            f"{np.shape(hidden)} and {np.shape(completed)} for originals {np.shape(originals)}"
        )
    columns = [np.asarray(originals), np.asarray(hidden), *np.asarray(completed)]
    tiles = np.stack([as_rgb(x, leading=1, name="images") for x in columns], axis=1)
    missing = np.zeros(tiles.shape[:-1], bool)
    missing[:, :2] = np.stack([not_observed(x) for x in columns[:2]], axis=1)
    figure, axes, _, across = show_mosaic(tiles, missing=missing)
    name_columns(figure, axes, across, ["data", "shown", *(str(i + 1) for i in range(len(columns) - 2))])
    return figure


def not_observed(images: ArrayLike) -> np.ndarray:
    """[n, h, w], where a pixel of [n, h, w] or [n, h, w, c] is NaN."""
    nan = np.isnan(np.asarray(images, np.float32))
    return np.asarray(nan if nan.ndim == 3 else nan.any(axis=-1))


def check_rows(names: Sequence[str], count: int) -> None:
    """Raises a ValueError unless there is a name for each of `count` rows, or none at all."""
    if names and len(names) != count:
        raise ValueError(f"rows must name each of the {count} rows, got {len(names)} names; leave it out for none")


def is_plane(values: ArrayLike, *, leading: int) -> bool:
    """Whether the values are points of a plane, [..., 2] behind `leading` axes, and not images."""
    shape = np.shape(values)
    return len(shape) == leading + 1 and shape[-1] == 2
