"""Nearest-code search and codebooks that follow the means of their vectors."""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import ArrayLike
from jaxtyping import Float, Int, Num, PRNGKeyArray

from jaxgen.quantization._checks import as_float, is_concrete, require

# Codes in one block of the two-level argmin, and the numbers that one chunk may hold, scores or vectors: 8
# MiB of float32 stay in a CPU's cache, a GPU wants fewer and larger products.
_BLOCK = 64
_SMALLEST_CHUNK = 64
_CPU_CHUNK_ELEMENTS = 2**21
_ACCELERATOR_CHUNK_ELEMENTS = 2**26

# The count below which an unused code stops decaying: far below one vector, far above float32's underflow.
_COUNT_FLOOR = 1e-6


class EmaCodebook(NamedTuple):
    """Running estimates of how many vectors a code receives and of their sum; the code is their ratio."""

    counts: Float[Array, " codes"]
    sums: Float[Array, "codes dim"]


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

    with c the mean of the codebook: ‖z‖² is the same for all codes, and subtracting c keeps the digits of
    data that lie far from the origin. Distances are float32 (float64 stays float64) at the highest
    matrix precision, whatever the inputs' type. The search runs over chunks of vectors, so that neither a
    [vectors, codes, dim] nor a [vectors, codes] array is ever formed. No gradient flows through it.

    Args:
        vectors: [..., dim], floating.
        codebook: [codes, dim], floating, at least one code.
        chunk_size: vectors compared with the whole codebook at a time; the memory taken is chunk_size × codes
            numbers. By default as many as are fastest on the platform.

    Returns:
        int32 [...]; among equally near codes the lowest index.

    Raises:
        ValueError: an empty codebook, another dim than the vectors', a chunk_size below one.
        TypeError: integer vectors or codebook.

    Example:
        >>> codebook = jnp.array([[0.0, 0.0], [1.0, 1.0]])
        >>> nearest_code(jnp.array([[0.2, 0.1], [0.9, 0.6], [0.5, 0.5]]), codebook).tolist()
        [0, 1, 0]
    """
    vectors, codebook = as_float("vectors", vectors), as_float("codebook", codebook)
    require(
        codebook.ndim == 2 and codebook.shape[0] >= 1,
        f"codebook must be [codes, dim] with at least one code, but its shape is {codebook.shape}",
    )
    require(
        vectors.ndim >= 1 and vectors.shape[-1] == codebook.shape[1],
        f"vectors {vectors.shape} and codebook {codebook.shape} must have the same last dimension",
    )
    require(
        chunk_size is None or chunk_size >= 1,
        f"chunk_size must be at least 1, but is {chunk_size}: give None",
    )
    dtype = jnp.promote_types(jnp.promote_types(vectors.dtype, codebook.dtype), jnp.float32)
    codes = lax.stop_gradient(codebook.astype(dtype))
    center = jnp.mean(codes, axis=0)
    codes = codes - center
    flat = lax.stop_gradient(vectors).reshape(-1, vectors.shape[-1])

    def limit(elements: int) -> int:
        return chunk_size or max(_SMALLEST_CHUNK, elements // max(codebook.shape))

    indices = lax.platform_dependent(
        flat,
        codes,
        center,
        cpu=functools.partial(_chunked_search, chunk=limit(_CPU_CHUNK_ELEMENTS)),
        default=functools.partial(_chunked_search, chunk=limit(_ACCELERATOR_CHUNK_ELEMENTS)),
    )
    return indices.reshape(vectors.shape[:-1])


def _chunked_search(flat: Array, codes: Array, center: Array, *, chunk: int) -> Array:
    """Nearest centred codes of [n, dim] vectors, in equal chunks of at most `chunk` vectors."""
    n = flat.shape[0]
    if n == 0:
        return jnp.zeros((0,), jnp.int32)
    padding = -codes.shape[0] % _BLOCK if codes.shape[0] > _BLOCK else 0
    half_norms = jnp.pad(0.5 * jnp.sum(codes * codes, axis=1), (0, padding), constant_values=jnp.inf)
    transposed = jnp.pad(codes, ((0, padding), (0, 0))).T

    num_chunks = math.ceil(n / chunk)
    size = math.ceil(n / num_chunks)

    def search_chunk(start: Array) -> Array:
        vectors = lax.dynamic_slice_in_dim(flat, start, size).astype(codes.dtype) - center
        return _two_level_argmin(half_norms - jnp.matmul(vectors, transposed, precision=lax.Precision.HIGHEST))

    if num_chunks == 1:
        return search_chunk(jnp.array(0))
    # The last chunk overlaps the one before it: padding the vectors instead would copy them all.
    found = lax.map(search_chunk, jnp.minimum(jnp.arange(num_chunks) * size, n - size))
    return jnp.concatenate([found[:-1].reshape(-1)[: n - size], found[-1]])


def _two_level_argmin(scores: Array) -> Array:
    """Equal to argmin over the last axis, several times faster where XLA does not vectorize argmin (CPU)."""
    n, num_codes = scores.shape
    if num_codes <= _BLOCK:
        return jnp.argmin(scores, axis=1).astype(jnp.int32)
    blocks = scores.reshape(n, num_codes // _BLOCK, _BLOCK)
    winner = jnp.argmin(jnp.min(blocks, axis=2), axis=1)
    inside = jnp.take_along_axis(blocks, winner[:, None, None], axis=1)[:, 0]
    return (winner * _BLOCK + jnp.argmin(inside, axis=1)).astype(jnp.int32)


def lookup(codebook: Float[ArrayLike, "..."], indices: Int[ArrayLike, "*batch"]) -> Float[Array, "*batch dim"]:
    """Codes of the given indices, by a gather.

    .. math::
        z_i = e_{k_i}

    Args:
        codebook: [codes, dim].
        indices: [...], in 0 … codes − 1.

    Returns:
        [..., dim]; under `jit`, where values cannot be checked, NaN at an index beyond the codebook.

    Raises:
        ValueError: an index outside the codebook (outside `jit`), a codebook that is not a matrix.
        TypeError: indices that are not integers.

    Example:
        >>> lookup(jnp.array([[1.0, 2.0], [3.0, 4.0]]), jnp.array([1, 0, 1])).tolist()
        [[3.0, 4.0], [1.0, 2.0], [3.0, 4.0]]
    """
    codebook, indices = as_float("codebook", codebook), jnp.asarray(indices)
    require(
        codebook.ndim == 2 and codebook.shape[0] >= 1,
        f"codebook must be [codes, dim] with at least one code, but its shape is {codebook.shape}",
    )
    if not jnp.issubdtype(indices.dtype, jnp.integer):
        raise TypeError(f"indices must be integers, but are {indices.dtype}")
    if is_concrete(indices) and indices.size:
        low, high = int(np.min(indices)), int(np.max(indices))
        require(
            low >= 0 and high < codebook.shape[0],
            f"indices run from {low} to {high}, but the codebook has {codebook.shape[0]} codes: "
            f"give indices in 0 … {codebook.shape[0] - 1}",
        )
    return jnp.take(codebook, indices, axis=0, mode="fill", fill_value=jnp.nan)


def init_ema_codebook(codebook: Float[ArrayLike, "codes dim"], *, count: float | int = 1.0) -> EmaCodebook:
    r"""State whose read-out is the given codebook, every code weighing `count` vectors.

    .. math::
        N_k = \text{count}, \qquad m_k = \text{count} \cdot e_k

    Args:
        codebook: [codes, dim].
        count: the weight of the initial place, in vectors per update; above zero.

    Returns:
        `EmaCodebook`, float32 (float64 stays float64).

    Raises:
        ValueError: an empty codebook, a count that is not above zero.

    Example:
        >>> codebook_from_ema(init_ema_codebook(jnp.array([[1.0, 2.0]]), count=4.0)).tolist()
        [[1.0, 2.0]]
    """
    codebook = as_float("codebook", codebook)
    require(codebook.shape[0] >= 1, f"codebook must have at least one code, but its shape is {codebook.shape}")
    require(count > 0, f"count must be above 0, but is {count}")
    codebook = codebook.astype(jnp.promote_types(codebook.dtype, jnp.float32))
    counts = jnp.full(codebook.shape[:1], count, codebook.dtype)
    return EmaCodebook(counts=counts, sums=counts[:, None] * codebook)


def ema_codebook_update(
    state: EmaCodebook,
    vectors: Float[ArrayLike, "... dim"],
    indices: Int[ArrayLike, "..."],
    *,
    decay: float | int | Float[ArrayLike, ""],
    axis_name: str | None = None,
) -> EmaCodebook:
    r"""Running counts and sums after one more batch.

    .. math::
        N_k \leftarrow \gamma N_k + (1 - \gamma) \, n_k, \qquad
        m_k \leftarrow \gamma m_k + (1 - \gamma) \sum_{i : k_i = k} z_i

    with n_k the vectors of this batch that chose code k. γ = 0 on a full data set is one Lloyd step of
    k-means. A code that got no vector keeps its place whatever γ is: both its numbers shrink alike, and they
    stop shrinking once its count is 1e-6, before they underflow. Quantize with the codebook of the *old*
    state, then update; never update in evaluation.

    Args:
        state: counts [codes], sums [codes, dim].
        vectors: [..., dim], the encodings; no gradient flows.
        indices: [...], the code that each vector chose; one outside the codebook is left out.
        decay: γ in [0, 1].
        axis_name: the mapped axis over whose devices the batch is spread: counts and sums are added over it
            before anything is divided, so that N devices keep one codebook.

    Returns:
        The next state, of the same types.

    Raises:
        ValueError: shapes that do not match, a decay outside [0, 1].

    Reference:
        van den Oord et al., Neural Discrete Representation Learning, 2017, appendix A.1.

    Example:
        >>> state = EmaCodebook(counts=jnp.array([1.0, 1.0]), sums=jnp.array([[2.0], [4.0]]))
        >>> state = ema_codebook_update(state, jnp.array([[1.0], [3.0]]), jnp.array([0, 0]), decay=0.5)
        >>> state.counts.tolist(), codebook_from_ema(state).tolist()
        ([1.5, 0.5], [[2.0], [4.0]])
    """
    vectors, indices = as_float("vectors", vectors), jnp.asarray(indices)
    num_codes, dim = state.sums.shape
    require(
        vectors.shape == (*indices.shape, dim),
        f"vectors {vectors.shape} must be the shape of indices {indices.shape} followed by the codebook's dim {dim}",
    )
    if is_concrete(decay):
        require(bool(0 <= np.asarray(decay) <= 1), f"decay must lie in [0, 1], but is {decay}")
    flat = lax.stop_gradient(vectors).reshape(-1, dim).astype(state.sums.dtype)
    batch_counts = code_counts(indices, num_codes).astype(state.counts.dtype)
    batch_sums = jax.ops.segment_sum(flat, indices.reshape(-1), num_codes)
    if axis_name is not None:
        batch_counts, batch_sums = lax.psum((batch_counts, batch_sums), axis_name)
    # The whole of an unused code's state is scaled by one number, so its place m/N does not move.
    kept = jnp.minimum(1.0, _COUNT_FLOOR / jnp.maximum(state.counts, _COUNT_FLOOR))
    gamma = jnp.asarray(decay, state.counts.dtype)
    shrink = jnp.where(batch_counts > 0, gamma, jnp.maximum(gamma, kept))
    counts = shrink * state.counts + (1 - gamma) * batch_counts
    sums = shrink[:, None] * state.sums + (1 - gamma) * batch_sums
    return EmaCodebook(counts=counts, sums=sums)


def codebook_from_ema(state: EmaCodebook, *, smoothing: float | int = 0.0) -> Float[Array, "codes dim"]:
    r"""The codebook that running counts and sums stand for.

    .. math::
        e_k = m_k / \tilde N_k, \qquad
        \tilde N_k = \frac{N_k + \varepsilon}{\sum_j (N_j + \varepsilon)} \sum_j N_j

    Without smoothing (ε = 0) this is m/N, the mean of the vectors; ε > 0 is the Laplace smoothing of van den
    Oord et al., which draws rarely used codes to the origin. The state itself is never smoothed.

    Args:
        state: counts [codes], sums [codes, dim].
        smoothing: ε, in vectors; not below zero.

    Returns:
        [codes, dim]; a code with neither count nor sum lies at the origin.

    Raises:
        ValueError: a negative smoothing.

    Reference:
        van den Oord et al., Neural Discrete Representation Learning, 2017, appendix A.1.

    Example:
        >>> state = EmaCodebook(counts=jnp.array([2.0]), sums=jnp.array([[3.0, 4.0]]))
        >>> codebook_from_ema(state).tolist()
        [[1.5, 2.0]]
    """
    require(smoothing >= 0, f"smoothing must not be negative, but is {smoothing}")
    total = jnp.sum(state.counts)
    counts = (state.counts + smoothing) / (1 + smoothing * state.counts.shape[0] / _nonzero(total))
    return state.sums / _nonzero(counts)[:, None]


def revive_dead_codes(
    key: PRNGKeyArray,
    state: EmaCodebook,
    vectors: Float[ArrayLike, "... dim"],
    *,
    threshold: float | int,
    axis_name: str | None = None,
) -> EmaCodebook:
    r"""Codes whose count fell below a threshold, put where vectors of the batch are.

    .. math::
        N_k < \text{threshold}: \quad e_k \leftarrow z_{i(k)}, \quad
        N_k \leftarrow \max(\bar N, \text{threshold}), \quad m_k \leftarrow N_k e_k

    The place, the count and the sum are reset together. The count restarts from the mean count of all codes,
    so that a revived code has as long to win vectors as any other. The vectors i(k) are drawn without
    replacement (if there are more dead codes than vectors, each vector is used before one is used again).

    Args:
        key: one key, the same on every device of `axis_name`.
        state: counts [codes], sums [codes, dim].
        vectors: [..., dim], the encodings of the current batch; no gradient flows.
        threshold: the least running count of a living code, in vectors per (global) batch.
        axis_name: the mapped axis over whose devices the batch is spread: the vectors of all devices are
            gathered, so that every device revives the same codes with the same vectors.

    Returns:
        The next state; living codes are untouched.

    Raises:
        ValueError: shapes that do not match, no vectors, a negative threshold.

    Reference:
        Dhariwal et al., Jukebox, 2020, section 3 (random restarts).

    Example:
        >>> state = EmaCodebook(counts=jnp.array([4.0, 0.0]), sums=jnp.array([[4.0], [0.0]]))
        >>> revived = revive_dead_codes(jax.random.key(0), state, jnp.array([[7.0]]), threshold=1.0)
        >>> revived.counts.tolist(), codebook_from_ema(revived).tolist()
        ([4.0, 2.0], [[1.0], [7.0]])
    """
    vectors = as_float("vectors", vectors)
    dim = state.sums.shape[-1]
    require(
        vectors.shape[-1] == dim and vectors.size > 0,
        f"vectors {vectors.shape} must be one or more vectors of the codebook's dim {dim}",
    )
    require(threshold >= 0, f"threshold must not be negative, but is {threshold}")
    flat = lax.stop_gradient(vectors).reshape(-1, dim).astype(state.sums.dtype)
    if axis_name is not None:
        flat = lax.all_gather(flat, axis_name, tiled=True)
    dead = state.counts < threshold

    def revive() -> EmaCodebook:
        order = jax.random.permutation(key, flat.shape[0])
        places = flat[order[(jnp.cumsum(dead) - 1) % flat.shape[0]]]
        count = jnp.maximum(jnp.mean(state.counts), threshold).astype(state.counts.dtype)
        return EmaCodebook(
            counts=jnp.where(dead, count, state.counts),
            sums=jnp.where(dead[:, None], count * places, state.sums),
        )

    # The permutation sorts: a fifth of a small model's step that only a step with a dead code should pay.
    return lax.cond(jnp.any(dead), revive, lambda: state)


def code_counts(indices: Int[ArrayLike, "..."], num_codes: int) -> Int[Array, " codes"]:
    r"""How often each code occurs.

    .. math::
        n_k = \# \{ i : k_i = k \}

    Args:
        indices: [...], integers; one outside 0 … num_codes − 1 is left out.
        num_codes: the size of the codebook.

    Returns:
        int32 [codes]; counts of several batches or devices may be added.

    Raises:
        ValueError: num_codes below one.

    Example:
        >>> code_counts(jnp.array([[0, 2], [2, 2]]), 4).tolist()
        [1, 0, 3, 0]
    """
    require(num_codes >= 1, f"num_codes must be at least 1, but is {num_codes}")
    flat = jnp.asarray(indices).reshape(-1)
    return jax.ops.segment_sum(jnp.ones(flat.shape, jnp.int32), flat, num_codes)


def perplexity(counts: Num[ArrayLike, "*batch codes"]) -> Float[Array, "*batch"]:
    r"""The number of equally likely codes that would have the entropy of the observed ones.

    .. math::
        \exp \Bigl( -\sum_k p_k \log p_k \Bigr), \qquad p_k = n_k / \sum_j n_j

    Between 1 (one code) and the number of codes (all equally often). It grows with the number of vectors
    counted, so compare batches of one size, or whole epochs.

    Args:
        counts: [..., codes], not negative; integers or running estimates.

    Returns:
        [...]; 0 where nothing was counted.

    Raises:
        ValueError: no codes.

    Example:
        >>> perplexity(jnp.array([[5, 5, 0, 0], [1, 1, 1, 1]])).round(4).tolist()
        [2.0, 4.0]
    """
    counts = _float_counts(counts)
    total = jnp.sum(counts, axis=-1, keepdims=True)
    p = counts / _nonzero(total)
    entropy = -jnp.sum(jnp.where(p > 0, p * jnp.log(jnp.where(p > 0, p, 1.0)), 0.0), axis=-1)
    return jnp.where(total[..., 0] > 0, jnp.exp(entropy), 0.0)


def usage(counts: Num[ArrayLike, "*batch codes"], *, threshold: float | int = 0.0) -> Float[Array, "*batch"]:
    r"""Share of the codes that are used.

    .. math::
        \frac{1}{K} \, \# \{ k : n_k > \text{threshold} \}

    Args:
        counts: [..., codes], integers or running estimates (which never reach zero: give a threshold).
        threshold: the count that a used code exceeds.

    Returns:
        [...], in [0, 1].

    Raises:
        ValueError: no codes.

    Example:
        >>> float(usage(jnp.array([5, 5, 0, 1])))
        0.75
    """
    return jnp.mean(_float_counts(counts) > threshold, axis=-1)


def _float_counts(counts: ArrayLike) -> Array:
    counts = jnp.asarray(counts)
    require(
        counts.ndim >= 1 and counts.shape[-1] >= 1,
        f"counts must be [..., codes] with at least one code, but the shape is {counts.shape}",
    )
    return counts.astype(jnp.promote_types(counts.dtype, jnp.float32))


def _nonzero(x: Array) -> Array:
    return jnp.where(x == 0, 1.0, x)
