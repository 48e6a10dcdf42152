"""Lengths of runs, learning rates, and what cannot be."""

import inspect
import math

import numpy as np
import optax
import pytest
from toys import Counted, denoiser, numbered, quadratic_game

from jaxgen.data.prepare import make_prepare
from jaxgen.errors import UserError
from jaxgen.training import Options, loop, train
from jaxgen.training.options import learning_rate_schedule, make_optimizers, measure_every, num_steps, with_intervals


def test_staircase_is_burdas():
    """Rate 10^(−i/7) for 3^i of 3280 parts, i = 0 … 7: exact at both ends of every stage."""
    schedule = learning_rate_schedule(Options(schedule="staircase", learning_rate=1e-3), 3280)
    begin = 0
    for stage in range(8):
        end = begin + 3**stage
        for step in (begin, end - 1):
            assert math.isclose(float(np.asarray(schedule(step))), 1e-3 * 10 ** (-stage / 7), rel_tol=2e-6), (
                stage,
                step,
            )
        begin = end
    assert begin == 3280


def test_staircase_stretches_with_the_run():
    schedule = learning_rate_schedule(Options(schedule="staircase", learning_rate=1.0), 328_000)
    rates = np.array([schedule(step) for step in (0, 99, 100, 399, 400, 327_999)])
    np.testing.assert_allclose(rates, 10 ** (-np.array([0, 0, 1, 1, 2, 7]) / 7), rtol=2e-6)


def test_staircase_of_a_short_run_still_passes_every_stage():
    """Stages that round to nothing are passed over, but the last rate is the last."""
    schedule = learning_rate_schedule(Options(schedule="staircase", learning_rate=1.0), 10)
    rates = [float(np.asarray(schedule(step))) for step in range(10)]
    assert rates == sorted(rates, reverse=True)
    np.testing.assert_allclose(rates[-1], 0.1, rtol=2e-6)


def test_cosine_falls_to_zero_and_constant_stays():
    cosine = learning_rate_schedule(Options(schedule="cosine", learning_rate=0.3), 40)
    for step in (0, 10, 20, 40):
        np.testing.assert_allclose(cosine(step), 0.15 * (1 + math.cos(math.pi * step / 40)), atol=1e-7)
    constant = learning_rate_schedule(Options(learning_rate=0.3), 40)
    assert [constant(step) for step in (0, 39, 100)] == [0.3] * 3


def test_each_player_counts_its_own_updates():
    """Two turns a round: the player's schedule ends after twice as many updates."""
    model = quadratic_game({"left": 2, "right": 1}, updates=60, batch_size=4)
    ends = {}
    model = model._replace(
        optimizers=lambda schedule: ends.setdefault(len(ends), schedule) and dict.fromkeys(model.turns, schedule)
    )
    make_optimizers(model, Options(schedule="cosine", learning_rate=1.0), 20)
    assert [float(ends[i](20)) for i in (0, 1)] == pytest.approx([0.5, 0.0], abs=1e-6)
    assert float(ends[0](40)) == pytest.approx(0.0, abs=1e-6)


def test_an_epoch_uses_every_whole_batch_once():
    count = lambda updates, **given: num_steps(Options(**given), num_examples=37, updates=updates)  # noqa: E731
    assert count(1, epochs=3, batch_size=8) == 12
    assert count(2, epochs=3, batch_size=8) == 6
    assert count(5, epochs=1, batch_size=37) == 1
    assert count(1, steps=7, batch_size=8) == 7
    assert count(1, batch_size=8) == count(3, batch_size=8) == 5000


@pytest.mark.parametrize(
    ("steps", "log_every", "evaluate_every"),
    [(4, 1, 1), (220, 4, 22), (2200, 44, 220), (5000, 100, 500), (10**6, 100, 10**5)],
)
def test_zero_is_a_share_of_the_run(steps, log_every, evaluate_every):
    """Fifty log points, or one every hundred rounds; ten evaluations."""
    full = with_intervals(Options(), steps)
    assert (full.log_every, full.evaluate_every) == (log_every, evaluate_every)
    given = Options(log_every=7, evaluate_every=9)
    assert with_intervals(given, steps) == given


