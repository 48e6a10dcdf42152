"""The conditional generative adversarial network (Mirza and Osindero, 2014)."""

from typing import Literal

from jaxgen.model import Model
from jaxgen.models.condition import condition_of
from jaxgen.models.game import Game, GameNetwork, Noise, Objective, Penalty, adversarial, networks, payoff_of
from jaxgen.nets import Activation


def conditional_gan(
    *,
    shape: tuple[int, ...],
    num_classes: int | None = None,
    condition_size: int | None = None,
    condition: Literal["label", "vector"] = "label",
    noise_dim: int = 32,
    noise: Noise = "normal",
    network: GameNetwork = "mlp",
    hidden: tuple[int, ...] = (256, 256),
    activation: Activation = "leaky_relu",
    objective: Objective = "non_saturating",
    penalty: Penalty = "none",
    penalty_weight: float = 10.0,
    spectral_norm: bool = False,
    dropout: float = 0.0,
    packing: int = 1,
    average: float = 0.0,
    discriminator_steps: int = 1,
    generator_steps: int = 1,
) -> Model:
    """Conditional GAN: generator and discriminator are told a class, or any vector.

    The generator makes an example of the class asked for, and the discriminator asks whether an example is a real one
    of its class. Generated examples are told what the real ones beside them come with.

    Args:
      shape: Shape of one example, taken from the data.
      num_classes: Number of classes, taken from the data's labels.
      condition_size: Width of the condition vector, taken from the data.
      condition: What both players are told: the label, or the data's condition vector.
      noise_dim: Dimensions of the noise that the generator maps to examples.
      noise: Distribution of the noise: standard normal, or uniform on [−1, 1].
      network: Kind of generator and discriminator; all but mlp need images. dcgan is conv with batch normalization, of
        the discriminator where neither a penalty nor spectral_norm bounds its slope.
      hidden: Widths of the discriminator's layers (mlp) or channels of its stages; the generator mirrors them.
      activation: Activation between layers.
      objective: What both play for; non_saturating keeps the generator's gradient alive where minimax loses it.
        wasserstein needs a bounded slope, a penalty or spectral_norm, and a critic that keeps up: 5 discriminator_steps
        and, with the penalty gradient, a penalty_weight of 0.1 find all modes of the ring, where 2 and 10 find none.
      penalty: Of the discriminator's slope: its distance from 1 between data and generated examples (gradient), or its
        square at the data (r1); at whole examples, whatever dropout hides.
      penalty_weight: Weight of the penalty in the discriminator's loss; of R1 this is γ. Slopes are per unit of the
        data: narrow modes want less of it.
      spectral_norm: Divides each kernel of the discriminator by its largest singular value. So flat a discriminator
        wants 5 discriminator_steps too, and leaky_relu.
      dropout: Share of the discriminator's inputs that are hidden in training; what it is told is never hidden.
      packing: Examples that the discriminator judges together, each with its condition; must divide the batch of a
        device.
      average: Decay of a running mean of the generator, its batch statistics with it, that samples are drawn with; 0
        draws with the last.
      discriminator_steps: Updates k of the discriminator in each round.
      generator_steps: Updates l of the generator in each round.

    Returns:
      A model with two players, ``"discriminator"`` and ``"generator"``.

    Raises:
      ValueError: for numbers out of range, data without the condition, or an image network on data that are not images.
    """
    bounded = spectral_norm or penalty != "none"
    discriminator, generator = networks(network, hidden, shape, activation=activation, bounded=bounded)
    game = Game(
        discriminator=discriminator,
        generator=generator,
        noise_dim=noise_dim,
        payoff=payoff_of(objective, bounded=bounded),
        noise=noise,
        penalty=penalty,
        penalty_weight=penalty_weight,
        dropout=dropout,
        spectral=spectral_norm,
        packing=packing,
        average=average,
        condition=condition_of(condition, num_classes, condition_size),
        spatial=network != "mlp",
    )
    return adversarial(game, discriminator_steps=discriminator_steps, generator_steps=generator_steps)
