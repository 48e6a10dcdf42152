"""InfoVAE: the divergence of the aggregate posterior from the prior, apart from the mutual information (Zhao, Song and
Ermon, 2019)."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float, Int, PyTree

from jaxgen.losses import maximum_mean_discrepancy
from jaxgen.model import Batch, Model, example_keys, over_devices
from jaxgen.models.latents import gaussian_latent
from jaxgen.models.likelihood import LikelihoodName, ScaleName, make_likelihood
from jaxgen.models.parts import Parts
from jaxgen.models.variational import variational
from jaxgen.nets import Activation, Network, vector_decoder, vector_encoder

_NUM_FEATURES = 1024


def info_vae(
    *,
    shape: tuple[int, ...],
    latents: int = 16,
    network: Network = "mlp",
    hidden: tuple[int, ...] = (256, 256),
    activation: Activation = "relu",
    likelihood: LikelihoodName = "bernoulli",
    scale: ScaleName = "fixed",
    fixed_scale: float = 1.0,
    alpha: float = 1.0,
    mmd_weight: float = 100.0,
    importance_samples: int = 16,
) -> Model:
    """InfoVAE: keeps the mutual information that the ELBO penalizes; with α = 1 it is the MMD-VAE.

    The loss is E_q[−log p(x|z)] + (1 − α) KL(q(z|x) ‖ p(z)) + (α + λ − 1) MMD²(q(z), p(z)), since the mean KL is
    I(x; z) + KL(q(z) ‖ p(z)): α is the weight of the mutual information, λ that of the aggregate posterior's
    divergence. The MMD has the inverse multiquadric kernel; its estimates in training and in evaluation are unbiased,
    and so may be a little below 0.

    Args:
      shape: Shape of one example, taken from the data.
      latents: Dimensions of z.
      network: Kind of encoder and decoder; conv and resnet need images.
      hidden: Widths of the encoder's layers (mlp) or channels of its stages, each halving the image; the decoder
        mirrors them.
      activation: Activation between layers.
      likelihood: Distribution of the data given z. Bernoulli needs values in [0, 1], best 0 or 1.
      scale: Standard deviation of a Gaussian likelihood: fixed, one learned for all dimensions, one per dimension, or
        the maximum-likelihood one of each batch.
      fixed_scale: Standard deviation of a Gaussian likelihood where it is fixed, in units of the scaled data.
      alpha: Weight α of the mutual information, at most 1; at 0 with a weight λ of 1 the loss is the negative ELBO.
      mmd_weight: Weight λ; the squared MMD lies between 0 and 2 and needs a large one beside nats of an image.
      importance_samples: Draws for the estimate of log p(x) in evaluation; 0 leaves it out.

    Returns:
      A model with one player, ``"vae"``.

    Raises:
      ValueError: for numbers out of range, or an image network on data that are not images.
    """
    if alpha > 1 or alpha + mmd_weight < 1:
        raise ValueError(
            f"alpha must be at most 1 and alpha + mmd_weight at least 1, so that no divergence is rewarded, "
            f"got {alpha} and {mmd_weight}"
        )
    kl_weight, weight, latent = 1 - alpha, alpha + mmd_weight - 1, gaussian_latent(latents)

    def penalty(kl: Array, z: Array, batch: Batch, key: Array, updates: Array, train: bool):
        keys = example_keys(key, batch["position"])
        prior = jax.vmap(lambda key: jax.random.normal(key, (latents,)))(keys)
        q, p = (_gather(a) for a in (z[0], prior))
        mmd = maximum_mean_discrepancy(q, p, kernel="imq", unbiased=len(q) > 1)
        return kl_weight * kl.sum(axis=-1) + weight * mmd, {"mmd": mmd}

    parts = Parts(
        "vae",
        latent=latent,
        encoder=vector_encoder(network, hidden, shape, outputs=latent.outputs, activation=activation),
        decoder=vector_decoder(network, hidden, shape, activation=activation),
        observed=make_likelihood(likelihood, shape, scale=scale, fixed_scale=fixed_scale),
    )
    base = variational(
        parts,
        penalty=penalty,
        kl_weight=kl_weight,
        importance_samples=importance_samples,
        figures=lambda z, batch: halves(features(z[0], latents), batch["position"]),
    )
    assert base.summarize is not None
    summarize_of = base.summarize

    def summarize(means: dict[str, Any]) -> dict[str, Any]:
        means = dict(means)
        first, second = means_of_halves(means.pop("features"), means.pop("first_half"))
        prior = _prior_features(latents)
        mmd = float(np.sum((first - prior) * (second - prior)))
        figures = summarize_of(means)
        return {**figures, "mmd": mmd, "loss": figures["loss"] + weight * mmd}

    return base._replace(summarize=summarize)


def _bandwidth(latents: int) -> float:
    """C of the kernel C / (C + ‖z − z'‖²): the mean squared distance of two draws from the prior."""
    return 2.0 * latents  # the default of `maximum_mean_discrepancy`


def _gather(a: Array) -> Array:
    """The batch of all devices: the divergence is that of the whole, and every device takes the same value."""
    return over_devices(partial(jax.lax.all_gather, tiled=True), a)


def _frequencies(latents: int) -> np.ndarray:
    """The kernel C / (C + d²) is ∫ exp(−s d²/C) e^(−s) ds: frequencies N(0, 2s/C) with s ~ Exp(1)."""
    rng = np.random.default_rng(0)
    spread = np.sqrt(2 * rng.exponential(size=(1, _NUM_FEATURES)) / _bandwidth(latents))
    return rng.normal(size=(latents, _NUM_FEATURES)) * spread


def features(z: Array, latents: int) -> Float[Array, "batch features"]:
    """Random Fourier features φ(z) with φ(z)·φ(z') ≈ k(z, z'), so that MMD² is ‖E φ(z) − E φ(prior)‖²."""
    angle = z @ jnp.asarray(_frequencies(latents), z.dtype)
    return jnp.concatenate([jnp.cos(angle), jnp.sin(angle)], axis=-1) / np.sqrt(_NUM_FEATURES)


def halves(values: Float[Array, "batch features"], position: Int[Array, " batch"]) -> dict[str, Array]:
    """The features of the even and of the odd examples apart.

    The square of one mean over N examples would add about 1/N, as large as what is measured; two independent means
    have the product of their expectations, which is unbiased as the divergence in training is.
    """
    even = position % 2 == 0
    apart = jnp.stack([even, ~even], axis=1)[..., None] * values[:, None]
    return {"features": apart, "first_half": even.astype(values.dtype)}


def means_of_halves(features: Float[np.ndarray, "2 features"], share: Any) -> Float[np.ndarray, "2 features"]:
    """Each half's own mean, from the means over all; an empty half has none, and 0."""
    shares = np.stack([share, 1 - share])
    return np.divide(features, shares[:, None], out=np.zeros(features.shape), where=shares[:, None] > 0)


def _prior_features(latents: int) -> PyTree:
    """E cos(ω·z) = exp(−‖ω‖²/2) and E sin(ω·z) = 0 under N(0, I)."""
    expected = np.exp(-0.5 * np.square(_frequencies(latents)).sum(axis=0))
    return np.concatenate([expected, np.zeros(_NUM_FEATURES)]) / np.sqrt(_NUM_FEATURES)
