"""log p(x) by importance sampling, in memory that does not grow with the number of samples."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, Key

from jaxgen._checks import require_count

#: 16 MiB of float32.
MAX_ELEMENTS = 2**22


def importance_weighted_log_likelihood(
    log_weights: Callable[[Key[Array, " count"]], Float[Array, "count batch"]],
    key: Key[Array, ""],
    *,
    num_samples: int,
    max_elements: int = MAX_ELEMENTS,
) -> Float[Array, " batch"]:
    r"""Importance-weighted estimate of log p(x), a lower bound on average that tightens with the samples.

    .. math::
        \log \frac1K \sum_{k=1}^K \frac{p(x \mid z_k)\, p(z_k)}{q(z_k \mid x)}, \qquad z_k \sim q(z \mid x)

    Called eagerly, it traces ``log_weights`` twice each time: wrap the call in ``jax.jit`` to evaluate many batches.

    Args:
      log_weights: ``keys [count] -> [count, batch]``, log p(x, z) − log q(z|x) of one fresh draw for each key.
      key: draw k takes ``fold_in(key, k)``, so that the estimate does not depend on how many are made at a time.
      num_samples: K, at least 1.
      max_elements: how large the largest array inside ``log_weights`` may become, in elements; it decides how many
        draws are made at a time. 2²² are 16 MiB of float32. One draw is always made.

    Returns:
      [batch], nats.

    Raises:
      ValueError: if ``num_samples`` or ``max_elements`` is less than 1, or ``log_weights`` does not return
        [count, batch].
      TypeError: if one of them is no integer, or the weights are not floating point.

    Reference: Burda, Grosse and Salakhutdinov, Importance Weighted Autoencoders, 2016.

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> exact = lambda keys: jnp.full((len(keys), 3), -2.0)   # q is the posterior: every weight is p(x)
      >>> importance_weighted_log_likelihood(exact, jax.random.key(0), num_samples=7).tolist()
      [-2.0, -2.0, -2.0]
    """
    num_samples = require_count("num_samples", num_samples)
    max_elements = require_count("max_elements", max_elements)

    def weights_of(index: Array) -> Array:
        return log_weights(jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, index))

    one = jax.make_jaxpr(weights_of)(jnp.arange(1))
    shapes = [aval.shape for aval in one.out_avals]
    if len(shapes) != 1 or len(shapes[0]) != 2 or shapes[0][0] != 1:
        raise ValueError(f"log_weights must map 1 key to weights of shape (1, batch), got {shapes}")
    (shape,) = one.out_avals
    if not jnp.issubdtype(shape.dtype, jnp.floating):
        raise TypeError(f"log_weights must return floating point numbers, got {shape.dtype}")
    count = _that_fit(one.jaxpr, num_samples, max_elements)

    def add(total: Array, chunk: Array) -> tuple[Array, None]:
        index = chunk * count + jnp.arange(count)
        weights = jnp.where((index < num_samples)[:, None], weights_of(index), -jnp.inf)
        return jnp.logaddexp(total, jax.nn.logsumexp(weights, axis=0)), None

    start = jnp.full(shape.shape[1:], -jnp.inf, shape.dtype)
    total, _ = jax.lax.scan(add, start, jnp.arange(-(-num_samples // count)))
    return total - jnp.log(jnp.asarray(num_samples, total.dtype))


def draws_at_a_time(of_draws: Callable[[Array], Any], num_draws: int, *, max_elements: int = MAX_ELEMENTS) -> int:
    """How many draws ``of_draws(numbers [count])`` may make at once so that no array in it exceeds ``max_elements``."""
    return _that_fit(jax.make_jaxpr(of_draws)(jnp.arange(1)).jaxpr, num_draws, max_elements)


def _that_fit(of_one: Any, num_draws: int, max_elements: int) -> int:
    return min(num_draws, max(1, max_elements // _largest(of_one)))


def _largest(jaxpr: Any) -> int:
    """Elements of the largest array that a computation makes, those inside its calls included."""
    sizes = [1]
    for equation in jaxpr.eqns:
        sizes += [math.prod(getattr(variable.aval, "shape", ())) for variable in equation.outvars]
        for inner in jax.tree.leaves(tuple(equation.params.values()), is_leaf=lambda p: hasattr(p, "eqns")):
            inner = getattr(inner, "jaxpr", inner)
            sizes += [_largest(inner)] if hasattr(inner, "eqns") else []
    return max(sizes)
