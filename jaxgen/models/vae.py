"""The variational autoencoder (Kingma and Welling, 2014; Rezende et al., 2014)."""

import jax.numpy as jnp
from jax import Array

from jaxgen.losses import free_bits
from jaxgen.model import Batch, Model, device_axis
from jaxgen.models.latents import gaussian_latent
from jaxgen.models.likelihood import ScaleName, TableLikelihoodName, make_likelihood
from jaxgen.models.parts import Parts
from jaxgen.models.variational import Bound, Penalty, variational
from jaxgen.nets import Activation, Network, vector_decoder, vector_encoder


def vae(
    *,
    shape: tuple[int, ...],
    columns: tuple[int, ...] | None = None,
    latents: int = 16,
    network: Network = "mlp",
    hidden: tuple[int, ...] = (256, 256),
    activation: Activation = "relu",
    likelihood: TableLikelihoodName = "bernoulli",
    scale: ScaleName = "fixed",
    fixed_scale: float = 1.0,
    beta: float = 1.0,
    kl_warmup: int = 0,
    free_nats: float = 0.0,
    samples: int = 1,
    bound: Bound = "elbo",
    importance_samples: int = 16,
) -> Model:
    """Variational autoencoder: ELBO, β-VAE, σ-VAE or IWAE, with any network and likelihood.

    The loss is E_q[−log p(x|z)] + β KL(q(z|x) ‖ N(0, I)), in nats an example, or the importance-weighted bound.
    Training samples z; encoding and reconstruction use the posterior mean.

    Args:
      shape: Shape of one example, taken from the data.
      columns: Widths of the columns of a table of mixed types, taken from the data.
      latents: Dimensions of z.
      network: Kind of encoder and decoder; conv and resnet need images.
      hidden: Widths of the encoder's layers (mlp) or channels of its stages, each halving the image; the decoder
        mirrors them. Empty makes an mlp linear.
      activation: Activation between layers.
      likelihood: Distribution of the data given z. Bernoulli needs values in [0, 1], best 0 or 1; mixed is for
        a table of numbers and one-hot categories.
      scale: Standard deviation of a Gaussian likelihood: fixed, one learned for all dimensions, one per dimension, or
        the maximum-likelihood one of each batch.
      fixed_scale: Standard deviation of a Gaussian likelihood where it is fixed, in units of the scaled data.
      beta: Weight of the KL term in training and model selection alike.
      kl_warmup: Updates over which the weight of the KL term rises from 0 to beta.
      free_nats: Nats of each latent's KL, averaged over the batch, that are not penalized in training; evaluation and
        the choice of the best checkpoint penalize all.
      samples: Draws of z for each example in the training objective.
      bound: What is maximized: the ELBO, or the tighter importance-weighted bound of the same samples.
      importance_samples: Draws for the estimate of log p(x) in evaluation; 0 leaves it out.

    Returns:
      A model with one player, ``"vae"``.

    Raises:
      ValueError: for numbers out of range, or an image network on data that are not images.
    """
    _check_bound(bound, beta=beta, kl_warmup=kl_warmup, free_nats=free_nats)
    latent = gaussian_latent(latents)
    parts = Parts(
        "vae",
        latent=latent,
        encoder=vector_encoder(network, hidden, shape, outputs=latent.outputs, activation=activation),
        decoder=vector_decoder(network, hidden, shape, activation=activation),
        observed=make_likelihood(likelihood, shape, scale=scale, fixed_scale=fixed_scale, columns=columns),
    )
    return variational(
        parts,
        penalty=weighted_kl(beta, kl_warmup=kl_warmup, free_nats=free_nats),
        kl_weight=beta,
        samples=samples,
        bound=bound,
        importance_samples=importance_samples,
    )


def weighted_kl(beta: float, *, kl_warmup: int = 0, free_nats: float = 0.0) -> Penalty:
    """β KL(q(z|x) ‖ p(z)), its weight rising linearly from 0 over the warm-up, its first nats of each latent free.

    Raises:
      ValueError: for a negative number.
    """
    if beta < 0 or kl_warmup < 0 or free_nats < 0:
        raise ValueError(f"beta, kl_warmup and free_nats must not be negative, got {beta}, {kl_warmup}, {free_nats}")

    def penalty(kl: Array, z: Array, batch: Batch, key: Array, updates: Array, train: bool):
        penalized = free_bits(kl, floor=free_nats, axis_name=device_axis()) if free_nats else kl.sum(axis=-1)
        if not kl_warmup:
            return beta * penalized, {}
        weight = beta * jnp.minimum(1.0, updates / kl_warmup) if train else jnp.asarray(beta)
        return weight * penalized, {"kl_weight": weight}

    return penalty


def _check_bound(bound: str, *, beta: float, kl_warmup: int, free_nats: float) -> None:
    if bound not in ("elbo", "iwae"):
        raise ValueError(f"bound must be elbo or iwae, got {bound!r}")
    if bound == "iwae" and (beta != 1 or kl_warmup or free_nats):
        raise ValueError(
            f"the importance-weighted bound has no KL term of its own: with bound='iwae' leave beta at 1 and "
            f"kl_warmup and free_nats at 0, got {beta}, {kl_warmup}, {free_nats}"
        )
