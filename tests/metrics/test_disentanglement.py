"""MIG, DCI and SAP on codes whose scores are known, and against scikit-learn's and scipy's measures."""

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import mutual_info_score

from jaxgen.metrics import dci, disentanglement_completeness, mutual_information_gap, sap

SIZES = (2, 3, 5)


def grid(repeats: int) -> np.ndarray:
    """Every combination of the factors equally often: they are independent exactly."""
    combinations = np.stack(np.meshgrid(*map(np.arange, SIZES), indexing="ij"), axis=-1).reshape(-1, 3)
    return np.tile(combinations, (repeats, 1))


def random_codes(num_examples: int, num_latents: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(num_examples, num_latents))


def mig_by_scikit_learn(codes: np.ndarray, factors: np.ndarray, num_bins: int) -> float:
    gaps = []
    for factor in factors.T:
        information = []
        for code in codes.T:
            edges = np.histogram_bin_edges(code, num_bins)
            bins = np.minimum(np.searchsorted(edges, code, side="right"), num_bins)
            information.append(mutual_info_score(bins, factor))
        ranked = sorted(information, reverse=True)
        gaps.append((ranked[0] - ranked[1]) / scipy.stats.entropy(np.bincount(factor)))
    return float(np.mean(gaps))


@pytest.mark.parametrize("num_bins", [2, 20])
def test_mig_equals_scikit_learn(num_bins):
    factors = grid(10)
    codes = random_codes(len(factors), 4) + factors @ np.random.default_rng(1).normal(size=(3, 4))
    actual = mutual_information_gap(codes, factors, num_bins=num_bins)
    np.testing.assert_allclose(actual, mig_by_scikit_learn(codes, factors, num_bins), rtol=1e-10)


def test_mig_of_perfect_codes_is_one_and_of_duplicates_zero():
    factors = grid(2)
    perfect = factors[:, [2, 0, 1]].astype(float)
    assert mutual_information_gap(perfect, factors) == pytest.approx(1, abs=1e-12)
    assert mutual_information_gap(np.repeat(perfect, 2, axis=1), factors) == pytest.approx(0, abs=1e-12)


def test_mig_of_a_coarser_second_code_is_the_missing_half():
    factor = np.arange(40)[:, None] % 4
    codes = np.concatenate([factor, factor // 2], axis=1).astype(float)
    assert mutual_information_gap(codes, factor) == pytest.approx(0.5, abs=1e-12)


def test_mig_of_noise_is_near_zero():
    factors = grid(200)
    assert mutual_information_gap(random_codes(len(factors), 5), factors) < 0.02


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 2**31), st.floats(0.1, 50), st.integers(-9, 9))
def test_mig_is_blind_to_order_scale_and_labels(seed, scale, shift):
    generator = np.random.default_rng(seed)
    factors = grid(3)
    codes = generator.normal(size=(len(factors), 3)) + factors
    value = mutual_information_gap(codes, factors)
    order = generator.permutation(len(factors))
    moved_codes = scale * codes[order][:, generator.permutation(3)]
    moved_factors = 7 * factors[order][:, generator.permutation(3)] + shift
    np.testing.assert_allclose(mutual_information_gap(moved_codes, moved_factors), value, rtol=1e-9)


def test_dci_from_importances_equals_scipy():
    table = np.random.default_rng(2).uniform(size=(5, 3)) * [[1], [2], [0.1], [0], [3]]
    shares = table.sum(axis=1) / table.sum()
    rows = [0.0 if row.sum() == 0 else 1 - scipy.stats.entropy(row, base=3) for row in table]
    columns = [1 - scipy.stats.entropy(column, base=5) for column in table.T]
    disentanglement, completeness = disentanglement_completeness(table)
    np.testing.assert_allclose(disentanglement, shares @ rows, rtol=1e-10)
    np.testing.assert_allclose(completeness, np.mean(columns), rtol=1e-10)


def test_dci_from_importances_at_its_limits():
    assert disentanglement_completeness(np.eye(4)[[2, 0, 3, 1]]) == (1, 1)
    np.testing.assert_allclose(disentanglement_completeness(np.ones((3, 4))), (0, 0), atol=1e-12)
    # A factor that no latent serves is not complete.
    np.testing.assert_allclose(disentanglement_completeness(np.diag([1.0, 0.0])), (1, 0.5), atol=1e-12)


def test_dci_of_a_permutation_is_one_and_of_a_rotation_lower():
    factors = grid(40)
    codes = factors[:, [1, 2, 0]] + 0.01 * random_codes(len(factors), 3)
    basis = np.linalg.qr(random_codes(3, 3, seed=3))[0]
    permuted, rotated = dci(codes, factors), dci(codes @ basis, factors)
    np.testing.assert_allclose(permuted, (1, 1, 1), atol=0.01)
    assert max(rotated.disentanglement, rotated.completeness) < 0.7
    assert rotated.informativeness > 0.9


