"""Called a second time outside `jit`, with other numbers of the same shapes, a function compiles nothing."""

import logging

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.nets import CausalTransformer, GatedPixelCNN, sample_pixelcnn, sample_transformer
from jaxgen.quantization import (
    EmaCodebook,
    GaussianMixture,
    mixture_log_joint,
    residual_nearest_codes,
    revive_dead_codes,
)

GRID = (1, 2)


def normals(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def parameters(network, seed):
    shapes = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, *GRID), jnp.int32))
    return jax.tree.map(lambda leaf: normals(seed, *leaf.shape), shapes)


def pixelcnn(seed):
    # Another of the same settings, as who calls in a loop may make it.
    network = GatedPixelCNN(num_codes=3, features=2, layers=1, kernel=3)
    params = parameters(network, seed)
    return lambda: sample_pixelcnn(network, params, jax.random.key(seed), 2, grid=GRID, temperature=1.0 + seed)


def transformer(seed):
    network = CausalTransformer(num_codes=3, grid=GRID, features=2, heads=1, layers=1)
    params = parameters(network, seed)
    return lambda: sample_transformer(network, params, jax.random.key(seed), 2, temperature=1.0 + seed)


def revival(seed):
    state, vectors = EmaCodebook(jnp.arange(3.0), normals(seed, 3, 2)), normals(seed, 5, 2)
    return lambda: revive_dead_codes(jax.random.key(seed), state, vectors, threshold=1.0 + seed)


def residual(seed):
    vectors, codebooks = normals(seed, 4, 2), normals(seed, 2, 3, 2)
    return lambda: residual_nearest_codes(vectors, codebooks)


def mixture(seed):
    points, means = normals(seed, 4, 2), normals(seed, 3, 2)
    given = GaussianMixture(jnp.full(3, 1 / 3), means, jnp.ones((3, 2)) + seed, jnp.zeros(()))
    return lambda: mixture_log_joint(points, given)


@pytest.mark.parametrize("make", [pixelcnn, transformer, revival, residual, mixture])
def test_a_second_call_compiles_nothing(make, caplog):
    first, second = make(0), make(1)
    jax.block_until_ready(first())
    with jax.log_compiles(), caplog.at_level(logging.WARNING):
        jax.block_until_ready(second())
    assert [r.getMessage() for r in caplog.records if r.getMessage().startswith("Compiling")] == []
