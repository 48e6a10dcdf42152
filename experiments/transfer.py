"""Digits in few dimensions without labels, and what a classifier gains by them: frozen, fine-tuned, from scratch, PCA.

command:   python experiments/transfer.py
hardware:  two CPU cores; for --scale full one GPU, and MNIST in TFDS_DATA_DIR
time:      1 minute; full 4 minutes on an H200 that trained three other experiments beside it
expected:  with 50 labels, the frozen and the fine-tuned encoder at least as accurate as the same network from scratch,
           and the frozen one as principal components under the same head
source:    own gate: 0 points of accuracy or more

An encoder learns from all training digits without labels, and is then used in either of two ways: frozen, its codes
the input of a logistic regression, or as the start of a classifier that learns as a whole. Beside them: the same
classifier from a random start, and logistic regression on as many principal components. The frozen way is a workflow
of files, which needs neither the encoder nor JAX once the codes are written:

    jaxgen train denoising_autoencoder --latents 32 --level 0.5 --epochs 150 --workdir runs/encoder
    jaxgen encode runs/encoder --checkpoint last        # x_train, y_train, x_test, y_test in runs/encoder/codes.npz

A seed is another encoder and another choice of labels, the same for all four ways, with as many of each class.

On the small digits, frozen codes lead with 50 labels by 5 points, also over principal components under the same head:
what noise of σ = 0.5 would drown is no part of the code, so a linear head cannot overfit to it. Fine-tuning gives most
of this lead away, since all that can overfit learns again. From 200 labels on the four are alike. On MNIST, at full
scale, both uses of the encoder lead over principal components and over a random start with any number of labels: by 8
and 7 points with 50, by 1 and 4 with 1000. The result kept of full scale is older than the figure frozen − PCA, which
follows from its rows.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from classifier import Labelled, accuracies, chosen, splits, trained, untrained
from figures import Figure, Outcome, Scale, main
from matplotlib.figure import Figure as MatplotlibFigure

from jaxgen import runs
from jaxgen.apply import encode
from jaxgen.plots import save
from jaxgen.plots._style import LINES, new_axes, styled
from jaxgen.training import Options

COUNTS = (50, 100, 200, 500, 1000)
FINE_TUNED, FROZEN, SCRATCH, OF_PCA = "fine-tuned", "frozen", "from scratch", "PCA"


class Setting(NamedTuple):
    """What differs between the scales; `steps` are those of the classifier."""

    data: str
    arguments: Mapping[str, Any]
    options: Options
    steps: int


SETTINGS: dict[Scale, Setting] = {
    "cpu": Setting("digits", {"latents": 32, "hidden": (200, 200)}, Options(epochs=150), 300),
    "full": Setting("mnist", {"latents": 32, "hidden": (500, 500)}, Options(epochs=100, schedule="cosine"), 1000),
}


def of_codes(train: Labelled, test: Labelled, count: int, *, seed: int) -> float:
    """Accuracy of logistic regression on a few labelled codes, the spread of all of them as the unit."""
    from sklearn.linear_model import LogisticRegression

    index, unit = chosen(train.y, count, seed=seed), train.x.std()
    head = LogisticRegression(max_iter=5000).fit(train.x[index] / unit, train.y[index])
    return float(head.score(test.x / unit, test.y))


def read_codes(path: Path) -> tuple[Labelled, Labelled]:
    """What ``jaxgen encode`` wrote."""
    with np.load(path) as archive:
        train, test = (Labelled(archive[f"x_{split}"], archive[f"y_{split}"]) for split in ("train", "test"))
    return train, test


def principal(train: Labelled, test: Labelled, latents: int) -> tuple[Labelled, Labelled]:
    """Principal components of the training examples, labels unseen, in place of the examples."""
    from sklearn.decomposition import PCA

    rows = [split.x.reshape(len(split.x), -1) for split in (train, test)]
    pca = PCA(latents, random_state=0).fit(rows[0])
    return Labelled(pca.transform(rows[0]), train.y), Labelled(pca.transform(rows[1]), test.y)


@styled()
def picture(found: Mapping[str, np.ndarray], data: str) -> MatplotlibFigure:
    """Accuracy against the number of labels: means over seeds, with a deviation to either side."""
    figure, axes = new_axes(3.9)
    for place, ((name, values), color) in enumerate(zip(found.items(), LINES)):
        spread = values.std(axis=1, ddof=1) if values.shape[1] > 1 else None
        beside = np.asarray(COUNTS) * 1.03 ** (place - 1.5)  # bars that lay on one another could not be told apart
        axes.errorbar(beside, values.mean(axis=1), spread, color=color, marker="o", markersize=4.5, label=name)
    axes.set(xscale="log", xlabel=f"labels, {data}", ylabel="test accuracy, %")
    axes.set_xticks(COUNTS, [str(count) for count in COUNTS])
    axes.minorticks_off()
    axes.grid(True)
    axes.legend(loc="lower right")
    return figure


def run(*, seeds: int = 5, scale: Scale = "cpu", workdir: Path) -> Outcome:
    setting, path = SETTINGS[scale], workdir / "encoder"
    options = setting.options._replace(seeds=seeds)
    arguments = {**setting.arguments, "level": 0.5}
    runs.train("denoising_autoencoder", arguments, data=setting.data, workdir=path, options=options)
    files = [encode(path, replica=i, checkpoint="last", out=workdir / f"codes-{i}.npz") for i in range(seeds)]
    codes = [read_codes(file) for file in files]
    train, test = splits(setting.data)
    components = principal(train, test, setting.arguments["latents"])
    shares: dict[str, list[Any]] = {}
    for name, encoders in ((FINE_TUNED, trained(path, seeds)), (SCRATCH, untrained(path, seeds))):
        how: dict[str, Any] = {"steps": setting.steps, "learning_rate": 1e-3}
        shares[name] = [accuracies(encoders, train, test, labels=count, **how) for count in COUNTS]
    shares[FROZEN] = [[of_codes(*codes[i], count, seed=i) for i in range(seeds)] for count in COUNTS]
    shares[OF_PCA] = [[of_codes(*components, count, seed=i) for i in range(seeds)] for count in COUNTS]
    found = {name: 100 * np.asarray(values) for name, values in shares.items()}
    figures = [
        Figure(f"{count} labels: {name}", values[row].tolist(), "%", None, "own measurement")
        for row, count in enumerate(COUNTS)
        for name, values in found.items()
    ]
    gate = ("own gate: 0 or more", 0.0, "above")
    for name, other in ((FROZEN, SCRATCH), (FINE_TUNED, SCRATCH), (FROZEN, OF_PCA)):
        gain = (found[name] - found[other])[0].tolist()
        figures.append(Figure(f"{COUNTS[0]} labels: {name} − {other}", gain, "%", 0.0, *gate))
    caption = (
        "Accuracy on the test digits against the number of labels. Frozen codes and principal components of the same "
        "width feed a logistic regression; the other two learn as a whole. Bars: one deviation over seeds."
    )
    return Outcome(figures, {"labels": (caption, save(picture(found, setting.data), workdir / "labels.png"))})


if __name__ == "__main__":
    main(run)
