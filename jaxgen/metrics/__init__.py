"""Measures of generative models: pure functions of samples, features, codes and factors."""

from jaxgen.metrics.coverage import ModeCoverage, mode_counts, mode_coverage, reverse_kl
from jaxgen.metrics.latents import active_units
from jaxgen.metrics.reconstruction import psnr

__all__ = [
    # coverage of known modes
    "ModeCoverage",
    "mode_counts",
    "mode_coverage",
    "reverse_kl",
    # latents
    "active_units",
    # reconstructions
    "psnr",
]
