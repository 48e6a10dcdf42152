"""Few labels are shared out evenly, pairs differ in their start alone, and a linear head is scikit-learn's."""

import classifier
import jax
import jax.numpy as jnp
import numpy as np
import pretraining
import pytest
import transfer
from classifier import Encoders, Labelled, accuracies, chosen
from figures import within
from scipy.stats import ttest_1samp
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression

from jaxgen import runs
from jaxgen.data import load
from jaxgen.errors import UserError
from jaxgen.training import Options

DIGITS = classifier.splits("digits")


def linear(weights) -> Encoders:
    """Encoders without any layer between pixels and code."""
    return Encoders(lambda p, s, x: jnp.asarray(x).reshape(len(x), -1) @ p, jnp.asarray(weights, jnp.float32), ())


def test_splits_are_the_data_set_in_network_units():
    digits = load("digits")
    for split, raw in zip(DIGITS, (digits.train, digits.test)):
        np.testing.assert_array_equal(split.x * 16, raw["x"])
        np.testing.assert_array_equal(split.y, raw["label"])


def test_each_class_has_as_many_labels_and_more_labels_add_to_fewer():
    labels = np.random.default_rng(0).permutation(np.repeat([0, 1, 2], [7, 40, 12]))
    few, many, other = (chosen(labels, n, seed=s) for n, s in ((6, 0), (21, 0), (21, 1)))
    np.testing.assert_array_equal(np.bincount(labels[many]), [7, 7, 7])
    np.testing.assert_array_equal(np.bincount(labels[few]), [2, 2, 2])
    assert len(set(many)) == 21
    assert set(few) < set(many)
    assert set(other) != set(many)


@pytest.mark.parametrize("count", [0, 4, 24])
def test_labels_that_cannot_be_shared_out_are_refused(count):
    with pytest.raises(ValueError, match=f"3 equal shares of at most 7 examples each, got {count}"):
        chosen(np.repeat([0, 1, 2], [7, 40, 12]), count, seed=0)


def test_a_linear_classifier_learns_what_logistic_regression_learns():
    train, test = DIGITS
    weights = np.random.default_rng(0).normal(size=(2, 64, 64)) / 8
    ours = accuracies(linear(weights), train, test, labels=100, steps=400, learning_rate=3e-3)
    for seed, accuracy in enumerate(ours):
        index = chosen(train.y, 100, seed=seed)
        rows = [x.reshape(len(x), -1) for x in (train.x[index], test.x)]
        assert accuracy == pytest.approx(
            LogisticRegression().fit(rows[0], train.y[index]).score(rows[1], test.y), abs=0.06
        )
    assert ours.min() > 0.75


def test_each_encoder_learns_the_labels_of_its_own_seed():
    train = DIGITS[0]
    weights = np.stack([np.eye(64)] * 2)
    for seed in range(2):
        told = chosen(train.y, 50, seed=seed)
        own = Labelled(train.x[told], train.y[told])
        found = accuracies(linear(weights), train, own, labels=50, steps=200, learning_rate=3e-3)
        assert found[seed] == 1.0
        assert found[1 - seed] < 0.96


def test_pairs_have_the_same_labels_and_head_and_no_encoder_heeds_its_neighbours():
    train, test = DIGITS
    weights = np.random.default_rng(0).normal(size=(3, 64, 4)) / 8
    how = {"labels": 20, "steps": 15, "learning_rate": 1e-3}
    three = accuracies(linear(weights), train, test, **how)
    np.testing.assert_array_equal(three[:2], accuracies(linear(weights[:2]), train, test, **how))
    same = accuracies(linear(np.stack([weights[0]] * 2)), train, test, **how)
    assert same[0] == three[0]
    assert same[1] != same[0]


