"""What keeps a game of two even: packs, hidden inputs, penalties, normalization, the averaged generator, conditions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import training
from jaxgen.data import load
from jaxgen.errors import UserError
from jaxgen.models import conditional_gan, gan, vae_gan
from jaxgen.nets.spectral import spectral_normalize

BATCH, NOISE, KEY = 6, 3, jax.random.key(4)
# The mean difference of both logits; the weight of its penalty is nothing beside it, so that every value is plain.
WASSERSTEIN = {"objective": "wasserstein", "hidden": (), "penalty": "r1", "penalty_weight": 1e-30}


def make(factory=gan, **options):
    """A game of linear players whose parameters are random, and a batch."""
    rng = np.random.default_rng(5)
    model = factory(**({"shape": (2,), "noise_dim": NOISE, "hidden": (), "average": 0.0} | options))
    shape = options.get("shape", (2,))
    batch = {"x": jnp.asarray(rng.normal(size=(BATCH, *shape))), "position": jnp.arange(20, 20 + BATCH)}
    batch |= {"label": jnp.asarray([0, 2, 1, 1, 0, 2]), "condition": jnp.asarray(rng.normal(size=(BATCH, 2)))}
    params, statistics = model.init(KEY, batch)
    return model, jax.tree.map(lambda a: jnp.asarray(rng.normal(size=a.shape)), params), statistics, batch


def layer(params, player):
    [own] = params[player]["params"].values()
    return np.asarray(own["kernel"]), np.asarray(own["bias"])


def draws(key, position):
    return np.stack([jax.random.normal(jax.random.fold_in(key, p), (NOISE,)) for p in np.asarray(position)])


def loss_of(model, player, params, statistics, batch, train=True):
    (value, aux) = jax.jit(model.losses[player], static_argnums=4)(params, statistics, batch, KEY, train)
    return float(value), aux


def test_a_pack_is_judged_as_one_and_stands_in_the_order_of_the_batch(x64):
    model, params, statistics, batch = make(packing=3, **WASSERSTEIN)
    (w, b), (g, c) = layer(params, "discriminator"), layer(params, "generator")
    assert w.shape == (6, 1)
    fake = draws(jax.random.split(KEY)[0], batch["position"]) @ g + c
    on_real, on_fake = (np.reshape(x, (2, 6)) @ w[:, 0] + b for x in (np.asarray(batch["x"]), fake))
    value, aux = loss_of(model, "discriminator", params, statistics, batch)
    np.testing.assert_allclose(value, np.mean(on_fake - on_real), rtol=1e-10)
    np.testing.assert_allclose(aux.metrics["accuracy_real"], np.mean(on_real > 0))
    np.testing.assert_allclose(loss_of(model, "generator", params, statistics, batch)[0], -np.mean(on_fake), rtol=1e-10)


def test_an_evaluation_judges_the_packs_of_the_split(x64):
    """Real ones and generated ones, by place; each example has the figures of the pack that it stands in."""
    model, params, statistics, batch = make(packing=3, **WASSERSTEIN)
    (w, b), (g, c) = layer(params, "discriminator"), layer(params, "generator")
    fake = draws(jax.random.split(KEY)[0], batch["position"]) @ g + c
    on_real, on_fake = (np.repeat(np.reshape(x, (2, 6)) @ w[:, 0] + b, 3) for x in (np.asarray(batch["x"]), fake))
    judged = model.evaluate(params, statistics, batch, KEY)
    np.testing.assert_allclose(judged["value"], on_real - on_fake, rtol=1e-10)
    np.testing.assert_array_equal(judged["discriminator/accuracy_real"], on_real > 0)
    np.testing.assert_array_equal(judged["discriminator/accuracy_fake"], on_fake < 0)


def test_a_pack_in_an_evaluation_is_told_what_its_examples_come_with(x64):
    model, params, statistics, batch = make(conditional_gan, packing=2, num_classes=3, **WASSERSTEIN)
    (w, b), (g, c) = layer(params, "discriminator"), layer(params, "generator")
    told = np.eye(3)[np.asarray(batch["label"])]
    fake = np.concatenate([draws(jax.random.split(KEY)[0], batch["position"]), told], axis=1) @ g + c
    on_real, on_fake = (
        np.concatenate([x, told], axis=1).reshape(3, 10) @ w[:, 0] + b for x in (np.asarray(batch["x"]), fake)
    )
    value = model.evaluate(params, statistics, batch, KEY)["value"]
    np.testing.assert_allclose(value, np.repeat(on_real - on_fake, 2), rtol=1e-10)


def test_packs_of_images_are_further_channels():
    model, params, _, _ = make(conditional_gan, shape=(4, 4, 1), network="conv", hidden=(2,), packing=2, num_classes=3)
    kernel = params["discriminator"]["params"]["ConvEncoder_0"]["Conv_0"]["kernel"]
    assert kernel.shape == (4, 4, 2 * (1 + 3), 2)
    assert model.condition is not None


@pytest.mark.parametrize("player", ["discriminator", "generator"])
def test_a_batch_that_packs_do_not_divide_is_refused(player):
    model, params, statistics, batch = make(packing=4)
    with pytest.raises(ValueError, match="packing = 4 examples must divide the batch of a device, got 6"):
        model.losses[player](params, statistics, batch, KEY, True)


def test_hidden_inputs_are_the_example_s_own_and_the_rest_is_larger_by_as_much(x64):
    """Real inputs of 1 and a generator of 1: the mean logit is that of inputs which are 0 or 1 / (1 − p)."""
    size, p = 4000, 0.25
    model, params, statistics, _ = make(shape=(size,), dropout=p, **WASSERSTEIN)
    params["discriminator"]["params"]["Dense_0"] = {"kernel": jnp.ones((size, 1)) / size, "bias": jnp.zeros(1)}
    params["generator"]["params"]["Dense_0"] = {"kernel": jnp.zeros((NOISE, size)), "bias": jnp.ones(size)}
    batch = {"x": jnp.ones((BATCH, size)), "position": jnp.arange(BATCH)}
    error = np.sqrt(p / (1 - p) / size / BATCH)
    generator, _ = loss_of(model, "generator", params, statistics, batch)
    assert 0 < abs(-generator - 1) < 5 * error
    difference, _ = loss_of(model, "discriminator", params, statistics, batch)
    assert 0 < abs(difference) < 5 * np.sqrt(2) * error  # what is hidden of the one is not what is hidden of the other
    part = {name: a[2:5] for name, a in batch.items()}
    each = [
        loss_of(model, "generator", params, statistics, jax.tree.map(lambda a, i=i: a[i : i + 1], part))[0]
        for i in range(3)
    ]
    np.testing.assert_allclose(np.mean(each), loss_of(model, "generator", params, statistics, part)[0], rtol=1e-12)
    assert len(set(each)) == 3
    for player, expected in (("generator", -1.0), ("discriminator", 0.0)):
        np.testing.assert_allclose(
            loss_of(model, player, params, statistics, batch, train=False)[0], expected, atol=1e-12
        )
    np.testing.assert_allclose(model.evaluate(params, statistics, batch, KEY)["value"], np.zeros(BATCH), atol=1e-12)


@pytest.mark.parametrize("packing", [1, 2])
@pytest.mark.parametrize(("penalty", "of_slope"), [("gradient", lambda s: (s - 1) ** 2), ("r1", lambda s: s**2 / 2)])
def test_a_linear_discriminator_is_penalized_for_its_slope(x64, penalty, of_slope, packing):
    """Its slope is ‖w‖ everywhere, over all entries of a pack."""
    options = WASSERSTEIN | {"packing": packing}
    plain, params, statistics, batch = make(**options)
    model = make(**(options | {"penalty": penalty, "penalty_weight": 3.0}))[0]
    expected = of_slope(np.linalg.norm(layer(params, "discriminator")[0]))
    value, aux = loss_of(model, "discriminator", params, statistics, batch)
    np.testing.assert_allclose(aux.metrics["penalty"], expected, rtol=1e-10)
    without, _ = loss_of(plain, "discriminator", params, statistics, batch)
    np.testing.assert_allclose(value, without + 3 * expected, rtol=1e-10)
    assert (
        loss_of(model, "generator", params, statistics, batch)[0]
        == loss_of(plain, "generator", params, statistics, batch)[0]
    )


@pytest.mark.parametrize("penalty", ["gradient", "r1"])
def test_a_penalty_is_taken_at_whole_examples(x64, penalty):
    """Where inputs are hidden the loss is of what is left of them, and the slope still that at the data."""
    options = {"hidden": (4,), "activation": "tanh", "penalty": penalty, "packing": 2}
    model, params, statistics, batch = make(**options)
    hiding = make(**options, dropout=0.5)[0]
    whole, part = (loss_of(m, "discriminator", params, statistics, batch) for m in (model, hiding))
    np.testing.assert_allclose(part[1].metrics["penalty"], whole[1].metrics["penalty"], rtol=1e-12)
    assert abs(part[0] - whole[0]) > 1e-3


@pytest.mark.parametrize(("penalty", "expected"), [("gradient", 1.0), ("r1", 0.0)])
def test_what_is_told_has_no_slope(x64, penalty, expected):
    """A discriminator that heeds the class alone is flat in the example."""
    options = WASSERSTEIN | {"num_classes": 3, "packing": 2, "penalty": penalty}
    model, params, statistics, batch = make(conditional_gan, **options)
    kernel = params["discriminator"]["params"]["Dense_0"]["kernel"]
    params["discriminator"]["params"]["Dense_0"]["kernel"] = kernel.reshape(2, 5).at[:, :2].set(0).reshape(10, 1)
    _, aux = loss_of(model, "discriminator", params, statistics, batch)
    np.testing.assert_allclose(aux.metrics["penalty"], expected, atol=1e-12)


@pytest.mark.parametrize("packing", [1, 2])
def test_the_penalty_between_the_data_and_its_imitation_is_the_pack_s_own(x64, packing):
    """Nothing of it depends on what else is in the batch, so that it is the same on any devices."""
    options = {"hidden": (4,), "activation": "tanh", "penalty": "gradient", "penalty_weight": 1.0, "packing": packing}
    model, params, statistics, batch = make(**options)
    of = jax.jit(lambda b: model.losses["discriminator"](params, statistics, b, KEY, True)[1].metrics["penalty"])
    starts = range(0, BATCH, packing)
    each = [of(jax.tree.map(lambda a, i=i: a[i : i + packing], batch)) for i in starts]
    np.testing.assert_allclose(np.mean(each), of(batch), rtol=1e-10)


def test_only_the_discriminator_s_turn_moves_the_singular_vectors(x64):
    model, params, statistics, batch = make(spectral_norm=True, **WASSERSTEIN)
    (w, b), (g, c) = layer(params, "discriminator"), layer(params, "generator")
    _, aux = loss_of(model, "discriminator", params, statistics, batch)
    [before], [after] = statistics["spectral"].values(), aux.statistics["spectral"].values()
    np.testing.assert_allclose(np.abs(after), 1)  # of a single column u is 1 or −1
    for player, train in (("generator", True), ("discriminator", False)):
        kept = loss_of(model, player, params, statistics, batch, train)[1].statistics["spectral"]
        np.testing.assert_array_equal(*kept.values(), before)
    fake = draws(jax.random.split(KEY)[0], batch["position"]) @ g + c
    value, _ = loss_of(model, "generator", params, aux.statistics, batch)
    np.testing.assert_allclose(value, -np.mean(fake @ w[:, 0] / np.linalg.norm(w) + b), rtol=1e-10)


def test_the_generator_and_an_evaluation_meet_the_vectors_as_they_were_left(x64):
    options = {"hidden": (4,), "activation": "tanh"}
    model, params, statistics, batch = make(spectral_norm=True, **options)
    plain = make(**options)[0]
    for iterations, same in ((0, True), (1, False)):
        own, _ = spectral_normalize(params["discriminator"], statistics["spectral"], iterations=iterations)
        normal = params | {"discriminator": own}
        values = [loss_of(m, "generator", p, statistics, batch)[0] for m, p in ((model, params), (plain, normal))]
        judged = [m.evaluate(p, statistics, batch, KEY)["value"] for m, p in ((model, params), (plain, normal))]
        assert np.allclose(*values, rtol=1e-10) == same
        assert np.allclose(*judged, rtol=1e-10) == same


def test_samples_are_of_the_mean_of_the_generators_that_were_played_with(x64):
    """The plain mean at first, then one that forgets; the generator that learns is not the one that is drawn with."""
    model, params, statistics, batch = make(average=0.75)
    kernels = [np.full((NOISE, 2), value) for value in (1.0, 2.0, 6.0, 3.0, 11.0)]
    for kernel in kernels:
        params["generator"]["params"]["Dense_0"]["kernel"] = jnp.asarray(kernel)
        unmoved = loss_of(model, "discriminator", params, statistics, batch)[1].statistics
        jax.tree.map(np.testing.assert_array_equal, unmoved, statistics)
        statistics = loss_of(model, "generator", params, statistics, batch)[1].statistics
    mean = 0.75 * (1.0 + 2.0 + 6.0 + 3.0) / 4 + 0.25 * 11.0
    noise, bias = np.ones((1, NOISE)), layer(params, "generator")[1]
    np.testing.assert_allclose(model.decode(params, statistics, noise), noise @ np.full((NOISE, 2), mean) + bias)
    kept = loss_of(model, "generator", params, statistics, batch, train=False)[1].statistics
    jax.tree.map(np.testing.assert_array_equal, kept, statistics)


def test_uniform_noise_fills_the_cube(x64):
    model, params, statistics, _ = make(noise="uniform")
    params["generator"]["params"]["Dense_0"] = {"kernel": jnp.eye(NOISE)[:, :2], "bias": jnp.zeros(2)}
    z = np.asarray(model.sample(params, statistics, KEY, 20_000))
    assert -1 <= z.min() < -0.999 < 0.999 < z.max() <= 1
    np.testing.assert_allclose(z.mean(axis=0), 0, atol=5 / np.sqrt(3 * 20_000))
    np.testing.assert_allclose(z.var(axis=0), 1 / 3, rtol=0.05)


@pytest.mark.parametrize("what", ["label", "vector"])
def test_both_players_are_told_what_comes_with_the_example(x64, what):
    options = {"condition": what, "num_classes": 3, "condition_size": 2}
    model, params, statistics, batch = make(conditional_gan, **WASSERSTEIN, **options)
    told = np.eye(3)[np.asarray(batch["label"])] if what == "label" else np.asarray(batch["condition"])
    (w, b), (g, c) = layer(params, "discriminator"), layer(params, "generator")
    fake = np.concatenate([draws(jax.random.split(KEY)[0], batch["position"]), told], axis=1) @ g + c
    logits = [np.concatenate([x, told], axis=1) @ w[:, 0] + b for x in (np.asarray(batch["x"]), fake)]
    np.testing.assert_allclose(
        loss_of(model, "discriminator", params, statistics, batch)[0], np.mean(logits[1] - logits[0]), rtol=1e-10
    )
    np.testing.assert_allclose(
        loss_of(model, "generator", params, statistics, batch)[0], -np.mean(logits[1]), rtol=1e-10
    )
    asked = batch["label"] if what == "label" else batch["condition"]
    noise = np.random.default_rng(0).normal(size=(BATCH, NOISE))
    made = model.decode(params, statistics, noise, condition=asked)
    np.testing.assert_allclose(made, np.concatenate([noise, told], axis=1) @ g + c, rtol=1e-10)


def test_what_cannot_be_told_is_refused():
    model, params, statistics, _ = make(conditional_gan, num_classes=3)
    with pytest.raises(ValueError, match=r"classes must lie in 0 … 2, got 1 … 3"):
        model.sample(params, statistics, KEY, 2, condition=np.array([1, 3]))
    for few in (1, 3):  # a single one is not told to all
        with pytest.raises(ValueError, match=f"one condition for each example, got {few} for 2 examples"):
            model.sample(params, statistics, KEY, 2, condition=np.zeros(few, np.int32))
    with pytest.raises(ValueError, match="no labels to condition on"):
        conditional_gan(shape=(2,))


def test_a_class_that_the_model_does_not_know_stops_a_training_before_it_begins():
    digits, model = load("digits"), conditional_gan(shape=(8, 8, 1), num_classes=9)
    with pytest.raises(UserError, match=r"digits holds class 9, but the model knows the classes 0 … 8"):
        training.train(model, digits, training.Options(steps=1))
    unlabelled = digits._replace(test={"x": digits.test["x"]})
    with pytest.raises(UserError, match="digits has no array 'label', which the model is told of each example"):
        training.train(conditional_gan(shape=(8, 8, 1), num_classes=10), unlabelled, training.Options(steps=1))


CURVED = {"hidden": (4,), "activation": "tanh"}


def critic(own, x, told):
    """Logits of packs [packs, packing, 2] by one hidden layer of tanh, and the norm of their slope in the examples."""
    first, last = (jax.tree.map(np.asarray, own["params"][name]) for name in ("Dense_0", "Dense_1"))
    h = np.tanh(np.concatenate([x, told], axis=-1).reshape(len(x), -1) @ first["kernel"] + first["bias"])
    slope = ((1 - h**2) * last["kernel"][:, 0]) @ first["kernel"].T
    slope = slope.reshape(*x.shape[:2], -1)[..., : x.shape[-1]]
    return (h @ last["kernel"] + last["bias"])[:, 0], np.sqrt(np.sum(slope**2, axis=(1, 2)))


def generated(params, noise, told):
    """By one hidden layer of tanh."""
    first, last = (jax.tree.map(np.asarray, params["generator"]["params"][name]) for name in ("Dense_0", "Dense_1"))
    h = np.tanh(np.concatenate([noise, told], axis=-1) @ first["kernel"] + first["bias"])
    return h @ last["kernel"] + last["bias"]


@pytest.mark.parametrize("penalty", ["gradient", "r1"])
@pytest.mark.parametrize("factory", [gan, conditional_gan])
def test_a_curved_discriminator_is_penalized_for_its_slope_at_the_data_or_between(x64, factory, penalty):
    """R1 at the real packs, the gradient penalty at u x + (1 − u) G(z) with one u a pack, each with what it is told."""
    options = CURVED | {"packing": 2, "penalty": penalty, "penalty_weight": 3.0, "objective": "wasserstein"}
    model, params, statistics, batch = make(factory, **options, **({"num_classes": 3} if factory != gan else {}))
    told = np.eye(3)[np.asarray(batch["label"])] if factory != gan else np.zeros((BATCH, 0))
    noise_key, *_, penalty_key = jax.random.split(KEY, 4)
    x, fake = np.asarray(batch["x"]), generated(params, draws(noise_key, batch["position"]), told)
    x, fake, told = (a.reshape(BATCH // 2, 2, -1) for a in (x, fake, told))
    (on_real, at_real), (on_fake, _) = (critic(params["discriminator"], a, told) for a in (x, fake))
    keys = [jax.random.fold_in(penalty_key, position) for position in np.asarray(batch["position"])[::2]]
    share = np.array([jax.random.uniform(key, (1,), jnp.float64) for key in keys])[..., None]
    between = critic(params["discriminator"], share * x + (1 - share) * fake, told)[1]
    expected = np.mean(at_real**2 / 2 if penalty == "r1" else (between - 1) ** 2)
    value, aux = loss_of(model, "discriminator", params, statistics, batch)
    np.testing.assert_allclose(aux.metrics["penalty"], expected, rtol=1e-10)
    np.testing.assert_allclose(value, np.mean(on_fake - on_real) + 3 * expected, rtol=1e-10)


@pytest.mark.parametrize(("penalty", "expected"), [("gradient", 0.0), ("r1", 0.5)])
def test_the_penalty_is_on_the_slope_that_spectral_normalization_leaves(x64, penalty, expected):
    """A linear discriminator's is then 1, whatever its kernel."""
    options = WASSERSTEIN | {"spectral_norm": True, "penalty": penalty, "penalty_weight": 4.0}
    model, params, statistics, batch = make(**options)
    plain = make(spectral_norm=True, **(WASSERSTEIN | {"penalty": "none"}))[0]
    value, aux = loss_of(model, "discriminator", params, statistics, batch)
    np.testing.assert_allclose(aux.metrics["penalty"], expected, atol=1e-12)
    without, _ = loss_of(plain, "discriminator", params, statistics, batch)
    np.testing.assert_allclose(value, without + 4 * expected, rtol=1e-10)


