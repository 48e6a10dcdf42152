"""Everything that changes while training, in one pytree."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
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


class Creator:
    """The state before the first round as a function of the seed alone, compiled once for all seeds."""

    def __init__(self, model: Model, optimizers: Mapping[str, Any]):
        def create(key: Array, batch: Batch) -> State:
            key, init_key = jax.random.split(key)
            params, statistics = model.init(init_key, batch)
            check_players(model, params=params, optimizers=optimizers)
            opt_state = {player: optimizers[player].init(params[player]) for player in optimizers}
            return State(jnp.zeros((), jnp.int32), jax.random.key_data(key), params, statistics, opt_state)

        self._create = jax.jit(create)

    def __call__(self, batch: Batch, *, seeds: Sequence[int]) -> State:
        """The states of all seeds; several have a leading replica axis.

        One function called for each seed and no ``vmap``: a batched product may round otherwise than a single one, and
        a replica is to begin with the very bits of its own single run.

        Raises:
          ValueError: if parameters, losses, turns and optimizers do not name the same players.
        """
        states = jax.block_until_ready([self._create(jax.random.key(seed), batch) for seed in seeds])
        return states[0] if len(states) == 1 else jax.tree.map(lambda *leaves: np.stack(leaves), *states)

    def shapes(self, batch: Mapping[str, Any], *, replicas: int) -> State:
        """Shapes and types of such a state, for which nothing is computed.

        Raises:
          ValueError: as above.
        """
        one = self._create.eval_shape(jax.random.key(0), batch)
        axes = () if replicas == 1 else (replicas,)
        return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((*axes, *leaf.shape), leaf.dtype), one)


def create(model: Model, optimizers: Mapping[str, Any], batch: Batch, *, seed: int) -> State:
    """The state before the first round, a function of the seed alone.

    Raises:
      ValueError: if parameters, losses, turns and optimizers do not name the same players.
    """
    return Creator(model, optimizers)(batch, seeds=[seed])


def replica(tree: PyTree, index: int, *, replicas: int) -> PyTree:
    """The part of one replica of a stacked pytree."""
    return tree if replicas == 1 else jax.tree.map(lambda a: a[index], tree)
