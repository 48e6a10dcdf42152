"""How fast the functional core and the trainer are, and how little memory they take, beside references on one machine.

command:   python experiments/speed.py [CASE ...]
hardware:  two CPU cores, nothing else running; the ratios, not the times, carry over to another machine
time:      2 minutes, and some more for nearest_code_million
expected:  nearest code at most 1.7 times the bare matrix product, k-means 1.1 times scikit-learn, an epoch 1.1 times a
           hand-written scan, 6 s from a warm start to the first step, 1500 MB for a run on MNIST, a step of a vector
           quantizer at least 3 times as fast as vector-quantize-pytorch's, and a convolution in a loop at least 3 times
           as fast as XLA's own
source:    own gates

vector-quantize-pytorch and the PyTorch under it are no requirement of jaxgen: the figures that compare with it are left
out where it is not installed. The figures that are kept were taken where it is, which adds 1.3 s to a start and 180 MB
to a run; without it they are 1.9 s and 540 MB.

Without a CASE all are looked at but the long one; --list names them. `reproduce.py speed` takes all, each as many times
as there are seeds, and keeps them.

The cases are in `speed_core.py` and `speed_trainer.py`.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import speed_core  # noqa: F401 (its cases make themselves known)
import speed_trainer  # noqa: F401
from figures import Figure, Outcome, as_record, show, stoppable
from timing import CASES, LONG


def figures_of(name: str, folder: Path | None = None) -> list[Figure]:
    """What a case measures, under its name; on a terminal it is named first, since each takes a while."""
    if sys.stderr.isatty():
        print(f"{name} …", file=sys.stderr)
    with tempfile.TemporaryDirectory(dir=folder) as own:
        return [figure._replace(name=f"{name}: {figure.name}") for figure in CASES[name](Path(own))]


def run(*, seeds: int = 1, workdir: Path) -> Outcome:
    several = [[figure for name in CASES for figure in figures_of(name, workdir)] for _ in range(seeds)]
    joined = [same[0]._replace(values=[value for figure in same for value in figure.values]) for same in zip(*several)]
    return Outcome(joined)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", metavar="CASE")
    parser.add_argument("--list", action="store_true", help="name the cases and stop")
    arguments = parser.parse_args()
    if arguments.list:
        for name, function in CASES.items():
            print(f"{name:22} {function.__doc__}")
        return
    unknown = [name for name in arguments.cases if name not in CASES]
    if unknown:
        parser.error(f"no case is called {', '.join(unknown)}: choose from {', '.join(CASES)}")
    names = arguments.cases or [name for name in CASES if name not in LONG]
    show([as_record(figure) for name in names for figure in figures_of(name)])


if __name__ == "__main__":
    with stoppable("speed.py"):
        main()
