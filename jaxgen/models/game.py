"""The game that all adversarial networks play: a generator, a discriminator, and what each is paid."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Float, PyTree

from jaxgen import losses
from jaxgen.model import Aux, Batch, Condition, Model, Params, example_keys
from jaxgen.models.condition import join, vectors
from jaxgen.nets.spectral import init_spectral, spectral_normalize

Objective = Literal["non_saturating", "minimax", "hinge", "least_squares", "wasserstein"]
Penalty = Literal["none", "gradient", "r1"]
Noise = Literal["normal", "uniform"]

DISCRIMINATOR, GENERATOR = "discriminator", "generator"


class Payoff(NamedTuple):
    """What both play for.

    Attributes:
      discriminator_loss: of logits of real and generated examples.
      generator_loss: of logits of generated examples.
      boundary: between the logits that the discriminator gives to generated and to real examples.
    """

    discriminator_loss: Callable[..., Array]
    generator_loss: Callable[..., Array]
    boundary: float = 0.0


PAYOFFS: dict[str, Payoff] = {
    "non_saturating": Payoff(losses.minimax_discriminator_loss, losses.non_saturating_generator_loss),
    "minimax": Payoff(losses.minimax_discriminator_loss, losses.minimax_generator_loss),
    "hinge": Payoff(losses.hinge_discriminator_loss, losses.hinge_generator_loss),
    # Least squares pulls the discriminator to 1 on real examples and to 0 on generated ones.
    "least_squares": Payoff(losses.least_squares_discriminator_loss, losses.least_squares_generator_loss, boundary=0.5),
    "wasserstein": Payoff(losses.wasserstein_discriminator_loss, losses.wasserstein_generator_loss),
}


@dataclass(frozen=True)
class Game:
    """Two networks, what each plays for, and how their contest is kept even.

    Attributes:
      discriminator: packs of examples to logits [packs].
      generator: noise, joined with the condition, to examples.
      noise_dim: dimensions of the noise.
      payoff: what both play for.
      noise: its distribution, standard normal or uniform on [−1, 1].
      penalty: on the discriminator's slope.
      penalty_weight: of the penalty in the discriminator's loss.
      dropout: share of the discriminator's inputs that it does not see in training.
      spectral: whether the discriminator's kernels are divided by their largest singular value.
      packing: examples that the discriminator judges together.
      average: decay of the running mean of the generator that samples are drawn with; 0 draws with the generator.
      condition: what both players are told.
      spatial: whether the discriminator takes images, so that pack and condition are joined as channels.
    """

    discriminator: nn.Module
    generator: nn.Module
    noise_dim: int
    payoff: Payoff
    noise: str = "normal"
    penalty: str = "none"
    penalty_weight: float = 10.0
    dropout: float = 0.0
    spectral: bool = False
    packing: int = 1
    average: float = 0.0
    condition: Condition | None = None
    spatial: bool = False

    def init(self, key: Array, batch: Batch) -> tuple[Params, PyTree]:
        discriminator_key, generator_key, spectral_key = jax.random.split(key, 3)
        told = self.told_by(batch)
        one, given = (None if a is None else jnp.stack([a[:1]] * self.packing, 1) for a in (batch["x"], told))
        assert one is not None
        noise = join(jnp.zeros((1, self.noise_dim)), None if told is None else told[:1])
        params = {
            DISCRIMINATOR: self.discriminator.init(discriminator_key, self.seen(one, given)),
            GENERATOR: self.generator.init(generator_key, noise),
        }
        statistics: dict[str, Any] = {}
        if self.spectral:
            statistics["spectral"] = init_spectral(spectral_key, params[DISCRIMINATOR])
        if self.average:
            statistics["average"] = {"generator": params[GENERATOR], "updates": jnp.zeros(())}
        return params, statistics

    def told_by(self, batch: Batch) -> Array | None:
        return None if self.condition is None else vectors(self.condition, batch[self.condition.name])

    def packs_told(self, batch: Batch) -> Array | None:
        told = self.told_by(batch)
        return None if told is None else self.packs(told)

    def packs(self, a: Array) -> Array:
        """[batch, ...] to [packs, packing, ...], in the order of the batch."""
        if len(a) % self.packing:
            raise ValueError(f"packing = {self.packing} examples must divide the batch of a device, got {len(a)}")
        return a.reshape(-1, self.packing, *a.shape[1:])

    def seen(self, x: Array, told: Array | None) -> Array:
        """What the discriminator sees: the examples of each pack with their conditions, side by side on the last axis.

        Args:
          x: [packs, packing, ...].
          told: [packs, packing, size], or nothing.
        """
        x = x if self.spatial else x.reshape(*x.shape[:2], -1)
        parts = (join(x[:, i], None if told is None else told[:, i], spatial=self.spatial) for i in range(self.packing))
        return jnp.concatenate(list(parts), axis=-1)

    def decide(self, own: PyTree, x: Array, told: Array | None) -> Float[Array, " packs"]:
        """Logits of packs: above the boundary for what the discriminator takes to be real."""
        return jnp.asarray(self.discriminator.apply(own, self.seen(x, told)))

    def in_use(self, params: Params, statistics: PyTree, *, learns: bool = False) -> tuple[PyTree, PyTree]:
        """The discriminator's parameters as it uses them, and the statistics after that."""
        if not self.spectral:
            return params[DISCRIMINATOR], statistics
        own, found = spectral_normalize(params[DISCRIMINATOR], statistics["spectral"], iterations=int(learns))
        return own, {**statistics, "spectral": found}

    def dropped(self, x: Array, key: Array, position: Array, train: bool) -> Array:
        """Examples with a share of their entries hidden, and the others larger by as much."""
        if not (train and self.dropout):
            return x
        keep = 1 - self.dropout
        kept = jax.vmap(lambda key: jax.random.bernoulli(key, keep, x.shape[1:]))(example_keys(key, position))
        return jnp.where(kept, x / keep, 0)

    def draw(self, keys: Array) -> Float[Array, "batch noise"]:
        def one(key: Array) -> Array:
            if self.noise == "uniform":
                return jax.random.uniform(key, (self.noise_dim,), minval=-1.0, maxval=1.0)
            return jax.random.normal(key, (self.noise_dim,))

        return jax.vmap(one)(keys)

    def generate(self, own: PyTree, noise: Array, told: Array | None) -> Array:
        return jnp.asarray(self.generator.apply(own, join(noise, told)))

    def fakes(self, params: Params, batch: Batch, key: Array) -> Array:
        """As many generated examples as the batch has, told the same."""
        noise = self.draw(example_keys(key, batch["position"]))
        return self.generate(params[GENERATOR], noise, self.told_by(batch))

    def penalty_on(
        self, own: PyTree, real: Array, fake: Array, told: Array | None, keys: Array
    ) -> Float[Array, " packs"]:
        """Of the slope in the examples of each pack, at or between them; what they are told has no slope.

        Args:
          own: the discriminator's parameters.
          real: [packs, packing, ...].
          fake: likewise.
          told: what each is told, or nothing.
          keys: one for each pack.
        """
        if self.penalty == "r1":
            # ½, as Mescheder, Geiger and Nowozin weigh it.
            return 0.5 * losses.r1_penalty(lambda x: self.decide(own, x, told), real)

        def between(real: Array, fake: Array, told: Array | None, key: Array) -> Array:
            one = None if told is None else told[None]
            return losses.gradient_penalty(lambda x: self.decide(own, x, one), real[None], fake[None], key)[0]

        return jax.vmap(between)(real, fake, told, keys)

    def discriminator_loss(
        self, params: Params, statistics: PyTree, batch: Batch, key: Array, train: bool
    ) -> tuple[Array, Aux]:
        noise_key, real_key, fake_key, penalty_key = jax.random.split(key, 4)
        position, told = batch["position"], self.packs_told(batch)
        real = self.packs(self.dropped(jnp.asarray(batch["x"]), real_key, position, train))
        fake = self.packs(self.dropped(self.fakes(params, batch, noise_key), fake_key, position, train))
        own, statistics = self.in_use(params, statistics, learns=train)
        on_real, on_fake = self.decide(own, real, told), self.decide(own, fake, told)
        loss, boundary = self.payoff.discriminator_loss(on_real, on_fake).mean(), self.payoff.boundary
        terms = {"accuracy_real": jnp.mean(on_real > boundary), "accuracy_fake": jnp.mean(on_fake < boundary)}
        if self.penalty != "none":
            # The noise of a pack belongs to its first example.
            keys = example_keys(penalty_key, position[:: self.packing])
            terms["penalty"] = self.penalty_on(own, real, fake, told, keys).mean()
            loss = loss + self.penalty_weight * terms["penalty"]
        return loss, Aux(terms, statistics)

    def generator_loss(
        self, params: Params, statistics: PyTree, batch: Batch, key: Array, train: bool
    ) -> tuple[Array, Aux]:
        noise_key, fake_key = jax.random.split(key)
        fake = self.dropped(self.fakes(params, batch, noise_key), fake_key, batch["position"], train)
        own, _ = self.in_use(params, statistics)
        loss = self.payoff.generator_loss(self.decide(own, self.packs(fake), self.packs_told(batch))).mean()
        return loss, Aux({}, self.averaged(params, statistics, train))

    def averaged(self, params: Params, statistics: PyTree, train: bool) -> PyTree:
        """The running mean takes in the generator that has just been played with, before this update moves it."""
        if not (train and self.average):
            return statistics
        mean, updates = statistics["average"]["generator"], statistics["average"]["updates"]
        # The plain mean at first: the random start would weigh for 1 / (1 − decay) updates.
        decay = jnp.minimum(self.average, updates / (updates + 1))
        mean = optax.incremental_update(params[GENERATOR], mean, 1 - decay)
        return {**statistics, "average": {"generator": mean, "updates": updates + 1}}

    def evaluate(self, params: Params, statistics: PyTree, batch: Batch, key: Array) -> dict[str, Array]:
        """Of each example; a pack of real ones is no figure of one example, so that packs are of generated ones alone,
        told the same."""
        (own, _), told, boundary = self.in_use(params, statistics), self.told_by(batch), self.payoff.boundary
        fakes = jnp.stack([self.fakes(params, batch, key) for key in jax.random.split(key, self.packing)], axis=1)
        told = None if told is None else told[:, None]
        each = None if told is None else jnp.repeat(told, self.packing, axis=1)
        on_fake = self.decide(own, fakes, each)
        figures = {"discriminator/accuracy_fake": (on_fake < boundary).astype(jnp.float32)}
        if self.packing > 1:
            return figures
        on_real = self.decide(own, jnp.asarray(batch["x"])[:, None], told)
        return figures | {
            "discriminator/accuracy_real": (on_real > boundary).astype(jnp.float32),
            # What the discriminator maximizes. With the minimax loss this is log D(x) + log(1 − D(G(z))), and
            # −log 4 at the equilibrium; with the Wasserstein loss it is the distance that the critic finds.
            "value": -self.payoff.discriminator_loss(on_real, on_fake),
        }

    def decode(
        self, params: Params, statistics: PyTree, noise: ArrayLike, *, condition: ArrayLike | None = None
    ) -> Array:
        own = statistics["average"]["generator"] if self.average else params[GENERATOR]
        return self.generate(own, jnp.asarray(noise), vectors(self.condition, condition))

    def sample(
        self, params: Params, statistics: PyTree, key: Array, n: int, *, condition: ArrayLike | None = None
    ) -> Array:
        return self.decode(params, statistics, self.draw(jax.random.split(key, n)), condition=condition)


