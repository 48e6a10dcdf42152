"""EM against scikit-learn from the same start, densities against SciPy, and the limit of k-means."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import multivariate_normal
from sklearn.mixture import GaussianMixture as Reference

from jaxgen.quantization import GaussianMixture, gaussian_mixture, kmeans, mixture_log_joint

KINDS = {"full": "full", "diagonal": "diag", "spherical": "spherical"}
IDENTITY = {"full": np.eye(3), "diagonal": np.ones(3), "spherical": 1.0, "identity": 1.0}


def points_of(seed, scale=1.0):
    rng = np.random.default_rng(seed)
    factors = rng.normal(size=(4, 3, 3))
    which = rng.choice(4, 300, p=[0.1, 0.2, 0.3, 0.4])
    return scale * (
        rng.normal(0, 3, (4, 3))[which] + np.einsum("nij,nj->ni", factors[which], rng.normal(size=(300, 3)))
    )


def start_of(points, kind, num_components=4):
    return GaussianMixture(
        jnp.full(num_components, 1 / num_components),
        jnp.asarray(points[:num_components]),
        jnp.stack([jnp.asarray(IDENTITY[kind])] * num_components),
        jnp.array(0.0),
    )


@pytest.mark.parametrize("kind", KINDS)
def test_em_is_scikit_learns_from_the_same_start(x64, kind):
    points = points_of(0) + 50
    start = start_of(points, kind)
    ours = gaussian_mixture(
        jax.random.key(0), points, 4, covariance=kind, init=start, max_iterations=60, tolerance=-1.0
    )
    reference = Reference(
        4,
        covariance_type=KINDS[kind],
        weights_init=np.asarray(start.weights),
        means_init=points[:4],
        precisions_init=np.stack([np.asarray(IDENTITY[kind])] * 4),
        max_iter=60,
        tol=0.0,
        reg_covar=1e-6,
    )
    with pytest.warns(Warning, match="converge"):
        reference.fit(points)
    np.testing.assert_allclose(ours.weights, reference.weights_, rtol=1e-7)
    np.testing.assert_allclose(ours.means, reference.means_, rtol=1e-7)
    np.testing.assert_allclose(ours.covariances, reference.covariances_, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(ours.log_likelihood, reference.score(points), rtol=1e-8)


@pytest.mark.parametrize("uniform_weights", [False, True])
@pytest.mark.parametrize("kind", IDENTITY)
def test_log_likelihood_never_falls(x64, kind, uniform_weights):
    points = points_of(1)
    mixture, values = start_of(points, kind), []
    for _ in range(12):
        mixture = gaussian_mixture(
            jax.random.key(0),
            points,
            4,
            covariance=kind,
            uniform_weights=uniform_weights,
            max_iterations=1,
            ridge=0.0,
            init=mixture,
        )
        values.append(float(mixture.log_likelihood))
    assert np.all(np.diff(values) >= -1e-12)
    assert values[-1] > values[0] + 1e-3
    if uniform_weights:
        np.testing.assert_array_equal(mixture.weights, np.full(4, 0.25))
    if kind == "identity":
        np.testing.assert_array_equal(mixture.covariances, np.ones(4))


@pytest.mark.parametrize("kind", IDENTITY)
def test_log_joint_is_scipys_density(x64, kind):
    rng = np.random.default_rng(2)
    factors = rng.normal(size=(2, 3, 3))
    covariances = {
        "full": factors @ factors.transpose(0, 2, 1) + np.eye(3),
        "diagonal": rng.uniform(0.5, 2, (2, 3)),
        "spherical": np.array([0.3, 2.0]),
        "identity": np.ones(2),
    }[kind]
    weights, means, points = np.array([0.3, 0.7]), rng.normal(size=(2, 3)), points_of(2)
    mixture = GaussianMixture(*(jnp.asarray(x) for x in (weights, means, covariances, 0.0)))
    expected = [
        np.log(weights[k])
        + multivariate_normal(means[k], covariances[k] * (1 if kind == "full" else np.eye(3))).logpdf(points)
        for k in range(2)
    ]
    np.testing.assert_allclose(jax.jit(mixture_log_joint)(points, mixture), np.transpose(expected), rtol=1e-10)


def sizes(jaxpr):
    """Sizes of all that a traced function computes, in its loops too."""
    for equation in jaxpr.eqns:
        yield from (math.prod(variable.aval.shape) for variable in equation.outvars)
        for inner in jax.tree.leaves(list(equation.params.values()), is_leaf=lambda p: hasattr(p, "eqns")):
            inner = getattr(inner, "jaxpr", inner)
            yield from sizes(inner) if hasattr(inner, "eqns") else ()


@pytest.mark.parametrize("kind", ["full", "diagonal", "spherical"])
def test_the_gradient_keeps_no_difference_of_every_point_to_every_mean(kind):
    components, n, dim = 6, 50, 9
    covariances = {"full": jnp.stack([jnp.eye(dim)] * components), "diagonal": jnp.ones((components, dim))}
    mixture = GaussianMixture(
        jnp.full(components, 1 / components),
        jax.random.normal(jax.random.key(0), (components, dim)),
        covariances.get(kind, jnp.ones(components)),
        jnp.array(0.0),
    )

    def loss(points, mixture):
        return jax.nn.logsumexp(mixture_log_joint(points, mixture), axis=1).sum()

    traced = jax.make_jaxpr(jax.grad(loss, argnums=(0, 1)))(jnp.ones((n, dim)), mixture)
    largest = max(sizes(traced.jaxpr))
    assert n * dim <= largest < 2 * max(n * dim, n * components, components * dim * dim)
    assert largest < components * n * dim


def test_spherical_densities_have_the_gradient_of_the_definition(x64):
    rng = np.random.default_rng(5)
    points, means = rng.normal(size=(12, 3)) + 100, rng.normal(size=(4, 3)) + 100
    weights, variances, wanted = rng.uniform(1, 2, 4), rng.uniform(0.5, 2, 4), rng.normal(size=(12, 4))

    def by_definition(points, weights, means, variances):
        apart = jnp.square(points[:, None] - means).sum(axis=-1)
        return jnp.vdot(wanted, jnp.log(weights) - apart / 2 / variances - 1.5 * jnp.log(2 * jnp.pi * variances))

    def ours(points, *parameters):
        return jnp.vdot(wanted, mixture_log_joint(points, GaussianMixture(*parameters, jnp.array(0.0))))

    given = tuple(jnp.asarray(a) for a in (points, weights, means, variances))
    for found, expected in zip(
        jax.grad(ours, argnums=(0, 1, 2, 3))(*given), jax.grad(by_definition, argnums=(0, 1, 2, 3))(*given), strict=True
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("offset", [0.0, 4096.0])
def test_narrow_spherical_densities_keep_their_digits_in_float32(offset):
    # Means 1000 of their deviations apart and more, far from the origin: exact in float32, as are the points.
    rng = np.random.default_rng(6)
    means = rng.integers(-8, 9, (5, 4)) * 16 + offset
    points = means.repeat(10, axis=0) + rng.integers(-8, 9, (50, 4)) / 256
    variances = np.full(5, 2.0**-12)
    expected = -np.square(points[:, None] - means).sum(axis=-1) / 2 / variances - 2 * np.log(2 * np.pi * variances)
    given = [jnp.asarray(a, jnp.float32) for a in (np.ones(5), means, variances, 0.0)]
    found = mixture_log_joint(jnp.asarray(points, jnp.float32), GaussianMixture(*given))
    np.testing.assert_allclose(found.max(axis=1), expected.max(axis=1), rtol=1e-5)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_returned_log_likelihood_is_that_of_the_returned_parameters(x64):
    points = points_of(3)
    mixture = gaussian_mixture(jax.random.key(0), points, 3)
    density = sum(
        float(w) * multivariate_normal(np.asarray(m), np.asarray(c)).pdf(points)
        for w, m, c in zip(mixture.weights, mixture.means, mixture.covariances)
    )
    np.testing.assert_allclose(mixture.log_likelihood, np.mean(np.log(density)), rtol=1e-10)


def test_one_full_component_is_the_sample_mean_and_covariance(x64):
    points = points_of(4)
    mixture = gaussian_mixture(jax.random.key(0), points, 1, ridge=0.0)
    np.testing.assert_allclose(mixture.means[0], points.mean(0), rtol=1e-10)
    np.testing.assert_allclose(mixture.covariances[0], np.cov(points.T, bias=True), rtol=1e-10)


def test_identity_and_uniform_weights_become_k_means_as_points_grow_apart(x64):
    points = points_of(5, scale=1e3)
    mixture = gaussian_mixture(
        jax.random.key(1), points, 6, covariance="identity", uniform_weights=True, init=start_of(points, "identity", 6)
    )
    clusters = kmeans(jax.random.key(1), points, 6, init=points[:6])
    np.testing.assert_allclose(mixture.means, clusters.centroids, rtol=1e-8)


@pytest.mark.parametrize("kind", KINDS)
def test_ridge_is_added_to_the_variances(x64, kind):
    points = points_of(4)
    bare, ridged = (gaussian_mixture(jax.random.key(0), points, 1, covariance=kind, ridge=r) for r in (0.0, 0.5))
    np.testing.assert_allclose(ridged.covariances - bare.covariances, 0.5 * np.array([IDENTITY[kind]]), atol=1e-10)


def test_em_stops_at_the_first_rise_below_the_tolerance(x64):
    points, tolerance = points_of(1), 1e-3
    steps, values = [start_of(points, "diagonal")], []
    for _ in range(40):
        one = {"covariance": "diagonal", "init": steps[-1], "max_iterations": 1, "tolerance": -1.0}
        steps.append(gaussian_mixture(jax.random.key(0), points, 4, **one))
        values.append(float(steps[-1].log_likelihood))
    # A rise is known one step later: step n sees the likelihood of the parameters before it.
    last = 2 + int(np.argmax(np.diff(values) < tolerance))
    assert 3 < last < 40
    stopped = gaussian_mixture(
        jax.random.key(0), points, 4, covariance="diagonal", init=steps[0], tolerance=tolerance, max_iterations=100
    )
    np.testing.assert_allclose(stopped.means, steps[last + 1].means, rtol=1e-9)


def test_uniform_weights_ignore_those_of_the_start(x64):
    points = points_of(1)
    start = start_of(points, "spherical")
    skewed = start._replace(weights=jnp.array([0.97, 0.01, 0.01, 0.01]))
    even, uneven = (
        gaussian_mixture(
            jax.random.key(0), points, 4, covariance="spherical", uniform_weights=True, init=init, max_iterations=1
        )
        for init in (start, skewed)
    )
    np.testing.assert_array_equal(uneven.means, even.means)


def test_float32_far_from_the_origin_keeps_its_covariances():
    # A spread of a few steps of the floats at 8192: a mean rounded there would enter the covariance.
    steps = np.random.default_rng(7).integers(-8, 9, (300, 3)) / 1024
    mixture = gaussian_mixture(jax.random.key(0), (steps + 8192).astype(np.float32), 1, ridge=0.0)
    np.testing.assert_allclose(mixture.covariances[0] * 1024**2, np.cov(steps.T, bias=True) * 1024**2, atol=0.01)


def test_a_component_without_points_stays_where_it_was(x64):
    points = points_of(6)
    start = start_of(points, "diagonal")
    start = start._replace(means=start.means.at[2].set(1e4))
    mixture = gaussian_mixture(jax.random.key(0), points, 4, covariance="diagonal", init=start, max_iterations=5)
    np.testing.assert_allclose(mixture.means[2], np.full(3, 1e4), rtol=1e-12)
    np.testing.assert_array_equal(mixture.covariances[2], np.ones(3))
    assert float(mixture.weights[2]) == 0
    assert np.isfinite(mixture.log_likelihood)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_components": 400}, r"\(300, 3\) are fewer.*400"),
        ({"num_components": 2, "ridge": -1.0}, r"ridge.*-1"),
        ({"num_components": 0}, r"num_components.*0"),
        ({"num_components": 2, "covariance": "tied"}, r"covariance must be one of .*'full'.* got 'tied'"),
        ({"num_components": 2, "max_iterations": 0}, r"max_iterations.*0"),
        (
            {"num_components": 2, "init": start_of(np.ones((4, 3)), "full")},
            r"init must have means \(2, 3\) .* got \(4, 3\)",
        ),
    ],
)
@pytest.mark.usefixtures("as_users_call")
def test_mixture_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        gaussian_mixture(jax.random.key(0), points_of(0), **arguments)


def test_points_of_another_width_or_type_are_refused(as_users_call):
    mixture = start_of(points_of(0), "full")
    with pytest.raises(ValueError, match=r"points \(5, 2\) and means \(4, 3\)"):
        mixture_log_joint(np.ones((5, 2)), mixture)
    with pytest.raises(TypeError, match="points must be floating point, got int"):
        gaussian_mixture(jax.random.key(0), np.ones((5, 2), int), 2)
