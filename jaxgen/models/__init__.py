"""Model factories: keyword arguments in, a ``jaxgen.model.Model`` out."""

from jaxgen.models.vae import vae

__all__ = ["vae"]
