"""Model factories: keyword arguments in, a ``jaxgen.model.Model`` out."""

from jaxgen.models.autoencoder import autoencoder, denoising_autoencoder
from jaxgen.models.code_prior import code_prior
from jaxgen.models.conditional_gan import conditional_gan
from jaxgen.models.conditional_vae import conditional_vae
from jaxgen.models.discrete_vae import discrete_vae
from jaxgen.models.gan import gan
from jaxgen.models.info_vae import info_vae
from jaxgen.models.oi_vae import oi_vae
from jaxgen.models.shallow_vq import shallow_vq
from jaxgen.models.stacked_autoencoder import stacked_autoencoder
from jaxgen.models.vae import vae
from jaxgen.models.vae_gan import vae_gan
from jaxgen.models.vq_vae import vq_vae
from jaxgen.models.vq_vae2 import vq_vae2

__all__ = [
    "autoencoder",
    "code_prior",
    "conditional_gan",
    "conditional_vae",
    "denoising_autoencoder",
    "discrete_vae",
    "gan",
    "info_vae",
    "oi_vae",
    "shallow_vq",
    "stacked_autoencoder",
    "vae",
    "vae_gan",
    "vq_vae",
    "vq_vae2",
]
