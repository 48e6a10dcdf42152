"""Finite scalar quantization: each dimension is rounded to a few levels, and no codebook is learned."""

import math
import operator
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import ArrayLike
from jaxtyping import Float, Int, Integer

from jaxgen._checks import as_float, as_indices, known, require, require_indices


def finite_scalar_quantize(encodings: Float[ArrayLike, "..."], *, levels: Sequence[int]) -> Float[Array, "*batch dim"]:
    r"""Every coordinate bounded to its range and rounded to one of its levels.

    .. math::
        \hat z_j = \frac{\operatorname{round}(f_j(z_j))}{\lfloor L_j / 2 \rfloor}, \qquad
        f_j(z) = h_j \tanh(z + s_j) - o_j

    with h_j = 1.001·(L_j − 1)/2, and for even L_j an offset o_j = ½ with s_j = artanh(o_j / h_j), so that
    f_j(0) = 0. Two levels have no shift, s_j = 0: the level is −1 where z < 0 and 0 elsewhere, while with f_j(0) = 0
    only z < −3.8 would reach the lower one. What rounds beyond the outermost level is put on it. The gradient is that
    of f_j / ⌊L_j/2⌋: rounding is passed straight through, and the value is exactly that of the level.

    Args:
        encodings: [..., dim], floating.
        levels: the number of levels of each dimension, each at least 2; their product is the number of codes.

    Returns:
        [..., dim], in [−1, 1], of the encodings' type.

    Raises:
        ValueError: another number of levels than dimensions, a level count below 2.
        TypeError: integer encodings.

    Reference:
        Mentzer et al., Finite Scalar Quantization: VQ-VAE Made Simple, 2023.

    Example:
        >>> import jax.numpy as jnp
        >>> finite_scalar_quantize(jnp.array([[0.0, 9.0], [0.6, -9.0]]), levels=(3, 4)).tolist()
        [[0.0, 0.5], [1.0, -1.0]]
    """
    given = as_float("encodings", encodings)
    # Half precision has no room for tanh and many levels.
    encodings = given.astype(jnp.promote_types(given.dtype, jnp.float32))
    counts = _check_levels(levels)
    _check_dim("encodings", encodings.shape, len(counts))
    # The thousandth keeps the outermost levels within reach of tanh; of a thousand levels it is half a level more.
    half_range = (counts - 1) * 1.001 / 2
    offset = np.where(counts % 2 == 0, 0.5, 0.0)
    shift = np.where(counts == 2, 0.0, np.arctanh(offset / half_range))
    shift, half_range, offset, half_width, last = (
        jnp.asarray(constant, encodings.dtype)
        for constant in (shift, half_range, offset, counts // 2, counts - 1 - counts // 2)
    )
    bounded = half_range * jnp.tanh(encodings + shift) - offset
    level = jnp.clip(jnp.round(bounded), -half_width, last)
    rounded = lax.stop_gradient(level) + (bounded - lax.stop_gradient(bounded))
    return (rounded / half_width).astype(given.dtype)


def finite_scalar_indices(codes: Float[ArrayLike, "..."], *, levels: Sequence[int]) -> Int[Array, "*batch"]:
    r"""One integer for each quantized vector, the first dimension varying fastest.

    .. math::
        k = \sum_j \bigl( \hat z_j \lfloor L_j/2 \rfloor + \lfloor L_j/2 \rfloor \bigr) \prod_{i < j} L_i

    Args:
        codes: [..., dim], as `finite_scalar_quantize` returns them.
        levels: the number of levels of each dimension.

    Returns:
        int32 [...], in 0 … ∏ L_j − 1; −1, which no code has, where a code not known at trace time is out of range.

    Raises:
        ValueError: another number of levels than dimensions, a level count below 2, or a code known at call time is
            NaN, lies outside [−1, 1], or lies at 1 where the number of levels is even.
        TypeError: integer codes.

    Example:
        >>> import jax.numpy as jnp
        >>> finite_scalar_indices(jnp.array([[-1.0, -1.0], [1.0, -1.0], [1.0, 0.5]]), levels=(3, 4)).tolist()
        [0, 2, 11]
    """
    given, codes = known(codes), as_float("codes", codes)
    counts = _check_levels(levels)
    _check_dim("codes", codes.shape, len(counts))
    half_width = counts // 2
    # The grid of an even number of levels ends one step below 1.
    top = np.asarray((counts - 0.5 - half_width) / half_width, np.float32)
    require(
        given is None or bool(np.all((np.abs(given) <= 1) & (given < top))),
        "codes must lie in [-1, 1], and below 1 where the number of levels is even, but some do not: "
        "pass what finite_scalar_quantize returned",
    )
    valid = jnp.all((jnp.abs(codes) <= 1) & (codes < top), axis=-1)
    digits = jnp.round(codes.astype(jnp.float32) * half_width).astype(jnp.int32) + jnp.asarray(half_width)
    return jnp.where(valid, jnp.sum(digits * jnp.asarray(_places(counts)), axis=-1, dtype=jnp.int32), -1)


def finite_scalar_codes(indices: Integer[ArrayLike, "*batch"], *, levels: Sequence[int]) -> Float[Array, "*batch dim"]:
    r"""The quantized vectors that integers stand for: the inverse of `finite_scalar_indices`.

    .. math::
        \hat z_j = \frac{\lfloor k / \prod_{i<j} L_i \rfloor \bmod L_j}{\lfloor L_j/2 \rfloor} - 1

    Args:
        indices: [...], in 0 … ∏ L_j − 1.
        levels: the number of levels of each dimension.

    Returns:
        float [..., dim], in [−1, 1]; NaN where an index not known at trace time lies outside its range.

    Raises:
        ValueError: a level count below 2, or an index outside its range.
        TypeError: indices that are not integers.

    Example:
        >>> import jax.numpy as jnp
        >>> finite_scalar_codes(jnp.array([0, 2, 11]), levels=(3, 4)).tolist()
        [[-1.0, -1.0], [1.0, -1.0], [1.0, 0.5]]
    """
    counts = _check_levels(levels)
    num_codes = math.prod(counts.tolist())
    given, indices = indices, as_indices("indices", indices)
    require_indices("indices", given, num_codes, f"levels {tuple(counts.tolist())} make")
    valid = (indices >= 0) & (indices < num_codes)
    digits = indices[..., None] // jnp.asarray(_places(counts)) % jnp.asarray(counts)
    half_width = jnp.asarray(counts // 2)
    return jnp.where(valid[..., None], (digits - half_width) / half_width, jnp.nan)


def _check_levels(levels: Sequence[int]) -> np.ndarray:
    try:
        counts = [operator.index(level) for level in levels]
    except TypeError:
        raise TypeError(f"levels must be integers, one for each dimension, got {levels!r}") from None
    require(
        len(counts) >= 1 and min(counts) >= 2,
        f"levels must be one or more counts of at least 2, got {tuple(counts)}",
    )
    require(math.prod(counts) < 2**31, f"levels {tuple(counts)} make more codes than an int32 index can count")
    return np.asarray(counts, np.int32)


def _check_dim(name: str, shape: tuple[int, ...], dim: int) -> None:
    require(
        len(shape) >= 1 and shape[-1] == dim,
        f"{name} {shape} must have as last dimension the number of levels, {dim}",
    )


def _places(counts: np.ndarray) -> np.ndarray:
    return np.concatenate([[1], np.cumprod(counts[:-1])]).astype(np.int32)
