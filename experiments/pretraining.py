"""Layer-wise pre-training without labels, against a random start, where few labels are told.

command:   python experiments/pretraining.py
hardware:  two CPU cores; for --scale full one GPU, and MNIST in TFDS_DATA_DIR
time:      2 minutes; full 4 minutes on an H200 that trained three other experiments beside it
expected:  test accuracy above that of a random start: the 95% interval of the paired difference lies above 0. Met by
           MNIST at full scale: with 50 labels the gain is 4.4 points, its interval 3.9 to 4.8. Missed on the small
           digits: 0.4 points, −0.5 to 1.4
source:    own gate; that pre-training helps where labels are few: Erhan et al., 2010

A stacked autoencoder learns from all training digits, without their labels; each layer learns to take Gaussian noise
off its input (Vincent et al., 2010). A linear head is put on the code, and everything learns from a few labels. The
other of a pair has the same layers, the same labels and the same first head, but begins at random.

What was measured says that on the small digits such a gain, if there is one, is below a point and a half. Masking half
of each input in place of the noise came to the same: 0.5 points with 50 labels, interval −0.4 to 1.4. There are 1500
digits of 64 pixels to learn from without labels. At full scale there are 60,000 of 784, and pre-training helps with any
number of labels up to 200. Where everything is fine-tuned `transfer.py` finds as little; its frozen codes do better.

The pairs differ in every draw: labels, starts, noise. Accuracies of single classifiers spread as widely as what is
looked for, mostly since some choices of labels tell more than others. This falls out of the difference within a pair,
whose mean has the interval d ± t s/√n, with t of Student's distribution with n − 1 degrees of freedom. It speaks of
other draws on the same test split, not of other digits.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from classifier import accuracies, splits, trained, untrained
from figures import Figure, Outcome, Scale, main, pictures
from pairs import interval

from jaxgen import runs
from jaxgen.errors import UserError
from jaxgen.training import Options


class Setting(NamedTuple):
    """What differs between the scales; `pretrain` is updates of each layer alone, `steps` of the classifier."""

    data: str
    hidden: tuple[int, ...]
    latents: int
    pretrain: int
    steps: int
    counts: tuple[int, ...]


SETTINGS: dict[Scale, Setting] = {
    "cpu": Setting("digits", (200, 200), 100, pretrain=400, steps=300, counts=(50, 100, 200)),
    "full": Setting("mnist", (500, 500), 250, pretrain=10_000, steps=1000, counts=(50, 100, 200)),
}


def compared(count: int, before: np.ndarray, after: np.ndarray) -> list[Figure]:
    """Accuracies in percent of a random and of a pre-trained start, pair by pair."""
    low, high = interval(after - before)
    own, where = "own measurement", f"{count} labels"
    return [
        Figure(f"{where}: random start", before.tolist(), "%", None, own),
        Figure(f"{where}: pre-trained", after.tolist(), "%", None, own),
        Figure(f"{where}: gain within a pair", (after - before).tolist(), "%", None, own),
        Figure(f"{where}: gain, lower end of 95%", [low], "%", 0.0, "own gate: pre-training helps", 0.0, "above"),
        Figure(f"{where}: gain, upper end of 95%", [high], "%", None, own),
    ]


def run(*, seeds: int = 20, scale: Scale = "cpu", workdir: Path) -> Outcome:
    if seeds < 2:
        raise UserError(f"a confidence interval needs two pairs or more, got --seeds {seeds}")
    setting, path = SETTINGS[scale], workdir / "stacked"
    arguments: dict[str, Any] = {"hidden": setting.hidden, "latents": setting.latents, "pretrain": setting.pretrain}
    arguments |= {"corruption": "gaussian", "level": 0.5}
    options = Options(steps=setting.pretrain * (len(setting.hidden) + 1), seeds=seeds)
    runs.train("stacked_autoencoder", arguments, data=setting.data, workdir=path, options=options)
    pretrained, random = trained(path, seeds), untrained(path, seeds)
    train, test = splits(setting.data)
    figures = []
    for count in setting.counts:
        before, after = (
            100 * accuracies(encoders, train, test, labels=count, steps=setting.steps, learning_rate=1e-3)
            for encoders in (random, pretrained)
        )
        figures += compared(count, before, after)
    caption = "What the stack makes of test digits: its layers were learned one by one, and never together."
    return Outcome(figures, pictures(path, {"reconstructions": caption}))


if __name__ == "__main__":
    main(run)
