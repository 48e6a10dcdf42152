"""Which code is nearest, and the codes of given indices."""

import functools
import math

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike
from jaxtyping import Float, Int, Integer

from jaxgen._checks import as_float, as_indices, require, require_count, require_indices

# The most codes in one block of the two-level argmin, and the numbers that one chunk may hold, scores or
# vectors: 8 MiB of float32 stay in a CPU's cache, a GPU wants fewer and larger products.
_BLOCK = 64
_SMALLEST_CHUNK = 64
_CENTER_SAMPLE = 32
_CPU_CHUNK_ELEMENTS = 2**21
_ACCELERATOR_CHUNK_ELEMENTS = 2**26


def nearest_code(
    vectors: Float[ArrayLike, "*batch dim"],
    codebook: Float[ArrayLike, "..."],
    *,
    chunk_size: int | None = None,
) -> Int[Array, "*batch"]:
    r"""Index of the codebook's vector nearest to each given vector.

    .. math::
        k(z) = \arg\min_k \lVert z - e_k \rVert^2
             = \arg\min_k \bigl( \tfrac12 \lVert e_k - c \rVert^2 - \langle z - c, e_k - c \rangle \bigr)

    with c amid the codes, their median by coordinate over up to 32 of them: ‖z‖² is the same for all codes, and
    subtracting c keeps the digits of data that lie far from the origin, even beside a code far from all others. A
    code that is not finite, or whose square is not, is never chosen while there is another. Distances are float32
    (float64 stays float64) at the highest matrix precision, whatever the inputs' type. The search runs over chunks
    of vectors: a [vectors, codes, dim] array is never formed, and of the [vectors, codes] scores one chunk's at a
    time, which are all of them where they are few enough. No gradient flows through it.

    Args:
        vectors: [..., dim], floating.
        codebook: [codes, dim], floating, at least one code.
        chunk_size: vectors compared with the whole codebook at a time; the memory taken is chunk_size × codes
            numbers. By default what is fast on the platform: up to 2²¹ numbers on a CPU and 2²⁶ elsewhere, or those of
            64 vectors where that is more.

    Returns:
        int32 [...]; among equally near codes the lowest index.

    Raises:
        ValueError: an empty codebook, another dim than the vectors', a chunk_size below one.
        TypeError: integer vectors or codebook.

    Example:
        >>> import jax.numpy as jnp
        >>> codebook = jnp.array([[0.0, 0.0], [1.0, 1.0]])
        >>> nearest_code(jnp.array([[0.2, 0.1], [0.9, 0.6], [0.5, 0.5]]), codebook).tolist()
        [0, 1, 0]
    """
    vectors, codebook = as_float("vectors", vectors), as_float("codebook", codebook)
    require(
        codebook.ndim == 2 and codebook.shape[0] >= 1,
        f"codebook must be [codes, dim] with at least one code, got shape {codebook.shape}",
    )
    require(codebook.shape[1] >= 1, f"codebook must have at least one dimension, got shape {codebook.shape}")
    require(
        vectors.ndim >= 1 and vectors.shape[-1] == codebook.shape[1],
        f"vectors {vectors.shape} and codebook {codebook.shape} must have the same last dimension",
    )
    if chunk_size is not None:
        chunk_size = require_count("chunk_size", chunk_size, least=0)
        require(chunk_size >= 1, f"chunk_size must be at least 1, got {chunk_size}: give None")
    dtype = jnp.promote_types(jnp.promote_types(vectors.dtype, codebook.dtype), jnp.float32)
    codes = lax.stop_gradient(codebook.astype(dtype))
    center = _center(codes)
    codes = codes - center
    flat = lax.stop_gradient(vectors).reshape(-1, vectors.shape[-1])
    return _search(flat, codes, center, chunk_size).reshape(vectors.shape[:-1])


def nearest_centered(points: Float[Array, "points dim"], codes: Float[Array, "codes dim"]) -> Int[Array, " points"]:
    """`nearest_code` of points that lie about the origin already: nothing is copied to be centred.

    Where the codes are not more than the dimensions, one product: its scores take no more memory than the points.
    """
    if codes.shape[0] > codes.shape[1]:
        return _search(points, codes, jnp.zeros_like(codes[0]), None)
    products = jnp.matmul(points, codes.T, precision=lax.Precision.HIGHEST)
    return _two_level_argmin(0.5 * jnp.sum(codes * codes, axis=1) - products)


