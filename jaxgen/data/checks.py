"""Whether a data set's values are what a likelihood allows, asked once before training starts."""

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from jaxgen.data.dataset import Dataset, row_chunks
from jaxgen.errors import UserError
from jaxgen.places import misplaced

# Float32 rounding of a value that was meant to be 0 or 1.
_TOLERANCE = 1e-6


def check_values(dataset: Dataset, domain: str, *, binarized: bool = False, allow_missing: bool = False) -> None:
    """Stop before training on data that a likelihood does not allow, with the range seen and the remedy.

    Both splits are read once in chunks of 16 MB, so memory stays flat where they are memory-mapped.

    Args:
        dataset: its values are compared in network units, x / scale.
        domain: "real" for any finite value, "unit" for [0, 1], "binary" for [0, 1] with a warning where a
            value is neither 0 nor 1, "codes" for whole numbers from 0 on.
        binarized: True if values in [0, 1] are binarized before they are used; silences that warning.
        allow_missing: True if the model takes examples of which a part was not observed.

    Raises:
        UserError: for an empty split, shapes that differ, values that are not numbers, not finite, or outside
            the domain.
        ValueError: if `domain` is none of the four.

    Example:
        >>> from jaxgen.data import load
        >>> check_values(load("digits"), "unit")
        >>> check_values(load("digits")._replace(scale=1.0), "unit")
        Traceback (most recent call last):
        ...
        jaxgen.errors.UserError: digits: values run from 0 to 16, outside [0, 1]: give --data-scale 16 ...
    """
    if domain not in ("real", "unit", "binary", "codes"):
        raise ValueError(f'domain must be "real", "unit", "binary" or "codes", got {domain!r}.')
    if not dataset.scale > 0 or math.isinf(dataset.scale):
        raise UserError(f"{dataset.name}: the scale must be a positive number, got {dataset.scale:g}.")
    check_arrays(dataset)
    count_grey = domain == "binary" and not binarized
    seen = [_survey(split, dataset.scale, count_grey=count_grey) for split in (dataset.train, dataset.test)]
    for split_name, survey in zip(("train", "test"), seen):
        _check_finite(dataset.name, split_name, survey, allow_missing)
    if domain == "codes":
        _check_codes(dataset)
    if domain in ("real", "codes"):
        return
    low, high = min(survey.low for survey in seen), max(survey.high for survey in seen)
    if low < -_TOLERANCE or high > 1 + _TOLERANCE:
        raise UserError(
            f"{dataset.name}: values run from {low:g} to {high:g}, outside [0, 1]: "
            f"{_remedy(low * dataset.scale, high * dataset.scale)}."
        )
    grey = sum(survey.num_grey for survey in seen) / sum(survey.num_values - survey.num_missing for survey in seen)
    if grey > 0:
        warnings.warn(
            f"{dataset.name}: {grey:.1%} of the values are neither 0 nor 1, so binary cross-entropy is not a "
            "likelihood of them: give --binarize dynamic, or --likelihood continuous_bernoulli.",
            stacklevel=2,
        )


def check_arrays(dataset: Dataset) -> None:
    """Stop on an empty split, on values that are not numbers, and on shapes that do not fit together."""
    for name, split in (("train", dataset.train), ("test", dataset.test)):
        x = split["x"]
        if x.dtype.kind not in "buif":
            raise UserError(
                f"{dataset.name}: the {name} split holds {x.dtype}, not numbers of one shape: "
                "give an array of uint8 or float32."
            )
        if x.size == 0:
            raise UserError(f"{dataset.name}: the {name} split of shape {x.shape} is empty: give at least one example.")
        if x.shape[1:] != dataset.shape:
            raise UserError(
                f"{dataset.name}: an example of the {name} split has shape {x.shape[1:]}, "
                f"but {dataset.shape} was expected: give both splits one shape."
            )
        if "mask" in split and split["mask"].shape != x.shape:
            raise UserError(
                f"{dataset.name}: the mask of the {name} split has shape {split['mask'].shape}, its examples "
                f"{x.shape}: give one entry for each value."
            )
        for key, array in split.items():
            if array.shape[:1] != (len(x),):
                raise UserError(
                    f"{dataset.name}: the {name} split has {len(x)} examples but {key} of shape {array.shape}: "
                    "give one entry for each example."
                )
    for key in dataset.train.keys() & dataset.test.keys():
        shapes = [split[key].shape for split in (dataset.train, dataset.test)]
        if shapes[0][1:] != shapes[1][1:]:
            raise UserError(
                f"{dataset.name}: {key} of the train split has shape {shapes[0]}, of the test split {shapes[1]}: "
                "give both splits one width."
            )
    width = math.prod(dataset.shape)
    if dataset.columns is not None and sum(dataset.columns) != width:
        raise UserError(
            f"{dataset.name}: its columns are {sum(dataset.columns)} wide together, an example has {width} values: "
            "give the width of each column."
        )
    for split in (dataset.train, dataset.test):
        if "mask" in split:
            check_categories(dataset.name, split["mask"], dataset.columns)


