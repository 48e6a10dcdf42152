"""How fast the trainer is, and how little memory a run takes: cases of ``speed.py``."""

import contextlib
import os
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax
from figures import Figure
from timing import at_most, case, in_a_process, measured


def mnist_sized() -> dict[str, np.ndarray]:
    """Bytes of MNIST's size; what they show does not matter for speed."""
    rng = np.random.default_rng(0)
    return {
        f"x_{name}": rng.integers(0, 256, (n, 28, 28, 1), np.uint8) for name, n in (("train", 60_000), ("test", 1000))
    }


def hand_written(images: np.ndarray) -> Callable[[int], None]:
    """The least that trains the same VAE, 784-512-20: one jitted scan an epoch over data on the device."""
    keys = jax.random.split(jax.random.key(0), 4)
    sizes = (784, 512), (512, 40), (20, 512), (512, 784)
    params = [(jax.nn.initializers.lecun_normal()(key, size), jnp.zeros(size[1])) for key, size in zip(keys, sizes)]
    adam, data = optax.adam(1e-3), jax.device_put(images.reshape(len(images), -1))
    carry = [(params, adam.init(params))]

    def loss(params: Any, x: jax.Array, key: jax.Array) -> jax.Array:
        (w1, b1), (w2, b2), (w3, b3), (w4, b4) = params
        mean, logvar = jnp.split(jax.nn.relu(x @ w1 + b1) @ w2 + b2, 2, axis=1)
        z = mean + jnp.exp(logvar / 2) * jax.random.normal(key, mean.shape)
        logits = jax.nn.relu(z @ w3 + b3) @ w4 + b4
        kl = 0.5 * jnp.sum(mean**2 + jnp.exp(logvar) - 1 - logvar, axis=1)
        return jnp.mean(jnp.sum(jax.nn.softplus(logits) - x * logits, axis=1) + kl)

    def step(carry: Any, inputs: Any):
        (params, state), (index, key) = carry, inputs
        value, grads = jax.value_and_grad(loss)(params, data[index] / 255.0, key)
        updates, state = adam.update(grads, state, params)
        return (optax.apply_updates(params, updates), state), value

    epoch = jax.jit(lambda carry, order, keys: jax.lax.scan(step, carry, (order, keys)), donate_argnums=0)

    def train(number: int) -> None:
        order = np.random.default_rng(number).permutation(len(images))[: 468 * 128].reshape(468, 128)
        carry[0], losses = epoch(carry[0], order, jax.random.split(jax.random.key(number), 468))
        jax.block_until_ready(losses)

    return train


@contextlib.contextmanager
def terminal() -> Iterator[None]:
    """Standard error is a terminal, read and thrown away, so that the progress bar is on."""
    reader, writer = os.openpty()
    drain = threading.Thread(target=_drain, args=(reader,), daemon=True)
    drain.start()
    with open(writer, "w") as stream, contextlib.redirect_stderr(stream):
        yield
    os.close(reader)


def _drain(descriptor: int) -> None:
    with contextlib.suppress(OSError):
        while os.read(descriptor, 65536):
            pass


@case
def epoch(folder: Path) -> list[Figure]:
    """An epoch of 60,000 × 784, MLP 784-512-20, batch 128: the whole trainer beside a hand-written scan, in turn."""
    from jaxgen import runs
    from jaxgen.training import Options
    from jaxgen.writers import read_jsonl

    images, epochs, ours, reference = mnist_sized(), 4, [], []
    bare = hand_written(images["x_train"])
    bare(0)
    np.savez(folder / "mnist_sized.npz", **cast(Any, images))
    for repeat in range(3):
        # Timed is training with its logging, between the end of the first epoch and that of the last.
        options = Options(epochs=epochs, batch_size=128, log_every=117, evaluate_every=468 * epochs)
        path = folder / f"run-{repeat}"
        arguments = {"latents": 20, "hidden": (512,), "importance_samples": 0}
        with terminal(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # grey values under a Bernoulli
            runs.train("vae", arguments, data=f"{folder}/mnist_sized.npz", workdir=path, options=options)
        at = {p["step"]: p["time"] for p in read_jsonl(path / "metrics.jsonl") if p["kind"] == "train"}
        ours += [at[468 * (e + 1)] - at[468 * e] for e in range(1, epochs)]
        for number in range(epochs - 1):
            start = time.perf_counter()
            bare(number)
            reference.append(time.perf_counter() - start)
    median = float(np.median(ours))
    return [
        at_most("median epoch over a hand-written scan's", median / float(np.median(reference)), "", 1.1),
        measured("median epoch", median, "s"),
    ]


_CHILD = """
import sys
from jaxgen import runs
from jaxgen.training import Options
data, workdir, budget, epochs = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
options = Options(epochs=epochs or None, batch_size=128, log_every=1 if epochs == 0 else 100, memory_budget=budget,
                  steps=2 if epochs == 0 else None)
runs.train("vae", {"latents": 20, "hidden": (512,), "importance_samples": 0}, data=data, workdir=workdir,
           options=options, quiet=True)
"""


def child(data: Path, workdir: Path, *, budget: int, epochs: int) -> float:
    """Trains in a process of its own and returns its peak resident memory in MB; 0 epochs are two steps."""
    return in_a_process(_CHILD, data, workdir, budget, epochs)[-1]


@case
def startup(folder: Path) -> list[Figure]:
    """From the start of the process to the first step of the same run, the compilation cache warm."""
    from jaxgen.writers import read_jsonl

    seconds, data = [], folder / "mnist_sized.npz"
    np.savez(data, **cast(Any, mnist_sized()))
    for repeat in range(4):
        began, path = time.time(), folder / f"run-{repeat}"
        child(data, path, budget=1024, epochs=0)
        seconds.append(read_jsonl(path / "metrics.jsonl")[0]["time"] - began)
    return [at_most("start to first step, warm", float(np.median(seconds[1:])), "s", 6.0)]


@case
def memory(folder: Path) -> list[Figure]:
    """Peak resident memory of a run on an MNIST-sized set, and of streaming sets far larger than the budget."""
    data = folder / "mnist_sized.npz"
    np.savez(data, **cast(Any, mnist_sized()))
    resident = child(data, folder / "a", budget=1024, epochs=1)
    peaks = []
    for name, count in (("b", 200_000), ("c", 2_000_000)):
        large = folder / f"{name}.npy"
        array = np.lib.format.open_memmap(large, "w+", np.uint8, (count, 784))
        array[:] = np.arange(784, dtype=np.uint8)
        array.flush()
        peaks.append(child(large, folder / name, budget=16, epochs=0))
    return [
        at_most("MNIST-sized, on the device", resident, "MB", 1500.0),
        at_most("1.6 GB streamed, over the peak of 0.16 GB", peaks[1] / peaks[0], "", 1.1),
        measured("1.6 GB streamed", peaks[1], "MB"),
    ]
