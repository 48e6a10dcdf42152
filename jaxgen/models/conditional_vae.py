"""The conditional variational autoencoder (Sohn, Lee and Yan, 2015)."""

import math
from typing import Literal

from jaxgen.model import Model
from jaxgen.models.condition import condition_of
from jaxgen.models.latents import gaussian_latent
from jaxgen.models.likelihood import LikelihoodName, ScaleName, make_likelihood
from jaxgen.models.parts import Parts
from jaxgen.models.vae import weighted_kl
from jaxgen.models.variational import variational
from jaxgen.nets import MLP, Activation, Network, vector_decoder, vector_encoder


def conditional_vae(
    *,
    shape: tuple[int, ...],
    num_classes: int | None = None,
    condition_size: int | None = None,
    condition: Literal["label", "vector"] = "label",
    prior: Literal["standard", "conditional"] = "standard",
    latents: int = 16,
    network: Network = "mlp",
    hidden: tuple[int, ...] = (256, 256),
    activation: Activation = "relu",
    likelihood: LikelihoodName = "bernoulli",
    scale: ScaleName = "fixed",
    fixed_scale: float = 1.0,
    beta: float = 1.0,
    kl_warmup: int = 0,
    importance_samples: int = 16,
) -> Model:
    """Conditional VAE: encoder and decoder are told a class, or any vector.

    The loss is E_q[−log p(x|z, c)] + β KL(q(z|x, c) ‖ p(z|c)), in nats an example. What is left to z is what the
    condition does not say, so a sample can be asked for with a class. To predict one part of an example from another,
    give the known part as the vector and observe the other part alone (a mask).

    Args:
      shape: Shape of one example, taken from the data.
      num_classes: Number of classes, taken from the data's labels.
      condition_size: Width of the condition vector, taken from the data.
      condition: What encoder and decoder are told: the label, or the data's condition vector.
      prior: Prior on z: standard normal, or a network's Gaussian that depends on the condition.
      latents: Dimensions of z.
      network: Kind of encoder and decoder; conv and resnet need images.
      hidden: Widths of the encoder's layers (mlp) or channels of its stages, each halving the image; the decoder
        mirrors them.
      activation: Activation between layers.
      likelihood: Distribution of the data given z and the condition. Bernoulli needs values in [0, 1], best 0 or 1.
      scale: Standard deviation of a Gaussian likelihood: fixed, one learned for all dimensions, one per dimension, or
        the maximum-likelihood one of each batch.
      fixed_scale: Standard deviation of a Gaussian likelihood where it is fixed, in units of the scaled data.
      beta: Weight of the KL term in training and model selection alike.
      kl_warmup: Updates over which the weight of the KL term rises from 0 to beta.
      importance_samples: Draws for the estimate of log p(x|c) in evaluation; 0 leaves it out.

    Returns:
      A model with one player, ``"vae"``.

    Raises:
      ValueError: for numbers out of range, data without the condition, or an image network on data that are not images.
    """
    given = condition_of(condition, num_classes, condition_size)
    if prior not in ("standard", "conditional"):
        raise ValueError(f"prior must be standard or conditional, got {prior!r}")
    latent, spatial = gaussian_latent(latents), network != "mlp"
    told = (*shape[:-1], shape[-1] + given.size) if spatial else (math.prod(shape) + given.size,)
    prior_hidden = hidden if network == "mlp" else (256,)
    parts = Parts(
        "vae",
        latent=latent,
        encoder=vector_encoder(network, hidden, told, outputs=latent.outputs, activation=activation),
        decoder=vector_decoder(network, hidden, shape, activation=activation),
        observed=make_likelihood(likelihood, shape, scale=scale, fixed_scale=fixed_scale),
        condition=given,
        prior=MLP(prior_hidden, latent.outputs, activation) if prior == "conditional" else None,
        spatial=spatial,
    )
    penalty = weighted_kl(beta, kl_warmup=kl_warmup)
    return variational(parts, penalty=penalty, kl_weight=beta, importance_samples=importance_samples)
