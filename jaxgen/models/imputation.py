"""Completions of partly observed examples, drawn from a variational autoencoder."""

from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Bool, Float, PyTree

from jaxgen.model import Params
from jaxgen.models.latents import Draws
from jaxgen.models.parts import Parts

Method = Literal["importance", "gibbs"]


def impute(
    parts: Parts,
    params: Params,
    statistics: Any,
    x: ArrayLike,
    key: Array,
    n: int,
    *,
    condition: ArrayLike | None = None,
    method: Method = "importance",
    draws: int = 100,
    noise: bool = False,
) -> Float[Array, "n batch ..."]:
    """Completions of what is NaN in ``x``; what was observed stays as it is.

    - "importance": of ``draws`` latents, n are kept with probability ∝ p(x_o|z) p(z) / proposal(z), normalized in
      log space (Mattei and Frellsen, 2019). Half are proposed by q(z|x_o) and half by the prior, since an encoder
      that learned from whole examples may be far off where parts are missing. Exact as ``draws`` grows.
    - "gibbs": n chains of ``draws`` turns between z ~ q(z|x) and x_m ~ p(x_m|z) (Rezende et al., 2014). As good as
      q is near the posterior of a whole example, however far q(z|x_o) may be.

    Args:
      parts: of the model; the rest is what ``model.impute`` takes.
      params: of the model.
      statistics: likewise.
      x: [batch, *shape], NaN where nothing was observed.
      key: of the draws.
      n: completions of each example.
      condition: of a conditional model.
      method: how latents are drawn that fit what was observed.
      draws: latents to choose from, or turns of a chain.
      noise: whether a completion has the observation's noise, or is the decoder's mean.

    Raises:
      ValueError: for counts below 1 or an unknown method.
    """
    if n < 1 or draws < 1:
        raise ValueError(f"n and draws must be at least 1, got {n} and {draws}")
    if method not in ("importance", "gibbs"):
        raise ValueError(f"method must be importance or gibbs, got {method!r}")
    x, told = jnp.asarray(x), parts.tell(condition)
    partly = _Partly(parts, params, statistics["likelihood"], x, ~jnp.isnan(x), told, parts.prior_of(params, told))
    draw_key, noise_key = jax.random.split(key)
    out = (partly.importance if method == "importance" else partly.gibbs)(draw_key, n, draws)
    return partly.completed(partly.with_noise(noise_key, out) if noise else parts.observed.mean(out))


@dataclass(frozen=True)
class _Partly:
    """Partly observed examples and the model that completes them."""

    parts: Parts
    params: Params
    statistics: PyTree
    x: Array
    mask: Bool[Array, "..."]
    told: Array | None
    prior: PyTree

    def importance(self, key: Array, n: int, draws: int) -> Array:
        """Outputs of n of the draws, chosen with probability ∝ p(x_o|z) p(z) / proposal(z).

        Under either proposal the weights have the mean p(x_o), so that both kinds of draws can be chosen from together.
        """
        z_key, prior_key, choice_key = jax.random.split(key, 3)
        drawn = self.draw(z_key, self.x, self.mask, draws - draws // 2)

        def from_prior(key: Array) -> Array:
            return self.parts.latent.sample(key, self.prior, len(self.x))

        z = jnp.concatenate([drawn.z, jax.vmap(from_prior)(jax.random.split(prior_key, draws // 2))])
        log_ratio = jnp.pad(drawn.log_ratio, ((0, draws // 2), (0, 0)))  # log p(z) / p(z) = 0
        nll = self.parts.nll_of(self.params, self.statistics, self.outputs(z), self.x, self.mask)
        log_weights = log_ratio - nll
        chosen = jax.random.categorical(choice_key, log_weights, axis=0, shape=(n, len(self.x)))
        chosen = chosen.reshape(*chosen.shape, *[1] * len(self.parts.latent.shape))
        return self.outputs(jnp.take_along_axis(z, chosen, 0))

    def gibbs(self, key: Array, n: int, turns: int) -> Array:
        """Outputs at the end of n chains z ~ q(z|x), x_m ~ p(x_m|z), which start from the mean under q(z|x_o)."""

        def turn(x: Array, key: Array) -> tuple[Array, None]:
            z_key, x_key = jax.random.split(key)
            out = self.outputs(self.draw(z_key, x, None, 1).z)[0]
            return self.completed(self.with_noise(x_key, out)), None

        def chain(key: Array) -> Array:
            first_key, rest_key, last_key = jax.random.split(key, 3)
            out = self.outputs(self.draw(first_key, self.x, self.mask, 1).z)[0]
            start = self.completed(self.parts.observed.mean(out))
            end, _ = jax.lax.scan(turn, start, jax.random.split(rest_key, turns - 1))
            return self.outputs(self.draw(last_key, end, None, 1).z)[0]

        return jax.lax.map(chain, jax.random.split(key, n))

    def draw(self, key: Array, x: Array, mask: Array | None, count: int) -> Draws:
        """z ~ q(z|x), or q(z|x_o) with a mask."""
        keys = jax.random.split(key, len(x))
        q = self.parts.posterior_of(self.params, x, mask, self.told)
        return self.parts.latent.draw(keys, q, self.prior, count)

    def outputs(self, z: Array) -> Array:
        return self.parts.outputs_of(self.params, z, self.told)

    def with_noise(self, key: Array, outputs: Array) -> Array:
        return self.parts.observed.draw(self.params[self.parts.player]["likelihood"], self.statistics, key, outputs)

    def completed(self, values: Array) -> Array:
        """What was observed as it is, the given values elsewhere."""
        return jnp.where(self.mask, self.x, values)
