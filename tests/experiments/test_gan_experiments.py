"""Measures of the adversarial experiments against closed forms: what is read, blurred, in the border, in between."""

from types import SimpleNamespace

import co_adaptation
import generated
import mode_collapse
import numpy as np
import pytest
import saturation
import sharpness
import stacked_modes
import turns
from figures import within
from pairs import ratio
from scipy.stats import kendalltau, pearsonr, ttest_1samp

from jaxgen.errors import UserError
from jaxgen.metrics import PrecisionRecall

RNG = np.random.default_rng(0)


def test_the_judge_reads_digits_that_it_has_not_seen():
    judge = generated.Judge("digits")
    assert judge.accuracy > 0.9
    test = generated.splits("digits")[1]
    assert np.mean(judge.read(test.x) == test.y) == judge.accuracy


def test_a_stack_is_counted_as_the_number_that_its_channels_make():
    judge = SimpleNamespace(read=lambda images: images.reshape(len(images), -1).max(axis=1).astype(int))
    digits = np.array([[0, 0, 0], [3, 1, 4], [3, 1, 4], [9, 9, 9], [0, 5, 0]])
    images = np.broadcast_to(digits[:, None, None], (5, 2, 2, 3))
    counts = stacked_modes.kinds(judge, images)
    assert len(counts) == 1000
    assert {kind: counts[kind] for kind in np.flatnonzero(counts)} == {0: 1, 50: 1, 314: 2, 999: 1}


def test_channels_stand_side_by_side_and_real_stacks_are_as_many_as_generated_ones():
    images = RNG.normal(size=(2, 3, 4, 3))
    wide = stacked_modes.side_by_side(images)
    assert wide.shape == (2, 3, 12)
    for channel in range(3):
        np.testing.assert_array_equal(wide[..., 4 * channel : 4 * channel + 4], images[..., channel])
    real = stacked_modes.real_examples("stacked_digits")
    assert len(real) == stacked_modes.SAMPLES
    assert real.max() == 1
    assert not np.array_equal(real[:5000], real[10_000:15_000])


def test_gradient_energy_of_a_slope_is_known_and_that_of_white_noise_too():
    down, across = np.meshgrid(np.arange(5), np.arange(7), indexing="ij")
    slope = (0.3 * down - 0.2 * across)[None, ..., None]
    assert sharpness.gradient_energy(slope) == pytest.approx(4 * 7 * 0.3**2 + 5 * 6 * 0.2**2, rel=1e-9)
    noise = RNG.normal(size=(4000, 5, 7, 1))
    assert sharpness.gradient_energy(noise) == pytest.approx(2 * (4 * 7 + 5 * 6), rel=0.02)


def test_between_two_images_a_linear_model_goes_along_the_straight_line():
    basis = np.linalg.qr(RNG.normal(size=(12, 12)))[0].astype(np.float32)
    model = SimpleNamespace(
        encode=lambda params, statistics, x: x.reshape(len(x), -1) @ basis,
        decode=lambda params, statistics, z: (z @ basis.T).reshape(-1, 3, 4, 1),
    )
    x = RNG.normal(size=(4, 3, 4, 1)).astype(np.float32)
    frames = sharpness.between(SimpleNamespace(model=model, params=None, statistics=None), x)
    share = np.linspace(0, 1, sharpness.STEPS).reshape(1, -1, 1, 1, 1)
    np.testing.assert_allclose(frames, (1 - share) * x[:2, None] + share * x[2:, None], atol=1e-5)
    np.testing.assert_array_equal(frames[:, 0], x[:2])
    np.testing.assert_array_equal(frames[:, -1], x[2:])


def test_the_border_is_the_frame_without_what_has_ink():
    images = np.zeros((200, 4, 5, 1))
    images[:, 1:3, 1:4] = 1
    images[0, 0, 0], images[:3, 0, 1], images[:, 3, 2] = 1, 1, 1
    expected = np.array([[1, 0, 1, 1, 1], [1, 0, 0, 0, 1], [1, 0, 0, 0, 1], [1, 1, 0, 1, 1]], bool)
    np.testing.assert_array_equal(co_adaptation.border(images), expected)


