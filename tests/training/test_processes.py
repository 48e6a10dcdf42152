"""Several processes train as one: the same numbers, each on its own part of the data, in step with each other."""

import json
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
from toys import denoiser, numbered
from two_processes import OPTIONS

from jaxgen.training import train


def test_two_processes_are_two_devices():
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    script = Path(__file__).with_name("two_processes.py")
    children = [
        subprocess.Popen(
            [sys.executable, "-W", "ignore", str(script), address, "2", str(index)], stdout=subprocess.PIPE, text=True
        )
        for index in range(2)
    ]
    try:
        expected = train(denoiser(), numbered(), OPTIONS, num_devices=2)
        found = [json.loads(child.communicate(timeout=300)[0].splitlines()[-1]) for child in children]
    finally:
        for child in children:
            child.kill()
    for each in found:
        for name, value in expected.figures.items():
            np.testing.assert_allclose(each["figures"][name], value, rtol=1e-6, err_msg=name)
        for name, own in expected.state.params["denoiser"].items():
            np.testing.assert_allclose(each["params"]["denoiser"][name], own, atol=1e-6, err_msg=name)
        assert each["read"] == OPTIONS.steps * OPTIONS.batch_size // 2
        assert each["signum"] == signal.SIGTERM
    assert found[0]["stopped"] == found[1]["stopped"] < OPTIONS.steps
