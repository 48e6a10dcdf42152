"""A prior over codes: a distribution over all grids, each grid given those before it, and draws from it."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.models import code_prior
from jaxgen.nets import GatedPixelCNN

KEY = jax.random.key(4)
SMALL = {"features": 4, "layers": 2, "kernel": 3, "heads": 2}
#: Two grids of two codes each: 2 places and 3 places.
TWO = {"shape": (5,), "codebook_size": 4, "grids": ((1, 2), (1, 3))}
ONE = {"shape": (2, 2, 1), "codebook_size": 2, "grids": ((2, 2),)}
#: Two places of two codes each, of a codebook of two for the first and another for the second.
STAGES = {"shape": (2, 1, 2), "codebook_size": 4, "grids": ((2, 2),), "per_place": 2}


def make(network, **options):
    """A model whose parameters have nothing special about them."""
    model = code_prior(network=network, **(SMALL | options))
    batch = {"x": jnp.zeros((2, *options["shape"])), "label": jnp.zeros(2, jnp.int32)}
    shapes = jax.eval_shape(model.init, KEY, batch)[0]
    rng = np.random.default_rng(0)
    return model, jax.tree.map(lambda s: jnp.asarray(0.7 * rng.normal(size=s.shape)), shapes)


def all_examples(of):
    """Every example there is, the codes of each grid numbered after those of the ones before."""
    stages, levels = of.get("per_place", 1), len(of["grids"])
    size = of["codebook_size"] // (levels * stages)
    book = [lv * stages + place % stages for lv in range(levels) for place in range(math.prod(of["grids"][lv]))]
    first = size * np.array(book)
    codes = np.array(list(itertools.product(range(size), repeat=len(first)))) + first
    return codes.reshape(-1, *of["shape"]).astype(np.float64)


def nll(model, params, x, label=None):
    batch = {"x": jnp.asarray(x), "label": jnp.zeros(len(x), jnp.int32) if label is None else jnp.full(len(x), label)}
    found = jax.jit(model.evaluate)(params, {}, batch, KEY)
    np.testing.assert_allclose(found["code_bits"], np.asarray(found["loss"]) / np.log(2), rtol=1e-6)
    return np.asarray(found["loss"])


@pytest.mark.parametrize("network", ["pixelcnn", "transformer"])
@pytest.mark.parametrize("of", [ONE, TWO, STAGES], ids=["one grid", "two grids", "two codes a place"])
def test_probabilities_of_all_codes_sum_to_one(x64, of, network):
    """Of all that can stand where they stand: a code of another grid's or stage's codebook has no probability."""
    model, params = make(network, **of)
    np.testing.assert_allclose(np.exp(-nll(model, params, all_examples(of))).sum(), 1, rtol=1e-6)


def test_what_is_logged_in_training_is_in_bits(x64):
    model, params = make("transformer", **ONE)
    batch = {"x": jnp.asarray(all_examples(ONE)[:5])}
    value, aux = jax.jit(model.losses["code_prior"], static_argnums=4)(params, {}, batch, KEY, True)
    np.testing.assert_allclose(value, nll(model, params, batch["x"]).mean(), rtol=1e-6)
    np.testing.assert_allclose(aux.metrics["code_bits"], value / np.log(2), rtol=1e-6)


def test_the_bottom_grid_is_given_the_top_one(x64):
    """−log p(top) − log p(bottom | top), each by its own network."""
    model, params = make("pixelcnn", **TWO)
    top, bottom = GatedPixelCNN(2, 4, 2, 3), GatedPixelCNN(2, 4, 2, 3, coarse_codes=2)
    own = params["code_prior"]
    codes = all_examples(TWO).astype(np.int32)
    above, below = codes[:, None, :2], codes[:, None, 2:] - 2
    expected = 0.0
    for logits, chosen in (
        (top.apply(own["grid_0"], above), above),
        (bottom.apply(own["grid_1"], below, coarse=above), below),
    ):
        log_p = np.asarray(jax.nn.log_softmax(logits))
        expected = expected - np.take_along_axis(log_p, chosen[..., None], axis=-1).sum(axis=(1, 2, 3))
    np.testing.assert_allclose(nll(model, params, codes), expected, rtol=1e-6)
    marginal = np.exp(-expected).reshape(4, 8)
    # Given another top grid the bottom one is another distribution.
    given = marginal / marginal.sum(axis=1, keepdims=True)
    assert np.abs(given[0] - given[3]).max() > 0.01


@pytest.mark.parametrize(("network", "of"), [("pixelcnn", TWO), ("transformer", TWO), ("pixelcnn", STAGES)])
def test_draws_occur_as_often_as_their_probabilities_say(x64, network, of):
    n = 4000
    model, params = make(network, **of)
    examples = all_examples(of).reshape(-1, math.prod(of["shape"]))
    probabilities = np.exp(-nll(model, params, examples.reshape(-1, *of["shape"])))
    drawn = np.asarray(jax.jit(model.sample, static_argnums=3)(params, {}, KEY, n))
    assert drawn.shape == (n, *of["shape"])
    equal = (drawn.reshape(n, 1, -1) == examples).all(axis=-1)
    assert np.all(equal.any(axis=1))
    share = equal.mean(axis=0)
    assert np.all(np.abs(share - probabilities) < 5 * np.sqrt(probabilities * (1 - probabilities) / n))


@pytest.mark.parametrize("network", ["pixelcnn", "transformer"])
def test_a_label_is_told_to_every_grid_and_normalizes_on_its_own(x64, network):
    """The draws of a class occur as often as its own probabilities say."""
    of, n = ONE if network == "transformer" else TWO, 6000
    model, params = make(network, condition="label", num_classes=3, **of)
    assert model.condition == ("label", 3, True)
    examples = all_examples(of)
    by_class = np.stack([np.exp(-nll(model, params, examples, label)) for label in range(3)])
    np.testing.assert_allclose(by_class.sum(axis=1), 1, rtol=1e-6)
    assert np.abs(by_class[0] - by_class[1]).max() > 0.005
    draw = jax.jit(model.sample, static_argnums=3)
    told = np.asarray(draw(params, {}, KEY, n, condition=jnp.arange(n) % 3))
    assert told.shape == (n, *of["shape"])
    error = np.sqrt(by_class * (1 - by_class) / (n / 3))
    for label in range(3):
        drawn = (told[label::3, None] == examples).reshape(n // 3, len(examples), -1).all(axis=-1).mean(axis=0)
        assert np.all(np.abs(drawn - by_class[label]) < 5 * error[label])
    with pytest.raises(ValueError, match="conditional on 3 classes"):
        model.sample(params, {}, KEY, 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"condition": "label"}, "the data has no labels"),
        ({"grids": ((3, 3),)}, r"do not fit examples of shape \(2, 2, 1\)"),
        ({"codebook_size": 3, "shape": (5,), "grids": ((1, 2), (1, 3))}, "3 codes on grids"),
        ({"network": "pixelcnn", "kernel": 2}, "kernel must be odd"),
    ],
)
def test_settings_that_make_no_prior_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        make(**({"network": "transformer"} | ONE | options))