def check_categories(name: str, mask: np.ndarray, columns: Sequence[int] | None) -> None:
    """Stop where a part of a one-hot vector is hidden: a category is observed as a whole, or not at all.

    Args:
        name: of the data set.
        mask: [examples, ...], True where a value was observed.
        columns: widths of the columns of a table of mixed types, None where there are none.

    Raises:
        UserError: with the column and the example.
    """
    mask, start = mask.reshape(len(mask), -1), 0
    for number, width in enumerate(columns or ()):
        seen = mask[:, start : start + width].sum(axis=1)
        odd = np.flatnonzero((seen > 0) & (seen < width))
        if odd.size:
            raise UserError(
                f"{name}: the mask hides {width - seen[odd[0]]} of the {width} entries of column {number + 1}, a "
                f"category, in example {odd[0]}: hide all of them or none."
            )
        start += width


class _Survey(NamedTuple):
    low: float
    high: float
    num_values: int
    num_grey: int
    num_missing: int
    num_infinite: int


def _survey(split: Mapping[str, np.ndarray], scale: float, *, count_grey: bool) -> _Survey:
    """Of what was observed: what a mask hides may be anything."""
    x, mask, start = split["x"], split.get("mask"), 0
    one = int(scale) if scale == int(scale) else scale  # an integer compares with bytes as bytes, fast
    low, high, num_grey, num_missing, num_infinite = math.inf, -math.inf, 0, 0, 0
    for chunk in row_chunks(x):
        if mask is not None:
            observed, start = mask[start : start + len(chunk)], start + len(chunk)
            num_missing += observed.size - int(np.count_nonzero(observed))
            chunk = chunk[observed]
        if chunk.dtype.kind == "f":
            missing = np.isnan(chunk)
            num_missing += int(missing.sum())
            num_infinite += int(np.isinf(chunk).sum())
            chunk = chunk[~missing] if missing.any() else chunk
        if chunk.size:
            low, high = min(low, float(chunk.min())), max(high, float(chunk.max()))
        if count_grey:
            num_grey += int(np.count_nonzero((chunk != 0) & (chunk != one)))
    return _Survey(low / scale, high / scale, x.size, num_grey, num_missing, num_infinite)


def _check_finite(name: str, split_name: str, survey: _Survey, allow_missing: bool) -> None:
    if survey.num_infinite:
        raise UserError(
            f"{name}: {survey.num_infinite} of {survey.num_values} values of the {split_name} split "
            "are infinite: remove or clip them."
        )
    if survey.num_missing and not allow_missing:
        raise UserError(
            f"{name}: {survey.num_missing} of {survey.num_values} values of the {split_name} split are missing (NaN, "
            "or hidden by a mask): fill them in, remove those examples, or take a model that allows it."
        )
    if survey.num_missing == survey.num_values:
        raise UserError(f"{name}: every value of the {split_name} split is missing: give some that are observed.")


def _check_codes(dataset: Dataset) -> None:
    """Codes are whole numbers, at each place those of its own codebook, and in no other unit."""
    advice = "learn codes that 'jaxgen encode' wrote, or name the run that makes them by --from"
    if dataset.scale != 1:
        raise UserError(
            f"{dataset.name}: codes are whole numbers, not shares of {dataset.scale:g}: {advice}; --data-scale 1 takes "
            "its numbers for codes."
        )
    size = dataset.codebook_size
    for split in (dataset.train, dataset.test):
        for chunk in row_chunks(split["x"]):
            odd = chunk[(chunk < 0) | (chunk != np.round(chunk))] if chunk.dtype.kind == "f" else chunk[:0]
            if odd.size:
                raise UserError(f"{dataset.name}: {odd.flat[0]:g} is no code: {advice}.")
            problem = misplaced(chunk, size, grids=dataset.grids, stages=dataset.per_place)
            if problem is not None:
                raise UserError(f"{dataset.name} holds {problem}: encode the data again.")


def _remedy(low: float, high: float) -> str:
    if low < 0:
        return "rescale the data to [0, 1] or use the Gaussian likelihood"
    scale = 255 if 128 <= high <= 255 else high
    return f"give --data-scale {scale:g} or use the Gaussian likelihood"
