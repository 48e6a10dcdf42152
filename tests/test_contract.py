"""What every exported model keeps to, with no line about any one of them."""

import functools
import inspect
import json
import os
import warnings
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxgen import models, runs
from jaxgen.data import Dataset, check_values, load
from jaxgen.data.dataset import make_dataset
from jaxgen.data.prepare import make_prepare
from jaxgen.errors import UserError
from jaxgen.flags import argument_help
from jaxgen.model import AXIS, Model, check_players
from jaxgen.training.state import State, create
from jaxgen.training.step import update

BATCH = 6
KEY = jax.random.key(7)


class Built(NamedTuple):
    """A model with its defaults on the first data set that it takes, fresh parameters, and a batch."""

    name: str
    arguments: dict[str, Any]
    model: Model
    params: Any
    statistics: Any
    batch: dict[str, Any]


def codes() -> Dataset:
    """Labelled codes on a grid, for what learns codes."""
    rng = np.random.default_rng(0)
    splits = [{"x": rng.integers(0, 5, (9, 2, 3, 1)).astype(np.float32), "label": np.arange(9) % 3} for _ in range(2)]
    return make_dataset("codes", *splits, scale=1.0)


def build(name: str) -> Built:
    for dataset in (load("digits"), load("ring"), codes()):
        arguments = runs.complete(name, {}, dataset)
        try:
            model = runs.build(name, arguments)
            check_values(dataset, model.domain, binarized=True)
        except UserError:
            continue
        raw = {k: jnp.asarray(a[:BATCH]) for k, a in dataset.train.items()} | {"position": jnp.arange(BATCH)}
        batch = make_prepare(scale=dataset.scale)(jax.random.split(KEY, BATCH), raw)
        params, statistics = jax.jit(model.init)(jax.random.key(0), batch)
        return Built(name, arguments, model, params, statistics, batch)
    raise AssertionError(f"{name} takes neither digits nor the ring, nor codes")


@pytest.fixture(scope="module", params=models.__all__)
def built(request):
    return build(request.param)


@pytest.fixture(scope="module")
def evaluate(built):
    """The compiled evaluation, and what it gives for the whole batch."""
    function = jax.jit(built.model.evaluate)
    return function, function(built.params, built.statistics, built.batch, KEY)


@pytest.fixture(scope="module")
def graded(built):
    """``{player: compiled (own parameters, batch, key, statistics, train) -> ((loss, aux), gradient)}``."""

    def of(player):
        def loss(own, batch, key, statistics, train):
            return built.model.losses[player]({**built.params, player: own}, statistics, batch, key, train)

        return jax.jit(jax.value_and_grad(loss, has_aux=True), static_argnums=4)

    return {player: of(player) for player in built.model.losses}


def shapes(tree):
    return jax.tree.map(lambda a: (np.shape(a), jnp.result_type(a)), tree)


def take(batch, index):
    return jax.tree.map(lambda a: a[jnp.asarray(index)], batch)


def told(built: Built, index=slice(None)) -> dict[str, Any]:
    """What a conditional model is given besides."""
    condition = built.model.condition
    return {} if condition is None else {"condition": built.batch[condition.name][index]}


