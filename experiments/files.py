"""Data that several experiments write as files of their own."""

from pathlib import Path

import numpy as np

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
