"""A user's own arrays: .npz, .npy and .csv files."""

import csv
import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from tokenize import TokenError
from zipfile import BadZipFile

import numpy as np

from jaxgen.data.checks import check_arrays
from jaxgen.data.dataset import (
    Dataset,
    Encoded,
    default_scale,
    example_dtype,
    hold_out,
    make_dataset,
    read_encoded,
    row_chunks,
)
from jaxgen.errors import UserError

SUFFIXES = (".npz", ".npy", ".csv")

_TRAIN_KEYS = ("x_train", "train", "x")
_TEST_KEYS = ("x_test", "test")
_TRAIN_LABEL_KEYS = ("y_train", "label_train", "labels_train", "y", "label", "labels")
_TEST_LABEL_KEYS = ("y_test", "label_test", "labels_test")
_MASK_KEYS = ("mask_train", "mask")
_TEST_MASK_KEYS = ("mask_test",)
_CONDITION_KEYS = ("condition_train", "condition")
_TEST_CONDITION_KEYS = ("condition_test",)
#: What is told of the examples besides: the widths of columns, and whose codes they are.
_ABOUT = {"columns", "encoded", "fingerprint"}
#: What 'jaxgen encode' writes for others.
_UNREAD = {"bits_train", "bits_test"}
_LABEL_COLUMNS = ("label", "labels", "class")
# What NumPy raises for damaged files: its header is parsed as Python source.
UNREADABLE = (OSError, EOFError, ValueError, SyntaxError, TokenError, OverflowError, MemoryError, BadZipFile)
_MISSING = ("", "na", "nan", "null", "none")


def load_file(name: str) -> Dataset:
    """A set from a file; the last tenth of the rows, at least one, is the test split where the file has none.

    Raises:
        UserError: if the file is missing, of another kind, damaged, empty, or holds no arrays of numbers.
    """
    path = Path(name).expanduser()
    if path.suffix.lower() not in SUFFIXES or path.is_dir():
        raise UserError(f"{name} is not a file of arrays: give a path that ends in {', '.join(SUFFIXES)}.")
    if not path.exists():
        raise UserError(f"There is no file {name}: check the path.")
    try:
        arrays = _read_csv(name, path) if path.suffix.lower() == ".csv" else _read_numpy(path)
    except UNREADABLE as error:
        reason = why_unreadable(error)
        raise UserError(
            f"{name} could not be read ({reason}): give arrays of numbers of one shape, saved without pickle."
        ) from error
    columns, names = _columns(name, arrays.pop("columns", None)), arrays.pop("names", None)
    encoded = _encoded(name, arrays.pop("encoded", None), arrays.pop("fingerprint", None))
    train, test = _with_masks(*_splits(name, arrays))
    dataset = make_dataset(name, train, test, scale=default_scale(train["x"]), columns=columns)
    check_arrays(dataset)
    return dataset._replace(names=None if names is None else tuple(names.tolist()), encoded=encoded)