def finite(tree) -> bool:
    return all(bool(jnp.all(jnp.isfinite(leaf))) for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize("name", models.__all__)
def test_the_signature_is_the_configuration(name):
    """Keyword-only, typed, with a default unless the data decides; each explained in the docstring."""
    factory = getattr(models, name)
    signature = inspect.signature(factory, eval_str=True)
    explained = argument_help(factory)
    assert list(explained) == list(signature.parameters)
    for parameter in signature.parameters.values():
        assert parameter.kind is parameter.KEYWORD_ONLY, parameter
        assert parameter.annotation is not parameter.empty, parameter
        assert parameter.default is not parameter.empty or parameter.name in runs.DATA_ARGUMENTS, parameter
        assert explained[parameter.name].rstrip().endswith("."), parameter
    assert signature.return_annotation is Model
    documentation = inspect.getdoc(factory) or ""
    assert "\n\n" in documentation
    assert "Returns:" in documentation
    assert "Raises:" in documentation


def test_arguments_survive_json_and_rebuild_the_same_model(built, graded):
    again = runs.build(built.name, json.loads(json.dumps(built.arguments)))
    params, statistics = jax.jit(again.init)(jax.random.key(0), built.batch)
    jax.tree.map(np.testing.assert_array_equal, (params, statistics), (built.params, built.statistics))
    for player, loss in again.losses.items():
        value = jax.jit(loss, static_argnums=4)(params, statistics, built.batch, KEY, True)[0]
        (expected, _), _ = graded[player](built.params[player], built.batch, KEY, built.statistics, True)
        np.testing.assert_allclose(value, expected, rtol=1e-6)


def test_players_and_optimizers_agree(built):
    rate = optax.constant_schedule(0.1)
    optimizers = built.model.optimizers(rate) if built.model.optimizers else dict.fromkeys(built.model.losses)
    check_players(built.model, params=built.params, optimizers=optimizers)
    assert jax.tree.leaves(built.params)


def test_losses_are_finite_scalars_with_a_finite_gradient(built, graded):
    for player, function in graded.items():
        for train in (True, False):
            (value, aux), gradient = function(built.params[player], built.batch, KEY, built.statistics, train)
            assert (value.shape, value.dtype) == ((), jnp.float32)
            assert finite((value, aux, gradient))
            assert all(jnp.shape(term) == () for term in aux.metrics.values())
            assert "loss" not in aux.metrics
            assert "grad_norm" not in aux.metrics
            assert shapes(aux.statistics) == shapes(built.statistics)
            assert any(bool(jnp.any(leaf != 0)) for leaf in jax.tree.leaves(gradient)), player


def test_a_loss_is_a_function_of_its_arguments(built, graded):
    """The same key gives the same value; where another key gives another, noise belongs to the example."""
    order = np.random.default_rng(0).permutation(BATCH)
    for player, function in graded.items():
        arguments = built.params[player], built.batch
        (value, _), _ = function(*arguments, KEY, built.statistics, False)
        (again, _), _ = function(*arguments, KEY, built.statistics, False)
        assert value == again
        (shuffled, _), _ = function(built.params[player], take(built.batch, order), KEY, built.statistics, False)
        np.testing.assert_allclose(shuffled, value, rtol=1e-5)


def test_an_update_moves_its_player_alone(built):
    """One step of the trainer's own update: the others keep every bit."""
    optimizers = {player: optax.sgd(1e-3) for player in built.model.losses}
    state: State = create(built.model, optimizers, built.batch, seed=0)
    stacked, batch = jax.tree.map(lambda a: a[None], (state, built.batch))
    for player in built.model.losses:

        def move(state, batch, player=player):
            return update(built.model, optimizers[player], player, state, batch, KEY)[0]

        after = jax.tree.map(lambda a: a[0], jax.jit(jax.vmap(move, axis_name=AXIS))(stacked, batch))
        for other in built.model.losses:
            pairs = zip(jax.tree.leaves(after.params[other]), jax.tree.leaves(state.params[other]), strict=True)
            moved = any(bool(jnp.any(a != b)) for a, b in pairs)
            assert moved == (other == player)
        assert shapes(after) == shapes(state)


def test_evaluation_is_per_example_whatever_the_batch(built, evaluate):
    function, whole = evaluate
    assert whole
    for name, value in whole.items():
        assert value.shape[0] == BATCH, name
    assert finite(whole)
    index = [4, 1, 2]
    part = function(built.params, built.statistics, take(built.batch, index), KEY)
    for name, value in part.items():
        np.testing.assert_allclose(value, whole[name][jnp.array(index)], rtol=2e-5, atol=1e-5, err_msg=name)


def test_figures_follow_from_means_alone(built, evaluate):
    means = {name: np.asarray(value, np.float64).mean(axis=0) for name, value in evaluate[1].items()}
    figures = built.model.summarize(means) if built.model.summarize else means
    assert figures
    for name, value in figures.items():
        assert np.all(np.isfinite(np.asarray(value, np.float64))), name
    assert built.model.objective is None or np.ndim(figures[built.model.objective]) == 0


def test_latents_and_reconstructions_have_their_shapes(built):
    model, x = built.model, built.batch["x"]
    code = None
    if model.encode:
        code = jax.jit(model.encode)(built.params, built.statistics, x, **told(built))
        assert code.shape[0] == BATCH
        if jnp.issubdtype(code.dtype, jnp.floating):
            assert code.shape == (BATCH, model.latents)
            assert model.codes is None
        else:
            assert model.codes is not None
            assert 0 <= code.min() <= code.max() < model.codes.size
        again = jax.jit(model.encode)(built.params, built.statistics, x, **told(built))
        np.testing.assert_array_equal(code, again)
    elif model.latents:
        code = jnp.ones((BATCH, model.latents))
    for function, argument in ((model.decode, code), (model.reconstruct, x)):
        if function:
            values = jax.jit(function)(built.params, built.statistics, argument, **told(built))
            assert (values.shape, values.dtype) == (x.shape, jnp.float32)
            assert finite(values)


def test_samples_are_a_function_of_the_key(built):
    if built.model.sample is None:
        pytest.skip("no generative model")
    sample = functools.partial(jax.jit(built.model.sample, static_argnums=3), **told(built))
    values = sample(built.params, built.statistics, KEY, BATCH)
    assert values.shape == built.batch["x"].shape
    assert finite(values)
    np.testing.assert_array_equal(values, sample(built.params, built.statistics, KEY, BATCH))
    assert not np.array_equal(values, sample(built.params, built.statistics, jax.random.key(8), BATCH))
    assert len(np.unique(np.asarray(values).reshape(BATCH, -1), axis=0)) == BATCH


def test_half_precision_input_gives_finite_losses_near_the_others(built, graded):
    """Sixteen grey levels are exact in bfloat16; what is left is rounding inside."""
    half = {**built.batch, "x": built.batch["x"].astype(jnp.bfloat16)}
    for player, function in graded.items():
        (value, aux), gradient = function(built.params[player], half, KEY, built.statistics, True)
        (expected, _), _ = function(built.params[player], built.batch, KEY, built.statistics, True)
        assert finite((value, aux, gradient))
        np.testing.assert_allclose(float(value), float(expected), rtol=0.05)
        assert shapes(aux.statistics) == shapes(built.statistics)


def test_one_example_is_a_batch(built, graded):
    for player, function in graded.items():
        assert finite(function(built.params[player], take(built.batch, [0]), KEY, built.statistics, True))


@pytest.mark.parametrize("name", models.__all__)
def test_models_print_nothing_and_touch_nothing(name, capfd):
    """Neither output nor any state of the process: random streams, environment, JAX's settings, warning filters."""

    def world():
        return (
            str(np.random.get_state()),  # noqa: NPY002 (the global stream, which nobody should touch)
            dict(os.environ),
            {key: value for key, value in jax.config.values.items() if not callable(value)},
            list(warnings.filters),
        )

    build(name)  # what is lazily imported is imported
    capfd.readouterr()
    before = world()
    fresh = build(name)
    for player, loss in fresh.model.losses.items():
        jax.eval_shape(lambda p, s, b, loss=loss: loss(p, s, b, KEY, True), fresh.params, fresh.statistics, fresh.batch)
        assert player in fresh.params
    jax.eval_shape(fresh.model.evaluate, fresh.params, fresh.statistics, fresh.batch, KEY)
    assert world() == before
    assert capfd.readouterr() == ("", "")


def test_a_condition_is_needed_where_there_is_one_and_matters(built):
    if built.model.condition is None:
        pytest.skip("not conditional")
    model, given = built.model, told(built)["condition"]
    z = jax.random.normal(KEY, (BATCH, model.latents))
    for function, argument in ((model.encode, built.batch["x"]), (model.decode, z)):
        if function is not None:
            with pytest.raises(ValueError, match="this model is conditional"):
                function(built.params, built.statistics, argument)
    values = model.decode(built.params, built.statistics, z, condition=given)
    others = model.decode(built.params, built.statistics, z, condition=jnp.roll(given, 1))
    assert not np.allclose(values, others)


def test_several_completions_keep_what_was_observed(built):
    model, x = built.model, built.batch["x"]
    if model.impute is None:
        pytest.skip("imputes nothing")
    hidden = jnp.where(jnp.arange(x.size).reshape(x.shape) % 2 == 0, x, jnp.nan)
    impute = functools.partial(jax.jit(model.impute, static_argnums=4), **told(built))
    values = impute(built.params, built.statistics, hidden, KEY, 3)
    assert values.shape == (3, *x.shape)
    assert finite(values)
    observed = np.broadcast_to(~np.isnan(hidden), values.shape)
    np.testing.assert_array_equal(np.asarray(values)[observed], np.broadcast_to(x, values.shape)[observed])
    assert not np.array_equal(values[0], values[1])


def test_missing_values_are_taken_or_refused_at_the_start(built):
    """What says that it takes them has a loss that they do not touch."""
    mask = jnp.arange(built.batch["x"].size).reshape(built.batch["x"].shape) % 3 > 0
    if not built.model.missing:
        hidden = load("digits")
        hidden.train["mask"] = np.arange(hidden.train["x"].size).reshape(hidden.train["x"].shape) % 3 > 0
        with pytest.raises(UserError, match="values of the train split are missing"):
            check_values(hidden, built.model.domain, binarized=True, allow_missing=built.model.missing)
        return
    for player, loss in built.model.losses.items():
        values = []
        for filler in (0.0, 0.5):
            batch = built.batch | {"x": jnp.where(mask, built.batch["x"], filler), "mask": mask}
            values.append(jax.jit(loss, static_argnums=4)(built.params, built.statistics, batch, KEY, True)[0])
        assert values[0] == values[1], player
