"""From a name or a path to a data set."""

import difflib
import math
from pathlib import Path

from jaxgen.data import files, synthetic, tfds
from jaxgen.data.dataset import Dataset
from jaxgen.errors import UserError

_NAMES = {
    "digits": "1797 handwritten digits, 8×8, 17 grey levels; inside scikit-learn, no download",
    "ring": "8 Gaussians of standard deviation 0.01 on the unit circle",
    "grid": "25 Gaussians of standard deviation 0.05 on a 5×5 grid of spacing 2",
    "stacked_digits": "a digit of `digits` in each of three channels: 1000 kinds, drawn from the seed",
    "mnist": "70,000 handwritten digits, 28×28, grey (TensorFlow Datasets)",
    "stacked_mnist": "a digit of MNIST in each of three channels: 1000 kinds, drawn from the seed",
    "fashion_mnist": "70,000 pieces of clothing, 28×28, grey (TensorFlow Datasets)",
    "binarized_mnist": "60,000 handwritten digits, 28×28, fixed binarization (TensorFlow Datasets)",
}

#: Those that lie in no folder.
_OWN = ("digits", "ring", "grid", "stacked_digits")


def names() -> dict[str, str]:
    """The built-in names, each with one line; `load` also takes any TensorFlow Datasets name, and a path.

    Example:
        >>> list(names())[:3]
        ['digits', 'ring', 'grid']
    """
    return dict(_NAMES)


def load(name: str, *, data_dir: str | None = None, seed: int = 0, scale: float | int | None = None) -> Dataset:
    """A data set by its name or by the path of a file.

    A set of TensorFlow Datasets is read once without tensorflow and kept in the user's cache folder
    ($XDG_CACHE_HOME or ~/.cache), memory-mapped from then on. Where a source has no test split, the last
    tenth of its examples, at least one, becomes it: shuffle a file that is sorted by class.

    A file is `.npy` (x), `.npz` (x or x_train and x_test, labels as y, label or y_train and y_test) or `.csv`
    (numeric columns, a column named label or class gives the labels). An array [n, height, width] gets an
    axis of channels; one of [n, dims] stays as it is.

    Args:
        name: one of `names()`, any `name[/config][:version]` of TensorFlow Datasets, or a path.
        data_dir: the folder of prepared sets; $TFDS_DATA_DIR, then ~/tensorflow_datasets, if it is None.
        seed: of the synthetic sets, one for all replicas of a run; no other set depends on it.
        scale: network units are x / scale; by default 255 for bytes, 1 for floats and bits, 16 for digits.

    Returns:
        The set, bytes as uint8 and other numbers as float32.

    Raises:
        UserError: for an unknown name, a set that is not prepared, a file that cannot be used.

    Example:
        >>> digits = load("digits")
        >>> digits.train["x"].shape, digits.test["x"].shape, digits.scale, digits.num_classes
        ((1500, 8, 8, 1), (297, 8, 8, 1), 16.0, 10)
    """
    if seed < 0:
        raise UserError(f"The seed must not be negative, got {seed}: give 0 or more.")
    if scale is not None and not 0 < scale < math.inf:
        raise UserError(f"The scale must be a positive number, got {scale:g}: give the value that stands for 1.")
    dataset = _load(name, data_dir=data_dir, seed=seed)
    return dataset if scale is None else dataset._replace(scale=float(scale))


def prepared_in(name: str, *, data_dir: str | None = None) -> str | None:
    """The folder of prepared sets that `load` has a set from; None for a set from elsewhere."""
    root = tfds.data_root(data_dir).absolute()
    if name in _OWN or tfds.find_folder(name.removeprefix("stacked_"), root=root) is None:
        return None
    return str(root)


def _load(name: str, *, data_dir: str | None, seed: int) -> Dataset:
    if name == "digits":
        return synthetic.digits()
    if name == "ring":
        return synthetic.ring(seed=seed)
    if name == "grid":
        return synthetic.grid(seed=seed)
    if name == "stacked_digits":
        return synthetic.stacked(name, synthetic.digits(), seed=seed)
    if name == "stacked_mnist":
        return synthetic.stacked(name, tfds.load_prepared("mnist", data_dir=data_dir), seed=seed)
    root = tfds.data_root(data_dir)
    if tfds.find_folder(name, root=root) is None:
        if name.lower().endswith(files.SUFFIXES) or Path(name).expanduser().is_file():
            return files.load_file(name)
        _check_known(name)
    return tfds.load_prepared(name, data_dir=data_dir)


def _check_known(name: str) -> None:
    """A name that nobody knows is a typing mistake, not a set that remains to be prepared."""
    known = [*_NAMES, *tfds.known_names()]
    base = name.partition(":")[0].partition("/")[0]
    if base in known:
        return
    near = list(dict.fromkeys(difflib.get_close_matches(base, known, n=3)))
    hint = f"did you mean {' or '.join(near)}? Otherwise give" if near else "give"
    raise UserError(
        f"Unknown data set {name!r}: {hint} one of {', '.join(_NAMES)}, any other name of TensorFlow Datasets, "
        f"or the path of a file that ends in {', '.join(files.SUFFIXES)}."
    )
