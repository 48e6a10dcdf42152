"""A figure to a file."""

import os
from pathlib import Path

from matplotlib.figure import Figure

from jaxgen.plots._style import DPI, styled


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
    figure.savefig(path, dpi=DPI, metadata={"Software": None})  # the version of matplotlib would be in it
    return path
