"""Likelihood of points under a kernel density fitted to a model's samples."""

import math

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Float

from jaxgen._checks import as_positive_number, as_widened
from jaxgen.metrics._distances import map_rows, squared_distances
from jaxgen.metrics._points import require_one_space


def parzen_log_likelihood(
    samples: Float[ArrayLike, "*shape_samples"],
    points: Float[ArrayLike, "*shape_points"],
    *,
    bandwidth: ArrayLike,
) -> Float[Array, " points"]:
    r"""Log-density of points under a Gaussian window around each sample of a model, in nats.

    .. math::
        \log \frac1N \sum_{j=1}^N \mathcal N(x;\, s_j,\, \text{bandwidth}^2 I)

    Higher is better; a density, so it may be positive. In high dimension the estimate is poor and prefers
    models that copy the data: report it to compare with older work, with its bandwidth (chosen on validation
    points) and number of samples.

    Args:
      samples: [samples, dims], drawn from the model.
      points: [points, dims], real data, in the same units.
      bandwidth: standard deviation of the window, positive.

    Returns:
      [points], nats; their mean is the usual figure.

    Raises:
      ValueError: if an argument is no matrix or empty, the dimensions differ, or `bandwidth` is not positive.

    Reference:
      Breuleux, Bengio, Vincent, Quickly generating representative samples from an RBM-derived process, 2011;
      its limits: Theis, van den Oord, Bethge, A note on the evaluation of generative models, 2016.

    Example:
      >>> import jax.numpy as jnp
      >>> log_density = parzen_log_likelihood(jnp.zeros((5, 1)), jnp.zeros((1, 1)), bandwidth=1.0)
      >>> round(log_density.item(), 4)
      -0.9189
    """
    require_one_space("samples", samples, "points", points)
    samples, points = as_widened("samples", samples), as_widened("points", points)
    dtype = jnp.promote_types(samples.dtype, points.dtype)
    return _log_density(samples, points, as_positive_number("bandwidth", bandwidth, dtype))


@jax.jit
def _log_density(samples: Array, points: Array, bandwidth: Array) -> Array:
    num_samples, num_dims = samples.shape
    center = jax.lax.stop_gradient(jnp.mean(samples, axis=0))
    samples, points = samples - center, points - center

    def exponent(squares: Array) -> Array:
        # Twice by the width, which XLA would make once by its square: that underflows, and 0/0 is no density.
        return 0.5 * jax.lax.optimization_barrier(squares / bandwidth) / bandwidth

    def log_sum(point: Array) -> Array:
        # XLA computes a fused operand twice, rounded differently; at exponents of 10⁸ the difference from
        # their maximum is then far from 0 and overflows. Behind the barrier the distances exist once.
        squares = jax.lax.optimization_barrier(squared_distances(samples, point))
        nearest = jax.lax.stop_gradient(jnp.min(squares))
        return jnp.log(jnp.sum(jnp.exp(exponent(nearest - squares)))) + exponent(-nearest)

    normalizer = math.log(num_samples) + num_dims * (0.5 * math.log(2 * math.pi) + jnp.log(bandwidth))
    return map_rows(log_sum, points) - normalizer
