"""What is not finite stops the run at once, by name, and leaves the last good checkpoint."""

import errno

import jax.numpy as jnp
import numpy as np
import pytest
from toys import Counted, bad_gradient, denoiser, numbered, quadratic_game

from jaxgen.data import indices
from jaxgen.errors import UserError
from jaxgen.training import Checkpoints, NonFiniteError, Options, train

# 37 examples in batches of 8: four batches an epoch.
OPTIONS = Options(steps=20, batch_size=8, log_every=6, evaluate_every=4)


@pytest.mark.parametrize(("spoil", "term"), [("error", "the term 'error'"), ("gradient", "the gradient")])
def test_the_message_names_player_term_step_batch_and_epoch(tmp_path, spoil, term):
    """The tenth update is the second batch of the third epoch; the checkpoint of step 8 is the last good one."""
    checkpoints, writer = Checkpoints(tmp_path), Counted()
    with pytest.raises(NonFiniteError) as caught:
        train(
            denoiser(player="smith", spoil_at=9, spoil=spoil),
            numbered(),
            OPTIONS,
            checkpoints=checkpoints,
            writers=(writer,),
            num_devices=1,
        )
    message = str(caught.value)
    assert message.startswith(f"{term} of player 'smith' is not finite at step 10 (batch 2 of epoch 3)")
    assert "the last checkpoint is kept" in message
    assert isinstance(caught.value, UserError)
    assert max(step for step, _, _ in writer.points) == 8
    restored = checkpoints.restore(None)
    assert restored is not None
    assert restored.step == 8
    checkpoints.close()


def test_what_breaks_in_the_last_round_is_named_before_anything_is_evaluated():
    """Its gradient is measured whatever the interval of the others, since no later loss would show it."""
    model = denoiser(spoil_at=4, spoil="gradient")
    with pytest.raises(NonFiniteError, match=r"^the gradient of player 'denoiser' .* step 5 "):
        train(model, numbered(), OPTIONS._replace(steps=5), num_devices=1)


def test_the_batch_is_the_one_the_player_saw():
    """In a game of 1 + 2 turns a player's first update of round 3 takes batch 2·3 + 1 of the stream, counted from 0."""
    model = quadratic_game({"left": 1, "right": 2}, updates=30, batch_size=8)
    right = model.losses["right"]

    def spoiled(params, statistics, batch, key, train):
        value, aux = right(params, statistics, batch, key, train)
        bad = statistics["count"] == 7
        return value, aux._replace(metrics={"mean": jnp.where(bad, jnp.inf, aux.metrics["mean"])})

    model = model._replace(losses={**model.losses, "right": spoiled})
    with pytest.raises(
        NonFiniteError, match=r"'mean' of player 'right' .* step 3 .one of 2 batches from batch 4 of epoch 2"
    ):
        train(model, numbered(), OPTIONS._replace(steps=5), num_devices=1)


def test_the_player_who_failed_first_is_named():
    """A gradient spoils the player's parameters, and so the other's loss in the same round: the gradient came first."""
    model = quadratic_game({"right": 1, "left": 1}, updates=20, batch_size=8)
    right = model.losses["right"]

    def spoiled(params, statistics, batch, key, train):
        value, aux = right(params, statistics, batch, key, train)
        return value + bad_gradient(params["right"], statistics["count"] == 4), aux

    with pytest.raises(NonFiniteError, match=r"^the gradient of player 'right' .* step 3 .batch 1 of epoch 2"):
        train(model._replace(losses={**model.losses, "right": spoiled}), numbered(), OPTIONS, num_devices=1)


def test_an_evaluated_figure_that_is_not_finite_stops_before_it_is_saved(tmp_path):
    model, checkpoints = denoiser(), Checkpoints(tmp_path)
    evaluate = model.evaluate

    def spoiled(params, statistics, batch, key):
        bad = statistics["updates"] >= 8
        return {
            **evaluate(params, statistics, batch, key),
            "loss": jnp.full(len(batch["x"]), jnp.where(bad, jnp.nan, 1.0)),
        }

    with pytest.raises(NonFiniteError, match="'loss' is nan at step 8"):
        train(model._replace(evaluate=spoiled), numbered(), OPTIONS, checkpoints=checkpoints, num_devices=1)
    restored = checkpoints.restore(None)
    assert restored is not None
    assert restored.step == 4
    checkpoints.close()


def test_a_replica_that_fails_stops_them_all():
    model = denoiser()
    loss = model.losses["denoiser"]

    def spoiled(params, statistics, batch, key, train):
        value, aux = loss(params, statistics, batch, key, train)
        first = jnp.sum(indices(6, 0, 1, num_examples=37, batch_size=8))
        bad = (jnp.sum(64 * batch["x"][:, 0]).round() == first) & (statistics["updates"] == 0)
        return jnp.where(bad, np.nan, value), aux

    with pytest.raises(
        NonFiniteError, match="the term 'loss' of player 'denoiser' is not finite in replica 1 at step 1 "
    ):
        train(
            model._replace(losses={"denoiser": spoiled}), numbered(), OPTIONS._replace(seed=5, seeds=2), num_devices=1
        )


@pytest.mark.parametrize(("largest", "named"), [(999.0, False), (-2000.0, True)])
def test_large_data_are_named_and_nothing_saved_is_said(largest, named):
    data = numbered()
    x = data.train["x"].copy()
    x[-1, 2], x[0, 2] = 2 * largest, np.nan
    data = data._replace(train={"x": x}, scale=2.0)
    with pytest.raises(NonFiniteError) as caught:
        train(denoiser(), data, OPTIONS._replace(learning_rate=1e30, steps=5), num_devices=1)
    assert "nothing was saved yet, try a smaller" in str(caught.value)
    assert ("--data-scale: the data reach 2e+03 in network units" in str(caught.value)) == named


def test_a_loss_that_is_not_finite_is_told_although_the_disk_is_full(tmp_path, monkeypatch):
    """The storage's error comes second, and beside it."""
    checkpoints = Checkpoints(tmp_path)

    def refuse(*_arguments, **_keywords):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoints._manager, "save", refuse)
    model = denoiser(spoil_at=6)
    with pytest.raises(NonFiniteError, match=r"the term 'error' .* step 7") as caught:
        train(model, numbered(), OPTIONS, checkpoints=checkpoints, num_devices=1)
    assert "No space left on device" in "".join(caught.value.__notes__)
    checkpoints.close()