def optimizers_of(*players: str) -> Callable[[Any], dict[str, optax.GradientTransformation]]:
    """Adam for each, with the momentum of 0.5 that Radford, Metz and Chintala (2016) found to be stable."""
    return lambda learning_rate: {player: optax.adam(learning_rate, b1=0.5) for player in players}


def adversarial(game: Game, *, discriminator_steps: int, generator_steps: int) -> Model:
    """The model of a game: two players who take turns.

    Raises:
      ValueError: for numbers out of range.
    """
    if game.noise_dim < 1 or discriminator_steps < 1 or generator_steps < 1 or game.packing < 1:
        raise ValueError(
            f"noise_dim, discriminator_steps, generator_steps and packing must be at least 1, "
            f"got {game.noise_dim}, {discriminator_steps}, {generator_steps} and {game.packing}"
        )
    if not (0 <= game.dropout < 1 and 0 <= game.average < 1 and game.penalty_weight >= 0):
        raise ValueError(
            f"dropout and average must lie in [0, 1) and penalty_weight must not be negative, "
            f"got {game.dropout}, {game.average} and {game.penalty_weight}"
        )
    if game.noise not in get_args(Noise) or game.penalty not in get_args(Penalty):
        raise ValueError(
            f"noise must be {' or '.join(get_args(Noise))} and penalty one of {', '.join(get_args(Penalty))}, "
            f"got {game.noise!r} and {game.penalty!r}"
        )
    return Model(
        init=game.init,
        losses={DISCRIMINATOR: game.discriminator_loss, GENERATOR: game.generator_loss},
        turns={DISCRIMINATOR: discriminator_steps, GENERATOR: generator_steps},
        evaluate=game.evaluate,
        decode=game.decode,
        sample=game.sample,
        optimizers=optimizers_of(DISCRIMINATOR, GENERATOR),
        objective=None,
        latents=game.noise_dim,
        condition=game.condition,
        together=game.packing,
    )


def payoff_of(objective: str, *, bounded: bool = False) -> Payoff:
    """What is played for.

    Raises:
      ValueError: for an objective that is none, or the Wasserstein distance where nothing bounds the critic's slope.
    """
    if objective not in PAYOFFS:
        raise ValueError(f"objective must be one of {', '.join(PAYOFFS)}, got {objective!r}")
    if objective == "wasserstein" and not bounded:
        raise ValueError("objective wasserstein needs a critic of bounded slope: add a penalty, or spectral_norm")
    return PAYOFFS[objective]
