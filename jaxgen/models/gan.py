"""Generative adversarial networks (Goodfellow et al., 2014): two players who take turns."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Float, PyTree

from jaxgen import losses
from jaxgen.model import Aux, Batch, Model, Params, example_keys
from jaxgen.nets import Activation, Network, vector_decoder, vector_encoder


class _Objective(NamedTuple):
    """What both play for.

    Attributes:
      discriminator_loss: of logits of real and generated examples.
      generator_loss: of logits of generated examples.
      boundary: between the logits that the discriminator gives to generated and to real examples.
    """

    discriminator_loss: Callable[..., Array]
    generator_loss: Callable[..., Array]
    boundary: float = 0.0


_OBJECTIVES: dict[str, _Objective] = {
    "non_saturating": _Objective(losses.minimax_discriminator_loss, losses.non_saturating_generator_loss),
    "minimax": _Objective(losses.minimax_discriminator_loss, losses.minimax_generator_loss),
    "hinge": _Objective(losses.hinge_discriminator_loss, losses.hinge_generator_loss),
    # Least squares pulls the discriminator to 1 on real examples and to 0 on generated ones.
    "least_squares": _Objective(
        losses.least_squares_discriminator_loss, losses.least_squares_generator_loss, boundary=0.5
    ),
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
    game = _Game(
        discriminator=vector_encoder(network, hidden, shape, outputs=(), activation=activation),
        generator=vector_decoder(network, hidden, shape, activation=activation),
        noise_dim=noise_dim,
        objective=_OBJECTIVES[objective],
    )
    return Model(
        init=game.init,
        losses={"discriminator": game.discriminator_loss, "generator": game.generator_loss},
        turns={"discriminator": discriminator_steps, "generator": generator_steps},
        evaluate=game.evaluate,
        decode=game.decode,
        sample=game.sample,
        optimizers=optimizers,
        objective=None,
        latents=noise_dim,
    )


@dataclass(frozen=True)
class _Game:
    """Two networks and what each plays for."""

    discriminator: nn.Module
    generator: nn.Module
    noise_dim: int
    objective: _Objective

    def init(self, key: Array, batch: Batch) -> tuple[Params, PyTree]:
        discriminator_key, generator_key = jax.random.split(key)
        return {
            "discriminator": self.discriminator.init(discriminator_key, batch["x"]),
            "generator": self.generator.init(generator_key, jnp.zeros((1, self.noise_dim))),
        }, {}

    def decide(self, params: Params, x: Array) -> Float[Array, " batch"]:
        """Logits: above the boundary for what the discriminator takes to be real."""
        return jnp.asarray(self.discriminator.apply(params["discriminator"], x))

    def decode(self, params: Params, statistics: PyTree, noise: Float[ArrayLike, "batch noise"]) -> Array:
        return jnp.asarray(self.generator.apply(params["generator"], noise))

    def sample(self, params: Params, statistics: PyTree, key: Array, n: int) -> Array:
        return self.decode(params, statistics, jax.random.normal(key, (n, self.noise_dim)))

    def decide_fake(self, params: Params, batch: Batch, key: Array) -> Float[Array, " batch"]:
        """Logits of as many generated examples as the batch has."""
        keys = example_keys(key, batch["position"])
        noise = jax.vmap(lambda key: jax.random.normal(key, (self.noise_dim,)))(keys)
        return self.decide(params, self.decode(params, {}, noise))

    def discriminator_loss(
        self, params: Params, statistics: PyTree, batch: Batch, key: Array, train: bool
    ) -> tuple[Array, Aux]:
        real, fake = self.decide(params, batch["x"]), self.decide_fake(params, batch, key)
        boundary = self.objective.boundary
        terms = {"accuracy_real": jnp.mean(real > boundary), "accuracy_fake": jnp.mean(fake < boundary)}
        return self.objective.discriminator_loss(real, fake).mean(), Aux(terms, statistics)

    def generator_loss(
        self, params: Params, statistics: PyTree, batch: Batch, key: Array, train: bool
    ) -> tuple[Array, Aux]:
        return self.objective.generator_loss(self.decide_fake(params, batch, key)).mean(), Aux({}, statistics)

    def evaluate(self, params: Params, statistics: PyTree, batch: Batch, key: Array) -> dict[str, Array]:
        real, fake = self.decide(params, batch["x"]), self.decide_fake(params, batch, key)
        return {
            "discriminator/accuracy_real": (real > self.objective.boundary).astype(jnp.float32),
            "discriminator/accuracy_fake": (fake < self.objective.boundary).astype(jnp.float32),
            # What the discriminator maximizes. With the minimax loss this is log D(x) + log(1 − D(G(z))), and
            # −log 4 at the equilibrium.
            "value": -self.objective.discriminator_loss(real, fake),
        }


def optimizers(learning_rate: Any) -> dict[str, optax.GradientTransformation]:
    """Adam for both players, with the momentum of 0.5 that Radford, Metz and Chintala (2016) found to be stable."""
    return {player: optax.adam(learning_rate, b1=0.5) for player in ("discriminator", "generator")}
