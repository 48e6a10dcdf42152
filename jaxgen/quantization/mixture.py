"""Gaussian mixtures by expectation–maximization, with four kinds of covariance."""

import functools
from typing import Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.scipy.linalg import solve_triangular
from jax.scipy.special import logsumexp
from jax.typing import ArrayLike
from jaxtyping import Float, Num, PRNGKeyArray

from jaxgen._checks import (
    as_float,
    as_non_negative_number,
    as_number,
    known,
    require,
    require_count,
    require_finite,
)
from jaxgen.quantization.clustering import check_points, kmeans
from jaxgen.quantization.nearest import nearest_code

Covariance = Literal["full", "diagonal", "spherical", "identity"]


class GaussianMixture(NamedTuple):
    """Weights, means, covariances as [K, dim, dim], [K, dim] or [K], and mean log-likelihood of a point."""

    weights: Float[Array, " components"]
    means: Float[Array, "components dim"]
    covariances: Float[Array, "components *shape"]
    log_likelihood: Float[Array, ""]


def gaussian_mixture(
    key: PRNGKeyArray,
    points: Float[ArrayLike, "..."],
    num_components: int,
    *,
    covariance: Covariance = "full",
    uniform_weights: bool = False,
    max_iterations: int = 200,
    tolerance: Num[ArrayLike, ""] = 1e-6,
    ridge: Num[ArrayLike, ""] = 1e-6,
    init: GaussianMixture | None = None,
) -> GaussianMixture:
    r"""Gaussian mixture fitted by expectation–maximization, started from the clusters of k-means.

    .. math::
        r_{ik} &\propto \pi_k \, N(x_i; \mu_k, \Sigma_k), \qquad
        \mu_k = \frac{\sum_i r_{ik} x_i}{\sum_i r_{ik}}, \\
        \Sigma_k &= \frac{\sum_i r_{ik} (x_i - \mu_k)(x_i - \mu_k)^T}{\sum_i r_{ik}} + \text{ridge} \cdot I

    With "identity" and uniform weights only the means are learned; as the points grow apart the
    responsibilities become hard and EM becomes Lloyd's iteration. A component that no point belongs to keeps
    its mean and covariance.

    Args:
        key: one key, for the seeds of k-means; unused where `init` is given.
        points: [points, dim], floating.
        num_components: number of components K.
        covariance: "full" [K, dim, dim], "diagonal" [K, dim], "spherical" [K], or "identity", not learned,
            returned as ones [K].
        uniform_weights: keep every weight at 1/K.
        max_iterations: the most EM iterations.
        tolerance: stop once the mean log-likelihood of a point rises by less, in nats; below 0, never.
        ridge: added to the variances, in squared units of the points, so that no component collapses. With "full" in
            float32 it must exceed the rounding of the largest variance, about 1e-6 of it.
        init: a mixture to start from.

    Returns:
        `GaussianMixture`; the log-likelihood is the mean over points, in nats, of the returned parameters.

    Raises:
        ValueError: fewer points than components, num_components or max_iterations below one, an unknown
            covariance, a negative ridge, an `init` of another shape, points that are not finite, a fit that is not
            (under `jit`, where that is not known, it is NaN).
        TypeError: integer points.

    Reference:
        Dempster, Laird and Rubin, Maximum likelihood from incomplete data via the EM algorithm, 1977.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> points = jnp.array([[-1.0], [1.0], [9.0], [11.0]])
        >>> mixture = gaussian_mixture(jax.random.key(0), points, 2, covariance="spherical")
        >>> sorted(mixture.means.ravel().round(2).tolist()), mixture.covariances.round(2).tolist()
        ([0.0, 10.0], [1.0, 1.0])
    """
    points = check_points(points, "num_components", num_components)
    require(
        covariance in get_args(Covariance),
        f"covariance must be one of {get_args(Covariance)}, got {covariance!r}",
    )
    num_components = require_count("num_components", num_components)
    max_iterations = require_count("max_iterations", max_iterations)
    least_rise, value = as_number("tolerance", tolerance, points.dtype), known(tolerance)
    require(value is None or not np.isnan(value), "tolerance must be a number, got NaN")
    spread = as_non_negative_number("ridge", ridge, points.dtype)
    if init is None:
        start = kmeans(key, points, num_components).assignments
    else:
        start = _check_start(init, _covariance_shape(covariance, num_components, points.shape[1]), points)
    fitted = _fit(points, start, num_components, covariance, uniform_weights, max_iterations, least_rise, spread)
    found = known(fitted.log_likelihood)
    require(
        found is None or bool(np.isfinite(found)),
        f"the fit is not finite: a covariance is singular in {points.dtype}, or the points are too large for it; "
        f"give a larger ridge than {ridge}, points of variances near 1, or points in float64",
    )
    return fitted


