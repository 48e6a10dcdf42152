"""The exact completion of a Gaussian, against regression, and the figures published."""

import imputation as experiment
import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.linear_model import LinearRegression


def test_the_conditional_mean_is_the_regression_of_what_is_missing_on_what_was_seen():
    rng = np.random.default_rng(0)
    draws = rng.normal(size=(200, 5)) @ rng.normal(size=(5, 5)) + rng.normal(size=5)
    rows, seen = rng.normal(size=(3, 5)), np.array([[1, 0, 1, 1, 0], [0, 0, 0, 1, 0], [1, 1, 1, 1, 1]], bool)
    filled = experiment.conditional_mean(draws.mean(axis=0), np.cov(draws.T), rows, seen)
    for row, known, result in zip(rows, seen, filled):
        np.testing.assert_array_equal(result[known], row[known])
        if not known.all():
            regression = LinearRegression().fit(draws[:, known], draws[:, ~known])
            np.testing.assert_allclose(result[~known], regression.predict(row[None, known])[0], rtol=1e-9)


def test_half_is_hidden_the_same_way_each_time_and_the_references_are_the_published_ones(tmp_path):
    path, train, test, seen_train, seen_test = experiment.half_missing(tmp_path)
    with np.load(path) as archive:
        np.testing.assert_array_equal(np.isnan(archive["x_test"]).reshape(297, 64), ~seen_test)
        np.testing.assert_array_equal(archive["x_train"].reshape(1500, 64)[seen_train], train[seen_train].astype("f4"))
    assert abs(seen_train.mean() - 0.5) < 0.01
    again = experiment.half_missing(tmp_path)
    np.testing.assert_array_equal(again[4], seen_test)
    pca = PCA(experiment.LATENTS).fit(train)
    linear = experiment.conditional_mean(pca.mean_, pca.get_covariance(), test, seen_test)
    # Published of another choice of pixels: 9,500 squared errors leave some percent.
    for filled, published in ((np.broadcast_to(train.mean(axis=0), test.shape), 0.07387), (linear, 0.04161)):
        assert np.square(filled - test)[~seen_test].mean() == pytest.approx(published, rel=0.05)
