"""How close a reconstruction is to its original."""

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Float, Real

from jaxgen._checks import as_positive_number, as_widened, require_same_shape


def psnr(
    reconstructions: Real[ArrayLike, "*shape"],
    targets: Real[ArrayLike, "..."],
    *,
    data_range: ArrayLike = 1.0,
) -> Float[Array, " batch"]:
    r"""Peak signal-to-noise ratio of each example, in decibels.

    .. math::
        10 \log_{10} \frac{\text{range}^2}{\tfrac1D \sum_i (\hat x_i - x_i)^2}

    Infinite for a perfect reconstruction; higher is better. The mean over examples of the ratio in decibels
    is not the ratio of the mean squared error: average what this function returns.

    Args:
      reconstructions: [batch, ...], in the units of `targets`; integers such as uint8 are allowed.
      targets: the originals, of the same shape.
      data_range: largest minus smallest possible value: 1 for pixels in [0, 1], 255 for uint8.

    Returns:
      [batch], decibels.

    Raises:
      ValueError: if the shapes differ, an example is empty, or `data_range` is not positive.

    Reference:
      Huynh-Thu and Ghanbari, Scope of validity of PSNR in image/video quality assessment, 2008.

    Example:
      >>> import jax.numpy as jnp
      >>> psnr(jnp.array([[0.0, 0.1]]), jnp.array([[0.1, 0.0]])).round(4).tolist()
      [20.0]
    """
    require_same_shape("reconstructions", reconstructions, "targets", targets)
    if len(np.shape(targets)) < 2 or 0 in np.shape(targets)[1:]:
        raise ValueError(f"targets must have shape [batch, ...] with values in it, got {np.shape(targets)}")
    errors = as_widened("reconstructions", reconstructions) - as_widened("targets", targets)
    data_range = as_positive_number("data_range", data_range, errors.dtype)
    mean_squares = jnp.mean(jnp.square(errors), axis=tuple(range(1, errors.ndim)))
    return 20.0 * jnp.log10(data_range) - 10.0 * jnp.log10(mean_squares)
