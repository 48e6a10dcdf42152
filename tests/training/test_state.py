"""The state before the first round: one compilation for all seeds, each with its own bits; none where a run goes on."""

import logging

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from toys import denoiser, numbered, quadratic_game

from jaxgen.models import vae
from jaxgen.training import Checkpoints, Options, train
from jaxgen.training.state import Creator, create

OPTIONS = Options(steps=4, batch_size=8, log_every=2, evaluate_every=2, seed=3, seeds=3)


def watched():
    """A denoiser with the number of traces and of computations of its initialization."""
    model, traces, runs = denoiser(), [], []

    def init(key, batch):
        traces.append(1)
        jax.debug.callback(lambda: runs.append(1))
        return model.init(key, batch)

    return model._replace(init=init), traces, runs


def test_a_replica_begins_with_the_bits_of_its_single_run():
    model = vae(shape=(8, 8, 1), hidden=(16,), latents=3)
    batch = {"x": jnp.linspace(0, 1, 128).reshape(2, 8, 8, 1), "position": jnp.arange(2)}
    optimizers = {"vae": optax.adam(1e-3)}
    together = Creator(model, optimizers)(batch, seeds=[5, 6, 2**31 - 1])
    alone = create(model, optimizers, batch, seed=6)
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a[1], b), together, alone)
    assert len({np.asarray(key).tobytes() for key in together.key}) == 3


@pytest.mark.parametrize("replicas", [1, 3])
def test_the_shapes_are_those_of_the_state(replicas):
    model = quadratic_game({"left": 2, "right": 1}, updates=6, batch_size=2)
    batch = {"x": jnp.ones((2, 3)), "position": jnp.arange(2)}
    creator = Creator(model, {player: optax.adam(1e-3) for player in model.turns})
    state, shapes = creator(batch, seeds=range(replicas)), creator.shapes(batch, replicas=replicas)
    assert jax.tree.structure(state) == jax.tree.structure(shapes)
    assert jax.tree.map(lambda a: (a.shape, a.dtype), state) == jax.tree.map(lambda s: (s.shape, s.dtype), shapes)


def test_initialization_is_traced_and_compiled_once_for_all_seeds(tmp_path, caplog):
    (model, traces, runs), checkpoints = watched(), Checkpoints(tmp_path)
    with jax.log_compiles(), caplog.at_level(logging.WARNING):
        train(model, numbered(), OPTIONS, num_devices=1, checkpoints=checkpoints)
    jax.effects_barrier()
    compiled = [record for record in caplog.records if record.getMessage().startswith("Compiling jit(create)")]
    assert (len(traces), len(compiled), len(runs)) == (1, 1, 3)
    checkpoints.close()


def test_a_resumed_run_initializes_nothing(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    train(denoiser(), numbered(), OPTIONS, num_devices=1, checkpoints=checkpoints)
    model, traces, runs = watched()
    result = train(model, numbered(), OPTIONS, num_devices=1, checkpoints=checkpoints)
    jax.effects_barrier()
    assert (result.start, len(traces), runs) == (4, 1, [])
    checkpoints.close()


def test_the_noise_of_a_run_is_not_that_of_its_initialization():
    """The key that everything later is folded from is neither the one that initialized nor the seed's own."""
    model = denoiser()._replace(init=lambda key, batch: ({"denoiser": jax.random.key_data(key)}, {}))
    state = create(model, {"denoiser": optax.set_to_zero()}, {}, seed=3)
    keys = [state.key, state.params["denoiser"], jax.random.key_data(jax.random.key(3))]
    assert len({np.asarray(key).tobytes() for key in keys}) == 3
