"""Completions of partly observed examples, drawn from a variational autoencoder."""

from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Float

from jaxgen.model import Params
from jaxgen.models.latents import Draws, Latent
from jaxgen.models.likelihood import Likelihood

Method = Literal["importance", "gibbs"]


def make_impute(
    *,
    posterior: Callable[..., Any],
    prior: Callable[..., Any],
    latent: Latent,
    outputs: Callable[..., Array],
    nll: Callable[..., Array],
    observed: Likelihood,
    player: str,
    tell: Callable[[ArrayLike | None], Array | None],
) -> Callable[..., Array]:
    """``model.impute`` from the parts of a variational autoencoder; see the function that it returns."""

    def impute(
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

        - "importance": of ``draws`` latents z ~ q(z|x_o), n are kept with probability ∝ p(x_o|z) p(z) / q(z|x_o),
          normalized in log space (Mattei and Frellsen, 2019). Exact as ``draws`` grows.
        - "gibbs": n chains of ``draws`` turns between z ~ q(z|x) and x_m ~ p(x_m|z) (Rezende et al., 2014). As good as
          q is near the posterior of a whole example, however far q(z|x_o) may be.

        Args:
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
        x, told, in_use = jnp.asarray(x), tell(condition), statistics["likelihood"]
        mask = ~jnp.isnan(x)
        known, p = jnp.where(mask, x, 0), prior(params, told)

        def draw_z(key: Array, x: Array, mask: Array | None, count: int) -> Draws:
            keys = jax.random.split(key, len(x))
            return latent.draw(keys, posterior(params, x, mask, told), p, count)

        def with_noise(key: Array, out: Array) -> Array:
            return observed.draw(params[player]["likelihood"], in_use, key, out)

        def importance(key: Array) -> Array:
            z_key, choice_key = jax.random.split(key)
            drawn = draw_z(z_key, x, mask, draws)
            log_weights = drawn.log_ratio - nll(params, in_use, outputs(params, drawn.z, told), x, mask)
            chosen = jax.random.categorical(choice_key, log_weights, axis=0, shape=(n, len(x)))
            return outputs(
                params, jnp.take_along_axis(drawn.z, chosen.reshape(*chosen.shape, *[1] * len(latent.shape)), 0), told
            )

        def gibbs(key: Array) -> Array:
            def turn(x: Array, key: Array) -> tuple[Array, None]:
                z_key, x_key = jax.random.split(key)
                out = outputs(params, draw_z(z_key, x, None, 1).z, told)[0]
                return jnp.where(mask, known, with_noise(x_key, out)), None

            def chain(key: Array) -> Array:
                first_key, rest_key, last_key = jax.random.split(key, 3)
                start = outputs(params, draw_z(first_key, x, mask, 1).z, told)[0]
                start = jnp.where(mask, known, observed.mean(start))
                end, _ = jax.lax.scan(turn, start, jax.random.split(rest_key, draws - 1))
                return outputs(params, draw_z(last_key, end, None, 1).z, told)[0]

            return jax.lax.map(chain, jax.random.split(key, n))

        draw_key, noise_key = jax.random.split(key)
        out = importance(draw_key) if method == "importance" else gibbs(draw_key)
        filled = with_noise(noise_key, out) if noise else observed.mean(out)
        return jnp.where(mask, known, filled)

    return impute
