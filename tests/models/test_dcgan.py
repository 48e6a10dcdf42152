"""Batch normalization in a game: which pass takes what from the batch, and whose running statistics it moves."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxgen.models import gan
from jaxgen.models.game import networks
from jaxgen.nets import BatchNorm

KEY, SHAPE, BATCH = jax.random.key(3), (8, 8, 1), 6
PLAYERS = ("discriminator", "generator")


@pytest.fixture(scope="module")
def made():
    """A game of two stages whose running statistics are not those that it begins with, and a batch."""
    model = gan(shape=SHAPE, noise_dim=3, network="dcgan", hidden=(2, 3), activation="leaky_relu")
    rng = np.random.default_rng(0)
    batch = {"x": jnp.asarray(rng.uniform(size=(BATCH, *SHAPE)), jnp.float32), "position": jnp.arange(BATCH)}
    params, statistics = jax.jit(model.init)(KEY, batch)
    statistics = jax.tree.map(lambda a: jnp.asarray(rng.uniform(0.5, 2.0, a.shape), a.dtype), statistics)
    return model, params, statistics, batch


@pytest.fixture(scope="module")
def losses(made):
    return {player: jax.jit(made[0].losses[player], static_argnums=4) for player in PLAYERS}


def same(a, b) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


def moved(before, value):
    """Nine parts of the running mean and variance, one of those of a batch."""
    axes = tuple(range(value.ndim - 1))
    new = {"mean": value.mean(axis=axes), "var": value.var(axis=axes)}
    return {name: 0.9 * np.asarray(before[name]) + 0.1 * new[name] for name in new}


def test_a_feature_is_in_units_of_the_batch_in_training_and_of_the_running_ones_elsewhere():
    x = np.random.default_rng(1).normal(2.0, 3.0, size=(20, 4, 5)).astype(np.float32)
    own = {"scale": np.arange(1.0, 6.0, dtype=np.float32), "bias": np.arange(5, dtype=np.float32)}
    running = {"mean": np.full(5, 0.5, np.float32), "var": np.full(5, 4.0, np.float32)}
    variables = {"params": {"BatchNorm_0": own}, "batch_stats": {"BatchNorm_0": running}}
    mean, var = x.mean(axis=(0, 1)), x.var(axis=(0, 1))
    values, found = BatchNorm().apply(variables, x, mutable=["batch_stats"])
    np.testing.assert_allclose(values, own["scale"] * (x - mean) / np.sqrt(var + 1e-5) + own["bias"], atol=1e-4)
    for name, expected in moved(running, x).items():
        np.testing.assert_allclose(found["batch_stats"]["BatchNorm_0"][name], expected, rtol=1e-4)
    values = np.asarray(BatchNorm().apply(variables, x))
    np.testing.assert_allclose(values, own["scale"] * (x - 0.5) / np.sqrt(4 + 1e-5) + own["bias"], rtol=1e-5)


def test_a_turn_moves_the_running_statistics_of_its_own_player_alone(made, losses):
    _, params, statistics, batch = made
    for player in PLAYERS:
        after = losses[player](params, statistics, batch, KEY, True)[1].statistics["batch"]
        for name in PLAYERS:
            assert same(after[name], statistics["batch"][name]) == (name != player)


def test_a_loss_that_is_not_for_training_moves_nothing(made, losses):
    _, params, statistics, batch = made
    for loss in losses.values():
        assert same(loss(params, statistics, batch, KEY, False)[1].statistics, statistics)


def test_the_discriminator_takes_in_the_real_batch_and_then_the_generated_one(made, losses):
    """Its second convolution is the first that is normalized: what comes out of it, by Flax's convolutions alone."""
    _, params, statistics, batch = made
    kernels = params["discriminator"]["params"]["ConvEncoder_0"]

    def entering(x):
        first = nn.Conv(2, (4, 4), strides=(2, 2)).apply({"params": kernels["Conv_0"]}, x)
        second = nn.Conv(3, (4, 4), strides=(2, 2), use_bias=False).apply(
            {"params": kernels["Conv_1"]}, nn.leaky_relu(first, 0.2)
        )
        return np.asarray(second)

    def of(after):
        return after["discriminator"]["batch_stats"]["ConvEncoder_0"]["BatchNorm_0"]["BatchNorm_0"]

    keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.split(KEY, 4)[0], batch["position"])
    noise = jax.vmap(lambda key: jax.random.normal(key, (3,)))(keys)
    variables = params["generator"] | statistics["batch"]["generator"]
    _, generator = networks("dcgan", (2, 3), SHAPE, activation="leaky_relu", bounded=False)
    fake, _ = generator.apply(variables, noise, mutable=["batch_stats"])
    expected = moved(moved(of(statistics["batch"]), entering(batch["x"])), entering(fake))
    after = of(losses["discriminator"](params, statistics, batch, KEY, True)[1].statistics["batch"])
    for name, value in expected.items():
        np.testing.assert_allclose(after[name], value, rtol=1e-4)


