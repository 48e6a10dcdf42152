"""The gated PixelCNN: its order, its arithmetic, its probabilities, what it learns, and the draws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from grids import (
    BITS,
    ENTROPY,
    SMALL_BITS,
    assert_frequencies,
    influence,
    learned,
    log_probabilities,
    random_parameters,
)

from jaxgen.nets import GatedPixelCNN, sample_pixelcnn


@pytest.mark.parametrize(("grid", "layers", "kernel"), [((4, 4), 3, 3), ((5, 3), 3, 3), ((2, 5), 2, 5)])
def test_the_jacobian_is_exactly_causal_and_has_no_blind_spot(x64, grid, layers, kernel):
    network = GatedPixelCNN(num_codes=3, features=8, layers=layers, kernel=kernel)
    found = influence(network, random_parameters(network, grid), grid, 8)
    length = grid[0] * grid[1]
    np.testing.assert_array_equal(found > 0, np.tril(np.ones((length, length), bool), -1))


def test_the_reach_is_what_the_docstring_says(x64):
    """One layer less than the width asks for: the first code of the second row does not see the end of the first."""
    network = GatedPixelCNN(num_codes=3, features=8, layers=2, kernel=3)
    found = influence(network, random_parameters(network, (2, 4)), (2, 4), 8)
    assert found[4, 2] > 0
    assert found[4, 3] == 0


def test_three_layers_are_the_papers_gates_and_links(x64):
    """By NumPy, window by window: tanh times sigmoid, vertical to horizontal across, residual from the second on."""
    network = GatedPixelCNN(num_codes=3, features=4, layers=3, kernel=3, classes=2)
    params = random_parameters(network, (3, 3), label=jnp.zeros(1, jnp.int32))
    own = jax.tree.map(np.asarray, params["params"])
    codes = np.random.default_rng(3).integers(0, 3, (1, 3, 3))

    def dense(x, of):
        return x @ of["kernel"] + of.get("bias", 0)

    def window(x, of, height, width):
        """Ends at the place below, in the middle of a vertical window and at the right of a horizontal one."""
        around = np.pad(x, ((2, 2), (2, 2), (0, 0)))
        out = np.zeros((3, 3, 8))
        for i, j, a, b in np.ndindex(3, 3, height, width):
            column = j + b - 1 if height > 1 else j + b - (width - 1)
            out[i, j] += around[2 + i + a - (height - 1), 2 + column] @ of["kernel"][a, b]
        return out + of["bias"]

    def gate(x):
        return np.tanh(x[..., :4]) / (1 + np.exp(-x[..., 4:]))

    vertical = horizontal = own["embed"]["embedding"][codes[0]]
    told = own["told"]["embedding"][1]
    for index in range(3):
        layer = own[f"gated_{index}"]
        above, left = vertical, horizontal
        if index == 0:
            above = np.concatenate([np.zeros((1, 3, 4)), above[:-1]])
            left = np.concatenate([np.zeros((3, 1, 4)), left[:, :-1]], axis=1)
        v = window(above, layer["vertical"], 2, 3)
        h = window(left, layer["horizontal"], 1, 2) + dense(v, layer["across"]) + dense(told, layer["told_horizontal"])
        v, h = gate(v + dense(told, layer["told_vertical"])), dense(gate(h), layer["out"])
        vertical, horizontal = (vertical + v, horizontal + h) if index else (v, h)
    hidden = np.maximum(dense(np.maximum(horizontal, 0), own["hidden"]), 0)
    np.testing.assert_allclose(network.apply(params, codes, np.array([1]))[0], dense(hidden, own["head"]), rtol=1e-9)


def test_probabilities_of_all_images_of_nine_bits_sum_to_one(x64):
    network = GatedPixelCNN(num_codes=2, features=4, layers=2, kernel=3)
    params = random_parameters(network, (3, 3))
    log_p = log_probabilities(network.apply(params, BITS), BITS)
    np.testing.assert_allclose(np.exp(log_p).sum(), 1, rtol=1e-12)
    assert np.ptp(log_p) > 1


def test_a_class_changes_every_place_and_normalizes_for_itself(x64):
    network = GatedPixelCNN(num_codes=2, features=4, layers=2, kernel=3, classes=3)
    params = random_parameters(network, (3, 3), label=jnp.zeros(1, jnp.int32))
    logits = [np.asarray(network.apply(params, BITS, np.full(512, label))) for label in range(3)]
    for of_label in logits:
        np.testing.assert_allclose(np.exp(log_probabilities(of_label, BITS)).sum(), 1, rtol=1e-12)
    assert np.abs(logits[0] - logits[1]).max(axis=(0, 3)).min() > 1e-3
    each = network.apply(params, BITS[:3], np.arange(3))
    np.testing.assert_allclose(each[2], logits[2][2], rtol=1e-10)


def test_a_law_of_bits_is_learned_to_its_entropy():
    network = GatedPixelCNN(num_codes=2, features=16, layers=2, kernel=3)
    assert ENTROPY - 0.1 < learned(network, steps=400, rate=5e-3) < ENTROPY + 0.1


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_draws_occur_as_often_as_their_probabilities_say(temperature):
    network = GatedPixelCNN(num_codes=2, features=4, layers=1, kernel=3, classes=2)
    params = random_parameters(network, (2, 2), label=jnp.zeros(1, jnp.int32), seed=4)
    n = 20_000
    label = np.arange(n) % 2
    draw = jax.jit(
        lambda key: sample_pixelcnn(network, params, key, n, grid=(2, 2), label=label, temperature=temperature)
    )
    draws = np.asarray(draw(jax.random.key(0)))
    for value in (0, 1):
        logits = network.apply(params, SMALL_BITS, np.full(16, value)) / temperature
        assert_frequencies(draws[label == value], np.exp(log_probabilities(logits, SMALL_BITS)))


@pytest.mark.parametrize(
    ("options", "codes", "label", "message"),
    [
        ({}, np.full((1, 2, 2), 5), None, r"codes must lie in 0 … 2, since the network has 3 codes, got 5 to 5"),
        (
            {},
            np.zeros((1, 2, 2, 4), int),
            None,
            r"codes must be \[batch, height, width\], got the shape \(1, 2, 2, 4\)",
        ),
        ({}, np.zeros((1, 2, 2), int), np.zeros(1, int), "this network is not conditional: leave label out"),
        ({"classes": 2}, np.zeros((1, 2, 2), int), None, "conditional on 2 classes: give a label for each example"),
        (
            {"classes": 2},
            np.zeros((1, 2, 2), int),
            np.array([2]),
            "label must lie in 0 … 1, since there are 2 classes, got 2 to 2",
        ),
        (
            {"classes": 2},
            np.zeros((1, 2, 2), int),
            np.zeros(2, int),
            r"label must be \[batch\], here \(1,\), .* \(2,\)",
        ),
        ({"kernel": 4}, np.zeros((1, 2, 2), int), None, "kernel must be odd and at least 3, .* got 4, 1 and 4"),
    ],
)
def test_what_is_no_grid_of_its_codes_is_refused(options, codes, label, message):
    network = GatedPixelCNN(**({"num_codes": 3, "features": 4, "layers": 1} | options))
    with pytest.raises(ValueError, match=message):
        network.init(jax.random.key(0), codes, label)


def test_floats_are_no_codes_and_nothing_is_drawn_at_no_temperature():
    network = GatedPixelCNN(num_codes=3, features=4, layers=1)
    with pytest.raises(TypeError, match="codes must be integers, got float32"):
        network.init(jax.random.key(0), jnp.zeros((1, 2, 2)))
    with pytest.raises(ValueError, match=r"temperature must be positive, got 0\.0"):
        sample_pixelcnn(network, {}, jax.random.key(0), 1, grid=(2, 2), temperature=0.0)


def test_a_temperature_may_be_traced_and_a_seen_one_is_refused_alike():
    network = GatedPixelCNN(num_codes=2, features=4, layers=1)
    params = random_parameters(network, (2, 2))

    def draw(temperature):
        return sample_pixelcnn(network, params, jax.random.key(0), 50, grid=(2, 2), temperature=temperature)

    np.testing.assert_array_equal(jax.jit(draw)(0.5), draw(0.5))
    assert np.any(np.asarray(draw(0.5) != draw(5.0)))
    for temperature, message in ((np.ones(50), "must be one number"), (np.nan, "must be positive, got nan")):
        with pytest.raises(ValueError, match=f"temperature {message}"):
            draw(temperature)


def test_a_coarser_grid_is_seen_everywhere_and_leaves_the_order_as_it_is(x64):
    """Its codes move logits at the first place too, to which no code of its own grid is known."""
    network = GatedPixelCNN(num_codes=3, features=6, layers=3, kernel=3, coarse_codes=4)
    rng = np.random.default_rng(0)
    # Several grids: in one of them the units that a place is seen through may all be off.
    codes, coarse = rng.integers(0, 3, (9, 4, 4)), rng.integers(0, 4, (9, 2, 2))
    params = random_parameters(network, (4, 4), coarse=jnp.zeros((1, 2, 2), jnp.int32))
    apply = jax.jit(network.apply)
    logits = np.asarray(apply(params, codes, None, coarse))
    for place in np.ndindex(2, 2):
        other = coarse.copy()
        other[:, *place] = (coarse[:, *place] + 1) % 4
        moved = np.abs(np.asarray(apply(params, codes, None, other)) - logits).max(axis=(0, -1))
        row, column = 2 * place[0], 2 * place[1]
        assert np.all(moved[row : row + 2, column : column + 2] > 0)
    for place in np.ndindex(4, 4):
        other = codes.copy()
        other[:, *place] = (codes[:, *place] + 1) % 3
        moved = np.abs(np.asarray(apply(params, other, None, coarse)) - logits).max(axis=(0, -1)).ravel()
        assert np.all(moved[: 4 * place[0] + place[1] + 1] == 0)


def test_a_coarser_grid_is_given_where_it_is_wanted_alone():
    codes = jnp.zeros((1, 2, 2), jnp.int32)
    for wanted, given, message in ((4, None, "conditional on a coarser grid of 4"), (0, codes, "leave coarse out")):
        network = GatedPixelCNN(num_codes=3, features=4, layers=1, kernel=3, coarse_codes=wanted)
        with pytest.raises(ValueError, match=message):
            network.init(jax.random.key(0), codes, None, given)
    network = GatedPixelCNN(num_codes=3, features=4, layers=1, kernel=3, coarse_codes=4)
    with pytest.raises(ValueError, match="codes must lie in 0 … 3, since the network has 4 codes, got 4 to 4"):
        sample_pixelcnn(network, {}, jax.random.key(0), 1, grid=(2, 2), coarse=codes + 4)


def test_each_place_is_told_the_coarse_code_that_covers_it(x64):
    """Of a grid of 7 that was halved to 4, rounded up: 0 0 1 1 2 2 3."""
    network = GatedPixelCNN(num_codes=3, features=4, layers=1, kernel=3, coarse_codes=4)
    params = random_parameters(network, (1, 7), coarse=jnp.zeros((1, 1, 4), jnp.int32))
    told = jax.jit(lambda c: network.apply(params, None, c, (1, 1, 7, 4), method="told_of"))
    found = np.asarray(told(jnp.array([[[0, 1, 2, 3]]])))[0, 0]
    for place, covering in enumerate((0, 0, 1, 1, 2, 2, 3)):
        np.testing.assert_array_equal(found[place], found[2 * covering])
    assert len(np.unique(found.round(9), axis=0)) == 4
    with pytest.raises(ValueError, match="one grid for each of 2 examples, got 1"):
        network.apply(params, jnp.zeros((2, 1, 7), jnp.int32), None, jnp.zeros((1, 1, 4), jnp.int32))