def mixture_log_joint(points: Float[ArrayLike, "..."], mixture: GaussianMixture) -> Float[Array, "points components"]:
    r"""Log of weight times density of each component at each point.

    .. math::
        \log \pi_k + \log N(x_i; \mu_k, \Sigma_k)

    Its logsumexp over components is the mixture's log-density, its softmax the posterior of the component.

    Args:
        points: [points, dim].
        mixture: as `gaussian_mixture` returns it.

    Returns:
        [points, components], in nats.

    Raises:
        ValueError: points of another dim than the means', parameters whose shapes do not match or that are known at
            call time to be none of a mixture.
        TypeError: integer points.

    Example:
        >>> import jax.numpy as jnp
        >>> mixture = GaussianMixture(jnp.ones(1), jnp.zeros((1, 2)), jnp.ones(1), jnp.array(0.0))
        >>> mixture_log_joint(jnp.zeros((1, 2)), mixture).round(4).tolist()
        [[-1.83...]]
    """
    points = as_float("points", points)
    _check_mixture("mixture", mixture)
    require(
        points.ndim == 2 and points.shape[1] == mixture.means.shape[1],
        f"points {points.shape} and means {mixture.means.shape} must have the same last dimension",
    )
    return _log_joint(points, mixture)


@functools.partial(jax.jit, inline=True)
def _log_joint(points: Array, mixture: GaussianMixture) -> Float[Array, "points components"]:
    constant = points.shape[1] * jnp.log(2 * jnp.pi)
    if mixture.covariances.ndim == 1:
        variances = mixture.covariances
        log_determinants = points.shape[1] * jnp.log(variances)
        whitened = _squared_distances(points, mixture.means) / variances
        return -0.5 * (whitened + log_determinants + constant) + jnp.log(mixture.weights)

    # Nothing but what goes in is kept for the gradient: the differences of all components would be many times that.
    @jax.checkpoint
    def one(mean_and_covariance: tuple[Array, Array]) -> Array:
        mean, covariance = mean_and_covariance
        difference = points - mean
        if covariance.ndim == 2:
            root = jnp.linalg.cholesky(covariance)
            whitened = solve_triangular(root, difference.T, lower=True).T
            log_determinant = 2 * jnp.sum(jnp.log(jnp.diagonal(root)))
        else:
            whitened = difference / jnp.sqrt(covariance)
            log_determinant = jnp.sum(jnp.log(covariance))
        return -0.5 * (jnp.sum(whitened**2, axis=1) + log_determinant + constant)

    # One component at a time, so that no [components, points, dim] array is formed, nor under a gradient.
    log_densities = lax.map(one, (mixture.means, mixture.covariances))
    return log_densities.T + jnp.log(mixture.weights)


def _squared_distances(points: Array, means: Array) -> Float[Array, "points components"]:
    """‖x − μ_k‖² by products, as ‖d‖² + 2 ⟨d, μ_n − μ_k⟩ + ‖μ_n − μ_k‖², where d = x − μ_n and μ_n is the nearest.

    It holds for any n, so the choice has no gradient. Expanded about another centre, ‖x − c‖² would swallow the
    digits of a variance that is small beside it; about the nearest mean, that mean's own distance loses none.
    """
    nearest = nearest_code(points, means)
    # Centred where most of the means are, which one far from all others does not move.
    differences, means = points - means[nearest], means - lax.stop_gradient(jnp.median(means, axis=0))
    products = jnp.matmul(differences, means.T, precision=lax.Precision.HIGHEST)
    own = jnp.take_along_axis(products, nearest[:, None], axis=1)
    apart = lax.map(jax.checkpoint(lambda mean: jnp.sum((mean - means) ** 2, axis=1)), means)
    return jnp.sum(differences**2, axis=1)[:, None] + 2 * (own - products) + apart[nearest]


@functools.partial(jax.jit, static_argnums=(2, 3, 4, 5))
def _fit(
    points: Array,
    start: GaussianMixture | Array,
    num_components: int,
    covariance: Covariance,
    uniform_weights: bool,
    max_iterations: int,
    tolerance: Array,
    ridge: Array,
) -> GaussianMixture:
    """EM from a mixture, or from the cluster of each point."""
    center = jnp.mean(points, axis=0)
    centered = points - center
    maximize = functools.partial(
        _maximize, centered, covariance=covariance, uniform_weights=uniform_weights, ridge=ridge
    )

    def expect(mixture: GaussianMixture) -> tuple[Array, Array]:
        log_joint = mixture_log_joint(centered, mixture)
        log_density = logsumexp(log_joint, axis=1, keepdims=True)
        return jnp.exp(log_joint - log_density), jnp.mean(log_density)

    def step(state: tuple[GaussianMixture, Array, Array]) -> tuple[GaussianMixture, Array, Array]:
        mixture, _, iteration = state
        responsibilities, log_likelihood = expect(mixture)
        rise = log_likelihood - mixture.log_likelihood
        return (
            maximize(responsibilities, mixture)._replace(log_likelihood=log_likelihood),
            rise,
            iteration + 1,
        )

    if isinstance(start, GaussianMixture):
        mixture = start._replace(means=start.means - center)
    else:
        hard = jax.nn.one_hot(start, num_components, dtype=points.dtype)
        mixture = maximize(hard, _standard_mixture(covariance, num_components, points))
    if uniform_weights:
        mixture = mixture._replace(weights=jnp.full_like(mixture.weights, 1 / num_components))
    mixture = mixture._replace(log_likelihood=jnp.array(-jnp.inf, points.dtype))
    state = (mixture, jnp.array(jnp.inf, points.dtype), jnp.array(0, jnp.int32))
    mixture, _, _ = lax.while_loop(lambda state: (state[1] >= tolerance) & (state[2] < max_iterations), step, state)
    return mixture._replace(means=mixture.means + center, log_likelihood=expect(mixture)[1])


