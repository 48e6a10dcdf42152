"""Lengths of runs, learning rates, and what cannot be."""

import math

import numpy as np
import optax
import pytest
from toys import denoiser, numbered, quadratic_game

from jaxgen.errors import UserError
from jaxgen.training import Options, train
from jaxgen.training.options import learning_rate_schedule, make_optimizers, num_steps


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
    assert count(1, steps=7, epochs=3, batch_size=8) == 7


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
        ({"log_every": 0}, "--log-every"),
        ({"evaluate_every": -1}, "--evaluate-every"),
        ({"memory_budget": 0}, "--memory-budget"),
        ({"learning_rate": 0.0}, "--learning-rate"),
        ({"learning_rate": math.nan}, "--learning-rate"),
        ({"learning_rate": math.inf}, "--learning-rate"),
    ],
)
def test_options_out_of_range_are_named(given, message):
    with pytest.raises(UserError, match=message):
        train(denoiser(), numbered(), Options(**{"batch_size": 8, **given}))


@pytest.mark.parametrize(
    ("devices", "message"), [(3, "8 does not divide by the 3"), (5, "4 are here"), (0, "--devices 0")]
)
def test_devices_that_do_not_fit_are_named(devices, message):
    with pytest.raises(UserError, match=message):
        train(denoiser(), numbered(), Options(steps=2, batch_size=8), num_devices=devices)


def test_optimizers_must_name_the_players():
    with pytest.raises(ValueError, match=r"`optimizers` lacks \['denoiser'\] and adds \['other'\]"):
        train(
            denoiser(), numbered(), Options(steps=2, batch_size=8), optimizers={"other": optax.sgd(0.1)}, num_devices=1
        )
