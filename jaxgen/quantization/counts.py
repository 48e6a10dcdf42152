"""How often codes are used, and how evenly."""

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Float, Int, Num

from jaxgen.quantization._checks import nonzero, require


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
    p = counts / nonzero(total)
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
