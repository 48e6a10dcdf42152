"""Kills a run at random moments and compares its end with that of a run left alone.

    python kill_and_resume.py FOLDER KILLS SEED

Every attempt is a fork of this process, which imports once and never computes.
"""

import os
import random
import signal
import sys
import time
import warnings
from pathlib import Path

if __name__ == "__main__":  # pytest imports every module in search of doctests
    os.environ["JAX_PLATFORMS"] = "cpu"
    os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2"

import jax
import numpy as np

from jaxgen import runs
from jaxgen.errors import UserError
from jaxgen.training import Options

OPTIONS = Options(steps=60, batch_size=16, log_every=7, evaluate_every=3, seed=1)
ARGUMENTS = {"hidden": (8,), "latents": 2, "importance_samples": 0}


def child(folder: Path, pipe: int) -> int:
    """Trains in a fork; one byte tells that it began. Its state goes beside the run's folder."""
    process = os.fork()
    if process:
        return process
    code = 1
    try:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 2)
        jax.config.update("jax_compilation_cache_dir", str(folder.parent / "cache"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        os.write(pipe, b".")
        result = runs.train("vae", ARGUMENTS, data="digits", workdir=folder, options=OPTIONS, quiet=True)
        leaves = jax.tree_util.tree_leaves_with_path(result.state)
        arrays: dict = {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}
        np.savez(folder.with_suffix(".npz"), **arrays)
        code = 0
    except UserError as error:
        print(error)
        code = 2
    finally:
        sys.stdout.flush()
        os._exit(code)


def attempt(folder: Path, *, kill_after: float | None) -> tuple[int, float]:
    """One start of the same command: its wait status, and seconds from its beginning."""
    reader, writer = os.pipe()
    process = child(folder, writer)
    os.close(writer)
    os.read(reader, 1)
    os.close(reader)
    began = time.perf_counter()
    if kill_after is not None:
        time.sleep(kill_after)
        os.kill(process, signal.SIGKILL)
    return os.waitpid(process, 0)[1], time.perf_counter() - began


def main(folder: Path, kills: int, seed: int) -> int:
    draw = random.Random(seed)
    for name in ("warm", "alone"):  # the first compiles for all that follow
        status, seconds = attempt(folder / name, kill_after=None)
        if status:
            print(f"the run left alone failed with status {status}")
            return 1
    killed = 0
    while killed < kills:
        # Later kills strike later in the run, so that it gets somewhere between them.
        status, _ = attempt(folder / "killed", kill_after=draw.uniform(0, seconds))
        if os.WIFEXITED(status):
            if os.WEXITSTATUS(status):
                print(f"a resumed run ended with status {status} after {killed} kills")
                return 1
            # Finished in spite of us: begin again under another name.
            if differs(folder):
                return 1
            (folder / "killed").rename(folder / f"finished-{killed}")
        killed += 1
    status, _ = attempt(folder / "killed", kill_after=None)
    if status or differs(folder):
        print(f"status {status}")
        return 1
    print(f"identical after {kills} kills")
    return 0


def differs(folder: Path) -> bool:
    alone, killed = (dict(np.load(folder / f"{name}.npz")) for name in ("alone", "killed"))
    wrong = [name for name in alone | killed if alone[name].tobytes() != killed[name].tobytes()]
    if wrong:
        print(f"the killed run differs in {wrong}")
    return bool(wrong)


if __name__ == "__main__":
    warnings.simplefilter("ignore")  # JAX warns of any fork
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