def test_noise_in_the_border_is_measured_there_alone_and_between_neighbours_alone():
    pixels = np.array([[1, 1, 0, 1], [1, 0, 0, 0]], bool)
    mixing = RNG.normal(size=(8, 8))
    images = (RNG.normal(size=(500, 8)) @ mixing).reshape(500, 2, 4, 1)
    flat = images[..., 0]
    expected = [pearsonr(flat[:, 0, 0], flat[:, 0, 1])[0], pearsonr(flat[:, 0, 0], flat[:, 1, 0])[0]]
    assert co_adaptation.correlation(images, pixels) == pytest.approx(np.abs(expected).mean(), rel=1e-6)
    elsewhere = np.where(pixels[..., None], images, 99.0)
    assert co_adaptation.correlation(elsewhere, pixels) == co_adaptation.correlation(images, pixels)
    assert co_adaptation.energy(elsewhere, pixels) == pytest.approx(np.square(flat[:, pixels]).mean(), rel=1e-9)


def test_what_becomes_less_is_a_ratio_judged_by_its_interval():
    before = np.array([4.0, 1.0, 2.0, 8.0])
    ratios = np.array([0.5, 0.4, 0.9, 0.6])
    mean, low, high = ratio("energy", before, before * ratios)
    assert np.log(mean.values[0]) == pytest.approx(np.log(ratios).mean(), rel=1e-12)
    for end in (low, high):
        assert ttest_1samp(np.log(ratios), np.log(end.values[0])).pvalue == pytest.approx(0.05, rel=1e-8)
        assert end.values[0] > 0
    assert within(high) is True
    assert within(ratio("energy", before, before * ratios**-1)[2]) is False


@pytest.mark.parametrize(("adversarial", "expected"), [(0.9, True), (0.6, False), (1.9, False)])
def test_noise_is_no_sharper_than_digits_and_a_generator_of_one_digit_covers_nothing(adversarial, expected):
    def of(sharp: float, recall: float) -> dict[str, list[float]]:
        found = {f"sharpness of {what}": [sharp] for what in ("samples", "reconstructions")}
        found |= {f"{what}{sharpness.OFF}": [abs(sharp - 1)] for what in found}
        return found | {"precision": [0.7], "recall": [recall], sharpness.REBUILT: [2 - recall]}

    found = {"VAE": of(0.7, 0.5), "GAN": of(0.9, 0.1), "VAE-GAN": of(adversarial, 0.4)}
    best = PrecisionRecall(np.float32(0.8), np.float32(0.6))
    verdicts = {figure.name: within(figure) for figure in sharpness.figures_of(found, best)}
    assert verdicts[f"VAE-GAN: sharpness of samples{sharpness.OFF}"] is expected
    assert verdicts[f"GAN: sharpness of samples{sharpness.OFF}"] is True
    assert (verdicts["VAE-GAN: recall"], verdicts["GAN: recall"]) == (True, False)
    assert (verdicts["VAE: sharpness of samples"], verdicts[f"VAE: {sharpness.REBUILT}"]) == (True, True)


def test_points_spread_evenly_are_a_blur_that_no_gate_on_packing_takes_for_success():
    blur = [mode_collapse.coverage(mode_collapse.spread_evenly("grid", seed), "grid") for seed in range(3)]
    chance = {key: [found[key] for found in blur] for key in mode_collapse.QUANTITIES}
    # A circle of radius 3σ around each of the modes, in a square of side 10.
    assert np.mean(chance["high_quality"]) == pytest.approx(25 * np.pi * 0.15**2 / 100, rel=0.2)
    assert np.mean(chance["modes"]) > 18
    plain = {"modes": [12.0], "high_quality": [0.7], "reverse_kl": [0.6]}
    verdicts = [within(figure) for figure in mode_collapse.compared("grid", plain, chance)]
    assert verdicts == [True, False, True]


def test_the_gradients_are_compared_where_the_discriminator_is_sure_first_or_not_at_all():
    assert saturation.first_sure(np.array([0.5, 0.02, 0.009, 0.2, 0.001])) == 2
    with pytest.raises(UserError, match=r"D\(G\(z\)\) fell to 0.02 in 3 updates and not to 0.01"):
        saturation.first_sure(np.array([0.5, 0.02, 0.03]))


def test_turns_and_accuracy_are_correlated_by_rank_over_all_pairs_of_each_seed():
    pairs = [(k, ell) for k in turns.TURNS for ell in turns.TURNS]
    lead = np.array([k / ell for k, ell in pairs])
    rises = {pair: {"accuracy": np.array([np.exp(k_to_l), -k_to_l])} for pair, k_to_l in zip(pairs, lead)}
    np.testing.assert_allclose(turns.rank_correlations(rises), [1, -1], rtol=1e-12)
    noise = RNG.normal(size=(9, 40))
    ranks = turns.rank_correlations({pair: {"accuracy": values} for pair, values in zip(pairs, noise)})
    assert pearsonr(ranks, [kendalltau(lead, row).statistic for row in noise.T])[0] > 0.95
    assert abs(ranks.mean()) < 4 / (8 * 40) ** 0.5