def test_dci_of_noise_predicts_by_chance_only():
    factors = grid(40)
    score = dci(random_codes(len(factors), 4), factors)
    assert max(score.disentanglement, score.completeness) < 0.05
    assert score.informativeness == pytest.approx(np.mean([1 / size for size in SIZES]), abs=0.05)


def test_sap_of_perfect_codes_is_the_distance_to_chance():
    factors = grid(100)
    codes = np.concatenate([factors + 0.01, random_codes(len(factors), 2)], axis=1)
    assert sap(codes, factors) == pytest.approx(np.mean([1 - 1 / size for size in SIZES]), abs=0.03)
    assert sap(np.repeat(codes, 2, axis=1), factors) == 0


def test_sap_is_balanced_over_rare_values():
    factor = (np.arange(2000) % 10 == 0).astype(int)[:, None]
    codes = np.concatenate([factor, random_codes(2000, 1)], axis=1)
    assert sap(codes, factor) == pytest.approx(0.5, abs=0.06)


def test_sap_cuts_a_latent_once_less_than_the_factor_has_values():
    # The factor is the parity of four levels: one threshold gets three of them right, more would get all.
    level = np.arange(4000) % 4
    codes = np.stack([level, np.zeros(4000)], axis=1)
    assert sap(codes, level[:, None] % 2) == pytest.approx(0.75 - 0.5, abs=0.03)


def test_sap_fits_rare_values_as_it_scores_them():
    # Of the rare value 80% lie above the threshold, of the common one 20%: by number, all above are common.
    rare = np.arange(5000) % 10 == 0
    above = np.where(np.arange(5000) // 10 % 5 < 4, rare, ~rare)
    codes = np.stack([above, np.zeros(5000)], axis=1).astype(float)
    assert sap(codes, rare[:, None].astype(int)) == pytest.approx(0.8 - 0.5, abs=0.05)


def test_sap_is_scored_on_held_out_examples():
    """A threshold on noise finds 0.75 on the ten examples that it was fitted to, and chance on the others."""
    factors = np.random.default_rng(4).integers(2, size=(20, 80))
    codes = np.concatenate([random_codes(20, 1), np.zeros((20, 1))], axis=1)
    assert sap(codes, factors) < 0.2


@pytest.mark.parametrize("score", [mutual_information_gap, dci, sap])
class TestBadInput:
    def test_shapes(self, score):
        codes = random_codes(10, 3)
        factors = np.arange(20).reshape(10, 2) % 3
        with pytest.raises(ValueError, match=r"same examples, got shapes \(10, 3\) and \(9, 2\)"):
            score(codes, factors[:9])
        with pytest.raises(ValueError, match=r"codes must have at least 2 latents, got shape \(10, 1\)"):
            score(codes[:, :1], factors)
        with pytest.raises(ValueError, match=r"factors must have shape .* got \(10,\)"):
            score(codes, factors[:, 0])
        with pytest.raises(ValueError, match=r"codes must have shape .* got \(10,\)"):
            score(codes[:, 0], factors)
        with pytest.raises(ValueError, match=r"codes must hold at least 2 rows, got shape \(1, 3\)"):
            score(codes[:1], factors[:1])

    def test_values(self, score):
        codes = random_codes(10, 3)
        factors = np.arange(20).reshape(10, 2) % 3
        with pytest.raises(TypeError, match="factors must be integers, got float64"):
            score(codes, factors.astype(float))
        with pytest.raises(ValueError, match="one value only in column 1"):
            score(codes, factors * [1, 0])
        with pytest.raises(ValueError, match="codes must be finite, got 10 of 30 values"):
            score(codes * [1, np.nan, 1], factors)


def test_bad_hyperparameters_and_importances():
    factors = np.arange(20).reshape(10, 2) % 3
    with pytest.raises(ValueError, match="num_bins must be at least 2, got 1"):
        mutual_information_gap(random_codes(10, 3), factors, num_bins=1)
    with pytest.raises(ValueError, match=r"importances must have at least 2 factors, got shape \(10, 1\)"):
        dci(random_codes(10, 10), factors[:, :1])
    with pytest.raises(ValueError, match=r"importances must hold at least 2 rows, got shape \(1, 2\)"):
        disentanglement_completeness(np.ones((1, 2)))
    with pytest.raises(ValueError, match=r"importances must have shape .* got \(3,\)"):
        disentanglement_completeness(np.ones(3))
    with pytest.raises(ValueError, match=r"importances must be finite, not negative .* from -1 to 1"):
        disentanglement_completeness(np.array([[1.0, -1.0], [0.0, 1.0]]))
