"""How fast the functional core is, beside references on the same machine: cases of ``speed.py``."""

import importlib
import importlib.util
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from figures import Figure
from timing import at_least, at_most, best_time, case, in_a_process, long_case, measured


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


_SEARCH = """
import time
import warnings
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
