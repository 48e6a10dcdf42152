"""What the replicas of a run generate, and a classifier of digits that reads it."""

from pathlib import Path

import jax
import numpy as np
from classifier import splits

from jaxgen import runs

#: Passes of the classifier over its training digits, and how many it sees at least where these are few.
_PASSES, _SEEN = 10, 75_000


def num_parameters(path: Path) -> int:
    """Of one replica of a run."""
    return sum(np.size(leaf) for leaf in jax.tree.leaves(runs.open_run(path, which="last").params))


def sampled(path: Path, *, index: int, count: int, told: np.ndarray | None = None) -> np.ndarray:
    """Draws of one replica of a run, and what each is told where the model is conditional."""
    run = runs.open_run(path, index=index, which="last")
    assert run.model.sample is not None
    given = {} if told is None else {"condition": told}
    return np.asarray(run.model.sample(run.params, run.statistics, jax.random.key(index), count, **given))


def as_shown(images: np.ndarray) -> np.ndarray:
    """Images as any picture of them shows them and as data are: within [0, 1], which no generator here keeps to."""
    return np.clip(images, 0, 1)


class Judge:
    """A classifier that has seen the real training digits of a data set alone.

    Attributes:
      accuracy: the share of the real test digits that it reads rightly.
    """

    def __init__(self, data: str):
        from sklearn.neural_network import MLPClassifier

        train, test = splits(data)
        rows, self._network = self._rows(train.x), MLPClassifier((256,), random_state=0)
        for _ in range(max(_PASSES, _SEEN // len(rows))):
            self._network.partial_fit(rows, train.y, classes=np.arange(10))
        self.accuracy = float(np.mean(self.read(test.x) == test.y))

    @staticmethod
    def _rows(images: np.ndarray) -> np.ndarray:
        return images.reshape(len(images), -1).astype(np.float32)

    def read(self, images: np.ndarray) -> np.ndarray:
        """The class [n] of each image."""
        return np.asarray(self._network.predict(self._rows(images)))

    def doubt(self, images: np.ndarray) -> tuple[float, float]:
        """Mean entropy of the class of one image, in nats, and the exponential of that of all images' classes."""
        shares = np.asarray(self._network.predict_proba(self._rows(images)), np.float64)
        each, together = (-np.sum(p * np.log(np.maximum(p, 1e-300)), axis=-1) for p in (shares, shares.mean(axis=0)))
        return float(each.mean()), float(np.exp(together))
