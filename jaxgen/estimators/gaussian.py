"""Gradients through Gaussian samples."""

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Float, Num

from jaxgen._checks import as_array, as_wide_float, require_same_shape


def reparameterize(key: Array, mean: Num[ArrayLike, "*shape"], logvar: Num[ArrayLike, "..."]) -> Float[Array, "*shape"]:
    r"""A Gaussian sample through which gradients flow.

    .. math::
        \mu + e^{\frac{1}{2}\log\sigma^2}\,\varepsilon, \qquad \varepsilon \sim \mathcal{N}(0, I)

    Args:
        key: a key, used once.
        mean: μ, of any shape.
        logvar: log σ², shaped as `mean`.

    Returns:
        A sample shaped as `mean`.

    Raises:
        ValueError: shapes do not match.
        TypeError: an argument is not floating point.

    Reference:
        Kingma and Welling, Auto-Encoding Variational Bayes, 2014; Rezende, Mohamed and Wierstra, 2014.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> reparameterize(jax.random.key(0), jnp.array([1.0, 2.0]), jnp.full(2, -60.0))
        Array([1., 2.], dtype=float32)
    """
    mean, logvar = as_array("mean", mean), as_array("logvar", logvar)
    dtype = jnp.result_type(mean, logvar)
    mean, logvar = as_wide_float("mean", mean), as_wide_float("logvar", logvar)
    require_same_shape("mean", mean, "logvar", logvar)
    noise = jax.random.normal(key, mean.shape, jnp.promote_types(mean.dtype, logvar.dtype))
    return (mean + jnp.exp(logvar / 2) * noise).astype(dtype)
