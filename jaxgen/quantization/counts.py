"""How often codes are used, and how evenly."""

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Float, Int, Integer, Num

from jaxgen._checks import as_counts, as_indices, as_non_negative_number, require, require_count


def code_counts(indices: Integer[ArrayLike, "..."], num_codes: int) -> Int[Array, " codes"]:
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
        TypeError: indices that are not integers.

    Example:
        >>> import jax.numpy as jnp
        >>> code_counts(jnp.array([[0, 2], [2, 2]]), 4).tolist()
        [1, 0, 3, 0]
    """
    num_codes = require_count("num_codes", num_codes)
    flat = as_indices("indices", indices).reshape(-1)
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
        [...]; 0 where nothing was counted, NaN where a count is NaN, infinite or negative.

    Raises:
        ValueError: no codes, or a count known at call time is negative.
        TypeError: counts that are not real.

    Example:
        >>> import jax.numpy as jnp
        >>> perplexity(jnp.array([[5, 5, 0, 0], [1, 1, 1, 1]])).round(4).tolist()
        [2.0, 4.0]
    """
    counts = _float_counts(counts)
    total = jnp.sum(counts, axis=-1, keepdims=True)
    p = counts / nonzero(total)
    # Comparisons with 0 that NaN fails, so that it comes out.
    entropy = -jnp.sum(jnp.where(p == 0, 0.0, p * jnp.log(jnp.where(p == 0, 1.0, p))), axis=-1)
    return jnp.where(total[..., 0] == 0, 0.0, jnp.exp(entropy))


def usage(counts: Num[ArrayLike, "*batch codes"], *, threshold: Num[ArrayLike, ""] = 0.0) -> Float[Array, "*batch"]:
    r"""Share of the codes that are used.

    .. math::
        \frac{1}{K} \, \# \{ k : n_k > \text{threshold} \}

    Args:
        counts: [..., codes], integers or running estimates (which never reach zero: give a threshold).
        threshold: the count that a used code exceeds, not negative.

    Returns:
        [...], in [0, 1]; NaN where a count is NaN or negative.

    Raises:
        ValueError: no codes, or a count or threshold known at call time is negative.
        TypeError: counts that are not real.

    Example:
        >>> import jax.numpy as jnp
        >>> float(usage(jnp.array([5, 5, 0, 1])))
        0.75
    """
    counts = _float_counts(counts)
    threshold = as_non_negative_number("threshold", threshold, counts.dtype)
    return jnp.mean(jnp.where(jnp.isnan(counts), counts, counts > threshold), axis=-1)


def _float_counts(given: ArrayLike) -> Array:
    """`as_counts` of one code or more."""
    counts = as_counts("counts", given)
    require(
        counts.ndim >= 1 and counts.shape[-1] >= 1,
        f"counts must be [..., codes] with at least one code, got shape {counts.shape}",
    )
    return counts


def nonzero(x: Array) -> Array:
    """Denominators with 1 in place of 0, for a ratio whose numerator is then 0 too."""
    return jnp.where(x == 0, 1.0, x)
