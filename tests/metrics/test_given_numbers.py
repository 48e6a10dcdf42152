"""Hyperparameters are computed with in the data's type, and constants are checked under `jit` too."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from jaxgen.metrics import (
    active_units,
    beta_vae_score,
    mode_counts,
    mutual_information_gap,
    parzen_log_likelihood,
    precision_recall,
    psnr,
    reverse_kl,
)

RNG = np.random.default_rng(15)
X, Y = RNG.normal(size=(2, 6, 3)).astype(np.float32)
CODES = RNG.normal(size=(40, 3))
FACTORS = np.array([[i % 2, i // 2 % 2] for i in range(40)])

CALLS = {
    "parzen": lambda n: parzen_log_likelihood(X, Y, bandwidth=n),
    "psnr": lambda n: psnr(X, Y, data_range=n),
    "modes": lambda n: mode_counts(X, Y, radius=n),
    "units": lambda n: active_units(X, threshold=n),
}


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("given", [np.uint8, np.float16, jnp.bfloat16, np.int64, np.float64, jnp.int32])
def test_a_number_counts_for_its_value_whatever_its_type(name, given):
    for value in (1, 16, 200):
        np.testing.assert_allclose(CALLS[name](given(value)), CALLS[name](float(value)), rtol=1e-6)


def test_a_wide_number_leaves_the_data_their_type(x64):
    assert parzen_log_likelihood(X, Y, bandwidth=np.float64(1)).dtype == np.float32
    assert psnr(X, Y, data_range=np.float64(1)).dtype == np.float32
    assert reverse_kl(np.array([1, 3], np.float32)).dtype == np.float32


def test_votes_of_a_narrow_type_do_not_wrap(as_users_call):
    expected = beta_vae_score(CODES, FACTORS, num_votes=200, group_size=8)
    assert beta_vae_score(CODES, FACTORS, num_votes=np.uint8(200), group_size=np.uint8(8)) == expected
    assert mutual_information_gap(CODES, FACTORS, num_bins=np.uint8(255)) == pytest.approx(
        mutual_information_gap(CODES, FACTORS, num_bins=255)
    )


@pytest.mark.parametrize("bandwidth", [1e-20, 1e-25])
def test_a_window_whose_square_underflows(bandwidth):
    points = np.stack([X[0], X[0] + 1])
    at_sample, away = parzen_log_likelihood(X, points, bandwidth=bandwidth)
    np.testing.assert_allclose(at_sample, -np.log(6) - 3 * np.log(bandwidth * np.sqrt(2 * np.pi)), rtol=1e-6)
    assert away == -np.inf


def test_a_window_so_wide_that_its_square_overflows():
    expected = -3 * np.log(1e25 * np.sqrt(2 * np.pi))
    np.testing.assert_allclose(parzen_log_likelihood(X, Y, bandwidth=1e25), expected, rtol=1e-6)


def test_constants_are_checked_under_jit_as_outside():
    for call, name in (
        (lambda: reverse_kl(np.array([3.0, -1.0])), "counts must not be negative"),
        (lambda: reverse_kl(np.ones(2), np.array([3.0, -1.0])), "reference must not be negative"),
        (lambda: reverse_kl(np.ones(2), np.zeros(2)), "reference must count something"),
    ):
        with pytest.raises(ValueError, match=name):
            jax.jit(call)()


def test_traced_counts_that_are_all_negative_are_no_distribution():
    # Their shares are positive: only the sign of the counts themselves tells.
    assert np.isnan(jax.jit(reverse_kl)(np.array([-3.0, -1.0])))
    assert np.isnan(jax.jit(reverse_kl)(np.ones(2), np.array([-3.0, -1.0])))


def test_divergence_from_a_reference_is_that_of_scipy(x64):
    counts, reference = np.array([3.0, 0, 7]), np.array([1, 2, 3])
    expected = scipy.special.rel_entr(counts / 10, reference / 6).sum()
    np.testing.assert_allclose(reverse_kl(counts, reference), expected, rtol=1e-12)


REFUSED = {
    "means": lambda: active_units([["a", "b"], ["c", "d"]]),
    "means that are text": lambda: active_units("means"),
    "samples": lambda: mode_counts(None, X),
    "counts": lambda: reverse_kl(["a", "b"]),
    "real": lambda: precision_recall([["a"], ["b"]], X),
    "targets": lambda: psnr([[1.0]], [["a"]]),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.usefixtures("as_users_call")
def test_what_is_no_number_is_refused_by_name(name):
    with pytest.raises(TypeError, match=f"{name.split()[0]} must be an array or a number, got"):
        REFUSED[name]()
