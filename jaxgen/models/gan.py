"""Generative adversarial networks (Goodfellow et al., 2014): two players who take turns."""

import math

from jaxgen.model import Model
from jaxgen.models.game import Game, GameNetwork, Noise, Objective, Penalty, adversarial, networks, payoff_of
from jaxgen.nets import Activation

#: Dimensions of the noise by default, at most.
_MOST_NOISE = 32


def gan(
    *,
    shape: tuple[int, ...],
    noise_dim: int | None = None,
    noise: Noise = "normal",
    network: GameNetwork = "mlp",
    hidden: tuple[int, ...] = (128, 128),
    activation: Activation | None = None,
    objective: Objective = "non_saturating",
    penalty: Penalty = "none",
    penalty_weight: float = 10.0,
    spectral_norm: bool = False,
    dropout: float = 0.0,
    packing: int = 1,
    average: float = 0.999,
    discriminator_steps: int = 2,
    generator_steps: int = 1,
) -> Model:
    """Generative adversarial network: a generator and a discriminator who take turns.

    In each round the discriminator is improved for k updates with the generator frozen, then the generator for l with
    the discriminator frozen; each update draws a fresh batch and fresh noise.

    Args:
      shape: Shape of one example, taken from the data.
      noise_dim: Dimensions of the noise that the generator maps to examples; by default as many as an example has
        numbers, 32 at the most.
      noise: Distribution of the noise: standard normal, or uniform on [−1, 1].
      network: Kind of generator and discriminator; all but mlp need images. dcgan is conv with batch normalization, of
        the discriminator where neither a penalty nor spectral_norm bounds its slope.
      hidden: Widths of the discriminator's layers (mlp) or channels of its stages; the generator mirrors them.
      activation: Activation between layers; by default leaky_relu for images, and tanh for vectors, since of narrow
        modes a smooth discriminator tells the generator more.
      objective: What both play for; non_saturating keeps the generator's gradient alive where minimax loses it.
        wasserstein needs a bounded slope, a penalty or spectral_norm, and a critic that keeps up: 5 discriminator_steps
        and, with the penalty gradient, a penalty_weight of 0.1 find all modes of the ring, where 2 and 10 find none.
      penalty: Of the discriminator's slope: its distance from 1 between data and generated examples (gradient), or its
        square at the data (r1); at whole examples, whatever dropout hides.
      penalty_weight: Weight of the penalty in the discriminator's loss; of R1 this is γ. Slopes are per unit of the
        data: narrow modes want less of it.
      spectral_norm: Divides each kernel of the discriminator by its largest singular value. So flat a discriminator
        wants 5 discriminator_steps too, and leaky_relu.
      dropout: Share of the discriminator's inputs that are hidden in training, so that it heeds no single pixel.
      packing: Examples that the discriminator judges together, against a generator that makes few of the modes; must
        divide the batch of a device.
      average: Decay of a running mean of the generator, its batch statistics with it, that samples are drawn with; 0
        draws with the last.
      discriminator_steps: Updates k of the discriminator in each round.
      generator_steps: Updates l of the generator in each round.

    Returns:
      A model with two players, ``"discriminator"`` and ``"generator"``.

    Raises:
      ValueError: for numbers out of range, an unknown objective, or an image network on data that are not images.
    """
    bounded = spectral_norm or penalty != "none"
    activation = activation or ("leaky_relu" if len(shape) > 1 else "tanh")
    discriminator, generator = networks(network, hidden, shape, activation=activation, bounded=bounded)
    game = Game(
        discriminator=discriminator,
        generator=generator,
        noise_dim=min(_MOST_NOISE, math.prod(shape)) if noise_dim is None else noise_dim,
        payoff=payoff_of(objective, bounded=bounded),
        noise=noise,
        penalty=penalty,
        penalty_weight=penalty_weight,
        dropout=dropout,
        spectral=spectral_norm,
        packing=packing,
        average=average,
        spatial=network != "mlp",
    )
    return adversarial(game, discriminator_steps=discriminator_steps, generator_steps=generator_steps)
