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

A case is a function of an empty folder that returns figures; `@case` makes it known.
"""

import argparse
import contextlib
import importlib
import importlib.util
import os
import subprocess
import sys
import tempfile
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
from figures import Figure, Outcome, as_record, show, stoppable

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


@case
def nearest_code(_folder: Path) -> list[Figure]:
    """16,384 vectors × 8,192 codes × 64, beside the bare product of the same chunks and a plain argmin."""
    from jaxgen.quantization import nearest_code

    vectors, codebook = (jax.random.normal(jax.random.key(i), (n, 64)) for i, n in enumerate((16_384, 8_192)))

    def in_chunks(body: Callable[[jax.Array], jax.Array]):
        return jax.jit(lambda v: jax.lax.map(body, v.reshape(-1, 256, 64)).reshape(-1))

    def product(chunk: jax.Array) -> jax.Array:
        return jnp.matmul(chunk, codebook.T, precision="highest")

    half_norms = 0.5 * jnp.sum(codebook**2, axis=1)
    bare = in_chunks(lambda chunk: jax.lax.optimization_barrier(product(chunk))[:, 0])
    plain = in_chunks(lambda chunk: jnp.argmin(half_norms - product(chunk), axis=1))
    ours = jax.jit(lambda v: nearest_code(v, codebook))
    differing = float(jnp.mean(ours(vectors) != plain(vectors)))
    seconds = best_time(lambda: ours(vectors), lambda: bare(vectors), lambda: plain(vectors))
    return [
        at_most("time over the bare matrix product's", seconds[0] / seconds[1], "", 1.7),
        measured("time", seconds[0] * 1e3, "ms"),
        measured("time over the plain argmin's", seconds[0] / seconds[2], ""),
        at_most("codes other than the plain argmin's", differing, "share", 1e-3),
    ]


@case
def kmeans(_folder: Path) -> list[Figure]:
    """60,000 × 784, K = 64: one Lloyd iteration and the inertia after 33, from one start."""
    from sklearn.cluster import KMeans

    from jaxgen.quantization import kmeans

    points = np.random.default_rng(0).normal(size=(60_000, 784)).astype(np.float32)
    start, on_device = points[:64].copy(), jnp.asarray(points)

    def ours(iterations: int):
        return kmeans(jax.random.key(0), on_device, 64, init=start, max_iterations=iterations)

    def reference(iterations: int):
        model: Any = KMeans(64, init=cast(Any, start), n_init=cast(Any, 1), max_iter=iterations, tol=0)
        return model.fit(points)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn says that it was stopped before it converged
        seconds = best_time(lambda: ours(3), lambda: ours(33), lambda: reference(3), lambda: reference(33), repeats=5)
        inertia = float(ours(33).inertia), float(reference(33).inertia_)
    ours_each, reference_each = (seconds[1] - seconds[0]) / 30, (seconds[3] - seconds[2]) / 30
    return [
        at_most("time of an iteration over scikit-learn's", ours_each / reference_each, "", 1.1),
        measured("time of an iteration", ours_each * 1e3, "ms"),
        at_most("inertia after 33 iterations over scikit-learn's", inertia[0] / inertia[1], "", 1.001),
    ]


@case
def vector_quantizer_step(_folder: Path) -> list[Figure]:
    """16,384 vectors × 8,192 codes × 64, forward, backward, EMA update, beside vector-quantize-pytorch if there is."""
    from jaxgen.models.quantizers import ema_quantizer
    from jaxgen.quantization import codebook_from_ema, init_ema_codebook

    vectors, codebook = (jax.random.normal(jax.random.key(i), (n, 64)) for i, n in enumerate((16_384, 8_192)))
    quantizer = ema_quantizer(*codebook.shape, commitment=0.25, decay=0.99, revival=0.0)
    before, batch, key = init_ema_codebook(codebook), vectors.reshape(16, 32, 32, 64), jax.random.key(2)

    @jax.jit
    def step(state: Any, batch: jax.Array):
        def loss(batch: jax.Array):
            quantized = quantizer.quantize({}, state, batch, key, jnp.arange(16), True)
            return jnp.sum(quantized.codes) + jnp.sum(quantized.penalty), quantized

        gradient, quantized = jax.grad(loss, has_aux=True)(batch)
        return gradient, quantized.statistics, quantized.index

    their_step = torch_step(np.asarray(vectors), np.asarray(codebook))
    if their_step is None:
        return [measured("time", best_time(lambda: step(before, batch))[0] * 1e3, "ms")]
    _, after, index = step(before, batch)
    their_codebook, their_index = their_step()
    differing = float(np.mean(index.ravel() != their_index))
    apart = float(jnp.max(jnp.abs(codebook_from_ema(after) - their_codebook)))
    ours, theirs = best_time(lambda: step(before, batch), their_step, repeats=5)
    return [
        at_least("time of vector-quantize-pytorch's over ours", theirs / ours, "", 3.0),
        measured("time", ours * 1e3, "ms"),
        at_most("codes other than vector-quantize-pytorch's", differing, "share", 1e-3),
        at_most("entries of the updated codebook off theirs", apart, "", 1e-3),
    ]


def torch_step(vectors: np.ndarray, codebook: np.ndarray) -> Callable[[], tuple[np.ndarray, np.ndarray]] | None:
    """The same step of vector-quantize-pytorch: its codebook after it, and the codes. None where it is not installed.

    Its other ways to the same end are off: the rotation of gradients, and the replacement of dead codes.
    """
    if importlib.util.find_spec("vector_quantize_pytorch") is None:
        return None
    torch, package = (importlib.import_module(name) for name in ("torch", "vector_quantize_pytorch"))
    options = {"decay": 0.99, "commitment_weight": 0.25, "rotation_trick": False, "threshold_ema_dead_code": 0}
    quantizer = package.VectorQuantize(codebook.shape[1], codebook.shape[0], **options)
    state = quantizer._codebook
    for entries in (state.embed, state.embed_avg):
        entries.data.copy_(torch.from_numpy(codebook.copy()))
    given = torch.from_numpy(vectors.copy())[None].requires_grad_()

    def step() -> tuple[np.ndarray, np.ndarray]:
        given.grad = None
        codes, index, loss = quantizer(given)
        (codes.sum() + loss.sum()).backward()
        return state.embed[0].detach().numpy(), index.numpy().ravel()

    return step


@case
def convolution(_folder: Path) -> list[Figure]:
    """3×3 windows, 32 to 64 channels of 64 maps of 14×14, and gradients, in a scanned loop beside XLA's own."""
    from jaxgen.nets.convolution import convolve

    maps, kernel = jax.random.normal(jax.random.key(0), (64, 14, 14, 32)), jnp.full((3, 3, 32, 64), 1e-3)

    def loop(layer: Callable[..., jax.Array], steps: int = 4):
        def step(kernel: jax.Array, _: None):
            def value(kernel: jax.Array, maps: jax.Array):
                given = {"window_strides": (1, 1), "padding": "SAME", "dimension_numbers": ("NHWC", "HWIO", "NHWC")}
                return jnp.sum(layer(maps, kernel, **given) ** 2)

            of_kernel, of_maps = jax.grad(value, (0, 1))(kernel, maps)
            return kernel - 1e-9 * of_kernel, jnp.sum(of_maps)

        run = jax.jit(lambda kernel: jax.lax.scan(step, kernel, None, length=steps))
        return lambda: run(kernel)

    ours, theirs = best_time(loop(convolve), loop(jax.lax.conv_general_dilated), repeats=5)
    return [
        at_least("time of XLA's in a loop over ours", theirs / ours, "", 3.0),
        measured("time", ours / 4 * 1e3, "ms"),
    ]