def why_unreadable(error: BaseException) -> str:
    """An error of ``UNREADABLE`` in a few words, for a sentence that names the file."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    # NumPy takes any text for a pickle, and advises what would run it.
    return "it holds no arrays, or pickled ones" if "allow_pickle" in str(error) else str(error)


def _read_numpy(path: Path) -> dict[str, np.ndarray]:
    if path.suffix.lower() == ".npy":
        return {"x": np.load(path, mmap_mode="r", allow_pickle=False)}
    with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
        wanted = {key for train, test, _ in _FIELDS.values() for key in (*train, *test)} | _ABOUT
        only = len(archive.files) == 1
        arrays = {"x" if only else key.lower(): archive[key] for key in archive.files if only or key.lower() in wanted}
        if not any(key in arrays for key in _TRAIN_KEYS):
            raise ValueError(f"its arrays are named {', '.join(archive.files) or 'nothing'}; one must be x or x_train")
        unknown = [] if only else sorted(key for key in archive.files if key.lower() not in wanted | _UNREAD)
        if unknown:
            known = ", ".join(sorted(wanted - {"encoded", "fingerprint"}))
            warnings.warn(f"{path.name}: nothing is read from {', '.join(unknown)}; known are {known}", stacklevel=4)
    return arrays


def _splits(name: str, arrays: dict[str, np.ndarray]) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    splits = []
    for part in range(2):
        split = {}
        for field, (*candidates, convert) in _FIELDS.items():
            for key in [key for key in candidates[part] if key in arrays][:1]:
                split[field] = convert(name, arrays[key])
        splits.append(split)
    train, test = splits
    if "x" not in test:
        return hold_out(name, train)
    if train["x"].dtype != test["x"].dtype:
        raise UserError(
            f"{name}: the train examples are {train['x'].dtype} and the test examples {test['x'].dtype}, whose units "
            "differ: give both as one type."
        )
    for field, what in (("label", "labels"), ("condition", "conditions")):
        if (field in train) != (field in test):
            raise UserError(f"{name} has {what} for one split only: give {what} for both, or for neither.")
    return train, test


def _with_masks(*splits: dict[str, np.ndarray]) -> tuple[dict[str, np.ndarray], ...]:
    """Where anything is missing, every split says what was observed: not NaN, and not hidden by a mask of its own."""
    if not any("mask" in split or _has_nan(split["x"]) for split in splits):
        return splits
    observed = [~np.isnan(s["x"]) if s["x"].dtype.kind == "f" else np.ones(s["x"].shape, bool) for s in splits]
    # A mask of another shape is left for `check_arrays` to name.
    masks = [
        seen & mask if (mask := split.get("mask", seen)).shape == seen.shape else mask
        for seen, split in zip(observed, splits)
    ]
    return tuple({**split, "mask": mask} for split, mask in zip(splits, masks))


def _has_nan(x: np.ndarray) -> bool:
    return x.dtype.kind == "f" and any(np.isnan(chunk).any() for chunk in row_chunks(x))


def _masks(name: str, mask: np.ndarray) -> np.ndarray:
    if mask.dtype.kind not in "bui" or (mask.size and not 0 <= mask.min() <= mask.max() <= 1):
        raise UserError(f"{name}: the mask is {mask.dtype}: give booleans, True where a value was observed.")
    return mask.astype(bool)[..., None] if mask.ndim in (1, 3) else mask.astype(bool)


def _conditions(name: str, condition: np.ndarray) -> np.ndarray:
    if condition.ndim != 2 or condition.dtype.kind not in "buif" or not np.isfinite(condition).all():
        raise UserError(
            f"{name}: the conditions are {condition.dtype} of shape {condition.shape}: "
            "give finite numbers [examples, width]."
        )
    return condition.astype(np.float32)


def _columns(name: str, columns: np.ndarray | None) -> tuple[int, ...] | None:
    if columns is None:
        return None
    if columns.ndim != 1 or columns.dtype.kind not in "ui" or not (columns >= 1).all():
        raise UserError(f"{name}: columns must be widths of at least 1, got {columns.tolist()}.")
    return tuple(int(width) for width in columns)


def _encoded(name: str, told: np.ndarray | None, fingerprint: np.ndarray | None) -> Encoded | None:
    if told is None:
        return None
    try:
        record = json.loads(str(told))
        made_by = {} if fingerprint is None else {"fingerprint": str(fingerprint)}
        return read_encoded({**record, **made_by} if isinstance(record, dict) else record)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{name}: what it says of its codes is damaged ({error}): encode the data again.") from error


def _examples(name: str, x: np.ndarray) -> np.ndarray:
    """Of a type that the network takes, with an axis of channels behind height and width."""
    if x.ndim == 0:
        raise UserError(f"{name}: x is a single number: give an array whose first axis counts the examples.")
    dtype = example_dtype(name, x)
    if x.dtype != dtype:
        with np.errstate(over="ignore"):  # what overflows becomes infinite, which the check of values names
            x = x.astype(dtype)
    return x[..., None] if x.ndim in (1, 3) else x


def _labels(name: str, labels: np.ndarray) -> np.ndarray:
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    whole = labels.dtype.kind in "bui" or (labels.dtype.kind == "f" and bool((labels == np.round(labels)).all()))
    if labels.ndim != 1 or not whole:
        raise UserError(
            f"{name}: labels are {labels.dtype} of shape {labels.shape}: give one whole number for each "
            "example (of one-hot labels, the argmax)."
        )
    if len(labels) and not 0 <= labels.min() <= labels.max() < 2**31 - 1:
        raise UserError(f"{name}: labels run from {labels.min()} to {labels.max()}: number the classes from 0.")
    return labels.astype(np.int32)


#: Where each array of a split may be found: keys of the train split, of the test split, and what becomes of it.
_FIELDS = {
    "x": (_TRAIN_KEYS, _TEST_KEYS, _examples),
    "label": (_TRAIN_LABEL_KEYS, _TEST_LABEL_KEYS, _labels),
    "mask": (_MASK_KEYS, _TEST_MASK_KEYS, _masks),
    "condition": (_CONDITION_KEYS, _TEST_CONDITION_KEYS, _conditions),
}


def _read_csv(name: str, path: Path) -> dict[str, np.ndarray]:
    """The numeric columns as x, a column of labels apart; text labels are numbered in alphabetical order."""
    delimiter, names = _csv_layout(path)
    columns = _csv_columns(path, delimiter, skip=names is not None)
    if not columns or not len(columns[0]):
        raise ValueError("it holds no rows")
    named, names = names is not None, names or [f"number {i + 1}" for i in range(len(columns))]
    if len(names) != len(columns):
        raise ValueError(f"its first line names {len(names)} columns, but there are {len(columns)}")
    arrays = {}
    for i in [i for i in range(len(columns)) if names[i].lower() in _LABEL_COLUMNS][:1]:
        label = columns.pop(i)
        names = names[:i] + names[i + 1 :]
        arrays["label"] = np.unique(label, return_inverse=True)[1] if label.dtype.kind == "U" else label
    numeric = [column for column in columns if column.dtype.kind != "U"]
    if named:
        arrays["names"] = np.array([name for name, column in zip(names, columns) if column.dtype.kind != "U"])
    if not numeric:
        raise ValueError("no column holds numbers")
    text = [column_name for column_name, column in zip(names, columns) if column.dtype.kind == "U"]
    if text:
        warnings.warn(f"{name}: left out columns that are not numbers: {', '.join(text)}.", stacklevel=2)
    return {"x": np.stack(numeric, axis=-1), **arrays}


def _csv_layout(path: Path) -> tuple[str, list[str] | None]:
    """The delimiter, and the names of the columns where some column has a text above a number."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        delimiter = max(",;\t", key=file.readline().count)
        file.seek(0)
        head = [row for row, _ in zip(csv.reader(file, delimiter=delimiter), range(2))]
    if not head or not head[0]:
        raise ValueError("its first line is empty")
    first, second = head[0], head[-1]
    named = all(map(_is_text, first)) or any(_is_text(a) and not _is_text(b) for a, b in zip(first, second))
    return delimiter, [cell.strip() for cell in first] if named else None


