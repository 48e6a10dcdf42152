"""Hyperparameters are computed with in the data's type: no type of the caller's wraps, rounds or promotes a result."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import losses as L

RNG = np.random.default_rng(11)
X, Y = RNG.normal(size=(2, 6, 3)).astype(np.float32)
NLL, KL = np.abs(RNG.normal(size=(2, 6))).astype(np.float32)


def critic(x):
    return jnp.sum(jnp.square(x), axis=1)


CALLS = {
    "mmd": lambda n: L.maximum_mean_discrepancy(X, Y, bandwidth=n),
    "mmd, rbf": lambda n: L.maximum_mean_discrepancy(X, Y, kernel="rbf", bandwidth=n),
    "optimal scale": lambda n: L.optimal_gaussian_scale(X, Y, floor=n),
    "gaussian": lambda n: L.gaussian_nll(X, Y, scale=n),
    "isotropic": lambda n: L.kl_isotropic_gaussian(X, n),
    "bits": lambda n: L.bits_per_dim(NLL, 7, bin_width=n),
    "elbo": lambda n: L.negative_elbo(NLL, KL, beta=n),
    "free bits": lambda n: L.free_bits(X * X, floor=n),
    "prox": lambda n: L.prox_group_lasso(X, n, axis=1),
    "penalty": lambda n: L.gradient_penalty(critic, X, Y, jax.random.key(0), target=n),
}
TYPES = [np.uint8, np.float16, jnp.bfloat16, np.int64, np.float64, jnp.int32, jnp.float32]


@pytest.mark.parametrize("name", CALLS)
def test_a_number_counts_for_its_value_whatever_its_type(name):
    for value in (16, 200):
        expected = CALLS[name](float(value))
        for given in TYPES:
            np.testing.assert_array_equal(CALLS[name](given(value)), expected)
        np.testing.assert_allclose(jax.jit(CALLS[name])(value), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", CALLS)
def test_a_wide_number_leaves_the_data_their_type(x64, name):
    assert CALLS[name](np.float64(2)).dtype == np.float32
    assert CALLS[name](jnp.asarray(2.0)).dtype == np.float32


@pytest.mark.parametrize("size", [np.int32(10**7), np.uint16(60_000), np.int64(10**12)])
@pytest.mark.parametrize("estimator", ["weighted", "stratified"])
def test_the_size_of_a_data_set_does_not_wrap(size, estimator, as_users_call):

    def terms(n):
        return L.kl_decomposition(X, Y, 0 * X, dataset_size=n, estimator=estimator)

    np.testing.assert_array_equal(terms(size), terms(int(size)))
    if size < 2**31:
        known = jnp.int32(size)
        np.testing.assert_allclose(jax.jit(lambda: jnp.stack(terms(known)))(), terms(int(size)), rtol=1e-5)


def test_kernels_of_a_width_whose_square_underflows():
    # Different points are infinitely far then; equal ones, on the diagonal of the biased estimate, are not.
    for kernel in ("imq", "rbf"):

        def discrepancy(x, h, unbiased, kernel=kernel):
            return L.maximum_mean_discrepancy(x, Y, kernel=kernel, bandwidth=h, unbiased=unbiased)

        np.testing.assert_allclose(jax.jit(discrepancy, static_argnums=2)(X, 1e-25, False), 2 / 6, rtol=1e-6)
        value, gradient = jax.jit(jax.value_and_grad(discrepancy), static_argnums=2)(X, 1e-25, True)
        assert abs(value) < 1e-6
        np.testing.assert_array_equal(gradient, 0)


def test_a_floor_whose_square_underflows_is_returned_with_a_gradient():
    value, gradient = jax.value_and_grad(lambda m: L.optimal_gaussian_scale(m, X, floor=1e-25))(jnp.asarray(X))
    np.testing.assert_allclose(value, 1e-25, rtol=1e-6)
    np.testing.assert_array_equal(gradient, 0)


def test_a_number_that_vanishes_in_the_type_of_the_data_is_refused():
    with pytest.raises(ValueError, match="bandwidth must be positive, got 1e-50, which is 0 in float32"):
        L.maximum_mean_discrepancy(X, Y, bandwidth=1e-50)


@pytest.mark.parametrize("classes", [3, 7, 9])
def test_a_uniform_choice_costs_nothing_and_never_less(classes):
    logits = jnp.asarray(RNG.normal(size=(500, 1, classes)) * 1e-4, jnp.float32)
    divergences, pull = jax.vjp(jax.jit(L.kl_categorical_uniform), logits)
    assert np.min(divergences) >= 0
    assert np.all(np.isfinite(pull(jnp.ones(500))[0]))


REFUSED = {
    "text for real": (lambda: L.gradient_penalty(critic, "real", X, jax.random.key(0)), "real must be an array"),
    "none for fake": (lambda: L.gradient_penalty(critic, X, None, jax.random.key(0)), "fake must be an array"),
    "text that reads as a number": (lambda: L.negative_elbo(NLL, KL, beta="2"), "beta must be .* got '2'"),
    "target that is text": (
        lambda: L.gradient_penalty(critic, X, Y, jax.random.key(0), target="1"),
        "target must be .* got '1'",
    ),
    "critic of two outputs": (
        lambda: L.gradient_penalty(lambda x: (x[:, 0], x), X, Y, jax.random.key(0)),
        "the critic's output must be an array",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.usefixtures("as_users_call")
def test_what_is_no_number_is_refused_by_name(name):
    call, message = REFUSED[name]
    with pytest.raises(TypeError, match=message):
        call()


def test_a_critic_of_two_equal_outputs_is_refused_by_name(as_users_call):
    # Two outputs of one shape stack to an array: of the wrong leading axis.
    with pytest.raises(ValueError, match=r"critic must map a batch .* got \(6, 3\) to \(2, 6\)"):
        L.r1_penalty(lambda x: (x[:, 0], x[:, 0]), X)
