"""Codebooks that follow the means of their vectors by running averages."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike
from jaxtyping import Float, Integer, Num, PRNGKeyArray

from jaxgen._checks import (
    as_float,
    as_indices,
    as_non_negative_number,
    as_number,
    as_positive_number,
    as_wide_float,
    known,
    require,
)
from jaxgen.quantization.counts import code_counts, nonzero

# The count below which an unused code stops decaying: far below one vector, far above float32's underflow.
_COUNT_FLOOR = 1e-6
# How far beside its vector a code is put, as a share of the vectors' standard deviation.
_JITTER = 0.1


class EmaCodebook(NamedTuple):
    """Running estimates of how many vectors a code receives and of their sum; the code is their ratio."""

    counts: Float[Array, " codes"]
    sums: Float[Array, "codes dim"]


def init_ema_codebook(codebook: Float[ArrayLike, "codes dim"], *, count: Num[ArrayLike, ""] = 1.0) -> EmaCodebook:
    r"""State whose read-out is the given codebook, every code weighing `count` vectors.

    .. math::
        N_k = \text{count}, \qquad m_k = \text{count} \cdot e_k

    Args:
        codebook: [codes, dim].
        count: the weight of the initial place, in vectors per update; above zero.

    Returns:
        `EmaCodebook`, float32 (float64 stays float64).

    Raises:
        ValueError: an empty codebook or one that is no matrix, a count that is not above zero.
        TypeError: an integer codebook.

    Example:
        >>> import jax.numpy as jnp
        >>> codebook_from_ema(init_ema_codebook(jnp.array([[1.0, 2.0]]), count=4.0)).tolist()
        [[1.0, 2.0]]
    """
    codebook = as_wide_float("codebook", codebook)
    require(
        codebook.ndim == 2 and codebook.size > 0,
        f"codebook must be [codes, dim] with at least one code, got shape {codebook.shape}",
    )
    count = as_positive_number("count", count, codebook.dtype)
    counts = jnp.full(codebook.shape[:1], count, codebook.dtype)
    return EmaCodebook(counts=counts, sums=counts[:, None] * codebook)


def ema_codebook_update(
    state: EmaCodebook,
    vectors: Float[ArrayLike, "... dim"],
    indices: Integer[ArrayLike, "..."],
    *,
    decay: Num[ArrayLike, ""],
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
        TypeError: integer vectors, or indices that are not integers.

    Reference:
        van den Oord et al., Neural Discrete Representation Learning, 2017, appendix A.1.

    Example:
        >>> import jax.numpy as jnp
        >>> state = EmaCodebook(counts=jnp.array([1.0, 1.0]), sums=jnp.array([[2.0], [4.0]]))
        >>> state = ema_codebook_update(state, jnp.array([[1.0], [3.0]]), jnp.array([0, 0]), decay=0.5)
        >>> state.counts.tolist(), codebook_from_ema(state).tolist()
        ([1.5, 0.5], [[2.0], [4.0]])
    """
    vectors, indices = as_float("vectors", vectors), as_indices("indices", indices)
    num_codes, dim = _state_shape(state)
    require(
        vectors.shape == (*indices.shape, dim),
        f"vectors {vectors.shape} must be the shape of indices {indices.shape} followed by the codebook's dim {dim}",
    )
    gamma, value = as_number("decay", decay, state.counts.dtype), known(decay)
    require(value is None or bool(0 <= value <= 1), f"decay must lie in [0, 1], got {decay}")
    flat = lax.stop_gradient(vectors).reshape(-1, dim).astype(state.sums.dtype)
    batch_counts = code_counts(indices, num_codes).astype(state.counts.dtype)
    batch_sums = jax.ops.segment_sum(flat, indices.reshape(-1), num_codes)
    if axis_name is not None:
        batch_counts, batch_sums = lax.psum((batch_counts, batch_sums), axis_name)
    # The whole of an unused code's state is scaled by one number, so its place m/N does not move.
    kept = jnp.minimum(1.0, _COUNT_FLOOR / jnp.maximum(state.counts, _COUNT_FLOOR))
    shrink = jnp.where(batch_counts > 0, gamma, jnp.maximum(gamma, kept))
    counts = shrink * state.counts + (1 - gamma) * batch_counts
    sums = shrink[:, None] * state.sums + (1 - gamma) * batch_sums
    return EmaCodebook(counts=counts, sums=sums)


