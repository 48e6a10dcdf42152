"""Which pixels are given, what the plain network is scored by, and what a judge counts."""

import conditional_vae
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import expit

from jaxgen.data import load
from jaxgen.data.dataset import Dataset


@pytest.mark.parametrize(("count", "quarters"), [(1, "0010"), (2, "1010"), (3, "1110")])
def test_quadrants_are_given_lower_left_first_then_upper_left_then_upper_right(count, quarters):
    known = conditional_vae.given_pixels(count).reshape(2, 14, 2, 14)
    upper_left, upper_right, lower_left, lower_right = (known[i, :, j] for i in (0, 1) for j in (0, 1))
    parts = (upper_left, upper_right, lower_left, lower_right)
    assert [part.all() for part in parts] == [quarter == "1" for quarter in quarters]
    assert [part.any() for part in parts] == [quarter == "1" for quarter in quarters]


def test_what_is_given_and_what_is_observed_make_up_the_digit(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    train, test = ({"x": rng.integers(256, size=(n, 28, 28, 1), dtype=np.uint8)} for n in (7, 3))
    digits = Dataset("mnist", train, test, (28, 28, 1), 255.0, None, "")
    monkeypatch.setattr(conditional_vae, "load", lambda name: digits)
    kept, known = load(str(conditional_vae.quadrant_file(tmp_path, 2))), conditional_vae.given_pixels(2)
    assert kept.shape == (392,)
    assert kept.scale == 255.0
    for split, whole in ((kept.train, train), (kept.test, test)):
        again = np.zeros((len(whole["x"]), 28, 28))
        again[:, known], again[:, ~known] = 255 * split["condition"], split["x"]
        np.testing.assert_allclose(again, whole["x"][..., 0], rtol=1e-6)


def test_the_plain_network_is_scored_by_the_cross_entropy_of_what_is_missing_from_what_is_given():
    rng = np.random.default_rng(0)
    batch = {"x": jnp.asarray(rng.uniform(size=(4, 6))), "condition": jnp.asarray(rng.uniform(size=(4, 3)))}
    model = conditional_vae.plain_network((), 6)
    params, statistics = model.init(jax.random.key(0), batch)
    dense = params["network"]["params"]["Dense_0"]
    p = expit(np.asarray(batch["condition"] @ dense["kernel"] + dense["bias"], np.float64))
    x = np.asarray(batch["x"], np.float64)
    expected = -(x * np.log(p) + (1 - x) * np.log1p(-p)).sum(axis=1)
    key = jax.random.key(1)
    np.testing.assert_allclose(model.evaluate(params, statistics, batch, key)["loss"], expected, rtol=1e-5)
    value, _ = model.losses["network"](params, statistics, batch, key, True)
    assert value == pytest.approx(expected.mean(), rel=1e-5)
