"""Model factories: keyword arguments in, a ``jaxgen.model.Model`` out."""

from jaxgen.models.gan import gan
from jaxgen.models.vae import vae
from jaxgen.models.vq_vae import vq_vae

__all__ = ["gan", "vae", "vq_vae"]
