"""How much of a latent space is in use."""

import math

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Float, Int

from jaxgen._checks import as_non_negative_number, as_widened, require_finite
from jaxgen.metrics._points import require_matrix


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

    Example:
      >>> import jax.numpy as jnp
      >>> active_units(jnp.array([[-1.0, 0.001], [1.0, -0.001]])).item()
      1
    """
    require_matrix("means", means, min_rows=2)
    require_finite("means", means)
    variances = jnp.var(as_widened("means", means), axis=0)
    return jnp.sum(variances > as_non_negative_number("threshold", threshold, variances.dtype))


def mutual_information(
    z: Float[ArrayLike, "..."], mean: Float[ArrayLike, "..."], logvar: Float[ArrayLike, "..."]
) -> Float[Array, " examples"]:
    r"""What a code tells of which example it came from, under Gaussian posteriors.

    .. math::
        \log q(z_i|x_i) - \log \frac{1}{N} \sum_j q(z_i|x_j)

    Its mean over the data is I(x; z) under their empirical distribution: 0 where all posteriors are the same, at most
    log N where no two of them meet. The mean KL to the prior is this and KL(q(z) ‖ p(z)). Memory is that of one
    example against all, time grows with N².

    Args:
      z: [examples, latents], one draw of each posterior.
      mean: [examples, latents], the posteriors' means.
      logvar: [examples, latents], their log-variances.

    Returns:
      [examples], nats; of float32 or more.

    Raises:
      ValueError: if one of them is not a matrix, or their shapes differ.

    Reference:
      Hoffman and Johnson, ELBO surgery, 2016.

    Example:
      >>> import jax.numpy as jnp
      >>> apart = jnp.array([[-9.0], [9.0]])
      >>> round(mutual_information(apart, apart, jnp.zeros((2, 1))).mean().item(), 4)  # log 2
      0.6931
    """
    for name, value in (("z", z), ("mean", mean), ("logvar", logvar)):
        require_matrix(name, value)
        if jnp.shape(value) != jnp.shape(z):
            raise ValueError(f"{name} must have the shape of z, {jnp.shape(z)}, got {jnp.shape(value)}")
    z, mean, logvar = (as_widened(n, x) for n, x in (("z", z), ("mean", mean), ("logvar", logvar)))

    def log_density(z: Array, mean: Array, logvar: Array) -> Array:
        """log q(z|x) without ½ log 2π, which cancels."""
        return -0.5 * (jnp.square((z - mean) * jnp.exp(-0.5 * logvar)) + logvar).sum(axis=-1)

    def one(own: tuple[Array, Array, Array]) -> Array:
        aggregate = jax.nn.logsumexp(log_density(own[0], mean, logvar)) - math.log(len(mean))
        return log_density(*own) - aggregate

    return jax.lax.map(one, (z, mean, logvar))
