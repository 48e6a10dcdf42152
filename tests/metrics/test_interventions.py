"""The FactorVAE and β-VAE scores on codes whose scores are known."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxgen.metrics import beta_vae_score, factor_vae_score
from jaxgen.metrics.interventions import _Groups

SCORES = pytest.mark.parametrize("score", [factor_vae_score, beta_vae_score])


def independent_factors(num_examples: int = 3000, sizes=(3, 4, 5), seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, sizes, size=(num_examples, len(sizes)))


def noise(num_examples: int, num_latents: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(num_examples, num_latents))


@SCORES
def test_codes_that_follow_one_factor_each_are_perfect_at_any_scale(score):
    factors = independent_factors()
    # The useless latent varies less than the noise of the useful ones: only relative variance tells.
    codes = (factors[:, [2, 0, 1]] + 0.3 * noise(3000, 3)) * [1, 10, 100]
    codes = np.concatenate([codes, 0.3 * noise(3000, 1, seed=2)], axis=1)
    assert score(codes, factors) == 1


@SCORES
def test_noise_scores_by_chance(score):
    value = score(noise(3000, 4), independent_factors(), num_votes=1500)
    assert abs(value - 1 / 3) < 4 * np.sqrt(2 / 9 / 1500)


@SCORES
def test_votes_that_fit_do_not_score(score):
    # Twenty votes over forty useless latents can be learned by heart.
    factors, codes = independent_factors(), noise(3000, 40)
    values = [score(codes, factors, num_votes=20, seed=seed) for seed in range(20)]
    assert abs(np.mean(values) - 1 / 3) < 4 * np.sqrt(2 / 9 / 400)


@SCORES
def test_half_precision_codes_do_not_overflow(score):
    factors = independent_factors()
    codes = (300 * factors).astype(np.float16)
    assert score(codes, factors, num_votes=200) == score(codes.astype(float), factors, num_votes=200) == 1


@SCORES
def test_collapsed_latents_do_not_count(score):
    factors = independent_factors()
    collapsed = 1e-3 * noise(3000, 2)
    collapsed[:, 0] = 7
    assert score(np.concatenate([collapsed, factors], axis=1), factors) == 1
    assert score(collapsed, factors) == 0


def test_latents_at_the_threshold_are_left_out():
    factors = np.array([[i % 2, i // 2 % 2] for i in range(80)])
    assert factor_vae_score(2.0 * factors, factors, threshold=0.99) == 1
    assert factor_vae_score(2.0 * factors, factors, threshold=1) == 0


def test_one_latent_for_two_factors_names_neither():
    """All votes go to the only latent, so that half are right; pairs differ alike for either factor."""
    factors = independent_factors(sizes=(4, 4))
    total = factors.sum(axis=1, keepdims=True).astype(float)
    bound = 4 * np.sqrt(0.25 / 1500)
    assert abs(factor_vae_score(total, factors, num_votes=1500) - 0.5) < bound + 0.02
    assert abs(beta_vae_score(total, factors, num_votes=1500) - 0.5) < bound + 0.02


def test_beta_vae_score_asks_for_less_than_the_factor_vae_score():
    factors = independent_factors(sizes=(4, 4))
    unequal = (factors @ [[1.0], [10.0]]).astype(float)
    assert beta_vae_score(unequal, factors) == 1
    assert factor_vae_score(unequal, factors) < 0.6


@settings(deadline=None, max_examples=10)
@given(st.integers(0, 2**31), st.floats(-50, 50))
def test_factor_vae_score_is_blind_to_rotation_of_latents_and_shift(seed, shift):
    factors = independent_factors(300)
    codes = noise(300, 4) + np.pad(factors, ((0, 0), (0, 1)))
    value = factor_vae_score(codes, factors, seed=seed, num_votes=100)
    moved = codes[:, np.random.default_rng(seed).permutation(4)] + shift
    assert factor_vae_score(moved, factors, seed=seed, num_votes=100) == value


def test_groups_share_one_value_and_pairs_one_value_each():
    factors = independent_factors(500)
    groups = _Groups(factors, seed=0)
    for _ in range(20):
        shared, members = groups.draw(40)
        assert len(set(factors[members, shared])) == 1
        assert all(len(set(factors[members, k])) > 1 for k in range(3) if k != shared)
        shared, first, second = groups.draw_pairs(40)
        np.testing.assert_array_equal(factors[first, shared], factors[second, shared])
        assert all(np.any(factors[first, k] != factors[second, k]) for k in range(3) if k != shared)
        assert len(set(factors[first, shared])) > 1


def test_partners_are_uniform_over_the_examples_with_the_value():
    factors = np.array([[0], [1], [0], [0], [1]])
    partners = _Groups(factors, seed=0)._partners(0, np.zeros(30_000, dtype=int))
    counts = np.bincount(partners, minlength=5)
    assert counts[[1, 4]].tolist() == [0, 0]
    assert np.abs(counts[[0, 2, 3]] - 10_000).max() < 4 * np.sqrt(30_000 * 2 / 9)


@SCORES
def test_bad_input(score):
    codes, factors = noise(10, 3), np.arange(20).reshape(10, 2) % 3
    with pytest.raises(ValueError, match=r"same examples, got shapes \(10, 3\) and \(9, 2\)"):
        score(codes, factors[:9])
    with pytest.raises(TypeError, match="factors must be integers, got float64"):
        score(codes, factors.astype(float))
    with pytest.raises(ValueError, match="one example in column 1; pass more examples"):
        score(codes, np.stack([np.arange(10) % 2, np.arange(10)], axis=1))
    with pytest.raises(ValueError, match="num_votes must be at least 1, got 0"):
        score(codes, factors, num_votes=0)
    with pytest.raises(ValueError, match="group_size must be at least 2, got 1"):
        score(codes, factors, group_size=1)
    with pytest.raises(ValueError, match="threshold must not be negative, got -1"):
        score(codes, factors, threshold=-1)


def test_beta_vae_score_needs_two_factors():
    with pytest.raises(ValueError, match=r"factors must have at least 2 columns, got shape \(10, 1\)"):
        beta_vae_score(noise(10, 3), np.arange(10)[:, None] % 2)
