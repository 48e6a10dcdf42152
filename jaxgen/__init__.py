"""Autoencoders, VAEs, vector quantization and GANs in JAX and Flax."""

__version__ = "0.1.0"
