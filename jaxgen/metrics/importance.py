"""log p(x) by importance sampling, in memory that does not grow with the number of samples."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, Key

#: Values (samples × batch × dims) that one chunk of draws may hold: 16 MiB in float32.
_CHUNK_ELEMENTS = 2**22


def importance_weighted_log_likelihood(
    log_weights: Callable[[Key[Array, " count"]], Float[Array, "count batch"]],
    key: Key[Array, ""],
    *,
    num_samples: int,
    elements: int,
) -> Float[Array, " batch"]:
    r"""Importance-weighted estimate of log p(x), a lower bound on average that tightens with the samples.

    .. math::
        \log \frac1K \sum_{k=1}^K \frac{p(x \mid z_k)\, p(z_k)}{q(z_k \mid x)}, \qquad z_k \sim q(z \mid x)

    Args:
      log_weights: ``keys [count] -> [count, batch]``, log p(x, z) − log q(z|x) of one fresh draw for each key.
      key: draw k takes ``fold_in(key, k)``, so that the estimate does not depend on how many are made at a time.
      num_samples: K, at least 1.
      elements: numbers that one draw for the whole batch needs (batch × observed dimensions); decides how many draws
        are made at a time.

    Returns:
      [batch], nats.

    Raises:
      ValueError: if ``num_samples`` is less than 1.

    Reference: Burda, Grosse and Salakhutdinov, Importance Weighted Autoencoders, 2016.

    >>> exact = lambda keys: jnp.full((len(keys), 3), -2.0)   # q is the posterior: every weight is p(x)
    >>> importance_weighted_log_likelihood(exact, jax.random.key(0), num_samples=7, elements=2**21).tolist()
    [-2.0, -2.0, -2.0]
    """
    if num_samples < 1:
        raise ValueError(f"num_samples must be at least 1, got {num_samples}")
    count = min(num_samples, max(1, _CHUNK_ELEMENTS // elements))
    chunks = -(-num_samples // count)

    def weights_of(index: Array) -> Array:
        return log_weights(jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, index))

    def add(total: Array, chunk: Array) -> tuple[Array, None]:
        index = chunk * count + jnp.arange(count)
        weights = jnp.where((index < num_samples)[:, None], weights_of(index), -jnp.inf)
        return jnp.logaddexp(total, jax.nn.logsumexp(weights, axis=0)), None

    shape = jax.eval_shape(weights_of, jnp.arange(count))
    total, _ = jax.lax.scan(add, jnp.full(shape.shape[1:], -jnp.inf, shape.dtype), jnp.arange(chunks))
    return total - jnp.log(num_samples)
