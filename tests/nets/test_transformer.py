"""The causal transformer: its order, its cache, its arithmetic, its probabilities and the draws."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from grids import (
    BITS,
    SMALL_BITS,
    assert_frequencies,
    influence,
    log_probabilities,
    random_parameters,
)

from jaxgen.nets import CausalTransformer, sample_transformer


def make(grid, *, classes=0, num_codes=3, **options):
    network = CausalTransformer(num_codes=num_codes, grid=grid, features=4, heads=2, layers=2, classes=classes)
    told = {"label": jnp.zeros(1, jnp.int32)} if classes else {}
    return network, random_parameters(network, grid, **told, **options)


def test_the_jacobian_is_exactly_causal_and_reaches_all_before(x64):
    network, params = make((3, 4))
    found = influence(network, params, (3, 4), 4)
    np.testing.assert_array_equal(found > 0, np.tril(np.ones((12, 12), bool), -1))


@pytest.mark.parametrize("classes", [0, 3])
def test_with_the_cache_logits_are_those_without(x64, classes):
    network, params = make((3, 4), classes=classes, scale=1.0)
    rng = np.random.default_rng(2)
    codes = rng.integers(0, 3, (5, 3, 4))
    label = rng.integers(0, 3, 5) if classes else None
    expected = np.asarray(network.apply(params, codes, label)).reshape(5, 12, 3)
    step = jax.jit(lambda *arguments: network.apply(params, *arguments, method="step"))
    cache = network.apply(params, 5, method="empty_cache")
    flat = codes.reshape(5, 12)
    for place in range(12):
        # What stands at a place before its turn is not looked at.
        previous = flat[:, place - 1] if place else np.full(5, 2)
        logits, cache = step(cache, previous, jnp.asarray(place), label)
        np.testing.assert_allclose(logits, expected[:, place], atol=1e-11)


def products(jaxpr):
    """Multiplications in the matrix products of a traced function, loops counted as often as they run."""
    total = 0
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            left = equation.invars[0].aval.shape
            total += math.prod(equation.outvars[0].aval.shape) * math.prod(left[axis] for axis in contracted)
        times = equation.params.get("length", 1) if equation.primitive.name == "scan" else 1
        assert equation.primitive.name != "while"
        for inner in jax.tree.leaves(list(equation.params.values()), is_leaf=lambda p: hasattr(p, "eqns")):
            inner = getattr(inner, "jaxpr", inner)
            total += times * products(inner) if hasattr(inner, "eqns") else 0
    return total


@pytest.mark.parametrize("grid", [(3, 4), (6, 8)])
def test_drawing_a_whole_grid_costs_one_pass(grid):
    """Nothing is computed twice: as many products as one pass over all places at once."""
    network, params = make(grid)
    codes = jnp.zeros((5, *grid), jnp.int32)
    at_once = products(jax.make_jaxpr(lambda c: network.apply(params, c))(codes).jaxpr)
    drawn = products(jax.make_jaxpr(lambda key: sample_transformer(network, params, key, 5))(jax.random.key(0)).jaxpr)
    places = grid[0] * grid[1]
    by_hand = 5 * places * (2 * (4 * 12 + 4 * 4 + 2 * 4 * 16 + 2 * 4 * places) + 4 * 3)
    assert drawn == at_once == by_hand


def test_a_place_drawn_is_written_into_the_cache_and_nothing_of_its_size_is_made_beside_it():
    network, params = make((6, 8))
    traced = jax.make_jaxpr(lambda key: sample_transformer(network, params, key, 5))(jax.random.key(0))
    (loop,) = [equation for equation in traced.jaxpr.eqns if equation.primitive.name == "scan"]
    of_a_block = 2 * 5 * 48 * 4
    written = [name for name, size in computed(loop.params["jaxpr"].jaxpr) if size >= of_a_block]
    assert written == ["dynamic_update_slice"] * network.layers


def computed(jaxpr):
    """What the equations of a traced function are and how many numbers they make, those within its calls too."""
    for equation in jaxpr.eqns:
        within = [getattr(p, "jaxpr", p) for p in equation.params.values()]
        within = [p for p in within if hasattr(p, "eqns")]
        if not within:
            yield from ((equation.primitive.name, math.prod(out.aval.shape)) for out in equation.outvars)
        for inner in within:
            yield from computed(inner)


def test_probabilities_of_all_images_of_nine_bits_sum_to_one(x64):
    network, params = make((3, 3), num_codes=2, classes=2)
    log_p = [log_probabilities(network.apply(params, BITS, np.full(512, label)), BITS) for label in (0, 1)]
    np.testing.assert_allclose(np.exp(log_p).sum(axis=1), 1, rtol=1e-12)
    assert np.abs(log_p[0] - log_p[1]).max() > 0.1


def test_attention_is_the_textbooks(x64):
    """One block by NumPy, head by head."""
    network = CausalTransformer(num_codes=3, grid=(2, 2), features=4, heads=2, layers=1)
    params = random_parameters(network, (2, 2))
    own = jax.tree.map(np.asarray, params["params"])
    codes = np.array([[[2, 0], [1, 1]]])

    def norm(x, of):
        scaled = (x - x.mean(axis=-1, keepdims=True)) / np.sqrt(x.var(axis=-1, keepdims=True) + 1e-6)
        return scaled * of["scale"] + of["bias"]

    x = np.concatenate([own["start"]["embedding"], own["embed"]["embedding"][codes.ravel()[:-1]]]) + own["places"]
    block = own["blocks_0"]
    parts = np.einsum("tf,fphd->pthd", norm(x, block["LayerNorm_0"]), block["attend"]["kernel"])
    query, key, value = parts + block["attend"]["bias"][:, None]
    merged = np.zeros((4, 2, 2))
    for head in range(2):
        for t in range(4):
            weights = np.exp(key[: t + 1, head] @ query[t, head] / np.sqrt(2))
            merged[t, head] = weights @ value[: t + 1, head] / weights.sum()
    x = x + np.einsum("thd,hdf->tf", merged, block["merge"]["kernel"]) + block["merge"]["bias"]
    hidden = norm(x, block["LayerNorm_1"]) @ block["widen"]["kernel"] + block["widen"]["bias"]
    hidden = hidden / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (hidden + 0.044715 * hidden**3)))
    x = x + hidden @ block["narrow"]["kernel"] + block["narrow"]["bias"]
    logits = norm(x, own["norm"]) @ own["head"]["kernel"] + own["head"]["bias"]
    np.testing.assert_allclose(network.apply(params, codes).reshape(4, 3), logits, rtol=1e-9)


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_draws_occur_as_often_as_their_probabilities_say(temperature):
    network, params = make((2, 2), num_codes=2, classes=2, seed=4, scale=1.0)
    n = 20_000
    label = np.arange(n) % 2
    draw = jax.jit(lambda key: sample_transformer(network, params, key, n, label=label, temperature=temperature))
    draws = np.asarray(draw(jax.random.key(0)))
    for value in (0, 1):
        logits = network.apply(params, SMALL_BITS, np.full(16, value)) / temperature
        assert_frequencies(draws[label == value], np.exp(log_probabilities(logits, SMALL_BITS)))


@pytest.mark.parametrize(
    ("options", "shape", "message"),
    [
        ({}, (1, 3, 2), r"the network is for a grid \(2, 2\), got codes of shape \(1, 3, 2\)"),
        ({"heads": 3}, (1, 2, 2), "heads must divide the features, got 1 layers and 3 heads for 4 features"),
        ({"layers": 0}, (1, 2, 2), "layers must be at least 1"),
        ({"classes": 2}, (1, 2, 2), "conditional on 2 classes: give a label for each example"),
    ],
)
def test_what_does_not_fit_is_refused(options, shape, message):
    network = CausalTransformer(**({"num_codes": 3, "grid": (2, 2), "features": 4, "heads": 2, "layers": 1} | options))
    with pytest.raises(ValueError, match=message):
        network.init(jax.random.key(0), np.zeros(shape, int))


def test_nothing_is_drawn_at_no_temperature_nor_of_no_class():
    network, params = make((2, 2), classes=2)
    for label, temperature, message in (
        (np.zeros(1, int), 0.0, r"temperature must be positive, got 0\.0"),
        (None, 1.0, "conditional on 2 classes: give a label for each example"),
        (np.array([2]), 1.0, "label must lie in 0 … 1, since there are 2 classes, got 2 to 2"),
    ):
        with pytest.raises(ValueError, match=message):
            sample_transformer(network, params, jax.random.key(0), 1, label=label, temperature=temperature)
