"""Generative adversarial networks (Goodfellow et al., 2014): two players who take turns."""

from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Float, PyTree

from jaxgen import losses
from jaxgen.model import Aux, Batch, Model, Params, example_keys
from jaxgen.nets import Activation, Network, vector_decoder, vector_encoder

_OBJECTIVES: dict[str, tuple[Callable[..., Array], Callable[..., Array]]] = {
    "non_saturating": (losses.minimax_discriminator_loss, losses.non_saturating_generator_loss),
    "minimax": (losses.minimax_discriminator_loss, losses.minimax_generator_loss),
    "hinge": (losses.hinge_discriminator_loss, losses.hinge_generator_loss),
    "least_squares": (losses.least_squares_discriminator_loss, losses.least_squares_generator_loss),
}


def gan(
    *,
    shape: tuple[int, ...],
    noise_dim: int = 32,
    network: Network = "mlp",
    hidden: tuple[int, ...] = (128, 128),
    activation: Activation = "leaky_relu",
    objective: Literal["non_saturating", "minimax", "hinge", "least_squares"] = "non_saturating",
    discriminator_steps: int = 1,
    generator_steps: int = 1,
) -> Model:
    """Generative adversarial network: a generator and a discriminator who take turns.

    In each round the discriminator is improved for k updates with the generator frozen, then the generator for l with
    the discriminator frozen; each update draws a fresh batch and fresh noise.

    Args:
      shape: Shape of one example, taken from the data.
      noise_dim: Dimensions of the Gaussian noise that the generator maps to examples.
      network: Kind of generator and discriminator; conv and resnet need images.
      hidden: Widths of the discriminator's layers (mlp) or channels of its stages; the generator mirrors them.
      activation: Activation between layers.
      objective: What both play for; non_saturating keeps the generator's gradient alive where minimax loses it.
      discriminator_steps: Updates k of the discriminator in each round.
      generator_steps: Updates l of the generator in each round.

    Returns:
      A model with two players, ``"discriminator"`` and ``"generator"``.

    Raises:
      ValueError: for numbers out of range, an unknown objective, or an image network on data that are not images.
    """
    if noise_dim < 1 or discriminator_steps < 1 or generator_steps < 1:
        raise ValueError(
            f"noise_dim, discriminator_steps and generator_steps must be at least 1, "
            f"got {noise_dim}, {discriminator_steps} and {generator_steps}"
        )
    if objective not in _OBJECTIVES:
        raise ValueError(f"objective must be one of {', '.join(_OBJECTIVES)}, got {objective!r}")
    discriminator_loss_fn, generator_loss_fn = _OBJECTIVES[objective]
    discriminator = vector_encoder(network, hidden, shape, outputs=(), activation=activation)
    generator = vector_decoder(network, hidden, shape, activation=activation)
    # Least squares pulls the discriminator to 1 on real examples and to 0 on generated ones.
    boundary = 0.5 if objective == "least_squares" else 0.0

    def init(key: Array, batch: Batch) -> tuple[Params, PyTree]:
        discriminator_key, generator_key = jax.random.split(key)
        return {
            "discriminator": discriminator.init(discriminator_key, batch["x"]),
            "generator": generator.init(generator_key, jnp.zeros((1, noise_dim))),
        }, {}

    def decide(params: Params, x: Array) -> Float[Array, " batch"]:
        """Logits: above the boundary for what the discriminator takes to be real."""
        return jnp.asarray(discriminator.apply(params["discriminator"], x))

    def decode(params: Params, statistics: PyTree, noise: Float[ArrayLike, "batch noise"]) -> Array:
        return jnp.asarray(generator.apply(params["generator"], noise))

    def fake(params: Params, batch: Batch, key: Array) -> Array:
        keys = example_keys(key, batch["position"])
        noise = jax.vmap(lambda key: jax.random.normal(key, (noise_dim,)))(keys)
        return decode(params, {}, noise)

    def discriminator_loss(
        params: Params, statistics: PyTree, batch: Batch, key: Array, train: bool
    ) -> tuple[Array, Aux]:
        real_logits, fake_logits = decide(params, batch["x"]), decide(params, fake(params, batch, key))
        terms = {
            "accuracy_real": jnp.mean(real_logits > boundary),
            "accuracy_fake": jnp.mean(fake_logits < boundary),
        }
        return discriminator_loss_fn(real_logits, fake_logits).mean(), Aux(terms, statistics)

    def generator_loss(params: Params, statistics: PyTree, batch: Batch, key: Array, train: bool) -> tuple[Array, Aux]:
        return generator_loss_fn(decide(params, fake(params, batch, key))).mean(), Aux({}, statistics)

    def evaluate(params: Params, statistics: PyTree, batch: Batch, key: Array) -> dict[str, Array]:
        real_logits, fake_logits = decide(params, batch["x"]), decide(params, fake(params, batch, key))
        return {
            "discriminator/accuracy_real": (real_logits > boundary).astype(jnp.float32),
            "discriminator/accuracy_fake": (fake_logits < boundary).astype(jnp.float32),
            # What the discriminator maximizes. With the minimax loss this is log D(x) + log(1 − D(G(z))), and
            # −log 4 at the equilibrium.
            "value": -discriminator_loss_fn(real_logits, fake_logits),
        }

    def sample(params: Params, statistics: PyTree, key: Array, n: int) -> Array:
        return decode(params, statistics, jax.random.normal(key, (n, noise_dim)))

    def optimizers(learning_rate: Any) -> dict[str, optax.GradientTransformation]:
        return {player: optax.adam(learning_rate, b1=0.5) for player in ("discriminator", "generator")}

    return Model(
        init=init,
        losses={"discriminator": discriminator_loss, "generator": generator_loss},
        turns={"discriminator": discriminator_steps, "generator": generator_steps},
        evaluate=evaluate,
        decode=decode,
        sample=sample,
        optimizers=optimizers,
        objective=None,
        latents=noise_dim,
    )
