"""The GAN: both players' losses and gradients in NumPy from the same noise, and who wins what."""

import inspect
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from payoffs import OBJECTIVES
from scipy.optimize import minimize_scalar
from scipy.special import expit
from slopes import slopes

from jaxgen.models import conditional_gan, gan, vae_gan
from jaxgen.models.game import PAYOFFS, adversarial

BATCH, NOISE, KEY = 5, 3, jax.random.key(9)


def make(**options):
    rng = np.random.default_rng(2)
    options = {"shape": (2,), "noise_dim": NOISE, "hidden": (4,), "activation": "tanh", "average": 0.0} | options
    if options.get("objective") == "wasserstein":
        options |= {"penalty": "r1", "penalty_weight": 1e-30}
    model = gan(**options)
    batch = {
        "x": jnp.asarray(rng.normal(size=(BATCH, *options["shape"]))),
        "position": jnp.asarray(np.arange(7, 7 + BATCH)),
    }
    params, statistics = jax.eval_shape(model.init, KEY, batch)
    assert statistics == {}
    return model, jax.tree.map(lambda s: jnp.asarray(rng.normal(size=s.shape)), params), batch


def network(own, x):
    layers = [own["params"][name] for name in sorted(own["params"])]
    for layer in layers[:-1]:
        x = np.tanh(x @ layer["kernel"] + layer["bias"])
    return x @ layers[-1]["kernel"] + layers[-1]["bias"]


def noise(position):
    key = jax.random.split(KEY)[0]
    draw = jax.vmap(lambda p: jax.random.normal(jax.random.fold_in(key, p), (NOISE,)))
    return np.asarray(jax.jit(draw)(position))


def logits_of(params, batch, z):
    real = network(params["discriminator"], np.asarray(batch["x"]))[:, 0]
    return real, network(params["discriminator"], network(params["generator"], z))[:, 0]


@pytest.mark.parametrize("objective", list(OBJECTIVES))
def test_both_players_losses_and_gradients_are_those_of_their_objective(x64, objective):
    model, params, batch = make(objective=objective)
    of_discriminator, of_generator = OBJECTIVES[objective]
    z = noise(batch["position"])

    def expected(player, own):
        real, fake = logits_of(params | {player: own}, batch, z)
        return np.mean(of_discriminator(real, fake) if player == "discriminator" else of_generator(fake))

    for player in ("discriminator", "generator"):

        def loss_fn(own, player=player):
            return model.losses[player](params | {player: own}, {}, batch, KEY, True)

        (loss, aux), gradient = jax.jit(jax.value_and_grad(loss_fn, has_aux=True))(params[player])
        np.testing.assert_allclose(loss, expected(player, params[player]), rtol=1e-10)
        finite = slopes(lambda own, player=player: expected(player, own), params[player])
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-8), gradient, finite)
        assert aux.statistics == {}
    values = jax.jit(model.evaluate)(params, {}, batch, KEY)
    np.testing.assert_allclose(values["value"], -of_discriminator(*logits_of(params, batch, z)), rtol=1e-10)


@pytest.mark.parametrize("offset", [-15.0, 0.0, 4.0])
def test_a_sure_discriminator_stops_the_minimax_generator_and_not_the_non_saturating_one(x64, offset):
    gradients = []
    for objective in ("minimax", "non_saturating"):
        model, params, batch = make(objective=objective, hidden=())
        last = params["discriminator"]["params"]["Dense_0"]
        last["bias"] = last["bias"] + offset
        one = {name: a[:1] for name, a in batch.items()}
        loss_fn = jax.grad(lambda p, m=model, b=one: m.losses["generator"](p, {}, b, KEY, True)[0])
        gradients.append(jax.jit(loss_fn)(params)["generator"])
        _, fake = logits_of(params, one, noise(one["position"]))
    # d log(1 − D) = −D dℓ and d(−log D) = −(1 − D) dℓ: one direction, of very different lengths.
    ratio = expit(-fake[0]) / expit(fake[0])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a * ratio, b, rtol=1e-8), *gradients)
    assert max(np.abs(a).max() for a in jax.tree.leaves(gradients[1])) > 1e-3


def test_the_value_is_minus_log_four_where_the_discriminator_cannot_tell(x64):
    model, params, batch = make()
    params["discriminator"] = jax.tree.map(jnp.zeros_like, params["discriminator"])
    value = model.evaluate(params, {}, batch, KEY)["value"]
    np.testing.assert_allclose(value, np.full(BATCH, -np.log(4)), rtol=1e-12)


@pytest.mark.parametrize("objective", list(OBJECTIVES))
def test_the_equilibrium_is_the_best_that_a_discriminator_can_do_where_both_distributions_are_one(objective):
    """Of p = q every discriminator's loss is a mean over x of that of one logit for real and generated: minimize it."""
    of_discriminator, _ = OBJECTIVES[objective]
    best = minimize_scalar(lambda logit: of_discriminator(logit, logit), bounds=(-3, 3), method="bounded")
    np.testing.assert_allclose(-best.fun, PAYOFFS[objective].equilibrium, atol=1e-8)


