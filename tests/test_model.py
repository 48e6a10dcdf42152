"""The contract's own small functions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.model import AXIS, Model, check_players, device_axis, example_keys


def unused(*_arguments):
    raise AssertionError("the names of the players are all that is looked at")


def model(losses, turns) -> Model:
    return Model(init=unused, losses=dict.fromkeys(losses, unused), turns=turns, evaluate=unused)


def test_players_that_agree_pass():
    check_players(model("ab", {"b": 2, "a": 1}), params={"a": 0, "b": 1}, optimizers={"b": 0, "a": 1})


@pytest.mark.parametrize(
    ("turns", "others", "message"),
    [
        ({"a": 1}, {}, r"`turns` lacks \['b'\] and adds \[\]"),
        ({"a": 1, "b": 1, "c": 1}, {}, r"`turns` lacks \[\] and adds \['c'\]"),
        ({"a": 1, "b": 1}, {"params": {"a": 0}}, r"`params` lacks \['b'\]"),
        ({"a": 1, "b": 0}, {}, "`turns` of player 'b' .* got 0"),
        ({"a": 1, "b": True}, {}, "`turns` of player 'b' .* got True"),
        ({"a": 1, "b": 1.0}, {}, "`turns` of player 'b' .* got 1.0"),
    ],
)
def test_players_that_differ_are_named(turns, others, message):
    with pytest.raises(ValueError, match=message):
        check_players(model("ab", turns), **others)


def test_the_key_of_an_example_depends_on_its_position_alone():
    key = jax.random.key(3)
    whole = jax.random.key_data(example_keys(key, jnp.arange(8)))
    part = jax.random.key_data(example_keys(key, jnp.array([5, 2])))
    np.testing.assert_array_equal(part, whole[jnp.array([5, 2])])
    assert len(np.unique(whole, axis=0)) == 8
    assert not np.array_equal(whole, jax.random.key_data(example_keys(jax.random.key(4), jnp.arange(8))))


def test_the_device_axis_is_known_on_several_devices_alone():
    seen = []

    def note(x):
        seen.append(device_axis())
        return x

    jax.jit(note)(1.0)
    jax.vmap(note, axis_name="elsewhere")(jnp.ones(2))
    jax.vmap(note, axis_name=AXIS)(jnp.ones(1))
    jax.vmap(note, axis_name=AXIS)(jnp.ones(2))
    assert seen == [None, None, None, AXIS]