def _maximize(
    points: Array,
    responsibilities: Array,
    previous: GaussianMixture,
    *,
    covariance: Covariance,
    uniform_weights: bool,
    ridge: Array,
) -> GaussianMixture:
    """Weights, means and covariances of the points each component is responsible for."""
    totals = jnp.sum(responsibilities, axis=0)
    held = totals > 10 * jnp.finfo(points.dtype).eps
    safe = jnp.where(held, totals, 1.0)
    sums = jnp.matmul(responsibilities.T, points, precision=lax.Precision.HIGHEST)
    means = jnp.where(held[:, None], sums / safe[:, None], previous.means)

    def spread(component: tuple[Array, Array, Array]) -> Array:
        mean, share, total = component
        difference = points - mean
        if covariance == "full":
            scatter = jnp.matmul(difference.T * share, difference, precision=lax.Precision.HIGHEST)
            return scatter / total + ridge * jnp.eye(points.shape[1], dtype=points.dtype)
        variances = jnp.matmul(share, difference**2, precision=lax.Precision.HIGHEST) / total + ridge
        return variances if covariance == "diagonal" else jnp.mean(variances)

    if covariance == "identity":
        covariances = jnp.ones_like(totals)
    else:
        covariances = lax.map(spread, (means, responsibilities.T, safe))
        kept = held.reshape((-1,) + (1,) * (covariances.ndim - 1))
        covariances = jnp.where(kept, covariances, previous.covariances)
    weights = jnp.full_like(totals, 1 / totals.shape[0]) if uniform_weights else totals / jnp.sum(totals)
    return GaussianMixture(weights, means, covariances, previous.log_likelihood)


def _check_start(init: GaussianMixture, shape: tuple[int, ...], points: Array) -> GaussianMixture:
    _check_mixture("init", init)
    means_shape = (shape[0], points.shape[1])
    require(
        init.means.shape == means_shape and init.covariances.shape == shape,
        f"init must have means {means_shape} and covariances {shape}, "
        f"got {init.means.shape} and {init.covariances.shape}",
    )
    return jax.tree.map(lambda x: jnp.asarray(x).astype(points.dtype), init)


def _check_mixture(name: str, mixture: GaussianMixture) -> None:
    """Shapes that belong together; where the numbers are known, weights not below 0 and variances above it."""
    weights, means, covariances = (jnp.shape(x) for x in mixture[:3])
    require(
        len(means) == 2 and weights == means[:1] and covariances in (weights, means, (*means, means[-1])),
        f"{name} must have weights [K], means [K, dim] and covariances [K], [K, dim] or [K, dim, dim], "
        f"got {weights}, {means} and {covariances}",
    )
    if any(known(x) is None for x in mixture[:3]):
        return
    for part in ("weights", "means", "covariances"):
        require_finite(f"{name}.{part}", getattr(mixture, part))
    # NumPy's arrays, since under `jit` JAX's would be traced though they are known.
    spreads = np.asarray(mixture.covariances)
    variances = np.diagonal(spreads, axis1=1, axis2=2) if spreads.ndim == 3 else spreads
    lightest, narrowest = float(np.asarray(mixture.weights).min()), float(variances.min())
    require(lightest >= 0, f"{name}.weights must not be negative, got {lightest}")
    require(narrowest > 0, f"{name}.covariances must have variances above 0, got {narrowest}")


def _standard_mixture(covariance: Covariance, num_components: int, points: Array) -> GaussianMixture:
    """Where a component stays that never held a point."""
    dim = points.shape[1]
    shape = _covariance_shape(covariance, num_components, dim)
    covariances = jnp.broadcast_to(jnp.eye(dim), shape) if covariance == "full" else jnp.ones(shape)
    return GaussianMixture(
        jnp.full(num_components, 1 / num_components, points.dtype),
        jnp.zeros((num_components, dim), points.dtype),
        covariances.astype(points.dtype),
        jnp.array(-jnp.inf, points.dtype),
    )


def _covariance_shape(covariance: Covariance, num_components: int, dim: int) -> tuple[int, ...]:
    return (num_components, *{"full": (dim, dim), "diagonal": (dim,)}.get(covariance, ()))
