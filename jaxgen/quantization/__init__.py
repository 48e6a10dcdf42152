"""Quantization: scalar quantizers, clustering, codebooks."""

from jaxgen.quantization.codebook import (
    EmaCodebook,
    code_counts,
    codebook_from_ema,
    ema_codebook_update,
    init_ema_codebook,
    lookup,
    nearest_code,
    perplexity,
    revive_dead_codes,
    usage,
)

__all__ = [
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
]
