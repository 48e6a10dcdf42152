"""Model factories: keyword arguments in, a ``jaxgen.model.Model`` out."""

from jaxgen.models.autoencoder import autoencoder, denoising_autoencoder
from jaxgen.models.gan import gan
from jaxgen.models.stacked_autoencoder import stacked_autoencoder
from jaxgen.models.vae import vae
from jaxgen.models.vq_vae import vq_vae

__all__ = ["autoencoder", "denoising_autoencoder", "gan", "stacked_autoencoder", "vae", "vq_vae"]
