"""How much of a latent space is in use."""

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Float, Int

from jaxgen.metrics import _checks


def active_units(means: Float[ArrayLike, "*shape"], *, threshold: ArrayLike = 0.01) -> Int[Array, ""]:
    r"""Number of latent dimensions whose posterior mean varies with the input.

    .. math::
        \#\{j : \operatorname{Var}_x(\mathbb{E}_{q(z|x)}[z_j]) > \text{threshold}\}

    The variance is that of the data set (divided by the number of examples). From 0 to the number of latents;
    more units in use is better at equal likelihood.

    Args:
      means: [examples, latents], the posterior means of a data set.
      threshold: variance at or below which a unit counts as unused, in squared latent units, not negative.

    Returns:
      A scalar integer.

    Raises:
      ValueError: if `means` is not a matrix with two examples or more, holds a NaN, or `threshold` is negative.

    Reference:
      Burda, Grosse, Salakhutdinov, Importance weighted autoencoders, 2016, section 5.

    >>> active_units(jnp.array([[-1.0, 0.001], [1.0, -0.001]])).item()
    1
    """
    _checks.matrix("means", means, min_rows=2)
    _checks.finite("means", means)
    _checks.above("threshold", threshold, inclusive=True)
    return jnp.sum(jnp.var(_checks.floating(means), axis=0) > threshold)
