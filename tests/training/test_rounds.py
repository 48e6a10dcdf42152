"""A round of a game: who moves, on which data, with which noise, at which cost; one trace a run."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.extend.core import jaxprs_in_params
from toys import Counted, Seen, denoiser, force_streaming, numbered, quadratic_game

from jaxgen import models
from jaxgen.data import indices
from jaxgen.data.prepare import make_prepare
from jaxgen.model import AXIS, Aux, Model, example_keys
from jaxgen.training import Options, train
from jaxgen.training.devices import Devices, parallel
from jaxgen.training.state import Creator, create
from jaxgen.training.step import make_rounds, play_round

TURNS, ROUNDS, BATCH, RATE = {"left": 3, "right": 2}, 4, 6, 0.1
UPDATES = ROUNDS * sum(TURNS.values())


@pytest.fixture(scope="module")
def played():
    """Four rounds of the quadratic game by plain gradient descent, and what its players saw.

    An epoch of 37 examples is six batches: four epochs are four rounds of the five updates of both, and a rest.
    """
    model = quadratic_game(TURNS, updates=UPDATES, batch_size=BATCH)
    optimizers = {player: optax.sgd(RATE) for player in TURNS}
    options = Options(epochs=4, batch_size=BATCH, log_every=3, evaluate_every=ROUNDS, seed=3)
    result = train(model, numbered(), options, optimizers=optimizers, num_devices=1)
    return result, Seen(*result.state.statistics["seen"])


def test_players_take_their_turns_in_order(played):
    assert played[1].player.tolist() == [0, 0, 0, 1, 1] * ROUNDS


def test_an_update_changes_its_own_player_alone(played):
    result, seen = played
    left = np.append(seen.left, result.state.params["left"])
    right = np.append(seen.right, result.state.params["right"])
    np.testing.assert_array_equal(np.diff(left) != 0, seen.player == 0)
    np.testing.assert_array_equal(np.diff(right) != 0, seen.player == 1)


def test_each_update_takes_the_next_batch_of_the_order(played):
    expected = indices(3, 0, UPDATES, num_examples=37, batch_size=BATCH)
    np.testing.assert_array_equal(played[1].number, expected)


def test_each_update_and_each_example_draws_its_own_noise(played):
    assert len(np.unique(played[1].noise)) == UPDATES * BATCH


def test_bits_are_not_drawn_from_the_key_of_the_latents():
    """Of one key the uniform draw would be the very one that the bits were cut from."""

    def loss(params, statistics, batch, key, train):
        uniform = jax.vmap(lambda k: jax.random.uniform(k, (64,)))(example_keys(key, batch["position"]))
        return params["p"] ** 2, Aux({"agree": jnp.mean((uniform < 0.5) == batch["x"])}, statistics)

    model = Model(init=lambda key, batch: ({"p": jnp.ones(())}, {}), losses={"p": loss}, turns={"p": 2}, evaluate=dict)
    raw = {"x": jnp.ones((1, 2, 16, 64), jnp.uint8), "position": jnp.broadcast_to(jnp.arange(16), (1, 2, 16))}
    optimizers = {"p": optax.sgd(0.1)}
    state = jax.tree.map(lambda a: a[None], create(model, optimizers, {}, seed=0))

    def play(state, raw):
        return play_round(model, optimizers, make_prepare(scale=2.0, binarize="dynamic"), state, raw)[1]

    agree = float(jax.vmap(play, axis_name=AXIS)(state, raw)["p/agree"][0])
    assert abs(agree - 0.5) < 4 * 0.5 / np.sqrt(2 * 16 * 64)


def test_parameters_are_those_of_gradient_descent_by_hand(played):
    result, seen = played
    a, b = np.float64(np.float32(0.7)), np.float64(np.float32(-0.4))
    for player, number, noise in zip(seen.player, seen.number.astype(float), seen.noise.astype(float)):
        mean = np.mean(number / 64 + noise)
        if player == 0:
            a -= RATE * (a + b + mean)
        else:
            b -= RATE * (b - a + mean)
    np.testing.assert_allclose(result.state.params["left"], a, rtol=1e-6)
    np.testing.assert_allclose(result.state.params["right"], b, rtol=1e-6)
    assert int(result.state.step) == ROUNDS


def test_logged_terms_are_means_over_turns_and_rounds():
    """What is logged at a log point is the mean of the term over all updates since the one before; of the gradient's
    norm, over the updates of the round that it is measured in."""
    model, writer = quadratic_game(TURNS, updates=UPDATES, batch_size=BATCH), Counted()
    options = Options(steps=ROUNDS, batch_size=BATCH, log_every=3, evaluate_every=2)
    result = train(model, numbered(), options, writers=(writer,), num_devices=1)
    seen = Seen(*result.state.statistics["seen"])
    means = (seen.number / 64 + seen.noise).mean(axis=1).reshape(ROUNDS, 5)
    slopes = seen.left + seen.right, seen.right - seen.left
    norms = np.abs(np.where(seen.player == 0, *slopes).reshape(ROUNDS, 5) + means)
    train_points = {step: values for step, kind, values in writer.points if kind == "train"}
    assert [step for step, kind, _ in writer.points if kind == "evaluate"] == [2, 4]
    assert sorted(train_points) == [3, 4]
    for step, rounds in ((3, means[:3]), (4, means[3:])):
        np.testing.assert_allclose(train_points[step]["left/mean"], rounds[:, :3].mean(), rtol=1e-5)
        np.testing.assert_allclose(train_points[step]["right/mean"], rounds[:, 3:].mean(), rtol=1e-5)
    np.testing.assert_allclose(train_points[3]["left/grad_norm"], norms[2, :3].mean(), rtol=1e-5)
    np.testing.assert_allclose(train_points[3]["right/grad_norm"], norms[2, 3:].mean(), rtol=1e-5)


@pytest.mark.parametrize(("streamed", "seeds", "devices"), [(False, 1, 2), (True, 2, 1)])
def test_a_run_traces_each_loss_once(monkeypatch, streamed, seeds, devices):
    """Log and evaluation intervals that divide nothing, growing calls, a ragged last one: one trace."""
    if streamed:
        force_streaming(monkeypatch, bytes_a_call=3000)
    model, traces = denoiser(), []
    loss = model.losses["denoiser"]

    def counted(*arguments):
        traces.append(1)
        return loss(*arguments)

    options = Options(steps=53, batch_size=8, log_every=7, evaluate_every=9, seeds=seeds, memory_budget=1)
    console = Counted()
    train(model._replace(losses={"denoiser": counted}), numbered(), options, console=console, num_devices=devices)
    calls = np.diff([0] + [step for step, kind, _ in console.points if kind == "train"])
    assert len(set(calls)) > 2
    assert len(traces) == 1


def weighted(jaxpr, count) -> int:
    """Sum of ``count`` over all equations, each as often as it runs; the dearest branch of a condition."""
    total = 0
    for equation in jaxpr.eqns:
        inner = [weighted(sub, count) for sub in jaxprs_in_params(equation.params)]
        if equation.primitive.name == "cond":
            total += max(inner)
        else:
            total += sum(inner) * equation.params.get("length", 1)
        total += count(equation) if not inner else 0
    return total


def cost(model: Model, count) -> int:
    """Of one round of a model on batches of two images of four pixels."""
    updates = sum(model.turns.values())
    raw = {"x": jnp.ones((1, updates, 2, 4)), "position": jnp.broadcast_to(jnp.arange(2), (1, updates, 2))}
    optimizers = {player: optax.sgd(0.1) for player in model.turns}
    prepare = make_prepare(scale=1.0)
    state = create(model, optimizers, jax.tree.map(lambda a: a[0, 0], raw), seed=0)
    state = jax.tree.map(lambda a: a[None], state)

    def play(state, raw):
        return play_round(model, optimizers, prepare, state, raw)

    return weighted(jax.make_jaxpr(jax.vmap(play, axis_name=AXIS))(state, raw).jaxpr, count)


@pytest.mark.parametrize("replicas", [1, 2])
def test_a_norm_is_computed_in_the_rounds_that_measure_it_alone(replicas):
    """Side by side, too: of a condition with a replica axis both branches would run in every round, as a select."""
    model = denoiser()
    optimizers = {"denoiser": optax.sgd(0.1)}
    rounds = make_rounds(model, optimizers, make_prepare(scale=1.0), measure_every=4)
    run = parallel(
        rounds,
        Devices(jax.local_devices()[:1], replicas),
        in_axes=(0, None, 0, None, None),
        replica_axes=(0, None, 0, None, None),
    )
    batch = {"x": jnp.ones((2, 3)), "position": jnp.arange(2)}
    states = Creator(model, optimizers)(batch, seeds=range(replicas))
    feed = jnp.zeros((*(replicas,) * (replicas > 1), 8, 1, 2), jnp.int32)
    state, index = jax.tree.map(lambda a: a[None], (states, feed))
    arguments = state, dict(numbered().train), [{"index": index}], np.int32(2), np.int32(5)

    def norms(equation) -> int:
        """Roots of numbers that carry nothing but the replicas."""
        return equation.primitive.name == "sqrt" and equation.outvars[0].aval.ndim == (replicas > 1)

    def outside_of_conditions(jaxpr) -> int:
        inner = [sub for e in jaxpr.eqns if e.primitive.name != "cond" for sub in jaxprs_in_params(e.params)]
        return sum(map(norms, jaxpr.eqns)) + sum(map(outside_of_conditions, inner))

    traced = jax.make_jaxpr(run)(*arguments).jaxpr
    assert (outside_of_conditions(traced), weighted(traced, norms)) == (0, 1)
    measured = np.asarray(run(*arguments)[1]["denoiser/grad_norm"])[0, ..., :5]
    np.testing.assert_array_equal(measured > 0, np.broadcast_to([False, True, False, False, True], measured.shape))


def products(equation) -> int:
    return equation.primitive.name == "dot_general"


def game(k: int, l: int) -> Model:  # noqa: E741 (the paper's names)
    return models.gan(shape=(4,), hidden=(8,), noise_dim=3, discriminator_steps=k, generator_steps=l)


def test_a_round_costs_as_much_as_its_updates():
    """Products of matrices, by hand, for networks of two layers.

    Discriminator: its two passes of 2, the generator's 2, and back through the two passes 2·3 (two weights and the
    hidden layer). Generator: forwards 2 + 2, back through the frozen discriminator 2 without its weights, then 3.
    """
    for k, l in ((1, 1), (3, 2), (2, 5)):  # noqa: E741
        assert cost(game(k, l), products) == k * 12 + l * 9


@pytest.mark.parametrize(("similarity", "expected"), [("features", 21 + 12 + 21), ("pixels", 21 + 9 + 20)])
def test_a_round_of_three_players_computes_what_their_losses_take(similarity, expected):
    """Products of matrices by hand: encoder E and generator G of two layers, the discriminator's features F and more.

    Discriminator: E and two G, 6, three passes of F and the decision, 6, back through these 3·3. Encoder: E and G, 4,
    of features F twice, 2, back through F once and G without weights, 2, and 3. Generator: E and two G, 6, two passes
    of the discriminator, 4, of features F once more, back through both without weights 2·2 and through both G 2·3.
    """
    model = models.vae_gan(shape=(4,), hidden=(8,), latents=3, similarity=similarity)
    assert cost(model, products) == expected


def test_every_operation_of_a_round_grows_linearly_with_its_turns():
    one = lambda equation: 1  # noqa: E731
    base = cost(game(2, 2), one)
    discriminator, generator = cost(game(3, 2), one) - base, cost(game(2, 3), one) - base
    assert cost(game(5, 4), one) == base + 3 * discriminator + 2 * generator
    assert 0 < generator < discriminator
