"""Gradients through random and discrete choices, as pure functions of a key and arrays."""

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike
from jaxtyping import Float, Num

from jaxgen.losses._checks import as_float, require_same_shape


def reparameterize(
    key: Array, mean: Num[ArrayLike, "*shape"], logvar: Num[ArrayLike, "..."]
) -> Float[Array, "*shape"]:
    """A Gaussian sample through which gradients flow: mean + exp(logvar/2)·ε."""
    dtype = jnp.result_type(mean, logvar)
    mean, logvar = as_float("mean", mean), as_float("logvar", logvar)
    require_same_shape("mean", mean, "logvar", logvar)
    noise = jax.random.normal(key, mean.shape, jnp.promote_types(mean.dtype, logvar.dtype))
    return (mean + jnp.exp(logvar / 2) * noise).astype(dtype)


def straight_through(
    encodings: Num[ArrayLike, "*shape"], codes: Num[ArrayLike, "..."]
) -> Float[Array, "*shape"]:
    """The codes in the forward pass, the identity to the encodings in the backward pass."""
    encodings, codes = jnp.asarray(encodings), jnp.asarray(codes)
    require_same_shape("encodings", encodings, "codes", codes)
    # Not z + sg(e − z), which rounds the code where ‖z‖ ≫ ‖e‖.
    return lax.stop_gradient(codes) + (encodings - lax.stop_gradient(encodings))
