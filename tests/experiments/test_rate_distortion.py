"""Reverse water-filling against the optimum over every axis alone, and D without drawing against draws."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from rate_distortion import LATENTS, expected_distortion, water_filling
from scipy.optimize import minimize_scalar

VARIANCES = np.array([2.0, 0.9, 0.5, 0.31, 0.1, 0.02])


@pytest.mark.parametrize("beta", [0.015, 0.2, 0.6, 3.0])
def test_water_filling_is_the_least_that_distortion_and_rate_can_cost(beta):
    # An axis of variance λ at distortion d costs d/2 + β ½ log(λ/d), for 0 < d ≤ λ.
    rate, distortion, active = 0.0, 0.0, 0
    for variance in VARIANCES:

        def cost(log_d, variance=variance):
            return np.exp(log_d) / 2 + beta * 0.5 * (np.log(variance) - log_d)

        bounds = (np.log(variance) - 8, np.log(variance))
        best = np.exp(minimize_scalar(cost, bounds=bounds, method="bounded", options={"xatol": 1e-12}).x)
        rate, distortion = rate + 0.5 * np.log(variance / best), distortion + best
        active += variance / best > 1.001
    ours = water_filling(VARIANCES, beta)
    assert ours[:2] == pytest.approx((rate, distortion), rel=1e-5, abs=1e-5)
    assert ours[2] == active
    json.dumps(ours)  # as it is kept


def test_the_distortion_without_drawing_is_that_of_many_draws():
    rng = np.random.default_rng(0)
    weights, offset = rng.normal(size=(LATENTS, 64)) / 4, rng.normal(size=64)
    images = rng.normal(size=(5, 8, 8, 1)).astype(np.float32)
    mean, logvar = rng.normal(size=(5, LATENTS)), rng.normal(size=(5, LATENTS)) - 1

    def decode(params, statistics, z):
        return (z @ weights + offset).reshape(len(z), 8, 8, 1)

    model = SimpleNamespace(posterior=lambda *_: (mean, logvar), decode=decode)
    ours = expected_distortion(SimpleNamespace(model=model, params=None, statistics=None), images)
    z = mean + np.exp(logvar / 2) * rng.normal(size=(20_000, 5, LATENTS))
    drawn = np.square(z @ weights + offset - images.reshape(5, 64)).sum(axis=-1).mean(axis=1)
    assert ours == pytest.approx(drawn.mean(), abs=4 * drawn.std() / np.sqrt(len(drawn)))
