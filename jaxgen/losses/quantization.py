"""The two terms of the vector-quantization loss.

Both are taken on the encodings and the codes *before* `jaxgen.estimators.straight_through`; after it they are
zero. The objective is codebook + β · commitment: β, about 0.25, belongs to the commitment. A codebook learned
by running averages needs the commitment alone. Half-precision inputs are computed and summed in float32.
"""

import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike
from jaxtyping import Float, Num

from jaxgen.losses._terms import as_pair, sum_per_example


def codebook_loss(encodings: Num[ArrayLike, "batch *dims"], codes: Num[ArrayLike, "..."]) -> Float[Array, " batch"]:
    r"""Pulls the codes to the encodings; no gradient reaches the encoder.

    .. math::
        \|\mathrm{sg}(z) - e\|^2

    Args:
        encodings: [batch, *dims], z, the encoder's output.
        codes: [batch, *dims], e, the nearest codes.

    Returns:
        [batch], summed over positions and dimensions.

    Raises:
        ValueError: shapes do not match.
        TypeError: an argument is not floating point.

    Reference:
        van den Oord, Vinyals and Kavukcuoglu, Neural Discrete Representation Learning, 2017, equation 3.

    Example:
        >>> import jax.numpy as jnp
        >>> codebook_loss(jnp.array([[1.0, 2.0]]), jnp.array([[0.0, 0.0]]))
        Array([5.], dtype=float32)
    """
    encodings, codes = as_pair("encodings", encodings, "codes", codes)
    return sum_per_example(jnp.square(lax.stop_gradient(encodings) - codes))


def commitment_loss(encodings: Num[ArrayLike, "batch *dims"], codes: Num[ArrayLike, "..."]) -> Float[Array, " batch"]:
    r"""Pulls the encodings to the codes; no gradient reaches the codebook.

    .. math::
        \|z - \mathrm{sg}(e)\|^2

    Args:
        encodings: [batch, *dims], z, the encoder's output.
        codes: [batch, *dims], e, the nearest codes.

    Returns:
        [batch], summed over positions and dimensions.

    Raises:
        ValueError: shapes do not match.
        TypeError: an argument is not floating point.

    Reference:
        van den Oord, Vinyals and Kavukcuoglu, Neural Discrete Representation Learning, 2017, equation 3.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> z, e = jnp.array([[1.0, 2.0]]), jnp.array([[0.0, 0.0]])
        >>> jax.grad(lambda z, e: commitment_loss(z, e).sum(), argnums=(0, 1))(z, e)
        (Array([[2., 4.]], dtype=float32), Array([[0., 0.]], dtype=float32))
    """
    encodings, codes = as_pair("encodings", encodings, "codes", codes)
    return sum_per_example(jnp.square(encodings - lax.stop_gradient(codes)))
