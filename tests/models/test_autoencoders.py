"""Autoencoders at their closed-form optima, noise against its probabilities, layers that move one at a time."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA

from jaxgen.model import example_keys
from jaxgen.models import autoencoder, denoising_autoencoder, stacked_autoencoder
from jaxgen.models.corruption import make_corruption

KEY = jax.random.key(4)
ROWS = load_digits(return_X_y=True)[0] / 16
BATCH = {"x": jnp.asarray(ROWS[:200]), "position": jnp.arange(200)}


def dense(kernel, bias):
    return {"params": {"Dense_0": {"kernel": jnp.asarray(kernel), "bias": jnp.asarray(bias)}}}


def linear(encode, encode_bias, decode, decode_bias):
    params = {"encoder": dense(encode, encode_bias), "decoder": dense(decode, decode_bias), "likelihood": {}}
    return {"autoencoder": params}


@pytest.mark.parametrize("latents", [2, 10])
def test_pca_is_where_the_linear_autoencoder_cannot_improve(x64, latents):
    rows = ROWS[:200]
    pca = PCA(latents).fit(rows)
    params = linear(pca.components_.T, -pca.components_ @ pca.mean_, pca.components_, pca.mean_)
    model = autoencoder(shape=(64,), latents=latents, hidden=())

    def loss(own):
        return model.losses["autoencoder"]({"autoencoder": own}, {"likelihood": {}}, BATCH, KEY, True)[0]

    value, gradient = jax.value_and_grad(loss)(params["autoencoder"])
    error = np.square(rows - pca.inverse_transform(pca.transform(rows))).sum(axis=1)
    np.testing.assert_allclose(value, error.mean() / 2 + 32 * np.log(2 * np.pi), rtol=1e-12)
    assert max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(gradient)) < 1e-9
    figures = model.evaluate(params, {"likelihood": {}}, BATCH, KEY)
    np.testing.assert_allclose(figures["squared_error"], error, rtol=1e-9)


def test_denoising_is_judged_on_the_clean_example_and_its_best_linear_map_is_wiener_s(x64):
    """Averaged over the noise, W = C(C + σ²I)⁻¹ has a vanishing gradient and the error σ² tr W."""
    level, rows = 0.25, ROWS[:200]
    mean, covariance = rows.mean(axis=0), np.cov(rows.T, bias=True)
    weights = covariance @ np.linalg.inv(covariance + level**2 * np.eye(64))
    params = linear(np.eye(64), np.zeros(64), weights.T, mean - weights @ mean)
    model = denoising_autoencoder(shape=(64,), latents=64, hidden=(), level=level)
    keys = jax.random.split(KEY, 300)

    def error(key):
        return model.evaluate(params, {"likelihood": {}}, BATCH, key)["squared_error"].mean()

    def slope(key):
        def loss(own):
            return model.losses["autoencoder"]({"autoencoder": own}, {"likelihood": {}}, BATCH, key, True)[0]

        return jax.grad(loss)(params["autoencoder"])["decoder"]["params"]["Dense_0"]

    errors = np.asarray(jax.lax.map(error, keys))
    assert abs(errors.mean() - level**2 * np.trace(weights)) < 4 * errors.std() / np.sqrt(len(keys))
    for values in jax.tree.leaves(jax.tree.map(np.asarray, jax.lax.map(slope, keys[:100]))):
        standard_error = values.std(axis=0) / np.sqrt(len(values))
        assert np.all(np.abs(values.mean(axis=0)) < 6 * standard_error + 1e-9)


X = jnp.asarray(np.random.default_rng(0).uniform(0.2, 0.8, size=(500, 40)))


@pytest.mark.parametrize("level", [0.0, 0.3, 1.0])
def test_corruptions_have_their_probabilities(x64, level):
    keys = example_keys(KEY, jnp.arange(len(X)))
    gaussian = np.asarray(make_corruption("gaussian", level)(keys, X) - X)
    np.testing.assert_allclose(gaussian.std(), level, rtol=0.03, atol=1e-12)
    masked = np.asarray(make_corruption("masking", level)(keys, X))
    np.testing.assert_allclose((masked == 0).mean(), level, atol=0.015)
    np.testing.assert_array_equal(masked[masked != 0], np.asarray(X)[masked != 0])
    salted = np.asarray(make_corruption("salt_and_pepper", level)(keys, X))
    for value in (0.0, 1.0):
        np.testing.assert_allclose((salted == value).mean(), level / 2, atol=0.012)
    kept = (salted != 0) & (salted != 1)
    np.testing.assert_array_equal(salted[kept], np.asarray(X)[kept])
    np.testing.assert_array_equal(make_corruption("none", level)(keys, X), X)
    # Entries and examples are corrupted apart from one another.
    if 0 < level < 1:
        hidden = masked == 0
        assert hidden.any(axis=0).all()
        assert not (hidden == hidden[:1]).all()


@pytest.mark.parametrize(
    ("name", "level", "message"),
    [
        ("gaussian", -0.1, "must not be negative"),
        ("masking", 1.1, "a probability at most 1, got 1.1"),
    ],
)
def test_corruptions_that_are_none_are_refused(name, level, message):
    with pytest.raises(ValueError, match=message):
        make_corruption(name, level)


STACK = {"shape": (64,), "hidden": (12, 8), "latents": 3}


def layers(params):
    """The weights of each layer: its way up and its way down."""
    encoder, decoder = (params["autoencoder"][part]["params"] for part in ("encoder", "decoder"))
    return [(encoder[f"Dense_{layer}"], decoder[f"Dense_{2 - layer}"]) for layer in range(3)]


def train_stack(model, steps):
    params, statistics = jax.jit(model.init)(KEY, BATCH)
    optimizer = model.optimizers(1e-2)["autoencoder"]
    state = optimizer.init(params["autoencoder"])
    history = [params]

    @jax.jit
    def step(params, statistics, state):
        def loss(own):
            return model.losses["autoencoder"]({"autoencoder": own}, statistics, BATCH, KEY, True)

        (value, aux), gradient = jax.value_and_grad(loss, has_aux=True)(params["autoencoder"])
        updates, state = optimizer.update(gradient, state, params["autoencoder"])
        return {"autoencoder": optax.apply_updates(params["autoencoder"], updates)}, aux, state, value

    values, phases = [], []
    for _ in range(steps):
        params, aux, state, value = step(params, statistics, state)
        statistics = aux.statistics
        history.append(params)
        values.append(float(value))
        phases.append(float(aux.metrics["layer"]))
    return history, values, phases


def moved(before, after):
    return [
        any(bool(jnp.any(a != b)) for a, b in zip(jax.tree.leaves(x), jax.tree.leaves(y)))
        for x, y in zip(layers(before), layers(after))
    ]


def test_each_layer_moves_alone_to_the_bit_and_then_all_together():
    model = stacked_autoencoder(**STACK, pretrain=3)
    history, values, phases = train_stack(model, 11)
    assert phases == [1.0] * 3 + [2.0] * 3 + [3.0] * 3 + [4.0] * 2
    for layer in range(3):
        for step in range(3 * layer, 3 * layer + 3):
            expected = [other == layer for other in range(3)]
            assert moved(history[step], history[step + 1]) == expected, step
        assert values[3 * layer + 2] < values[3 * layer]
    assert moved(history[9], history[10]) == [True] * 3
    assert moved(history[10], history[11]) == [True] * 3


def test_without_pre_training_all_layers_move_from_the_start():
    history, _, phases = train_stack(stacked_autoencoder(**STACK, pretrain=0), 2)
    assert phases == [4.0, 4.0]
    assert moved(history[0], history[1]) == [True] * 3


@pytest.mark.parametrize(("pretrain", "objective"), [(0, "nll"), (3, None)])
def test_no_checkpoint_is_the_best_by_a_figure_of_the_whole_while_layers_are_learned(pretrain, objective):
    """Evaluation tells of the whole stack: its nll, as the fine-tuned loss is, and not the loss of a layer."""
    model = stacked_autoencoder(**STACK, pretrain=pretrain)
    params, statistics = jax.jit(model.init)(KEY, BATCH)
    figures = model.evaluate(params, statistics, BATCH, KEY)
    assert (model.objective, {*figures}) == (objective, {"nll", "squared_error"})
    statistics = {**statistics, "updates": jnp.asarray(3 * pretrain)}
    loss, _ = model.losses["autoencoder"](params, statistics, BATCH, KEY, True)
    np.testing.assert_allclose(figures["nll"].mean(), loss, rtol=1e-5)


@pytest.mark.parametrize("corruption", ["none", "masking"])
@pytest.mark.parametrize("layer", [0, 1, 2])
def test_a_layer_s_loss_is_the_error_of_its_own_input(x64, layer, corruption):
    """Masked as a whole, a layer sees zeros and is judged on the clean input all the same."""
    model = stacked_autoencoder(**STACK, pretrain=10, corruption=corruption, level=1.0)
    params, statistics = jax.jit(model.init)(KEY, BATCH)
    statistics = {**statistics, "updates": jnp.asarray(10 * layer + 4)}
    value, _ = model.losses["autoencoder"](params, statistics, BATCH, KEY, True)
    h = np.asarray(BATCH["x"])
    weights = [[(np.asarray(d["kernel"]), np.asarray(d["bias"])) for d in pair] for pair in layers(params)]
    for (kernel, bias), _ in weights[:layer]:
        h = np.tanh(h @ kernel + bias)
    (kernel, bias), (back, back_bias) = weights[layer]
    code = (h if corruption == "none" else np.zeros_like(h)) @ kernel + bias
    code = code if layer == 2 else np.tanh(code)
    given_back = code @ back + back_bias
    given_back = np.tanh(given_back) if layer else given_back
    expected = 0.5 * np.square(given_back - h).sum(axis=1).mean() + h.shape[1] / 2 * np.log(2 * np.pi)
    np.testing.assert_allclose(value, expected, rtol=1e-6)


@pytest.mark.parametrize("updates", [0, 14, 40])
def test_in_evaluation_the_loss_is_the_whole_s_whichever_layer_is_learned(x64, updates):
    model = stacked_autoencoder(**STACK, pretrain=10)
    params, statistics = jax.jit(model.init)(KEY, BATCH)
    statistics = {**statistics, "updates": jnp.asarray(updates)}
    value, aux = model.losses["autoencoder"](params, statistics, BATCH, KEY, False)
    error = np.square(model.reconstruct(params, statistics, BATCH["x"]) - BATCH["x"]).sum(axis=1).mean()
    np.testing.assert_allclose(value, error / 2 + 32 * np.log(2 * np.pi), rtol=1e-6)
    assert int(aux.statistics["updates"]) == updates
