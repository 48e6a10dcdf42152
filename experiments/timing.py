"""What a case of ``speed.py`` is: a function of an empty folder that returns figures, known by ``@case``."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
from figures import Figure

Case = Callable[[Path], list[Figure]]

CASES: dict[str, Case] = {}
#: Cases that are looked at only when they are named.
LONG: set[str] = set()


def case(function: Case) -> Case:
    """Register a case under its function's name."""
    CASES[function.__name__] = function
    return function


def long_case(function: Case) -> Case:
    """Register a case that takes minutes."""
    LONG.add(function.__name__)
    return case(function)


def at_most(name: str, value: float, unit: str, bound: float, source: str = "own gate") -> Figure:
    """A figure that must not exceed its bound."""
    return Figure(name, [value], unit, bound, source, 0.0, "below")


def at_least(name: str, value: float, unit: str, bound: float, source: str = "own gate") -> Figure:
    """A figure that must reach its bound."""
    return Figure(name, [value], unit, bound, source, 0.0, "above")


def measured(name: str, value: float, unit: str) -> Figure:
    """A figure of this machine alone."""
    return Figure(name, [value], unit, None, "own measurement")


def best_time(*functions: Callable[[], object], repeats: int = 10) -> list[float]:
    """Least seconds of each function, the functions taking turns so that a loaded moment hits them all."""
    for function in functions:
        jax.block_until_ready(function())
    times = np.empty((repeats, len(functions)))
    for repeat in range(repeats):
        for index, function in enumerate(functions):
            start = time.perf_counter()
            jax.block_until_ready(function())
            times[repeat, index] = time.perf_counter() - start
    return times.min(axis=0).tolist()


# Not getrusage: its maximum is inherited from the parent. Linux alone has this file.
_PRINT_PEAK = """
print(next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) / 1024)
"""


def in_a_process(code: str, *arguments: object) -> list[float]:
    """Runs code in a process of its own; the numbers that it prints, and last its peak resident memory in MB."""
    command = [sys.executable, "-W", "ignore", "-c", code + _PRINT_PEAK, *map(str, arguments)]
    return [float(word) for word in subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()]
