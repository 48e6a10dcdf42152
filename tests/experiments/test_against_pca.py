"""The closed forms that the autoencoders are held against: other formulas, drawn noise, the figures published."""

import autoencoders as experiment
import numpy as np
import pytest
from files import ALL, TEST, TRAIN, digits_file
from scipy.linalg import null_space
from scipy.stats import ortho_group


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    _, train, test = digits_file(tmp_path_factory.mktemp("digits"), train=TRAIN, test=TEST)
    return train, test


def test_a_file_of_digits_holds_what_was_chosen(tmp_path, digits):
    path, whole, _ = digits_file(tmp_path, train=ALL, test=ALL)
    np.testing.assert_array_equal(np.concatenate(digits), whole)
    with np.load(path) as archive:
        np.testing.assert_array_equal(archive["x_train"].reshape(1797, 64), whole)
    assert digits_file(tmp_path, train=TRAIN, test=TEST)[0] != path


def test_the_angle_is_the_one_by_which_a_plane_was_turned():
    basis = ortho_group.rvs(6, random_state=0)
    components, angle = basis[:, :2].T, 0.3
    turned = np.stack([basis[:, 0], np.cos(angle) * basis[:, 1] + np.sin(angle) * basis[:, 2]], axis=1)
    mixed = turned @ np.array([[3.0, 1.0], [0.5, 2.0]]) @ np.random.default_rng(0).normal(size=(2, 6))
    assert experiment.largest_angle(mixed, components) == pytest.approx(np.rad2deg(angle), rel=1e-8)
    away = null_space(components)[:, :2] @ np.random.default_rng(1).normal(size=(2, 6))
    assert experiment.largest_angle(away, components) == pytest.approx(90.0, abs=1e-6)


def test_the_expected_error_is_the_mean_over_drawn_noise(digits):
    rng = np.random.default_rng(0)
    weights, bias, rows = rng.normal(size=(64, 64)) / 8, rng.normal(size=64), digits[0][:50]
    noisy = rows + 0.7 * rng.normal(size=(4000, *rows.shape))
    drawn = np.square(noisy @ weights.T + bias - rows).sum(axis=-1).mean(axis=1)
    error = experiment.expected_error(weights, bias, rows, 0.7) - drawn.mean()
    assert abs(error) < 4 * drawn.std() / len(drawn) ** 0.5


@pytest.mark.parametrize(("level", "published"), [(0.1, 0.3502), (0.25, 1.1973), (0.5, 2.3458)])
def test_the_best_linear_denoiser_has_the_error_of_the_figures_and_none_near_it_less(digits, level, published):
    rows = digits[0]
    weights, bias = experiment.wiener(rows, level)
    best = experiment.expected_error(weights, bias, rows, level)
    assert best == pytest.approx(published, abs=5e-5)
    assert best == pytest.approx(level**2 * np.trace(weights), rel=1e-10)
    rng = np.random.default_rng(0)
    for _ in range(5):
        step, shift = 1e-3 * rng.normal(size=weights.shape), 1e-3 * rng.normal(size=64)
        ahead, behind = (
            experiment.expected_error(weights + sign * step, bias + sign * shift, rows, level) for sign in (1, -1)
        )
        assert ahead > best
        assert ahead - best == pytest.approx(behind - best, rel=1e-4)