@pytest.mark.parametrize("objective", list(OBJECTIVES))
def test_half_is_right_at_the_equilibrium_where_one_discriminator_alone_is_best(objective):
    """Around the boundary the loss of p = q is larger by any step, but flat in a hinge's middle and for a critic."""
    of_discriminator, _ = OBJECTIVES[objective]
    payoff = PAYOFFS[objective]
    losses = [of_discriminator(logit, logit) for logit in payoff.boundary + np.array([-0.5, 0.0, 0.5])]
    assert (losses[1] < min(losses[0], losses[2])) == payoff.settles
    assert payoff.settles or losses[0] == losses[1] == losses[2]


@pytest.mark.parametrize(
    ("objective", "boundary"), [("minimax", 0.0), ("hinge", 0.0), ("least_squares", 0.5), ("wasserstein", 0.0)]
)
def test_accuracy_is_the_share_on_the_right_side_of_the_boundary(x64, objective, boundary):
    """On the boundary it is half right."""
    model, params, batch = make(objective=objective, hidden=(), shape=(1,))
    # D(x) = x, and every generated example is the same.
    params["discriminator"]["params"]["Dense_0"] = {"kernel": jnp.ones((1, 1)), "bias": jnp.zeros(1)}
    batch = batch | {"x": boundary + jnp.array([[-0.2], [0.2], [0.3], [0.0], [0.1]])}
    for offset, right in ((-0.2, 1.0), (0.2, 0.0), (0.0, 0.5)):
        generator = {"kernel": jnp.zeros((NOISE, 1)), "bias": jnp.full(1, boundary + offset)}
        params["generator"]["params"]["Dense_0"] = generator
        values = model.evaluate(params, {}, batch, KEY)
        np.testing.assert_array_equal(values["discriminator/accuracy_real"], [0, 1, 1, 0.5, 1])
        np.testing.assert_array_equal(values["discriminator/accuracy_fake"], np.full(BATCH, right))
        metrics = model.losses["discriminator"](params, {}, batch, KEY, True)[1].metrics
        np.testing.assert_allclose([metrics["accuracy_real"], metrics["accuracy_fake"]], [0.7, right])


def test_noise_belongs_to_the_position_and_the_key(x64):
    model, params, batch = make()
    part = jnp.array([3, 1])
    evaluate = jax.jit(model.evaluate)
    whole = evaluate(params, {}, batch, KEY)["value"]
    few = evaluate(params, {}, {name: a[part] for name, a in batch.items()}, KEY)["value"]
    np.testing.assert_allclose(few, whole[part], rtol=1e-12)
    assert np.all(whole != evaluate(params, {}, batch, jax.random.key(1))["value"])


def test_samples_are_the_generator_of_standard_normal_noise(x64):
    model, params, _ = make(hidden=())
    layer, n = params["generator"]["params"]["Dense_0"], 20_000
    samples = np.asarray(model.sample(params, {}, KEY, n))
    covariance = np.asarray(layer["kernel"]).T @ np.asarray(layer["kernel"])
    spread = np.sqrt(np.diag(covariance))
    assert np.all(np.abs(samples.mean(axis=0) - layer["bias"]) < 5 * spread / np.sqrt(n))
    tolerance = 5 * np.sqrt(2 / n) * np.outer(spread, spread)
    assert np.all(np.abs(np.cov(samples.T) - covariance) < tolerance)
    z = np.random.default_rng(0).normal(size=(4, NOISE))
    np.testing.assert_allclose(model.decode(params, {}, z), z @ layer["kernel"] + layer["bias"], rtol=1e-12)


def test_turns_players_and_noise_are_as_asked():
    model = gan(shape=(2,), noise_dim=6, discriminator_steps=3, generator_steps=2)
    assert dict(model.turns) == {"discriminator": 3, "generator": 2}
    assert list(model.turns) == ["discriminator", "generator"]
    assert model.latents == 6


@pytest.mark.parametrize(("shape", "size"), [((2,), 2), ((3, 3, 1), 9), ((8, 8, 1), 32), ((28, 28, 1), 32)])
def test_noise_has_as_many_dimensions_as_an_example_and_32_at_the_most(shape, size):
    assert gan(shape=shape).latents == size


def test_vectors_are_judged_by_a_smooth_discriminator_and_images_by_leaky_relu():
    batch = {"x": jnp.ones((1, 2)), "position": jnp.arange(1)}
    for shape, activation in (((2,), "tanh"), ((2, 1, 1), "leaky_relu")):
        own = {"shape": shape, "noise_dim": 2, "hidden": (3,)}
        one = batch | {"x": batch["x"].reshape(1, *shape)}
        models = gan(**own), gan(**own, activation=activation)
        params, statistics = models[0].init(KEY, one)
        values = [m.evaluate(params, statistics, one, KEY)["value"] for m in models]
        assert values[0] == values[1]