def test_what_is_drawn_and_what_is_evaluated_depends_on_no_other_example(made):
    model, params, statistics, batch = made
    evaluate, decode = jax.jit(model.evaluate), jax.jit(model.decode)
    whole, z = evaluate(params, statistics, batch, KEY), jax.random.normal(KEY, (BATCH, 3))
    images = decode(params, statistics, z)
    for i in (0, 4):
        one = evaluate(params, statistics, jax.tree.map(lambda a, i=i: a[i : i + 1], batch), KEY)
        np.testing.assert_allclose(one["value"], whole["value"][i : i + 1], rtol=1e-5)
        np.testing.assert_allclose(decode(params, statistics, z[i : i + 1]), images[i : i + 1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("bound", [{"spectral_norm": True}, {"penalty": "r1"}, {"penalty": "gradient"}])
def test_a_discriminator_of_bounded_slope_is_not_normalized_over_the_batch(bound):
    """Its slope in one example would hang on all others, or be scaled up again: the generator alone is."""
    model = gan(shape=SHAPE, noise_dim=3, network="dcgan", hidden=(2, 3), **bound)
    batch = {"x": jnp.zeros((1, *SHAPE)), "position": jnp.arange(1)}
    params, statistics = jax.eval_shape(model.init, KEY, batch)
    assert list(statistics["batch"]) == ["generator"]
    names = [jax.tree_util.keystr(path) for path, _ in jax.tree.leaves_with_path(params["discriminator"])]
    assert not any("BatchNorm" in name for name in names)


def test_the_first_layer_of_the_discriminator_and_the_last_of_the_generator_are_not_normalized(made):
    _, params, _, _ = made
    discriminator, generator = (params[player]["params"] for player in PLAYERS)
    assert sorted(discriminator["ConvEncoder_0"]) == ["BatchNorm_0", "Conv_0", "Conv_1"]
    assert discriminator["ConvEncoder_0"]["BatchNorm_0"]["BatchNorm_0"]["scale"].shape == (3,)
    assert sorted(generator) == ["BatchNorm_0", "ConvDecoder_0", "Dense_0"]
    assert sorted(generator["ConvDecoder_0"]) == ["BatchNorm_0", "Conv_0", "Conv_1"]
    # What is normalized has its mean taken away: a bias before it would do nothing.
    assert list(generator["Dense_0"]) == ["kernel"]


def test_the_averaged_generator_normalizes_by_the_average_of_its_running_statistics(made, losses):
    """A plain mean at first, then one that forgets, of parameters and statistics alike: two turns by hand."""
    _, params, statistics, batch = made
    model = gan(shape=SHAPE, noise_dim=3, network="dcgan", hidden=(2, 3), activation="leaky_relu", average=0.25)
    turn = jax.jit(model.losses["generator"], static_argnums=4)
    statistics = {**statistics, "average": {**statistics["average"], "updates": jnp.zeros(())}}
    mean = None
    for scale in (1.0, 2.0, 5.0):
        played = params | {"generator": jax.tree.map(lambda a, s=scale: s * a, params["generator"])}
        statistics = turn(played, statistics, batch, KEY, True)[1].statistics
        latest = played["generator"] | statistics["batch"]["generator"]
        decay = 0.0 if mean is None else 0.25  # of the second, ½ of the plain mean is more than the decay
        mean = latest if mean is None else jax.tree.map(lambda a, b, d=decay: d * a + (1 - d) * b, mean, latest)
    kept = statistics["average"]["generator"]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), kept, mean)
    z = jax.random.normal(KEY, (BATCH, 3))
    _, generator = networks("dcgan", (2, 3), SHAPE, activation="leaky_relu", bounded=False)
    drawn = jax.jit(model.decode)(params, statistics, z)
    np.testing.assert_allclose(drawn, generator.apply(mean, z), rtol=1e-4, atol=1e-5)
    last = mean | statistics["batch"]["generator"]
    assert np.abs(drawn - generator.apply(last, z)).max() > 1e-2


def test_the_generator_is_paid_by_a_discriminator_that_normalizes_by_the_generated_batch(made, losses):
    _, params, statistics, batch = made
    keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.split(KEY)[0], batch["position"])
    noise = jax.vmap(lambda key: jax.random.normal(key, (3,)))(keys)
    players = networks("dcgan", (2, 3), SHAPE, activation="leaky_relu", bounded=False)
    judged = noise
    for player, network in zip(reversed(PLAYERS), reversed(players)):
        variables = params[player] | statistics["batch"][player]
        judged, _ = network.apply(variables, judged, mutable=["batch_stats"])
    expected = np.mean(np.log1p(np.exp(-np.asarray(judged))))
    np.testing.assert_allclose(losses["generator"](params, statistics, batch, KEY, True)[0], expected, rtol=1e-4)
