"""Measures of generative models: pure functions of samples, features, codes and factors."""

from jaxgen.metrics.coverage import ModeCoverage, mode_counts, mode_coverage, reverse_kl
from jaxgen.metrics.disentanglement import (
    DCI,
    dci,
    disentanglement_completeness,
    mutual_information_gap,
    sap,
)
from jaxgen.metrics.frechet import (
    FeatureDistance,
    FeatureStatistics,
    feature_statistics,
    frechet_distance,
    frechet_feature_distance,
)
from jaxgen.metrics.importance import importance_weighted_log_likelihood
from jaxgen.metrics.interventions import beta_vae_score, factor_vae_score
from jaxgen.metrics.kernel import kernel_distance
from jaxgen.metrics.latents import active_units, mutual_information
from jaxgen.metrics.likelihood import parzen_log_likelihood
from jaxgen.metrics.precision import PrecisionRecall, precision_recall
from jaxgen.metrics.reconstruction import psnr

__all__ = [
    # coverage of known modes
    "ModeCoverage",
    "mode_counts",
    "mode_coverage",
    "reverse_kl",
    # distances between sets of features
    "FeatureDistance",
    "FeatureStatistics",
    "PrecisionRecall",
    "feature_statistics",
    "frechet_distance",
    "frechet_feature_distance",
    "kernel_distance",
    "precision_recall",
    # latents
    "active_units",
    "mutual_information",
    # disentanglement of codes, given the factors
    "DCI",
    "beta_vae_score",
    "dci",
    "disentanglement_completeness",
    "factor_vae_score",
    "mutual_information_gap",
    "sap",
    # likelihood and reconstructions
    "importance_weighted_log_likelihood",
    "parzen_log_likelihood",
    "psnr",
]