@pytest.mark.parametrize(
    ("model", "players"),
    [
        (gan(shape=(2,)), {"discriminator", "generator"}),
        (conditional_gan(shape=(2,), num_classes=2), {"discriminator", "generator"}),
        (vae_gan(shape=(2,)), {"discriminator", "encoder", "generator"}),
    ],
)
def test_all_players_take_adam_steps_with_half_the_momentum(model, players):
    optimizers = model.optimizers(0.1)
    assert set(optimizers) == players
    for optimizer in optimizers.values():
        state = optimizer.init(jnp.zeros(()))
        first, state = optimizer.update(jnp.float32(1.0), state)
        second, _ = optimizer.update(jnp.float32(0.0), state)
        np.testing.assert_allclose(first, -0.1, rtol=1e-5)
        # m = ½·½, v = 0.999·0.001, each over one minus its decay squared
        expected = -0.1 * (0.25 / 0.75) / np.sqrt(0.999 * 0.001 / (1 - 0.999**2))
        np.testing.assert_allclose(second, expected, rtol=1e-4)


@pytest.mark.parametrize("objective", list(OBJECTIVES))
def test_extreme_logits_leave_losses_and_gradients_finite(objective):
    model, params, batch = make(objective=objective, activation="relu")

    def both(p, batch):
        return sum(model.losses[player](p, {}, batch, KEY, True)[0] for player in model.losses)

    loss_fn = jax.jit(jax.value_and_grad(both))
    for size in (1e3, -1e3):
        extreme = jax.tree.map(lambda a, size=size: jnp.asarray(np.full(a.shape, size, np.float32)), params)
        assert all(np.all(np.isfinite(a)) for a in jax.tree.leaves(loss_fn(extreme, batch)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"noise_dim": 0}, "whole numbers of at least 1, got 0, 2, 1 and 1"),
        ({"discriminator_steps": 0}, "of at least 1, got 3, 0, 1 and 1"),
        ({"generator_steps": 0}, "of at least 1, got 3, 2, 0 and 1"),
        ({"packing": 0}, "of at least 1, got 3, 2, 1 and 0"),
        ({"dropout": 1.0}, r"must lie in \[0, 1\) .* got 1.0, 0.999 and 10.0"),
        ({"average": 1.0}, r"must lie in \[0, 1\) .* got 0.0, 1.0 and 10.0"),
        ({"penalty_weight": -1.0}, "positive and finite, got 0.0, 0.999 and -1.0; without a penalty take penalty none"),
        ({"objective": "wasserstein", "penalty": "r1", "penalty_weight": 0.0}, "positive and finite, got .* and 0.0"),
        ({"penalty": "gradient", "penalty_weight": float("inf")}, "positive and finite, got .* and inf"),
        ({"noise": "cauchy"}, "normal or uniform .* got 'cauchy' and 'none'"),
        ({"penalty": "r2"}, "none, gradient, r1, got 'normal' and 'r2'"),
        ({"objective": "wasserstein"}, "needs a critic of bounded slope: add a penalty, or spectral_norm"),
        ({"objective": "wgan"}, "non_saturating, minimax, hinge, least_squares, wasserstein, got 'wgan'"),
        ({"network": "conv"}, r"network 'conv' needs images .* got examples of shape \(2,\)"),
        ({"network": "dcgan"}, r"network 'dcgan' needs images .* got examples of shape \(2,\)"),
        ({"network": "dcgan", "hidden": ()}, "at least one stage for network 'dcgan'"),
        ({"network": "cnn"}, "mlp, conv, resnet, dcgan, got 'cnn'"),
    ],
)
def test_settings_that_make_no_gan_are_refused(options, message):
    # Without the hook's own check of the annotation, as a user would call it.
    with pytest.raises(ValueError, match=message):
        inspect.unwrap(gan)(**({"shape": (2,), "noise_dim": NOISE} | options))


@pytest.mark.parametrize("counts", [(2.5, 1, 1, 1), (1, 1.5, 1, 1), (1, 1, 2.0, 1), (1, 1, 1, 1.5)])
def test_counts_that_are_no_whole_numbers_are_refused(counts):
    noise_dim, k, l, packing = counts  # noqa: E741
    game = SimpleNamespace(noise_dim=noise_dim, packing=packing)
    with pytest.raises(
        ValueError, match=f"must be whole numbers of at least 1, got {noise_dim}, {k}, {l} and {packing}"
    ):
        inspect.unwrap(adversarial)(game, discriminator_steps=k, generator_steps=l)
