"""A figure to a file."""

import os
from pathlib import Path

from matplotlib.figure import Figure

from jaxgen.plots._style import DPI, styled
from jaxgen.whole import whole


@styled()
def save(figure: Figure, path: str | os.PathLike[str]) -> Path:
    """Write a figure as PNG, twice as many pixels as a page shows; the same figure gives the same bytes.

    Args:
        figure: any matplotlib figure.
        path: the file; its folder is made if need be.

    Returns:
        The path.

    Raises:
        ValueError: the path does not end in .png.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save(Figure(figsize=(1, 1)), Path(folder) / "plots" / "blank.png").name
        'blank.png'
    """
    path = Path(path)
    if path.suffix.lower() != ".png":
        raise ValueError(f"path must end in .png, got {path.name!r}")
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole(path) as partial:
        # Without "Software" the version of matplotlib would be in it.
        figure.savefig(partial, format="png", dpi=DPI, metadata={"Software": None})
    return path
