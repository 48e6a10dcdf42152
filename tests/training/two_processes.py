"""One of several processes that train together, each with one device, on one machine.

    python two_processes.py ADDRESS COUNT INDEX

Prints as JSON the figures, parameters and examples read of a streamed run, and the step at which all stop when the
last process alone is asked to. The last process is slower than the others as well.
"""

import json
import os
import signal
import sys
import time

if __name__ == "__main__":  # pytest imports every module in search of doctests
    os.environ["JAX_PLATFORMS"] = "cpu"
    os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=1"

import jax
import numpy as np
import pytest
from toys import Counted, denoiser, force_streaming, numbered

from jaxgen.training import Interrupted, Options, feed, train

OPTIONS = Options(steps=23, batch_size=8, log_every=11, evaluate_every=12, seed=5, memory_budget=1)


def main(address: str, count: int, index: int) -> None:
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(address, count, index)
    patch, read, take_rows = pytest.MonkeyPatch(), [], feed.take_rows
    force_streaming(patch, bytes_a_call=800)
    patch.setattr(feed, "take_rows", lambda array, rows: [read.append(rows.size), take_rows(array, rows)][1])

    def slow(step: int, kind: str) -> None:
        time.sleep(0.2 * (index == count - 1))

    result = train(denoiser(), numbered(), OPTIONS, console=Counted(slow))
    params = jax.tree.map(np.ndarray.tolist, result.state.params)
    found = {"figures": result.figures, "params": params, "read": sum(read)}

    def stop(step: int, kind: str) -> None:
        if step >= 5 and index == count - 1:
            os.kill(os.getpid(), signal.SIGTERM)

    try:
        train(denoiser(), numbered(), OPTIONS, console=Counted(stop))
    except Interrupted as interrupted:
        found |= {"stopped": interrupted.step, "signum": interrupted.signum}
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
