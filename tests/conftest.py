"""Four virtual CPU devices, code that is compiled quickly, shapes checked in every call."""

import importlib.metadata
import os

os.environ["JAX_PLATFORMS"] = "cpu"
# Most code of a test runs a few times only: to optimize it takes about half of the suite's processor time.
_FLAGS = ["--xla_force_host_platform_device_count=4", "--xla_backend_optimization_level=0"]
if importlib.metadata.version("jaxlib").startswith("0.10."):
    # The emitters that make faster code take twice as long to make it. An unknown flag would end the process.
    _FLAGS += ["--xla_cpu_use_fusion_emitters=false"]
os.environ["XLA_FLAGS"] = " ".join([os.environ.get("XLA_FLAGS", ""), *_FLAGS])
os.environ.setdefault("MPLBACKEND", "agg")

from jaxtyping import install_import_hook

install_import_hook("jaxgen", "beartype.beartype")

import jax
import pytest


@pytest.fixture
def x64():
    """Float64 for the length of one test: the precision in which formulas are compared with their oracles."""
    with jax.enable_x64(True):
        yield


@pytest.fixture
def as_users_call(monkeypatch):
    """Calls as users make them: the types and shapes of signatures are checked in tests alone."""
    monkeypatch.setattr("jaxtyping.config.jaxtyping_disable", True)


@pytest.fixture(scope="session")
def digits():
    from jaxgen.data import load

    return load("digits")


@pytest.fixture
def shown():
    """`shown(name, arguments)`: a model as it was initialized, beside its data."""
    from mosaics import initialized

    return initialized