def codebook_from_ema(state: EmaCodebook, *, smoothing: Num[ArrayLike, ""] = 0.0) -> Float[Array, "codes dim"]:
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
        >>> import jax.numpy as jnp
        >>> state = EmaCodebook(counts=jnp.array([2.0]), sums=jnp.array([[3.0, 4.0]]))
        >>> codebook_from_ema(state).tolist()
        [[1.5, 2.0]]
    """
    _state_shape(state)
    smoothing = as_non_negative_number("smoothing", smoothing, state.counts.dtype)
    total = jnp.sum(state.counts)
    counts = (state.counts + smoothing) / (1 + smoothing * state.counts.shape[0] / nonzero(total))
    return state.sums / nonzero(counts)[:, None]


def revive_dead_codes(
    key: PRNGKeyArray,
    state: EmaCodebook,
    vectors: Float[ArrayLike, "... dim"],
    *,
    threshold: Num[ArrayLike, ""],
    axis_name: str | None = None,
) -> EmaCodebook:
    r"""Codes whose count fell below a threshold, put beside vectors of the batch.

    .. math::
        N_k < \text{threshold}: \quad e_k \leftarrow z_{i(k)} + \tfrac{\sigma}{10} \varepsilon_k, \quad
        N_k \leftarrow \max(\bar N, \text{threshold}), \quad m_k \leftarrow N_k e_k

    The place, the count and the sum are reset together. The count restarts from the mean count of all codes,
    so that a revived code has as long to win vectors as any other. The vectors i(k) are drawn without
    replacement (if there are more dead codes than vectors, each vector is used before one is used again). ε is
    standard normal and σ² the mean variance of the vectors' coordinates: of two codes on equal vectors, such as the
    blank parts of images, the second would never be chosen.

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
        >>> import jax
        >>> import jax.numpy as jnp
        >>> state = EmaCodebook(counts=jnp.array([4.0, 0.0]), sums=jnp.array([[4.0], [0.0]]))
        >>> revived = revive_dead_codes(jax.random.key(0), state, jnp.array([[7.0]]), threshold=1.0)
        >>> revived.counts.tolist(), codebook_from_ema(revived).tolist()
        ([4.0, 2.0], [[1.0], [7.0]])
    """
    vectors = as_float("vectors", vectors)
    _, dim = _state_shape(state)
    require(
        vectors.shape[-1:] == (dim,) and vectors.size > 0,
        f"vectors {vectors.shape} must be one or more vectors of the codebook's dim {dim}",
    )
    threshold = as_non_negative_number("threshold", threshold, state.counts.dtype)
    flat = lax.stop_gradient(vectors).reshape(-1, dim).astype(state.sums.dtype)
    if axis_name is not None:
        flat = lax.all_gather(flat, axis_name, tiled=True)
    return _revive(key, state, flat, threshold)


@functools.partial(jax.jit, inline=True)
def _revive(key: Array, state: EmaCodebook, flat: Array, threshold: Array) -> EmaCodebook:
    """`revive_dead_codes` with the [vectors, dim] of all devices."""
    dead = state.counts < threshold

    def revive() -> EmaCodebook:
        order_key, noise_key = jax.random.split(key)
        order = jax.random.permutation(order_key, flat.shape[0])
        width = jnp.sqrt(jnp.var(flat, axis=0).mean())
        noise = jax.random.normal(noise_key, state.sums.shape, flat.dtype)
        places = flat[order[(jnp.cumsum(dead) - 1) % flat.shape[0]]] + _JITTER * width * noise
        count = jnp.maximum(jnp.mean(state.counts), threshold).astype(state.counts.dtype)
        return EmaCodebook(
            counts=jnp.where(dead, count, state.counts),
            sums=jnp.where(dead[:, None], count * places, state.sums),
        )

    # The permutation sorts: a fifth of a small model's step that only a step with a dead code should pay.
    return lax.cond(jnp.any(dead), revive, lambda: state)


def _state_shape(state: EmaCodebook) -> tuple[int, int]:
    """The numbers of codes and dimensions, on which counts and sums must agree."""
    counts, sums = jnp.shape(state.counts), jnp.shape(state.sums)
    require(
        len(sums) == 2 and counts == sums[:1],
        f"state must have counts [codes] and sums [codes, dim], got {counts} and {sums}",
    )
    return sums[0], sums[1]