def test_log_points_inside_a_call_are_means_of_their_own_rounds(monkeypatch):
    """Calls of 1, 1, 3 and 2 rounds, with log points after each round and after two: the same numbers."""
    monkeypatch.setattr(loop, "_adapt", lambda *_arguments: 3)
    each, pairs = Counted(), Counted()
    for every, writer in ((1, each), (2, pairs)):
        options = Options(steps=7, batch_size=8, log_every=every, evaluate_every=7)
        train(denoiser(), numbered(), options, writers=(writer,), num_devices=1)
    single = {step: values["error"] for step, kind, values in each.points if kind == "train"}
    double = {step: values["error"] for step, kind, values in pairs.points if kind == "train"}
    assert list(single) == [1, 2, 3, 4, 5, 6, 7]
    assert list(double) == [2, 4, 6, 7]
    expected = {step: np.mean([single[step - 1], single[step]]) for step in (2, 4, 6)} | {7: single[7]}
    for step, value in expected.items():
        np.testing.assert_allclose(double[step], value, rtol=1e-6)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"steps": -1}, "--steps"),
        ({"steps": 0}, "--steps"),
        ({"epochs": 0}, "--epochs"),
        ({"epochs": -2}, "--epochs"),
        ({"batch_size": 0}, "--batch-size"),
        ({"batch_size": 38}, "larger than the 37 training examples; give --batch-size 37"),
        ({"seeds": 0}, "--seeds"),
        ({"seed": -1}, "--seed"),
        ({"log_every": -1}, "--log-every"),
        ({"steps": 4, "epochs": 3}, "--steps 4 and --epochs 3 each say how long to train; give one"),
        ({"evaluate_every": -1}, "--evaluate-every"),
        ({"memory_budget": 0}, "--memory-budget"),
        ({"learning_rate": 0.0}, "--learning-rate"),
        ({"learning_rate": math.nan}, "--learning-rate"),
        ({"learning_rate": math.inf}, "--learning-rate"),
        ({"schedule": "cosin"}, "--schedule 'cosin' is not known; did you mean 'cosine'"),
        ({"binarize": "dynamc"}, "--binarize 'dynamc' is not known; did you mean 'dynamic'"),
    ],
)
def test_options_out_of_range_are_named(given, message):
    with pytest.raises(UserError, match=message):
        train(denoiser(), numbered(), Options(**{"batch_size": 8, **given}))


@pytest.mark.parametrize(
    ("devices", "message"), [(3, "8 does not divide by the 3"), (5, "there are 4 here"), (0, "--devices 0")]
)
def test_devices_that_do_not_fit_are_named(devices, message):
    with pytest.raises(UserError, match=message):
        train(denoiser(), numbered(), Options(steps=2, batch_size=8), num_devices=devices)


def test_optimizers_must_name_the_players():
    with pytest.raises(ValueError, match=r"`optimizers` lacks \['denoiser'\] and adds \['other'\]"):
        train(
            denoiser(), numbered(), Options(steps=2, batch_size=8), optimizers={"other": optax.sgd(0.1)}, num_devices=1
        )


def test_the_models_own_optimizers_must_name_the_players():
    model = denoiser()._replace(optimizers=lambda rate: {"other": optax.sgd(rate)})
    with pytest.raises(ValueError, match=r"`optimizers` lacks \['denoiser'\] and adds \['other'\]"):
        train(model, numbered(), Options(steps=2, batch_size=8), num_devices=1)


def test_an_objective_that_is_no_figure_is_named_at_the_first_evaluation():
    console, options = Counted(), Options(steps=4, batch_size=8, evaluate_every=2)
    with pytest.raises(UserError, match="objective 'lss' is no evaluated figure; did you mean 'loss'"):
        train(denoiser()._replace(objective="lss"), numbered(), options, console=console, num_devices=1)
    assert max(step for step, _, _ in console.points) == 2


def test_bits_of_an_unknown_kind_are_refused():
    # Without the hook's own check of the annotation, as a user would call it.
    with pytest.raises(ValueError, match="none, dynamic, threshold, got 'dynamc'"):
        inspect.unwrap(make_prepare)(scale=1.0, binarize="dynamc")


@pytest.mark.parametrize("log_every", [1, 3, 9, 10, 11, 500])
def test_every_log_point_has_a_round_whose_gradient_norms_are_measured(log_every):
    assert 1 <= measure_every(Options(log_every=log_every)) <= min(10, log_every)