def test_a_turn_of_the_discriminator_takes_one_step_of_power_iteration_and_uses_it(x64):
    model, params, statistics, batch = make(spectral_norm=True, **(WASSERSTEIN | {"penalty": "none"} | CURVED))
    normal, moved = {}, {}
    for name, own in params["discriminator"]["params"].items():
        kernel = np.asarray(own["kernel"])
        [(path, u)] = [(path, np.asarray(u)) for path, u in statistics["spectral"].items() if name in path]
        u = kernel.T @ (kernel @ u)
        moved[path] = u / np.linalg.norm(u)
        normal[name] = own | {"kernel": kernel / np.linalg.norm(kernel @ moved[path])}
    assert not np.allclose(statistics["spectral"]["params/Dense_0/kernel"], moved["params/Dense_0/kernel"], atol=0.01)
    value, aux = loss_of(model, "discriminator", params, statistics, batch)
    for path, u in moved.items():
        np.testing.assert_allclose(aux.statistics["spectral"][path], u, atol=1e-12)
    told = np.zeros((BATCH, 1, 0))
    fake = generated(params, draws(jax.random.split(KEY, 4)[0], batch["position"]), told[:, 0])
    on_real, on_fake = (critic({"params": normal}, a[:, None], told)[0] for a in (np.asarray(batch["x"]), fake))
    np.testing.assert_allclose(value, np.mean(on_fake - on_real), rtol=1e-10)


