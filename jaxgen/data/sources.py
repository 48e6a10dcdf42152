"""From a name or a path to a data set."""

from jaxgen.data import synthetic
from jaxgen.data.dataset import Dataset
from jaxgen.errors import UserError

_NAMES = {
    "digits": "1797 handwritten digits, 8×8, 17 grey levels; inside scikit-learn, no download",
    "ring": "8 Gaussians of standard deviation 0.01 on the unit circle",
    "grid": "25 Gaussians of standard deviation 0.05 on a 5×5 grid of spacing 2",
    "mnist": "70,000 handwritten digits, 28×28, grey (TensorFlow Datasets)",
    "fashion_mnist": "70,000 pieces of clothing, 28×28, grey (TensorFlow Datasets)",
    "binarized_mnist": "60,000 handwritten digits, 28×28, fixed binarization (TensorFlow Datasets)",
}


def names() -> dict[str, str]:
    """The built-in names, each with one line; `load` also takes any TensorFlow Datasets name, and a path.

    Example:
        >>> list(names())[:3]
        ['digits', 'ring', 'grid']
    """
    return dict(_NAMES)


def load(name: str, *, data_dir: str | None = None, seed: int = 0, scale: float | None = None) -> Dataset:
    if seed < 0:
        raise UserError(f"The seed must not be negative, got {seed}: give 0 or more.")
    if name == "digits":
        dataset = synthetic.digits()
    elif name == "ring":
        dataset = synthetic.ring(seed=seed)
    elif name == "grid":
        dataset = synthetic.grid(seed=seed)
    else:
        raise UserError(f"Unknown data set {name!r}: give one of {', '.join(_NAMES)}.")
    return dataset if scale is None else dataset._replace(scale=float(scale))
