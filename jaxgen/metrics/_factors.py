"""Codes beside the ground-truth factors of the same examples: the input of the disentanglement scores."""

import numpy as np
from jax.typing import ArrayLike

from jaxgen._checks import require_finite
from jaxgen.metrics._points import require_matrix


def paired(codes: ArrayLike, factors: ArrayLike, *, min_latents: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Codes in float64, and factors as the index 0, 1, … of each value in its column."""
    require_matrix("codes", codes, min_rows=2)
    require_matrix("factors", factors, min_rows=2)
    if np.shape(codes)[0] != np.shape(factors)[0]:
        raise ValueError(
            f"codes and factors must describe the same examples, got shapes {np.shape(codes)} and {np.shape(factors)}"
        )
    if np.shape(codes)[1] < min_latents:
        raise ValueError(f"codes must have at least {min_latents} latents, got shape {np.shape(codes)}")
    labels = np.asarray(factors)
    if labels.dtype.kind not in "iub":
        raise TypeError(f"factors must be integers, got {labels.dtype}; pass the index of each factor's value")
    values = np.asarray(codes, dtype=np.float64)
    require_finite("codes", values)
    indices = np.stack([np.unique(column, return_inverse=True)[1] for column in labels.T], axis=1)
    constant = np.flatnonzero(indices.max(axis=0) == 0)
    if constant.size:
        raise ValueError(f"factors must vary, got one value only in column {constant[0]}; leave it out")
    return values, indices


def split(num_examples: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A random half of the examples to fit on and the other half to score on."""
    order = np.random.default_rng(seed).permutation(num_examples)
    return order[: num_examples // 2], order[num_examples // 2 :]


def active(codes: np.ndarray, threshold: float | int) -> np.ndarray:
    """Codes that vary, in standard deviations: a collapsed latent must not win by being small."""
    variances = codes.var(axis=0)
    keep = variances > threshold
    return codes[:, keep] / np.sqrt(variances[keep])
