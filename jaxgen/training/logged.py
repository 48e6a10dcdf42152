"""What goes into the logs: means over the rounds since the last log point, by short names."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxgen.model import Model


def short_names(values: Mapping[str, Any], model: Model) -> dict[str, Any]:
    """``player/metric``, or ``metric`` alone where there is one player."""
    return {name.split("/", 1)[1]: v for name, v in values.items()} if len(model.losses) == 1 else dict(values)


def for_log(values: Mapping[str, np.ndarray], *, first_step: int, every: int) -> dict[str, np.ndarray]:
    """What goes into logs: gradient norms of every ``every``-th step, NaN elsewhere; not what serves checks alone."""
    kept = {name: value for name, value in values.items() if "/finite/" not in name}
    for name in kept:
        if name.endswith("/grad_norm"):
            steps = first_step + 1 + np.arange(kept[name].shape[-1])
            kept[name] = np.where(steps % every == 0, kept[name], np.nan)
    return kept


class Sums:
    """Sums over the rounds since the last log point, which a checkpoint between two log points takes along.

    Rounds are added one after the other, so that nothing depends on how many a call held.
    """

    def __init__(self, recorded: Mapping[str, Any] | None = None):
        self._sums = {name: (np.asarray(total, np.float64), n) for name, (total, n) in (recorded or {}).items()}

    def add(self, values: Mapping[str, np.ndarray]) -> "Sums":
        """Adds values [..., rounds]; a norm that was not measured in a round is NaN there and does not count."""
        for name, value in values.items():
            value = value[..., ~np.isnan(value).reshape(-1, value.shape[-1]).any(axis=0)].astype(np.float64)
            total, count = self._sums.get(name, (np.zeros(value.shape[:-1]), 0))
            total = np.cumsum(np.concatenate([total[..., None], value], axis=-1), axis=-1)[..., -1]
            self._sums[name] = total, count + value.shape[-1]
        return self

    def means(self) -> dict[str, float | list[float]]:
        """By name; a norm that was measured in none of the rounds is left out."""
        return {name: (total / count).tolist() for name, (total, count) in self._sums.items() if count}

    def record(self) -> dict[str, list[Any]]:
        """What JSON takes, and the constructor takes back."""
        return {name: [total.tolist(), count] for name, (total, count) in self._sums.items()}
