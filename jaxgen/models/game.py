"""The game that all adversarial networks play: a generator, a discriminator, and what each is paid."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, cast, get_args

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Float, PyTree

from jaxgen import losses
from jaxgen.model import Aux, Batch, Condition, Model, Params, example_keys
from jaxgen.models.condition import join, vectors
from jaxgen.nets import Activation, Network, check_stages, vector_decoder, vector_encoder
from jaxgen.nets.spectral import init_spectral, spectral_normalize

Objective = Literal["non_saturating", "minimax", "hinge", "least_squares", "wasserstein"]
Penalty = Literal["none", "gradient", "r1"]
Noise = Literal["normal", "uniform"]
#: Kinds of both networks: ``dcgan`` is ``conv`` with batch normalization (Radford, Metz and Chintala, 2016).
GameNetwork = Literal["mlp", "conv", "resnet", "dcgan"]

DISCRIMINATOR, GENERATOR = "discriminator", "generator"


class Payoff(NamedTuple):
    """What both play for.

    Attributes:
      discriminator_loss: of logits of real and generated examples.
      generator_loss: of logits of generated examples.
      equilibrium: the value of the game, minus the best discriminator's loss, where generated examples are distributed
        as real ones are.
      boundary: between the logits that the discriminator gives to generated and to real examples.
      settles: whether there the best discriminator is at the boundary for every example, so that half of its judgements
        are right. A hinge leaves it free in [−1, 1], and a critic is defined up to a constant.
    """

    discriminator_loss: Callable[..., Array]
    generator_loss: Callable[..., Array]
    equilibrium: float
    boundary: float = 0.0
    settles: bool = True

    def for_real(self, logits: Float[Array, "..."]) -> Float[Array, "..."]:
        """1 where the discriminator takes an example for real, 0 where for generated, and ½ where it cannot tell."""
        return jnp.heaviside(logits - self.boundary, 0.5)


_LOG_4 = float(np.log(4))
PAYOFFS: dict[str, Payoff] = {
    "non_saturating": Payoff(losses.minimax_discriminator_loss, losses.non_saturating_generator_loss, -_LOG_4),
    "minimax": Payoff(losses.minimax_discriminator_loss, losses.minimax_generator_loss, -_LOG_4),
    "hinge": Payoff(losses.hinge_discriminator_loss, losses.hinge_generator_loss, -2.0, settles=False),
    # Least squares pulls the discriminator to 1 on real examples and to 0 on generated ones.
    "least_squares": Payoff(
        losses.least_squares_discriminator_loss, losses.least_squares_generator_loss, -0.25, boundary=0.5
    ),
    "wasserstein": Payoff(losses.wasserstein_discriminator_loss, losses.wasserstein_generator_loss, 0.0, settles=False),
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
      average: decay of the running mean of the generator, its batch statistics with it, that samples are drawn with;
        0 draws with the generator.
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
        made = {
            DISCRIMINATOR: self.discriminator.init(discriminator_key, self.seen(one, given)),
            GENERATOR: self.generator.init(generator_key, noise),
        }
        params = {player: {"params": own["params"]} for player, own in made.items()}
        running = {player: {"batch_stats": own["batch_stats"]} for player, own in made.items() if "batch_stats" in own}
        statistics: dict[str, Any] = {"batch": running} if running else {}
        if self.spectral:
            statistics["spectral"] = init_spectral(spectral_key, params[DISCRIMINATOR])
        if self.average:
            mean = self.variables(GENERATOR, params[GENERATOR], statistics)
            statistics["average"] = {"generator": mean, "updates": jnp.zeros(())}
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

    def variables(self, player: str, own: PyTree, statistics: PyTree) -> PyTree:
        """A player's parameters, beside its running statistics where it normalizes by batches."""
        return {**own, **statistics.get("batch", {}).get(player, {})}

    def passed(self, player: str, own: PyTree, statistics: PyTree, x: Array, train: bool) -> tuple[Array, PyTree]:
        """What a player's network makes of ``x``, and the statistics after that.

        A training pass normalizes by the batch and updates the player's running statistics, which are kept of passes in
        the player's own turn alone: of the discriminator's over the real batch and then the generated one. Any other
        pass, as in an evaluation or for samples, normalizes by the running ones and updates nothing.
        """
        network = self.discriminator if player == DISCRIMINATOR else self.generator
        variables = self.variables(player, own, statistics)
        if not (train and player in statistics.get("batch", {})):
            return jnp.asarray(network.apply(variables, x)), statistics
        values, found = network.apply(variables, x, mutable=["batch_stats"])
        return jnp.asarray(values), {**statistics, "batch": {**statistics["batch"], player: found}}

    def decide(
        self, own: PyTree, statistics: PyTree, x: Array, told: Array | None, train: bool = False
    ) -> tuple[Float[Array, " packs"], PyTree]:
        """Logits of packs: above the boundary for what the discriminator takes to be real; the statistics after it."""
        return self.passed(DISCRIMINATOR, own, statistics, self.seen(x, told), train)

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

    def fakes(
        self, params: Params, statistics: PyTree, batch: Batch, key: Array, train: bool = False
    ) -> tuple[Array, PyTree]:
        """As many generated examples as the batch has, told the same, and the statistics after them."""
        noise = self.draw(example_keys(key, batch["position"]))
        return self.passed(GENERATOR, params[GENERATOR], statistics, join(noise, self.told_by(batch)), train)

    def penalty_on(
        self, own: PyTree, statistics: PyTree, real: Array, fake: Array, told: Array | None, keys: Array
    ) -> Float[Array, " packs"]:
        """Of the slope in the examples of each pack, at or between them; what they are told has no slope.

        Args:
          own: the discriminator's parameters.
          statistics: of which a discriminator of bounded slope has none of batches.
          real: [packs, packing, ...].
          fake: likewise.
          told: what each is told, or nothing.
          keys: one for each pack.
        """
        if self.penalty == "r1":
            # ½, as Mescheder, Geiger and Nowozin weigh it.
            return 0.5 * losses.r1_penalty(lambda x: self.decide(own, statistics, x, told)[0], real)

        def between(real: Array, fake: Array, told: Array | None, key: Array) -> Array:
            one = None if told is None else told[None]
            critic = lambda x: self.decide(own, statistics, x, one)[0]  # noqa: E731
            return losses.gradient_penalty(critic, real[None], fake[None], key)[0]

        return jax.vmap(between)(real, fake, told, keys)

    def discriminator_loss(
        self, params: Params, statistics: PyTree, batch: Batch, key: Array, train: bool
    ) -> tuple[Array, Aux]:
        noise_key, real_key, fake_key, penalty_key = jax.random.split(key, 4)
        position, told = batch["position"], self.packs_told(batch)
        real = jnp.asarray(batch["x"])
        # The generator's running statistics are kept of its own turns.
        fake, _ = self.fakes(params, statistics, batch, noise_key, train)
        own, statistics = self.in_use(params, statistics, learns=train)
        shown = [self.packs(self.dropped(x, key, position, train)) for x, key in ((real, real_key), (fake, fake_key))]
        on_real, statistics = self.decide(own, statistics, shown[0], told, train)
        on_fake, statistics = self.decide(own, statistics, shown[1], told, train)
        loss = self.payoff.discriminator_loss(on_real, on_fake).mean()
        terms = {
            "accuracy_real": jnp.mean(self.payoff.for_real(on_real)),
            "accuracy_fake": 1 - jnp.mean(self.payoff.for_real(on_fake)),
        }
        if self.penalty != "none":
            # The noise of a pack belongs to its first example.
            keys = example_keys(penalty_key, position[:: self.packing])
            # At whole examples: what the slope is bounded at are the data, not what is left of them.
            whole = self.packs(real), self.packs(fake)
            terms["penalty"] = self.penalty_on(own, statistics, *whole, told, keys).mean()
            loss = loss + self.penalty_weight * terms["penalty"]
        return loss, Aux(terms, statistics)

    def generator_loss(
        self, params: Params, statistics: PyTree, batch: Batch, key: Array, train: bool
    ) -> tuple[Array, Aux]:
        noise_key, fake_key = jax.random.split(key)
        made, statistics = self.fakes(params, statistics, batch, noise_key, train)
        fake = self.packs(self.dropped(made, fake_key, batch["position"], train))
        own, _ = self.in_use(params, statistics)
        on_fake, _ = self.decide(own, statistics, fake, self.packs_told(batch), train)
        return self.payoff.generator_loss(on_fake).mean(), Aux({}, self.averaged(params, statistics, train))

    def averaged(self, params: Params, statistics: PyTree, train: bool) -> PyTree:
        """The running mean takes in the generator that has just been played with, before this update moves it.

        With its running statistics, where it has them: those of the last generator are not the averaged one's.
        """
        if not (train and self.average):
            return statistics
        mean, updates = statistics["average"]["generator"], statistics["average"]["updates"]
        # The plain mean at first: the random start would weigh for 1 / (1 − decay) updates.
        decay = jnp.minimum(self.average, updates / (updates + 1))
        latest = self.variables(GENERATOR, params[GENERATOR], statistics)
        mean = optax.incremental_update(latest, mean, 1 - decay)
        return {**statistics, "average": {"generator": mean, "updates": updates + 1}}

    def evaluate(self, params: Params, statistics: PyTree, batch: Batch, key: Array) -> dict[str, Array]:
        """Of each example; where packs are judged, of the pack it stands in, which is the same in any evaluation: the
        batches of a split are cut between packs."""
        (own, _), told = self.in_use(params, statistics), self.packs_told(batch)
        fake, _ = self.fakes(params, statistics, batch, jax.random.split(key)[0])
        on_real, _ = self.decide(own, statistics, self.packs(jnp.asarray(batch["x"])), told)
        on_fake, _ = self.decide(own, statistics, self.packs(fake), told)
        figures = {
            "discriminator/accuracy_real": self.payoff.for_real(on_real),
            "discriminator/accuracy_fake": 1 - self.payoff.for_real(on_fake),
            # What the discriminator maximizes. With the minimax loss this is log D(x) + log(1 − D(G(z))), and
            # −log 4 at the equilibrium; with the Wasserstein loss it is the distance that the critic finds.
            "value": -self.payoff.discriminator_loss(on_real, on_fake),
        }
        return {name: jnp.repeat(value, self.packing) for name, value in figures.items()}

    def decode(
        self, params: Params, statistics: PyTree, noise: ArrayLike, *, condition: ArrayLike | None = None
    ) -> Array:
        latest = self.variables(GENERATOR, params[GENERATOR], statistics)
        drawn_with = statistics["average"]["generator"] if self.average else latest
        noise = join(jnp.asarray(noise), vectors(self.condition, condition))
        return jnp.asarray(self.generator.apply(drawn_with, noise))

    def sample(
        self, params: Params, statistics: PyTree, key: Array, n: int, *, condition: ArrayLike | None = None
    ) -> Array:
        """Of noise drawn anew, not chosen."""
        return self.decode(params, statistics, self.draw(jax.random.split(key, n)), condition=condition)


