"""Spectral normalization against NumPy's singular values and the published gradient."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.nets.spectral import init_spectral, spectral_normalize

RNG = np.random.default_rng(0)
PARAMS = {
    "dense": {"kernel": RNG.normal(size=(5, 3)), "bias": RNG.normal(size=3)},
    "conv": {"kernel": RNG.normal(size=(2, 2, 3, 4))},
}


def largest(kernel):
    return np.linalg.svd(np.reshape(kernel, (-1, np.shape(kernel)[-1])), compute_uv=False)[0]


def test_a_kernel_is_divided_by_its_largest_singular_value_and_nothing_else_is(x64):
    params = jax.tree.map(jnp.asarray, PARAMS)
    normal, vectors = spectral_normalize(params, init_spectral(jax.random.key(0), params), iterations=200)
    for name, own in PARAMS.items():
        np.testing.assert_allclose(normal[name]["kernel"], own["kernel"] / largest(own["kernel"]), rtol=1e-8)
    np.testing.assert_array_equal(normal["dense"]["bias"], PARAMS["dense"]["bias"])
    for name, u in vectors.items():
        right = np.linalg.svd(np.reshape(PARAMS[name.split("/")[0]]["kernel"], (-1, len(u))))[2][0]
        np.testing.assert_allclose(np.abs(u @ right), 1, rtol=1e-8)


def test_one_iteration_a_call_finds_it_call_by_call(x64):
    params = jax.tree.map(jnp.asarray, PARAMS)
    vectors = init_spectral(jax.random.key(0), params)
    step = jax.jit(lambda vectors: spectral_normalize(params, vectors)[1])
    for _ in range(200):
        vectors = step(vectors)
    normal, kept = spectral_normalize(params, vectors, iterations=0)
    np.testing.assert_allclose(largest(normal["conv"]["kernel"]), 1, rtol=1e-8)
    jax.tree.map(np.testing.assert_array_equal, kept, vectors)


def test_the_gradient_takes_the_vectors_for_constants(x64):
    """(A − ⟨A, Ŵ⟩ v uᵀ) / σ, equation 12 of Miyato et al., for the loss ⟨A, Ŵ⟩."""
    weights, slope = PARAMS["dense"]["kernel"], RNG.normal(size=(5, 3))
    vectors = init_spectral(jax.random.key(1), {"kernel": jnp.asarray(weights)})

    def loss(kernel):
        return jnp.sum(slope * spectral_normalize({"kernel": kernel}, vectors, iterations=1)[0]["kernel"])

    [u] = vectors.values()
    for _ in range(2):
        v = weights @ u / np.linalg.norm(weights @ u)
        u, before = weights.T @ v / np.linalg.norm(weights.T @ v), u
    u, sigma = before, v @ weights @ before
    expected = (slope - np.sum(slope * weights / sigma) * np.outer(v, u)) / sigma
    np.testing.assert_allclose(jax.grad(loss)(jnp.asarray(weights)), expected, rtol=1e-10)


def test_a_kernel_of_zeros_stays_zero():
    params = {"kernel": jnp.zeros((3, 2))}
    vectors = init_spectral(jax.random.key(0), params)
    value, gradient = jax.value_and_grad(lambda p: jnp.sum(spectral_normalize(p, vectors)[0]["kernel"]))(params)
    assert value == 0
    assert np.all(np.isfinite(gradient["kernel"]))
