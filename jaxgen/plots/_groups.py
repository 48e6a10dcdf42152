"""Which latent drives which group of variables."""

from collections.abc import Sequence

import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Shaped
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from jaxgen.plots._images import check_rows
from jaxgen.plots._style import WIDTH, styled

#: Beyond, their names would not fit.
MANY = 40


@styled()
def group_links(
    norms: Shaped[ArrayLike, "..."], *, groups: Sequence[str] = (), ylabel: str = "group of variables"
) -> Figure:
    """Which latent reaches which group: norms as shades, blank where they are exactly zero.

    Latents stand in the order of the groups that they drive, so that a group with a latent of its own lies on the
    diagonal; those that reach nothing come last. Up to 40 have their number, counted from 1.

    Args:
        norms: [latents, groups], not negative: 0 where a latent does not reach a group.
        groups: a name for each group, from above; their numbers by default.
        ylabel: what a group is.

    Returns:
        The figure.

    Raises:
        ValueError: not one finite, non-negative number for each latent and group, or `groups` are not as many.

    Example:
        >>> figure = group_links(np.array([[0.0, 2.0], [1.0, 0.0]]), groups=["left", "right"])
        >>> [label.get_text() for label in figure.axes[0].get_xticklabels()]
        ['2', '1']
    """
    found = np.asarray(norms, np.float64)
    if found.ndim != 2 or not found.size or not np.isfinite(found).all() or (found < 0).any():
        raise ValueError(f"norms must be finite numbers [latents, groups], not negative, got shape {found.shape}")
    check_rows(groups, found.shape[1])
    order = np.lexsort((found.argmax(axis=1), found.max(axis=1) == 0))
    latents, count = found.shape
    figure = Figure(figsize=(WIDTH, 0.25 * WIDTH + 0.19 * min(count, MANY)), layout="constrained")
    axes = figure.subplots()
    shades = np.where(found > 0, found, np.nan)[order].T
    image = axes.imshow(shades, cmap="Blues", vmin=0, vmax=found.max() or 1, aspect="auto")
    if latents <= MANY:
        axes.set_xticks(range(latents), [str(latent + 1) for latent in order])
    else:
        axes.set_xticks([])
    if count <= MANY:
        axes.set_yticks(range(count), groups or [str(group) for group in range(1, count + 1)])
    else:
        axes.yaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.set(xlabel="number of the latent, in the order of what it drives", ylabel=ylabel)
    axes.tick_params(length=0)
    figure.colorbar(image, ax=axes, label="norm, blank: exactly 0")
    return figure
