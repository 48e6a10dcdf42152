"""What an experiment returns, how it is judged against its reference, and what is kept of it.

An experiment is a module with a head (command, hardware, time, expected figure and its source) and one function
``run(*, seeds, workdir) -> Outcome``, with ``scale`` besides where there is a published setting that does not fit two
cores. `main` is the command line of one such module; ``reproduce.py`` runs several and writes the table.
"""

import inspect
import json
import math
import os
import platform
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

Scale = Literal["cpu", "full"]
Better = Literal["equal", "below", "above"]

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "experiments" / "results"
#: Pictures live in the repository, so each stays below this many bytes.
PICTURE_BYTES = 60_000


class Figure(NamedTuple):
    """One measured quantity.

    Attributes:
      name: what is measured, on what.
      values: one for each seed, or one alone.
      unit: of the values; empty where they have none.
      reference: the figure to reach; None where there is none to hold it against.
      source: where the reference comes from, or "own measurement".
      tolerance: how far the mean may lie on the wrong side; None where the reference is context, not a gate.
      better: whether ours must equal the reference, or stay below it, or above.
    """

    name: str
    values: Sequence[float]
    unit: str
    reference: float | None
    source: str
    tolerance: float | None = None
    better: Better = "equal"


class Outcome(NamedTuple):
    """Figures, and pictures as ``{short name: (caption, PNG file)}``."""

    figures: list[Figure]
    pictures: Mapping[str, tuple[str, Path]] = {}


#: ``run(*, seeds, workdir) -> Outcome`` or ``run(*, seeds, scale, workdir) -> Outcome``
Run = Callable[..., Outcome]


def within(figure: Figure) -> bool | None:
    """Whether the mean over seeds reaches the reference within the tolerance; None where nothing is to be reached."""
    if figure.reference is None or figure.tolerance is None:
        return None
    excess = float(np.mean(figure.values)) - figure.reference
    wrong = {"equal": abs(excess), "below": excess, "above": -excess}[figure.better]
    return math.isfinite(excess) and wrong <= figure.tolerance


def as_record(figure: Figure) -> dict[str, Any]:
    """A figure as JSON holds it: with its mean, spread, difference and verdict; a number that is not finite is null."""
    values = np.asarray(figure.values, np.float64)
    mean = float(values.mean())
    record = {
        **figure._asdict(),
        "values": values.tolist(),
        "mean": mean,
        "spread": float(values.std(ddof=1)) if len(values) > 1 else None,
        "difference": None if figure.reference is None else mean - figure.reference,
        "within": within(figure),
    }
    return {key: _finite(value) for key, value in record.items()}


def _finite(value: Any) -> Any:
    if isinstance(value, list):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def hardware() -> dict[str, Any]:
    """Processor and cores, and the accelerator where JAX uses one."""
    import jax

    model = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), model)
    except OSError:
        pass
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    device = jax.devices()[0]
    accelerator = None if device.platform == "cpu" else f"{jax.device_count()} × {device.device_kind}"
    return {"cpu": model, "cores": cores, "accelerator": accelerator}


def summary(text: str) -> str:
    """The first line of an experiment's head."""
    return text.strip().splitlines()[0]


def result(name: str, scale: Scale, head: str, outcome: Outcome, *, seeds: int, seconds: float) -> dict[str, Any]:
    """Everything that is kept of a finished experiment, ready for JSON."""
    import importlib.metadata

    import jaxgen
    from jaxgen.folder import revision

    packages = ("jax", "flax", "optax", "numpy", "scikit-learn")
    return {
        "experiment": name,
        "scale": scale,
        "summary": summary(head),
        "figures": [as_record(figure) for figure in outcome.figures],
        "pictures": [{"file": f"{name}-{scale}-{key}.png", "caption": c} for key, (c, _) in outcome.pictures.items()],
        "command": f"python experiments/reproduce.py {name} --seeds {seeds} --scale {scale}",
        "seeds": seeds,
        "seconds": round(seconds, 1),
        "hardware": hardware(),
        "versions": {
            "jaxgen": jaxgen.__version__,
            "python": platform.python_version(),
            **{package: importlib.metadata.version(package) for package in packages},
        },
        "revision": revision(),
        "date": time.strftime("%Y-%m-%d"),
    }


def text(value: float | None, spread: float | None = None, *, signed: bool = False) -> str:
    """A number to the digits that it deserves; "not finite" for what JSON could not hold."""
    from jaxgen.page import format_figure

    if value is None:
        return "not finite"
    return ("+" if signed and value > 0 else "") + format_figure(value, spread)


def verdict(record: Mapping[str, Any]) -> str:
    """The mark of a figure in a table."""
    return {True: "✓", False: "✗ missed", None: "–"}[record["within"]]


