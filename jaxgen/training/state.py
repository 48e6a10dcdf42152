"""Everything that changes while training, in one pytree."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Int, PyTree, UInt32

from jaxgen.model import Batch, Model, Params, check_players


class State(NamedTuple):
    """The state of a run after ``step`` rounds.

    ``key`` is the run's one key as raw data; it never changes: all randomness is folded in from ``step``.
    """

    step: Int[Array, "*replicas"]
    key: UInt32[Array, "*replicas words"]
    params: Params
    statistics: PyTree
    opt_state: Mapping[str, Any]


def create(model: Model, optimizers: Mapping[str, Any], batch: Batch, *, seed: int) -> State:
    """The state before the first round, a function of the seed alone.

    Raises:
      ValueError: if parameters, losses, turns and optimizers do not name the same players.
    """
    key, init_key = jax.random.split(jax.random.key(seed))
    params, statistics = jax.jit(model.init)(init_key, batch)
    check_players(model, params=params, optimizers=optimizers)
    opt_state = jax.jit(lambda p: {player: optimizers[player].init(p[player]) for player in optimizers})(params)
    return State(jnp.zeros((), jnp.int32), jax.random.key_data(key), params, statistics, opt_state)


def stack(states: list[State]) -> State:
    """Several seeds' states as one, on a leading replica axis; one alone stays as it is."""
    return states[0] if len(states) == 1 else jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)


def replica(tree: PyTree, index: int, *, replicas: int) -> PyTree:
    """The part of one replica of a stacked pytree."""
    return tree if replicas == 1 else jax.tree.map(lambda a: a[index], tree)