def networks(
    network: str, hidden: Sequence[int], shape: Sequence[int], *, activation: Activation, bounded: bool
) -> tuple[nn.Module, nn.Module]:
    """Discriminator and generator.

    Args:
      network: kind of both, one of ``GameNetwork``.
      hidden: of the discriminator; the generator mirrors them.
      shape: of one example.
      activation: between layers.
      bounded: whether a penalty or spectral normalization bounds the discriminator's slope. Batch normalization then
        stays out of it: the slope in one example would hang on all others (Gulrajani et al., 2017), or be scaled again.

    Raises:
      ValueError: for an unknown kind, or one for images on data that are none.
    """
    if network not in get_args(GameNetwork):
        raise ValueError(f"network must be one of {', '.join(get_args(GameNetwork))}, got {network!r}")
    normal = network == "dcgan"
    if normal:
        check_stages(network, hidden, shape)  # by the name that was asked for
    kind = cast("Network", "conv" if normal else network)
    return (
        vector_encoder(kind, hidden, shape, outputs=(), activation=activation, batch_norm=normal and not bounded),
        vector_decoder(kind, hidden, shape, activation=activation, batch_norm=normal),
    )


def optimizers_of(*players: str) -> Callable[[Any], dict[str, optax.GradientTransformation]]:
    """Adam for each, with the momentum of 0.5 that Radford, Metz and Chintala (2016) found to be stable."""
    return lambda learning_rate: {player: optax.adam(learning_rate, b1=0.5) for player in players}


def adversarial(game: Game, *, discriminator_steps: int, generator_steps: int) -> Model:
    """The model of a game: two players who take turns.

    Raises:
      ValueError: for numbers out of range.
    """
    counts = game.noise_dim, discriminator_steps, generator_steps, game.packing
    if not all(isinstance(count, int) and count >= 1 for count in counts):
        raise ValueError(
            f"noise_dim, discriminator_steps, generator_steps and packing must be whole numbers of at least 1, "
            f"got {counts[0]}, {counts[1]}, {counts[2]} and {counts[3]}"
        )
    if not (0 <= game.dropout < 1 and 0 <= game.average < 1 and 0 < game.penalty_weight < math.inf):
        raise ValueError(
            f"dropout and average must lie in [0, 1) and penalty_weight must be positive and finite, "
            f"got {game.dropout}, {game.average} and {game.penalty_weight}; without a penalty take penalty none"
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
