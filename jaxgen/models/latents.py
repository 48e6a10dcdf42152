"""What a latent variable is: a posterior read off the encoder's outputs, a prior, draws, a divergence."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, PyTree

from jaxgen.losses import kl_diagonal_gaussian_per_dimension

_LOGVAR_BOUND = 14.0


class Draws(NamedTuple):
    """Draws of one latent variable from its posterior.

    Attributes:
      z: what the decoder takes.
      log_ratio: log p(z) − log q(z|x), in nats.
      log_prob: log q(z|x), where the gradient takes its way through it and not through z.
    """

    z: Float[Array, "count batch *latent"]
    log_ratio: Float[Array, "count batch"]
    log_prob: Float[Array, "count batch"] | None = None


class Latent(NamedTuple):
    """Pure functions around q(z|x) and p(z). A posterior is a pytree of arrays [batch, ...], a prior likewise.

    Attributes:
      outputs: shape of what the encoder puts out for one example.
      shape: of one latent, as the decoder takes it.
      posterior: ``outputs [batch, *outputs] -> posterior``; of a conditional prior's network too.
      standard: the prior that takes no network, which broadcasts against any posterior.
      draw: ``(keys [batch], posterior, prior, count, updates=None) -> Draws``; ``updates`` made so far where a gradient
        is wanted through a relaxation that is annealed, ``None`` for exact draws.
      kl: ``(posterior, prior) -> [batch, latents]``, KL(q(z|x) ‖ p(z)) of each latent, in nats.
      code: ``posterior -> [batch, *shape]``, the deterministic code.
      sample: ``(key, prior, n) -> [n, *shape]``.
      gaussian: whether the posterior is a `Gaussian`.
      init: ``() -> statistics`` of the gradient estimator.
      credit: ``(draws, nll [count, batch], statistics) -> (nll, statistics)``: the same value with the gradient of an
        estimator that does not differentiate the draws.
    """

    outputs: tuple[int, ...]
    shape: tuple[int, ...]
    posterior: Callable[[Array], PyTree]
    standard: PyTree
    draw: Callable[..., Draws]
    kl: Callable[[PyTree, PyTree], Float[Array, "batch latents"]]
    code: Callable[[PyTree], Array]
    sample: Callable[..., Array]
    gaussian: bool = False
    init: Callable[[], PyTree] = dict
    credit: Callable[..., tuple[Float[Array, "count batch"], PyTree]] = lambda _draws, nll, statistics: (
        nll,
        statistics,
    )


class Gaussian(NamedTuple):
    """A Gaussian with independent dimensions."""

    mean: Array
    logvar: Array


def gaussian_latent(latents: int) -> Latent:
    """z ∈ Rᵈ with q(z|x) = N(μ, diag σ²), and N(0, I) as the prior where no other is given.

    Raises:
      ValueError: if there is less than one dimension.
    """
    if latents < 1:
        raise ValueError(f"latents must be at least 1, got {latents}")

    def posterior(outputs: Float[Array, "batch 2 latents"]) -> Gaussian:
        # exp(logvar) must not overflow: the identity near 0, within ±14 everywhere.
        return Gaussian(outputs[:, 0], _LOGVAR_BOUND * jnp.tanh(outputs[:, 1] / _LOGVAR_BOUND))

    def draw(keys: Array, q: Gaussian, p: Gaussian, count: int, updates: Array | None = None) -> Draws:
        noise = jax.vmap(lambda key: jax.random.normal(key, (count, latents)), out_axes=1)(keys)
        z = q.mean + jnp.exp(q.logvar / 2) * noise
        # From the noise itself: (z − μ)/σ would lose digits where σ is small. The constants cancel.
        log_prior = -0.5 * (jnp.square(z - p.mean) * jnp.exp(-p.logvar) + p.logvar)
        log_posterior = -0.5 * (jnp.square(noise) + q.logvar)
        return Draws(z, (log_prior - log_posterior).sum(axis=-1))

    def kl(q: Gaussian, p: Gaussian) -> Array:
        # KL(q ‖ p) is that of the standardized posterior to N(0, I).
        return kl_diagonal_gaussian_per_dimension((q.mean - p.mean) * jnp.exp(-p.logvar / 2), q.logvar - p.logvar)

    def sample(key: Array, p: Gaussian, n: int) -> Array:
        return p.mean + jnp.exp(p.logvar / 2) * jax.random.normal(key, (n, latents))

    return Latent(
        outputs=(2, latents),
        shape=(latents,),
        posterior=posterior,
        standard=Gaussian(jnp.zeros((1, 1)), jnp.zeros((1, 1))),  # of one dimension: it broadcasts
        draw=draw,
        kl=kl,
        code=lambda q: q.mean,
        sample=sample,
        gaussian=True,
    )
