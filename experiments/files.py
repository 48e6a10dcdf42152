"""Data that several experiments write as files of their own."""

import os
from pathlib import Path

import numpy as np

from jaxgen.errors import UserError

ALL = slice(0, 1797)
TRAIN, TEST = slice(0, 1500), slice(1500, 1797)


def digits_file(folder: Path, *, train: slice, test: slice) -> tuple[Path, np.ndarray, np.ndarray]:
    """A file of chosen digits / 16, and its two splits as rows."""
    from sklearn.datasets import load_digits

    rows = load_digits(return_X_y=True)[0] / 16
    path = folder / f"digits-{train.stop}-{test.start}.npz"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        images = rows.astype(np.float32).reshape(-1, 8, 8, 1)
        partial = path.with_name("partial.npz")
        np.savez(partial, x_train=images[train], x_test=images[test])
        partial.replace(path)
    return path, rows[train], rows[test]


def given(name: str, *, origin: str) -> Path:
    """A file that the reader has fetched into the folder that JAXGEN_DATA names.

    Raises:
      UserError: saying where it is from.
    """
    folder = os.environ.get("JAXGEN_DATA")
    if folder is None:
        raise UserError(f"this experiment reads {name} ({origin}): name the folder that holds it by JAXGEN_DATA")
    path = Path(folder) / name
    if not path.exists():
        raise UserError(f"there is no {path}: fetch it ({origin})")
    return path


def faces(folder: Path) -> Path:
    """A file of Frey's faces, 1965 frames of 28×20 bytes, of which a tenth, drawn at random, is the test split."""
    from scipy.io import loadmat

    path = folder / "faces.npz"
    images = loadmat(given("frey/frey_rawface.mat", origin="cs.nyu.edu/~roweis/data.html"))["ff"]
    images = images.T.reshape(-1, 28, 20, 1)
    order = np.random.default_rng(0).permutation(len(images))
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(path, x_train=images[order[:-196]], x_test=images[order[-196:]])
    return path
