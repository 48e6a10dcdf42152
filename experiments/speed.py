"""How fast the functional core is, beside a reference on the same machine.

Command:   python experiments/speed.py [CASE ...]        (no CASE: all of them; --list names them)
Hardware:  two CPU cores, nothing else running; the ratios, not the times, carry over to another machine
Time:      about two minutes
Expected:  nearest_code          at most 1.7 times the bare matrix product of the same chunks (measured 1.2 to 1.5)
           kmeans                at most 1.1 times scikit-learn's Lloyd per iteration (measured 0.9)
           optimal_scalar        a few seconds for 10^5 samples and 64 levels (measured 5 s)
           nearest_code_memory   10^6 vectors × 65,536 codes × 64 under 2000 MB (measured 316)

A case is a function that returns rows of (what, ours, reference, unit); `@case` makes it known.
"""

import argparse
import time
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np


class Row(NamedTuple):
    what: str
    ours: float
    reference: float
    unit: str


CASES: dict[str, Callable[[], list[Row]]] = {}


def case(function: Callable[[], list[Row]]) -> Callable[[], list[Row]]:
    """Register a case under its function's name."""
    CASES[function.__name__] = function
    return function


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
def nearest_code() -> list[Row]:
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
        Row("beside the bare matrix product", seconds[0] * 1e3, seconds[1] * 1e3, "ms"),
        Row("beside the plain argmin", seconds[0] * 1e3, seconds[2] * 1e3, "ms"),
        Row("codes other than the plain argmin's", differing, 0.0, "share"),
    ]


@case
def kmeans() -> list[Row]:
    """60,000 × 784, K = 64: one Lloyd iteration and the inertia after 13, from one start."""
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
        seconds = best_time(lambda: ours(3), lambda: ours(13), lambda: reference(3), lambda: reference(13), repeats=3)
        inertia = float(ours(13).inertia), float(reference(13).inertia_)
    return [
        Row("one iteration", (seconds[1] - seconds[0]) * 100, (seconds[3] - seconds[2]) * 100, "ms"),
        Row("inertia after 13 iterations", *inertia, "squared"),
    ]


@case
def optimal_scalar() -> list[Row]:
    """10^5 samples × 64 levels: the dynamic program beside Lloyd's local optimum."""
    from jaxgen.quantization import lloyd_max_from_samples, optimal_scalar_quantizer

    samples = np.random.default_rng(0).normal(size=100_000)
    start = time.perf_counter()
    optimum = optimal_scalar_quantizer(samples, 64)
    middle = time.perf_counter()
    local = lloyd_max_from_samples(samples, 64)
    end = time.perf_counter()
    return [
        Row("time", middle - start, end - middle, "s"),
        Row("distortion", float(optimum.distortion), float(local.distortion), "squared"),
    ]


@case
def nearest_code_memory() -> list[Row]:
    """10^6 vectors × 65,536 codes × 64: what the compiled search holds, beside the allowed 2000 MB."""
    from jaxgen.quantization import nearest_code

    shapes = [jax.ShapeDtypeStruct((n, 64), jnp.float32) for n in (10**6, 65_536)]
    memory = jax.jit(nearest_code).lower(*shapes).compile().memory_analysis()
    assert memory is not None
    arguments = memory.argument_size_in_bytes + memory.output_size_in_bytes
    return [
        Row("arguments, result and temporaries", (arguments + memory.temp_size_in_bytes) / 2**20, 2000.0, "MB"),
        Row("temporaries beside all scores", memory.temp_size_in_bytes / 2**20, 4 * 65_536 / 1.048576, "MB"),
    ]


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
    print(f"{'case':22} {'what':38} {'ours':>12} {'reference':>12} {'ratio':>7}  unit")
    for name in arguments.cases or CASES:
        for row in CASES[name]():
            ratio = f"{row.ours / row.reference:7.3f}" if row.reference else "      –"
            print(f"{name:22} {row.what:38} {row.ours:12.6g} {row.reference:12.6g} {ratio}  {row.unit}", flush=True)


if __name__ == "__main__":
    main()
