"""log p(x) by importance sampling, in memory that does not grow with the number of samples."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

#: Values (samples × batch × dims) that one chunk of draws may hold: 16 MiB in float32.
_CHUNK_ELEMENTS = 2**22


def importance_weighted_log_likelihood(
    log_weights: Callable[[Array, int], Float[Array, "count batch"]],
    key: Array,
    *,
    num_samples: int,
    elements: int,
) -> Float[Array, " batch"]:
    r"""Importance-weighted estimate of log p(x), a lower bound on average that tightens with the samples.

    .. math::
        \log \frac1K \sum_{k=1}^K \frac{p(x \mid z_k)\, p(z_k)}{q(z_k \mid x)}, \qquad z_k \sim q(z \mid x)

    Args:
      log_weights: ``(key, count) -> [count, batch]``, log p(x, z) − log q(z|x) of ``count`` fresh draws.
      key: split into one for each chunk.
      num_samples: K, at least 1.
      elements: numbers that one draw for the whole batch needs (batch × observed dimensions); decides how many draws
        are made at a time.

    Returns:
      [batch], nats.

    Raises:
      ValueError: if ``num_samples`` is less than 1.

    Reference: Burda, Grosse and Salakhutdinov, Importance Weighted Autoencoders, 2016.

    >>> exact = lambda key, count: jnp.full((count, 3), -2.0)   # q is the posterior: every weight is p(x)
    >>> importance_weighted_log_likelihood(exact, jax.random.key(0), num_samples=7, elements=2**21).tolist()
    [-2.0, -2.0, -2.0]
    """
    if num_samples < 1:
        raise ValueError(f"num_samples must be at least 1, got {num_samples}")
    count = min(num_samples, max(1, _CHUNK_ELEMENTS // elements))
    chunks = -(-num_samples // count)

    def add(total: Array, index: Array) -> tuple[Array, None]:
        weights = log_weights(jax.random.fold_in(key, index), count)
        counted = index * count + jnp.arange(count) < num_samples
        weights = jnp.where(counted[:, None], weights, -jnp.inf)
        return jnp.logaddexp(total, jax.nn.logsumexp(weights, axis=0)), None

    shape = jax.eval_shape(lambda k: log_weights(k, count), key)
    total, _ = jax.lax.scan(add, jnp.full(shape.shape[1:], -jnp.inf, shape.dtype), jnp.arange(chunks))
    return total - jnp.log(num_samples)