@case
def optimal_scalar(_folder: Path) -> list[Figure]:
    """10^5 samples × 64 levels: the dynamic program beside Lloyd's local optimum."""
    from jaxgen.quantization import lloyd_max_from_samples, optimal_scalar_quantizer

    samples = np.random.default_rng(0).normal(size=100_000)
    start = time.perf_counter()
    optimum = optimal_scalar_quantizer(samples, 64)
    middle = time.perf_counter()
    local = lloyd_max_from_samples(samples, 64)
    end = time.perf_counter()
    return [
        at_most("time", middle - start, "s", 10.0),
        measured("time of Lloyd's local optimum", end - middle, "s"),
        at_most("distortion over Lloyd's", float(optimum.distortion) / float(local.distortion), "", 1.0, "exact"),
    ]


@case
def nearest_code_memory(_folder: Path) -> list[Figure]:
    """10^6 vectors × 65,536 codes × 64: what the compiled search holds, beside the allowed 2000 MB."""
    from jaxgen.quantization import nearest_code

    shapes = [jax.ShapeDtypeStruct((n, 64), jnp.float32) for n in (10**6, 65_536)]
    memory = jax.jit(nearest_code).lower(*shapes).compile().memory_analysis()
    assert memory is not None
    arguments = memory.argument_size_in_bytes + memory.output_size_in_bytes
    return [
        at_most("arguments, result and temporaries", (arguments + memory.temp_size_in_bytes) / 2**20, "MB", 2000.0),
        measured("temporaries over all scores", memory.temp_size_in_bytes / (4 * 65_536 * 10**6), ""),
    ]


# Not getrusage: its maximum is inherited from the parent. Linux alone has this file.
_PRINT_PEAK = """
print(next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) / 1024)
"""


def in_a_process(code: str, *arguments: object) -> list[float]:
    """Runs code in a process of its own; the numbers that it prints, and last its peak resident memory in MB."""
    command = [sys.executable, "-W", "ignore", "-c", code + _PRINT_PEAK, *map(str, arguments)]
    return [float(word) for word in subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()]


_SEARCH = """
import time
import jax, numpy as np
from jaxgen.quantization import nearest_code
rng = np.random.default_rng(0)
vectors, codebook = (rng.standard_normal((n, 64), np.float32) for n in (10**6, 65_536))
start = time.perf_counter()
found = np.asarray(jax.jit(nearest_code)(vectors, codebook))
print(time.perf_counter() - start)
some = range(0, 10**6, 99_991)
assert all(found[i] == np.argmin(np.square(codebook - vectors[i]).sum(axis=1, dtype=np.float64)) for i in some)
"""


@long_case
def nearest_code_million(_folder: Path) -> list[Figure]:
    """10^6 vectors × 65,536 codes × 64, run in a process of its own: its peak resident memory."""
    seconds, peak = in_a_process(_SEARCH)
    return [
        at_most("peak of the process", peak, "MB", 2000.0),
        measured("time", seconds, "s"),
    ]


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