def _csv_columns(path: Path, delimiter: str, *, skip: bool) -> list[np.ndarray]:
    """Numbers in one go; cell by cell, slower, for files with text or with missing values."""
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "loadtxt: input contained no data")
            table = np.loadtxt(
                path,
                np.float32,
                comments=None,
                delimiter=delimiter,
                skiprows=int(skip),
                ndmin=2,
                quotechar='"',
                encoding="utf-8-sig",
            )
        return list(table.T)
    except ValueError:
        return _csv_cells(path, delimiter, skip=skip)


def _csv_cells(path: Path, delimiter: str, *, skip: bool) -> list[np.ndarray]:
    """Columns as float32 with NaN for a missing value, or as text."""
    rows: list[list[str]] = []
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, delimiter=delimiter)
        for number, row in enumerate(reader):
            if not row or (skip and number == 0):
                continue
            if rows and len(row) != len(rows[0]):
                raise ValueError(f"line {reader.line_num} has {len(row)} cells, not {len(rows[0])}")
            rows.append(row)
    return [_column(cells) for cells in zip(*rows)]


def _column(cells: Sequence[str]) -> np.ndarray:
    try:
        return np.array(["nan" if cell.strip().lower() in _MISSING else cell for cell in cells], np.float32)
    except ValueError:
        return np.array(cells, np.str_)


def _is_text(cell: str) -> bool:
    if cell.strip().lower() in _MISSING:
        return False
    try:
        float(cell)
    except ValueError:
        return True
    return False
