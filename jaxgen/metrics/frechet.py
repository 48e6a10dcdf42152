"""The Fréchet distance between two sets of features, in float64 on the host."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Float, Float64

from jaxgen._checks import require_finite, require_real
from jaxgen.metrics._points import require_matrix

#: Examples whose features are computed at once.
_BATCH = 500


class FeatureDistance(NamedTuple):
    """A Fréchet distance with what it means nothing without.

    Attributes:
      distance: in squared units of the features.
      features: what they are.
      num_real: real examples.
      num_generated: generated ones.
    """

    distance: float
    features: str
    num_real: int
    num_generated: int

    def __str__(self) -> str:
        counts = f"{self.num_real:,} real and {self.num_generated:,} generated examples"
        return f"{self.distance:.4g} (features: {self.features}; {counts})"


class FeatureStatistics(NamedTuple):
    """Mean and unbiased covariance of a set of features, in float64."""

    mean: Float64[np.ndarray, " dims"]
    covariance: Float64[np.ndarray, "dims dims"]


def feature_statistics(features: Float[ArrayLike, "*shape"]) -> FeatureStatistics:
    r"""Mean and covariance of features, which the Fréchet distance compares.

    .. math::
        \mu = \tfrac1N \sum_i f_i, \qquad \Sigma = \tfrac1{N-1} \sum_i (f_i - \mu)(f_i - \mu)^\top

    Args:
      features: [examples, dims], with no fewer examples than dimensions: with fewer the covariance is
        singular and the distance says more about the number of examples than about the model.

    Returns:
      `FeatureStatistics(mean, covariance)`, NumPy arrays in float64 whatever the precision of the features.

    Raises:
      ValueError: if `features` is not a matrix, has fewer rows than columns or than two, or is not finite.

    Reference:
      Heusel, Ramsauer, Unterthiner, Nessler, Hochreiter, GANs trained by a two time-scale update rule
      converge to a local Nash equilibrium, 2017.

    Example:
      >>> import numpy as np
      >>> feature_statistics(np.array([[0.0], [2.0]])).covariance.tolist()
      [[2.0]]
    """
    require_matrix("features", features, min_rows=2)
    num_examples, num_dims = np.shape(features)
    if num_examples < num_dims:
        raise ValueError(
            f"features must hold at least as many examples as dimensions, got shape {np.shape(features)}; "
            "pass more examples or use a smaller feature extractor"
        )
    rows = np.asarray(features, dtype=np.float64)
    require_finite("features", rows)
    mean = rows.mean(axis=0)
    centered = rows - mean
    return FeatureStatistics(mean, centered.T @ centered / (num_examples - 1))


def frechet_distance(
    mean_a: Float[ArrayLike, "..."],
    cov_a: Float[ArrayLike, "..."],
    mean_b: Float[ArrayLike, "..."],
    cov_b: Float[ArrayLike, "..."],
) -> float:
    r"""Squared 2-Wasserstein distance between two Gaussians; on Inception features, FID.

    .. math::
        \|\mu_a - \mu_b\|^2 + \operatorname{Tr}\left(\Sigma_a + \Sigma_b
        - 2 (\Sigma_a^{1/2} \Sigma_b \Sigma_a^{1/2})^{1/2}\right)

    The product is taken in its symmetric form, whose eigenvalues are real, and in float64. From 0, the best,
    upwards. It is biased upwards where there are few examples and means nothing without its feature extractor:
    report both with the figure, as `frechet_feature_distance` does.

    Args:
      mean_a: [dims].
      cov_a: [dims, dims], symmetric and positive semi-definite.
      mean_b: [dims].
      cov_b: [dims, dims], likewise.

    Returns:
      A number, in squared units of the features.

    Raises:
      ValueError: if the shapes do not match, a value is not finite, or a covariance is not symmetric and
        positive semi-definite.

    Reference:
      Dowson and Landau, The Fréchet distance between multivariate normal distributions, 1982;
      Heusel and others, 2017, for its use on generative models.

    Example:
      >>> import numpy as np
      >>> frechet_distance(np.zeros(2), np.eye(2), np.array([3.0, 4.0]), 4 * np.eye(2))
      27.0
    """
    for name, x in {"mean_a": mean_a, "cov_a": cov_a, "mean_b": mean_b, "cov_b": cov_b}.items():
        require_real(name, x)
    first, second = np.asarray(mean_a, dtype=np.float64), np.asarray(mean_b, dtype=np.float64)
    if first.ndim != 1 or first.size < 1 or first.shape != second.shape:
        raise ValueError(f"mean_a and mean_b must have equal shapes [dims], got {first.shape} and {second.shape}")
    require_finite("mean_a", first)
    require_finite("mean_b", second)
    values_a, vectors_a = _eigen("cov_a", cov_a, first.size)
    values_b, vectors_b = _eigen("cov_b", cov_b, first.size)
    # √Σa Σb √Σa = C Cᵀ with C = √Σa √Σb: the singular values of C are the roots of its eigenvalues, and no
    # digits are lost to squaring where the covariances are nearly singular.
    cross = np.sqrt(values_a)[:, None] * (vectors_a.T @ vectors_b) * np.sqrt(values_b)
    trace_root = np.linalg.svd(cross, compute_uv=False).sum()
    return max(0.0, float(np.sum((first - second) ** 2) + values_a.sum() + values_b.sum() - 2 * trace_root))


def frechet_feature_distance(
    real: Float[ArrayLike, "*shape_real"],
    generated: Float[ArrayLike, "*shape_generated"],
    *,
    extractor: Callable[..., ArrayLike],
    features: str,
) -> FeatureDistance:
    r"""The Fréchet distance of two sets of examples, from their features, with both named.

    .. math::
        \|\mu_a - \mu_b\|^2 + \operatorname{Tr}\left(\Sigma_a + \Sigma_b
        - 2 (\Sigma_a^{1/2} \Sigma_b \Sigma_a^{1/2})^{1/2}\right)

    with the mean and the unbiased covariance of the features :math:`f(x)` of each set. Features are the activations of
    any network, such as the last hidden layer of a classifier of the data, or the pixels themselves. Figures compare
    where extractor and numbers of examples are the same, and nowhere else.

    Args:
      real: [examples, ...].
      generated: [other examples, ...], of the same shape each.
      extractor: examples [batch, ...] to features [batch, dims]; given five hundred at a time.
      features: what these are, stated with the figure: "Inception v3, pool3", "pixels".

    Returns:
      `FeatureDistance(distance, features, num_real, num_generated)`, whose text says all four.

    Raises:
      TypeError: if there is no extractor.
      ValueError: if the features have no name, examples differ in shape, or features are no matrix with a row for each
        example, not finite, or of more dimensions than there are examples.

    Reference:
      Heusel and others, 2017.

    Example:
      >>> import numpy as np
      >>> x = np.array([[0.0], [2.0]])
      >>> print(frechet_feature_distance(x, x + 3, extractor=lambda x: x, features="the numbers"))
      9 (features: the numbers; 2 real and 2 generated examples)
    """
    for name, x in {"real": real, "generated": generated}.items():
        require_real(name, x)
        if np.ndim(x) < 2 or np.shape(x)[0] < 2:
            raise ValueError(
                f"{name} must hold at least 2 examples [examples, ...], got shape {np.shape(x)}; pass more"
            )
    if not callable(extractor):
        raise TypeError(
            f"the Fréchet distance needs a feature extractor, a function of examples, got {extractor!r}; "
            "take a classifier's hidden layer, or the pixels: lambda x: x.reshape(len(x), -1)"
        )
    if not isinstance(features, str) or not features.strip():
        raise ValueError(f"features must say what they are, which the figure means nothing without, got {features!r}")
    if np.shape(real)[1:] != np.shape(generated)[1:]:
        raise ValueError(
            f"real and generated examples must have one shape, got {np.shape(real)[1:]} and {np.shape(generated)[1:]}"
        )

    def statistics(x: ArrayLike) -> FeatureStatistics:
        examples = np.asarray(x)
        batches = [examples[start : start + _BATCH] for start in range(0, len(examples), _BATCH)]
        found = [np.asarray(jax.block_until_ready(extractor(batch))) for batch in batches]
        for batch, part in zip(batches, found):
            if np.shape(part)[:1] != (len(batch),):
                raise ValueError(
                    f"the extractor must give one row of features for each example, got shape {part.shape} for "
                    f"{len(batch)} examples"
                )
        return feature_statistics(np.concatenate(found))

    distance = frechet_distance(*statistics(real), *statistics(generated))
    return FeatureDistance(distance, features, np.shape(real)[0], np.shape(generated)[0])


def _eigen(name: str, covariance: ArrayLike, num_dims: int) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues and eigenvectors of a covariance, refused where it is none."""
    matrix = np.asarray(covariance, dtype=np.float64)
    if matrix.shape != (num_dims, num_dims):
        raise ValueError(f"{name} must have shape {(num_dims, num_dims)} to match the mean, got {matrix.shape}")
    largest = np.abs(matrix).max(initial=0.0)
    # Float32 covariances are accepted, with their rounding.
    if not np.isfinite(largest) or np.abs(matrix - matrix.T).max(initial=0.0) > 1e-5 * largest:
        raise ValueError(f"{name} must be finite and symmetric, got entries up to {largest:g}")
    values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
    if values.min(initial=0.0) < -1e-5 * largest:
        raise ValueError(f"{name} must be positive semi-definite, got the eigenvalue {values.min():g}")
    return np.maximum(values, 0.0), vectors