def test_a_class_that_neither_player_heeds_leaves_every_setting_of_the_game_as_it_is(x64):
    """Of kernels that are 0 in what is told both are the game without it: whatever a GAN can be asked for, both can."""
    options = CURVED | {"noise": "uniform", "objective": "hinge", "penalty": "r1", "penalty_weight": 3.0}
    options |= {"spectral_norm": True, "dropout": 0.25, "packing": 2, "average": 0.5}
    options |= {"discriminator_steps": 3, "generator_steps": 2}
    model, params, statistics, batch = make(**options)
    conditional = make(conditional_gan, num_classes=3, **options)[0]
    rng = np.random.default_rng(1)
    mean = jax.tree.map(lambda a: jnp.asarray(rng.normal(size=a.shape)), params["generator"])
    statistics = statistics | {"average": {"generator": mean, "updates": jnp.asarray(5.0)}}

    def deaf(own, packing):
        """Rows of zeros after those of each example of a pack, or of the noise."""
        kernel = own["params"]["Dense_0"]["kernel"]
        kernel = jnp.pad(kernel.reshape(packing, -1, kernel.shape[1]), ((0, 0), (0, 3), (0, 0)))
        first = own["params"]["Dense_0"] | {"kernel": kernel.reshape(-1, kernel.shape[-1])}
        return {"params": own["params"] | {"Dense_0": first}}

    told = {"discriminator": deaf(params["discriminator"], 2), "generator": deaf(params["generator"], 1)}
    told_statistics = statistics | {"average": {"generator": deaf(mean, 1), "updates": jnp.asarray(5.0)}}
    assert dict(conditional.turns) == dict(model.turns) == {"discriminator": 3, "generator": 2}
    classes = jnp.asarray([2, 0, 1])
    for player in model.losses:
        value, aux = loss_of(model, player, params, statistics, batch)
        same, told_aux = loss_of(conditional, player, told, told_statistics, batch)
        np.testing.assert_allclose(same, value, rtol=1e-10)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10), told_aux.metrics, aux.metrics)
    # After the generator's turn: of its running mean.
    drawn = model.sample(params, aux.statistics, KEY, 3)
    of_classes = conditional.sample(told, told_aux.statistics, KEY, 3, condition=classes)
    np.testing.assert_allclose(of_classes, drawn, rtol=1e-10)


@pytest.mark.parametrize("factory", [gan, vae_gan])
def test_no_two_players_begin_with_the_same_weights(factory):
    size = {"noise_dim": 3} if factory == gan else {"latents": 3}
    batch = {"x": jnp.zeros((1, 3)), "position": jnp.arange(1)}
    params, _ = factory(shape=(3,), hidden=(4, 4), **size).init(KEY, batch)
    kernels = [a for a in jax.tree.leaves(params) if a.shape == (3, 4)]
    assert len(kernels) == len(params)
    assert len({np.asarray(a).tobytes() for a in kernels}) == len(kernels)