def _center(codes: Array) -> Array:
    """The upper median by coordinate of evenly spaced codes: unlike their mean it stays where a far code is moved."""
    sample = codes[:: -(-codes.shape[0] // _CENTER_SAMPLE)]
    finite = jnp.all(jnp.isfinite(sample), axis=1)
    ordered = jnp.sort(jnp.where(finite[:, None], sample, jnp.inf), axis=0)
    center = ordered[jnp.sum(finite) // 2]
    return jnp.where(jnp.isfinite(center), center, 0)


@functools.partial(jax.jit, static_argnums=3, inline=True)
def _search(flat: Array, codes: Array, center: Array, chunk_size: int | None) -> Array:
    """Nearest centred codes of [n, dim] vectors, in chunks of a size that suits the platform."""

    def limit(elements: int) -> int:
        return chunk_size or max(_SMALLEST_CHUNK, elements // max(codes.shape))

    return lax.platform_dependent(
        flat,
        codes,
        center,
        cpu=functools.partial(_chunked_search, chunk=limit(_CPU_CHUNK_ELEMENTS)),
        default=functools.partial(_chunked_search, chunk=limit(_ACCELERATOR_CHUNK_ELEMENTS)),
    )


def _chunked_search(flat: Array, codes: Array, center: Array, *, chunk: int) -> Array:
    """Nearest centred codes of [n, dim] vectors, in equal chunks of at most `chunk` vectors."""
    n = flat.shape[0]
    if n == 0:
        return jnp.zeros((0,), jnp.int32)
    # A last coordinate, 1 in every vector, has the product add ½‖e‖²: added afterwards it is another pass over the
    # scores, half as long as the product itself.
    half_norms = 0.5 * jnp.sum(codes * codes, axis=1, keepdims=True)
    # Not infinite: a device may split a number into several of lower precision, and ∞ − ∞ is NaN.
    farthest = jnp.finfo(codes.dtype).max / 4
    usable = half_norms <= farthest
    columns = jnp.concatenate([jnp.where(usable, -codes, 0), jnp.where(usable, half_norms, farthest)], axis=1)
    # Whole blocks: the last code again, which loses every tie with itself.
    padding = -codes.shape[0] % _block(codes.shape[0])
    columns = jnp.pad(columns, ((0, padding), (0, 0)), mode="edge").T

    num_chunks = math.ceil(n / chunk)
    size = math.ceil(n / num_chunks)

    def search_chunk(start: Array) -> Array:
        vectors = lax.dynamic_slice_in_dim(flat, start, size).astype(codes.dtype) - center
        rows = jnp.concatenate([vectors, jnp.ones((size, 1), codes.dtype)], axis=1)
        return _two_level_argmin(jnp.matmul(rows, columns, precision=lax.Precision.HIGHEST))

    if num_chunks == 1:
        return search_chunk(jnp.array(0))
    # The last chunk overlaps the one before it: padding the vectors instead would copy them all.
    found = lax.map(search_chunk, jnp.minimum(jnp.arange(num_chunks) * size, n - size))
    return jnp.concatenate([found[:-1].reshape(-1)[: n - size], found[-1]])


def _block(num_codes: int) -> int:
    """Codes in one block: the power of two next below √codes, so that both levels are short."""
    return min(_BLOCK, 2 ** (int(math.log2(num_codes)) // 2))


def _two_level_argmin(scores: Array) -> Array:
    """Equal to argmin over the last axis, several times faster where XLA does not vectorize argmin (CPU)."""
    n, num_codes = scores.shape
    block = _block(num_codes)
    if num_codes % block:
        return jnp.argmin(scores, axis=1).astype(jnp.int32)
    blocks = scores.reshape(n, num_codes // block, block)
    winner = jnp.argmin(jnp.min(blocks, axis=2), axis=1)
    inside = jnp.take_along_axis(blocks, winner[:, None, None], axis=1)[:, 0]
    return (winner * block + jnp.argmin(inside, axis=1)).astype(jnp.int32)


def lookup(codebook: Float[ArrayLike, "..."], indices: Integer[ArrayLike, "*batch"]) -> Float[Array, "*batch dim"]:
    """Codes of the given indices, by a gather.

    .. math::
        z_i = e_{k_i}

    Args:
        codebook: [codes, dim].
        indices: [...], in 0 … codes − 1.

    Returns:
        [..., dim]; under `jit`, where values cannot be checked, NaN at an index that is negative or beyond the
        codebook.

    Raises:
        ValueError: an index outside the codebook (outside `jit`), a codebook that is not a matrix.
        TypeError: indices that are not integers.

    Example:
        >>> import jax.numpy as jnp
        >>> lookup(jnp.array([[1.0, 2.0], [3.0, 4.0]]), jnp.array([1, 0, 1])).tolist()
        [[3.0, 4.0], [1.0, 2.0], [3.0, 4.0]]
    """
    given, codebook, indices = indices, as_float("codebook", codebook), as_indices("indices", indices)
    require(
        codebook.ndim == 2 and codebook.shape[0] >= 1,
        f"codebook must be [codes, dim] with at least one code, got shape {codebook.shape}",
    )
    num_codes = codebook.shape[0]
    require_indices("indices", given, num_codes, "the codebook has")
    # A negative index would count from the end.
    indices = jnp.where(indices < 0, num_codes, indices)
    return jnp.take(codebook, indices, axis=0, mode="fill", fill_value=jnp.nan)