def test_encoders_are_those_of_the_replicas_and_the_untrained_are_new(tmp_path):
    arguments = {"hidden": (12,), "latents": 5, "pretrain": 2}
    options = Options(steps=5, batch_size=40, seeds=2)
    runs.train("stacked_autoencoder", arguments, data="digits", workdir=tmp_path, options=options, quiet=True)
    ours, fresh, x = classifier.trained(tmp_path, 2), classifier.untrained(tmp_path, 2), DIGITS[1].x[:3]
    for index in range(2):
        one = runs.open_run(tmp_path, index=index, which="last")
        assert one.model.encode is not None
        code = one.model.encode(one.params, one.statistics, x)
        mine = jax.tree.map(lambda leaf, i=index: leaf[i], ours[1:])
        np.testing.assert_array_equal(ours.encode(*mine, x), code)
    kernels = [e.params["autoencoder"]["encoder"]["params"]["Dense_0"]["kernel"] for e in (fresh, ours)]
    assert kernels[0].shape == kernels[1].shape == (2, 64, 12)
    assert not np.allclose(kernels[0][0], kernels[0][1])
    assert np.abs(kernels[0] - kernels[1]).mean() > 0.01
    np.testing.assert_allclose(np.std(kernels[0]), 64**-0.5, rtol=0.1)


def test_the_interval_is_what_the_t_test_does_not_reject():
    differences = np.random.default_rng(0).normal(0.4, 1.0, size=12)
    low, high = pretraining.interval(differences)
    for end in (low, high):
        assert ttest_1samp(differences, end).pvalue == pytest.approx(0.05, rel=1e-8)
    assert low < differences.mean() < high


def test_a_gain_is_judged_pair_by_pair():
    before = np.linspace(60.0, 90.0, 10)
    gain = np.array([1.0, 2.0] * 5)
    verdicts = [within(row) for row in pretraining.compared(50, before, before + gain)]
    assert verdicts == [None, None, None, True, None]
    verdicts = [within(row) for row in pretraining.compared(50, before, before + gain - 1.6)]
    assert verdicts == [None, None, None, False, None]


def test_one_pair_has_no_interval(tmp_path):
    with pytest.raises(UserError, match="two pairs or more, got --seeds 1"):
        pretraining.run(seeds=1, workdir=tmp_path)


def test_principal_components_are_learned_without_the_test_split():
    train, test = (Labelled(split.x[:200], split.y[:200]) for split in DIGITS)
    projected = transfer.principal(train, test, 5)
    rows = train.x.reshape(200, 64)
    axes = np.linalg.svd(rows - rows.mean(axis=0))[2][:5]
    expected = np.abs((test.x.reshape(200, 64) - rows.mean(axis=0)) @ axes.T)
    np.testing.assert_allclose(np.abs(projected[1].x), expected, atol=1e-4)
    assert PCA(5).fit(rows).transform(rows).var() == pytest.approx(projected[0].x.var(), rel=1e-4)


def test_the_head_on_codes_learns_the_chosen_labels_alone_and_has_no_unit():
    rng = np.random.default_rng(0)
    y = np.repeat(np.arange(4), 50)
    x = np.eye(4)[y] + 0.4 * rng.normal(size=(200, 4))
    train, test = Labelled(x[::2], y[::2]), Labelled(x[1::2], y[1::2])
    kept = chosen(train.y, 40, seed=0)
    head = LogisticRegression(max_iter=5000).fit(train.x[kept] / train.x.std(), train.y[kept])
    accuracy = transfer.of_codes(train, test, 40, seed=0)
    assert accuracy == head.score(test.x / train.x.std(), test.y)
    assert 0.8 < accuracy < 1
    assert transfer.of_codes(Labelled(1000 * train.x, train.y), Labelled(1000 * test.x, test.y), 40, seed=0) == accuracy


def test_codes_are_read_as_the_command_wrote_them(tmp_path):
    arrays = {"x_train": np.ones((3, 2)), "y_train": np.arange(3), "x_test": np.zeros((2, 2)), "y_test": np.ones(2)}
    np.savez(tmp_path / "codes.npz", fingerprint="abc", **arrays)
    train, test = transfer.read_codes(tmp_path / "codes.npz")
    for name, array in zip(arrays, (train.x, train.y, test.x, test.y)):
        np.testing.assert_array_equal(arrays[name], array)