def columns(record: Mapping[str, Any]) -> list[str]:
    """Figure, ours, reference, difference, allowed, verdict, source: one row of a table."""
    unit = f" {record['unit']}" if record["unit"] else ""
    reference, tolerance = record["reference"], record["tolerance"]
    sign = {"equal": "±", "below": "≤ +", "above": "≥ −"}[record["better"]]
    sign = sign if tolerance else sign.rstrip("+−")
    return [
        record["name"],
        text(record["mean"], record["spread"]) + unit,
        "–" if reference is None else f"{reference:.6g}".replace("-", "−") + unit,
        "–" if reference is None else text(record["difference"], signed=True),
        "–" if tolerance is None else f"{sign}{text(tolerance)}",
        verdict(record),
        record["source"],
    ]


HEADINGS = ["figure", "ours", "reference", "difference", "allowed", "", "source"]


def show(records: Sequence[Mapping[str, Any]]) -> None:
    """Prints ours / reference / difference."""
    rows = [HEADINGS, *map(columns, records)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(HEADINGS))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())


@contextmanager
def stopwatch(workdir: Path) -> Iterator[Callable[[], float]]:
    """Seconds spent in a folder over all attempts, since an interrupted experiment goes on where it stood."""
    record, began = workdir / "seconds.json", time.perf_counter()
    workdir.mkdir(parents=True, exist_ok=True)
    before = json.loads(record.read_text()) if record.exists() else 0.0

    def spent() -> float:
        return before + time.perf_counter() - began

    try:
        yield spent
    finally:
        record.write_text(json.dumps(spent()))


def scales(run: Run) -> tuple[Scale, ...]:
    """The settings that an experiment has."""
    return ("cpu", "full") if "scale" in inspect.signature(run).parameters else ("cpu",)


def perform(name: str, run: Run, *, seeds: int, scale: Scale) -> tuple[Outcome, float]:
    """Runs an experiment in its own folder under ``runs/``, or goes on with it; returns its seconds as well."""
    from jaxgen.errors import UserError

    if seeds < 1:
        raise UserError(f"--seeds must be at least 1, got {seeds}")
    if scale not in scales(run):
        raise UserError(f"{name} has one setting, which two cores are enough for; leave --scale {scale} out")
    workdir = ROOT / "runs" / "experiments" / name / f"{scale}-{seeds}"
    with stopwatch(workdir) as spent:
        outcome = run(seeds=seeds, workdir=workdir, **({"scale": scale} if len(scales(run)) > 1 else {}))
        return outcome, spent()


def evaluated(path: Path, *, importance_samples: int | None = None) -> dict[str, list[float]]:
    """The figures of a run's last checkpoint on its test split by name, one value for each seed.

    The last and not the best: the best is chosen on the split that it would be judged on.
    """
    from jaxgen import report

    report.evaluate(path, which="last", importance_samples=importance_samples)
    figures = json.loads((path / "evaluation.json").read_text())["figures"]
    return {name: value if isinstance(value, list) else [value] for name, value in figures.items()}


def pictures(path: Path, captions: Mapping[str, str]) -> dict[str, tuple[str, Path]]:
    """Pictures of a run's report, by their file's name: what the first replica's last checkpoint makes."""
    from jaxgen import report

    report.write(path, which="last")
    return {name: (caption, path / "plots" / f"{name}.png") for name, caption in captions.items()}


@contextmanager
def stoppable(name: str) -> Iterator[None]:
    """Ctrl-C where nothing trains, which heeds it itself: one sentence and the exit code of the signal."""
    try:
        yield
    except KeyboardInterrupt:
        print(f"\n{name}: stopped; what was not finished is not kept", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)


def main(run: Run) -> None:
    """The command line of one experiment: runs it and prints ours / reference / difference."""
    import tyro

    from jaxgen.errors import UserError
    from jaxgen.training import Interrupted

    head = sys.modules[run.__module__].__doc__ or ""
    path = Path(inspect.getfile(run))
    default = inspect.signature(run).parameters["seeds"].default

    def alone(*, seeds: int = default, scale: Scale = "cpu") -> None:
        """The experiment by itself.

        Args:
          seeds: Replicas, trained together.
          scale: cpu takes minutes on two cores; full is the published setting, where the experiment has one.
        """
        outcome, seconds = perform(path.stem, run, seeds=seeds, scale=scale)
        print(f"{summary(head)}\n{seeds} seeds, scale {scale}, {seconds:.0f} s")
        show([as_record(figure) for figure in outcome.figures])

    try:
        # A paragraph for each line such as "time:", which would else run together.
        shown = re.sub(r"\n(?=[a-z]+: )", "\n\n", head)
        with stoppable(path.name):
            tyro.cli(alone, description=shown, prog=f"python experiments/{path.name}")
    except UserError as error:
        print(f"{path.name}: {error}", file=sys.stderr)
        sys.exit(2)
    except Interrupted as stopped:
        print(f"{path.name}: {stopped}; the same command goes on", file=sys.stderr)
        sys.exit(128 + stopped.signum)
