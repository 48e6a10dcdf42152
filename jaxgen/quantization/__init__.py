"""Quantization: scalar quantizers, clustering, codebooks, and codes without a codebook."""

from jaxgen.quantization.clustering import KMeans, kmeans
from jaxgen.quantization.codebook import (
    EmaCodebook,
    codebook_from_ema,
    ema_codebook_update,
    init_ema_codebook,
    revive_dead_codes,
)
from jaxgen.quantization.counts import code_counts, perplexity, usage
from jaxgen.quantization.finite import finite_scalar_codes, finite_scalar_indices, finite_scalar_quantize
from jaxgen.quantization.mixture import GaussianMixture, gaussian_mixture, mixture_log_joint
from jaxgen.quantization.nearest import lookup, nearest_code
from jaxgen.quantization.residual import residual_kmeans, residual_lookup, residual_nearest_codes
from jaxgen.quantization.scalar import (
    ScalarQuantizer,
    lloyd_max,
    lloyd_max_from_samples,
    optimal_scalar_quantizer,
    quantize_scalar,
)

__all__ = [
    # Scalar quantizers
    "ScalarQuantizer",
    "lloyd_max",
    "lloyd_max_from_samples",
    "optimal_scalar_quantizer",
    "quantize_scalar",
    # Clustering
    "GaussianMixture",
    "KMeans",
    "gaussian_mixture",
    "kmeans",
    "mixture_log_joint",
    # Codebooks
    "EmaCodebook",
    "code_counts",
    "codebook_from_ema",
    "ema_codebook_update",
    "init_ema_codebook",
    "lookup",
    "nearest_code",
    "perplexity",
    "revive_dead_codes",
    "usage",
    # Finite scalar quantization
    "finite_scalar_codes",
    "finite_scalar_indices",
    "finite_scalar_quantize",
    # Residual quantization
    "residual_kmeans",
    "residual_lookup",
    "residual_nearest_codes",
]
