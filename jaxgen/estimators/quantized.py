"""Gradients past a quantizer, whose output is constant almost everywhere."""

import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike
from jaxtyping import Float, Num

from jaxgen._checks import as_array, as_wide_float, require_same_shape


def straight_through(encodings: Num[ArrayLike, "*shape"], codes: Num[ArrayLike, "..."]) -> Float[Array, "*shape"]:
    r"""The codes in the forward pass, exactly; the identity to the encodings in the backward pass.

    .. math::
        \mathrm{sg}(e) + (z - \mathrm{sg}(z))

    The common form z + sg(e − z) rounds the code where ‖z‖ ≫ ‖e‖. No gradient reaches the codes: learn them
    by `jaxgen.losses.codebook_loss` or by running averages.

    Args:
        encodings: z, of any shape.
        codes: e, shaped as `encodings`.

    Returns:
        The codes.

    Raises:
        ValueError: shapes do not match.
        TypeError: an argument is not floating point.

    Reference:
        Bengio, Léonard and Courville, Estimating or Propagating Gradients Through Stochastic Neurons, 2013.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> jax.grad(lambda z: (straight_through(z, jnp.round(z)) ** 2).sum())(jnp.array([0.7, 2.2]))
        Array([2., 4.], dtype=float32)
    """
    encodings, codes = as_array("encodings", encodings), as_array("codes", codes)
    dtype = jnp.result_type(encodings, codes)
    encodings, codes = as_wide_float("encodings", encodings), as_wide_float("codes", codes)
    require_same_shape("encodings", encodings, "codes", codes)
    return (lax.stop_gradient(codes) + (encodings - lax.stop_gradient(encodings))).astype(dtype)


def rotation_trick(encodings: Num[ArrayLike, "*shape dim"], codes: Num[ArrayLike, "..."]) -> Float[Array, "*shape dim"]:
    r"""The codes in the forward pass; in the backward pass the rotation and scaling that take z to e.

    .. math::
        e = \frac{\|e\|}{\|z\|} R\, z, \qquad
        R = I - 2\,\hat s \hat s^\top + 2\,\hat e \hat z^\top, \quad
        \hat s = \frac{\hat z + \hat e}{\|\hat z + \hat e\|}

    R and the ratio of norms are constants to the gradient, so that the angle between a gradient and the code
    is kept between it and the encoding. Where no rotation is defined (a zero vector, or opposite directions)
    the gradient is that of `straight_through`.

    Args:
        encodings: z, [..., dim], vectors on the last axis.
        codes: e, shaped as `encodings`; no gradient reaches them.

    Returns:
        The codes.

    Raises:
        ValueError: shapes do not match, or there is no axis.
        TypeError: an argument is not floating point.

    Reference:
        Fifty et al., Restructuring Vector Quantization with the Rotation Trick, 2024.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> z, e = jnp.array([1.0, 0.0]), jnp.array([0.0, 2.0])
        >>> jax.jacobian(rotation_trick)(z, e)
        Array([[ 0., -2.],
               [ 2.,  0.]], dtype=float32)
    """
    encodings, codes = as_array("encodings", encodings), as_array("codes", codes)
    dtype = jnp.result_type(encodings, codes)
    z, e = as_wide_float("encodings", encodings), as_wide_float("codes", codes)
    require_same_shape("encodings", z, "codes", e)
    if z.ndim < 1:
        raise ValueError("encodings must have vectors on the last axis, got a scalar")
    e = lax.stop_gradient(e)
    start, start_size, start_norm = _direction(lax.stop_gradient(z))
    end, end_size, end_norm = _direction(e)
    bisector = start + end
    square = jnp.sum(jnp.square(bisector), axis=-1, keepdims=True)
    defined = (start_norm > 0) & (end_norm > 0) & (square > 10 * jnp.finfo(square.dtype).eps)
    ratio = (end_size / start_size) * (end_norm / jnp.where(defined, start_norm, 1))
    # Below the largest number there is room for sums of products with it, divided by the bisector's square.
    ratio = jnp.where(defined, jnp.minimum(ratio, jnp.finfo(ratio.dtype).max / (4096 * max(z.shape[-1], 1))), 1)

    # Zero in value, so that the code stays exact: the map is linear, and is there for its gradient alone.
    change = z - lax.stop_gradient(z)
    along_bisector = jnp.sum(bisector * change, axis=-1, keepdims=True) / jnp.where(defined, square, 1)
    along_start = jnp.sum(start * change, axis=-1, keepdims=True)
    rotated = change - 2 * bisector * along_bisector + 2 * end * along_start
    return (e + jnp.where(defined, rotated * ratio, change)).astype(dtype)


def _direction(vectors: Array) -> tuple[Array, Array, Array]:
    """Unit vectors on the last axis, a scale m near the largest entry, and ‖v/m‖, since ‖v‖² would over- or underflow.

    The norm is zero where there is no direction; m is one there.
    """
    largest = jnp.max(jnp.abs(vectors), axis=-1, keepdims=True, initial=0)
    tiny = jnp.finfo(largest.dtype).tiny
    # XLA may multiply by the reciprocal, which must not vanish either.
    largest = jnp.where(largest < tiny, 1, jnp.minimum(largest, 0.25 / tiny))
    scaled = vectors / largest
    norm = jnp.sqrt(jnp.sum(jnp.square(scaled), axis=-1, keepdims=True))
    return scaled / jnp.where(norm > 0, norm, 1), largest, norm
