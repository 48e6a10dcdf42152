"""Completions of partly observed examples, drawn from a variational autoencoder."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Bool, Float, PyTree

from jaxgen.metrics.importance import draws_at_a_time
from jaxgen.model import Params, example_keys
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
      that learned from whole examples may be far off where parts are missing. Exact as ``draws`` grows, in memory that
      does not.
    - "gibbs": n chains of ``draws`` turns between z ~ q(z|x) and x_m ~ p(x_m|z) (Rezende et al., 2014). As good as
      q is near the posterior of a whole example, however far q(z|x_o) may be.

    Args:
      parts: of the model; the rest is what ``model.impute`` takes.
      params: of the model.
      statistics: likewise.
      x: [batch, *shape], NaN where nothing was observed.
      key: of the draws: one for each example, [batch], or one of which example i takes ``fold_in(key, i)``.
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
    keys = key if jnp.ndim(key) else example_keys(key, jnp.arange(len(x)))
    draw_keys, noise_keys = jax.vmap(jax.random.split, out_axes=1)(keys)
    out = (partly.importance if method == "importance" else partly.gibbs)(draw_keys, n, draws)
    return partly.completed(partly.with_noise(noise_keys, out) if noise else parts.observed.mean(out))


class _Best(NamedTuple):
    """Of the latents seen so far, the one of each completion whose noisy weight is the largest."""

    score: Float[Array, "n batch"]
    z: Float[Array, "n batch *latent"]


@dataclass(frozen=True)
class _Partly:
    """Partly observed examples and the model that completes them. Keys are one for each example."""

    parts: Parts
    params: Params
    statistics: PyTree
    x: Array
    mask: Bool[Array, "..."]
    told: Array | None
    prior: PyTree

    def importance(self, keys: Array, n: int, draws: int) -> Array:
        """Outputs of n of the draws, chosen with probability ∝ p(x_o|z) p(z) / proposal(z).

        Under either proposal the weights have the mean p(x_o), so that both kinds of draws can be chosen from together.
        A choice is the largest log weight plus Gumbel noise: a few draws at a time, of which the best are kept.
        """
        batch = len(self.x)
        best = _Best(jnp.full((n, batch), -jnp.inf), jnp.zeros((n, batch, *self.parts.latent.shape)))
        q = self.parts.posterior_of(self.params, self.x, self.mask, self.told)
        proposals = (partial(self.from_posterior, q), draws - draws // 2), (self.from_prior, draws // 2)
        for kind, (propose, count) in enumerate(proposals):
            if count:
                best = self.choose(propose, fold_in_each(keys, kind), count, best)
        return self.outputs(best.z)

    def choose(self, propose: Callable[[Array], Draws], keys: Array, count: int, best: _Best) -> _Best:
        """The best of each completion after as many more draws; their number decides nothing about the memory."""

        def scored(index: Array) -> tuple[Array, Array]:
            """Draws of these numbers [count]: log weights plus noise [count, n, batch], and z [count, batch, ...]."""

            def one(index: Array) -> tuple[Array, Array]:
                z_keys, noise_keys = jax.vmap(jax.random.split, out_axes=1)(fold_in_each(keys, index))
                drawn = propose(z_keys)
                nll = self.parts.nll_of(self.params, self.statistics, self.outputs(drawn.z), self.x, self.mask)
                noise = jax.vmap(lambda key: jax.random.gumbel(key, (len(best.score),)), out_axes=1)(noise_keys)
                return drawn.log_ratio - nll + noise, drawn.z[0]

            return jax.vmap(one)(index)

        at_once = draws_at_a_time(scored, count)

        def add(best: _Best, chunk: Array) -> tuple[_Best, None]:
            index = chunk * at_once + jnp.arange(at_once)
            score, z = scored(index)
            score = jnp.where((index < count)[:, None, None], score, -jnp.inf)
            winner = score.argmax(axis=0)  # [n, batch]
            top = jnp.take_along_axis(score, winner[None], 0)[0]
            better, chosen = top > best.score, z[winner, jnp.arange(len(self.x))]
            found = _Best(jnp.where(better, top, best.score), jnp.where(_wide(better, chosen), chosen, best.z))
            return jax.tree.map(lambda new, old: new.astype(old.dtype), found, best), None

        return jax.lax.scan(add, best, jnp.arange(-(-count // at_once)))[0]

    def gibbs(self, keys: Array, n: int, turns: int) -> Array:
        """Outputs at the end of n chains z ~ q(z|x), x_m ~ p(x_m|z), which start from the mean under q(z|x_o)."""

        def outputs(keys: Array, x: Array, mask: Array | None) -> Array:
            """[1, batch, ...]: of one draw."""
            q = self.parts.posterior_of(self.params, x, mask, self.told)
            return self.outputs(self.from_posterior(q, keys).z)

        def chain(number: Array) -> Array:
            own = fold_in_each(keys, number)

            def turn(x: Array, number: Array) -> tuple[Array, None]:
                z_keys, x_keys = jax.vmap(jax.random.split, out_axes=1)(fold_in_each(own, number))
                return self.completed(self.with_noise(x_keys, outputs(z_keys, x, None)))[0], None

            start = self.completed(self.parts.observed.mean(outputs(fold_in_each(own, 0), self.x, self.mask)))[0]
            end, _ = jax.lax.scan(turn, start, jnp.arange(1, turns))
            return outputs(fold_in_each(own, turns), end, None)[0]

        return jax.lax.map(chain, jnp.arange(n))

    def from_posterior(self, q: PyTree, keys: Array) -> Draws:
        """One draw of each latent from q(z|x)."""
        return self.parts.latent.draw(keys, q, self.prior, 1)

    def from_prior(self, keys: Array) -> Draws:
        """One draw of each latent from p(z), where log p(z) / p(z) = 0."""
        count = len(self.x)
        prior = jax.tree.map(lambda a: jnp.broadcast_to(a, (count, *a.shape[1:])), self.prior)

        def one(key: Array, own: PyTree) -> Array:
            return self.parts.latent.sample(key, jax.tree.map(lambda a: a[None], own), 1)

        return Draws(jax.vmap(one, out_axes=1)(keys, prior), jnp.zeros((1, count)))

    def outputs(self, z: Array) -> Array:
        return self.parts.outputs_of(self.params, z, self.told)

    def with_noise(self, keys: Array, outputs: Float[Array, "n batch ..."]) -> Array:
        def of_example(key: Array, outputs: Array) -> Array:
            likelihood = self.params[self.parts.player]["likelihood"]
            return self.parts.observed.draw(likelihood, self.statistics, key, outputs)

        return jax.vmap(of_example, in_axes=(0, 1), out_axes=1)(keys, outputs)

    def completed(self, values: Array) -> Array:
        """What was observed as it is, the given values elsewhere."""
        return jnp.where(self.mask, self.x, values)


def fold_in_each(keys: Array, number: ArrayLike) -> Array:
    """Keys [batch] of the same purpose of every example."""
    return jax.vmap(jax.random.fold_in, in_axes=(0, None))(keys, number)


def _wide(flags: Array, like: Array) -> Array:
    """With axes of length 1 behind."""
    return flags.reshape(*flags.shape, *[1] * (like.ndim - flags.ndim))
