"""A table of mixed types: numbers and categories, each column with its own likelihood.

command:   JAXGEN_DATA=data python experiments/tables.py
hardware:  two CPU cores
time:      1 minute
expected:  test log p(x) −33 nats a row, where independent columns have −38.6; hidden cells guessed better
source:    own measurement, beside what each column alone gives, fitted on the same rows

IBM's HR attrition table, 1470 employees: 14 numbers (standardized) and 17 categories, some of them grades. JAXGEN_DATA
names the folder that holds hr_attrition/WA_Fn-UseC_-HR-Employee-Attrition.csv, of Kaggle's "IBM HR Analytics Employee
Attrition & Performance". A tenth of the rows, drawn at random, is the test split, where then a fifth of the cells is
hidden and filled in again.
"""

from pathlib import Path

import jax
import numpy as np
from figures import Figure, Outcome, evaluated, main
from files import given

from jaxgen import runs
from jaxgen.training import Options

CONSTANT = ("EmployeeCount", "EmployeeNumber", "Over18", "StandardHours")
TEST, HIDDEN = 147, 0.2


def table(folder: Path) -> tuple[Path, np.ndarray, np.ndarray, tuple[int, ...]]:
    """The file, its two splits, and the widths of the columns: 1 for a number, more for a one-hot category."""
    import csv

    origin = "Kaggle, IBM HR Analytics Employee Attrition & Performance"
    source = given("hr_attrition/WA_Fn-UseC_-HR-Employee-Attrition.csv", origin=origin)
    with source.open(encoding="utf-8-sig", newline="") as file:
        head, *cells = csv.reader(file)
    rows = np.array(cells)[np.random.default_rng(0).permutation(len(cells))]
    blocks = []
    for name, column in zip(head, rows.T):
        levels = np.unique(column)
        if name not in CONSTANT and len(levels) > 9:
            number = column.astype(np.float64)
            blocks.append(((number - number[TEST:].mean()) / number[TEST:].std())[:, None])
        elif name not in CONSTANT:
            blocks.append((column[:, None] == levels).astype(np.float64))
    x, widths = np.concatenate(blocks, axis=1).astype(np.float32), tuple(block.shape[1] for block in blocks)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "table.npz"
    np.savez(path, x_train=x[TEST:], x_test=x[:TEST], columns=widths)
    return path, x[TEST:], x[:TEST], widths


def independent(train: np.ndarray, test: np.ndarray, widths: tuple[int, ...]) -> float:
    """Test log-likelihood of columns that know nothing of each other."""
    total = 0.0
    for start, width in zip(np.cumsum([0, *widths[:-1]]), widths):
        seen, new = train[:, start : start + width], test[:, start : start + width]
        if width == 1:
            variance = seen.var()
            total += float((-0.5 * np.square(new - seen.mean()) / variance - 0.5 * np.log(2 * np.pi * variance)).mean())
        else:
            total += float((new @ np.log((seen.sum(axis=0) + 1) / (len(seen) + width))).mean())
    return total


def judge(guess: np.ndarray, test: np.ndarray, hidden: np.ndarray, widths: tuple[int, ...]) -> tuple[float, float]:
    """Squared error of a hidden number, and the share of hidden categories that are guessed right."""
    errors, right = [], []
    for column, (start, width) in enumerate(zip(np.cumsum([0, *widths[:-1]]), widths)):
        block, rows = slice(start, start + width), hidden[:, column]
        if width == 1:
            errors.append(np.square(guess[rows, block] - test[rows, block]).ravel())
        else:
            right.append(guess[rows, block].argmax(axis=1) == test[rows, block].argmax(axis=1))
    return float(np.concatenate(errors).mean()), float(np.concatenate(right).mean())


def run(*, seeds: int = 3, workdir: Path) -> Outcome:
    data, train, test, widths = table(workdir)
    path = workdir / "mixed"
    arguments = {"latents": 8, "hidden": (128,), "likelihood": "mixed", "kl_warmup": 500}
    options = Options(epochs=150, batch_size=100, learning_rate=2e-3, schedule="cosine", seeds=seeds)
    runs.train("vae", arguments, data=str(data), workdir=path, options=options)
    hidden = np.random.default_rng(1).uniform(size=(TEST, len(widths))) < HIDDEN
    x = np.where(np.repeat(hidden, widths, axis=1), np.nan, test).astype(np.float32)
    ours = []
    for index in range(seeds):
        opened = runs.open_run(path, index=index, which="last")
        assert opened.model.impute is not None
        completions = opened.model.impute(opened.params, opened.statistics, x, jax.random.key(0), 50, draws=200)
        ours.append(judge(np.asarray(completions).mean(axis=0), test, hidden, widths))
    error, right = judge(np.broadcast_to(train.mean(axis=0), test.shape), test, hidden, widths)
    alone = "each column alone"
    errors, shares = zip(*ours)
    figures = [
        Figure(
            *("test log p(x), 500 samples", evaluated(path, importance_samples=500)["log_px"], "nats a row"),
            *(independent(train, test, widths), alone, 0.0, "above"),
        ),
        Figure("squared error of a hidden number", errors, "", error, alone, 0.0, "below"),
        Figure("hidden categories guessed right", shares, "share", right, alone, 0.0, "above"),
    ]
    return Outcome(figures)


if __name__ == "__main__":
    main(run)
