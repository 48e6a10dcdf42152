"""Whether what a data set tells a conditional model is what the model knows: compiled functions cannot ask any more."""

from collections.abc import Sequence

import numpy as np

from jaxgen.data import Dataset
from jaxgen.errors import UserError
from jaxgen.model import Condition


def check_told(whose: str, values: np.ndarray, condition: Condition) -> None:
    """Refuses what encoder and decoder would be told and do not know.

    Args:
      whose: the values are, for the message.
      values: [examples] classes, or [examples, width].
      condition: of the model.

    Raises:
      UserError: for a class that the model does not know, or vectors of another width.
    """
    if not condition.classes:
        if values.ndim != 2 or values.shape[1] != condition.size:
            raise UserError(
                f"the conditions of {whose} have the shape {values.shape}, but the model is told vectors "
                f"[examples, {condition.size}]; give those that it was trained with"
            )
        return
    if values.ndim != 1 or values.dtype.kind not in "iu":
        raise UserError(
            f"the labels of {whose} are {values.dtype} of shape {values.shape}, but the model is told one class of "
            f"each example; give whole numbers [examples]"
        )
    unknown = values[(values < 0) | (values >= condition.size)]
    if unknown.size:
        raise UserError(
            f"{whose} holds class {unknown[0]}, but the model knows the classes 0 … {condition.size - 1}; leave such "
            f"examples out, or train with them"
        )


def check_conditions(dataset: Dataset, condition: Condition | None) -> None:
    """`check_told` for both splits of a data set.

    Raises:
      UserError: likewise, or if the data set lacks what is told.
    """
    if condition is None:
        return
    for split in (dataset.train, dataset.test):
        if condition.name not in split:
            raise UserError(f"{dataset.name} has no array {condition.name!r}, which the model is told of each example")
        check_told(dataset.name, split[condition.name], condition)


def check_learnable(dataset: Dataset, condition: Condition | None) -> None:
    """Refuses classes that a conditional model would be told and never learn, before it is made.

    Raises:
      UserError: for more classes than training examples, or a class of the test split alone.
    """
    if condition is None or not condition.classes or condition.name not in dataset.train:
        return
    train, test = dataset.train[condition.name], dataset.test[condition.name]
    count, highest = len(train), int(max(train.max(), test.max()))
    if highest >= count:
        raise UserError(
            f"{dataset.name}: label {highest} makes {highest + 1} classes of {count} training examples, most of which "
            f"have none; number the classes from 0 without gaps"
        )
    unseen = np.setdiff1d(test, train)
    if unseen.size:
        raise UserError(
            f"{dataset.name}: class {unseen[0]} is in the test split alone, and the model, which is told the class, "
            f"would never learn it; give the training split examples of each class"
        )


def as_told(name: str, values: Sequence[float], condition: Condition | None) -> np.ndarray:
    """What is asked for by numbers, as a model is told it of one example.

    Args:
      name: of the model, for the message.
      values: the number of one class, or those of a vector.
      condition: of the model.

    Returns:
      A whole number, or [width].

    Raises:
      UserError: for a model that is told nothing, a class that it does not know, or a vector of another width.
    """
    given = " ".join(f"{value:g}" for value in values)
    if condition is None:
        raise UserError(f"--condition {given} was given, but {name} is told nothing; leave it out")
    if not condition.classes:
        if len(values) != condition.size or not np.isfinite(values).all():
            raise UserError(f"--condition takes the {condition.size} numbers that {name} is told, got {given}")
        return np.asarray(values, np.float32)
    if len(values) != 1 or values[0] not in range(condition.size):
        raise UserError(f"--condition takes one of the classes 0 … {condition.size - 1}, got {given}")
    return np.asarray(values[0], np.int32)
