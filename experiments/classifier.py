"""Classifiers made of an encoder and a new linear head, many trained side by side on a few labels."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import PyTree

from jaxgen import runs
from jaxgen.data import load
from jaxgen.losses import categorical_nll
from jaxgen.model import Model


class Labelled(NamedTuple):
    """Examples in network units, and their labels."""

    x: np.ndarray
    y: np.ndarray


def splits(data: str) -> tuple[Labelled, Labelled]:
    """The training and the test split of a labelled data set."""
    dataset = load(data)
    train, test = (
        Labelled((split["x"] / dataset.scale).astype(np.float32), np.asarray(split["label"]))
        for split in (dataset.train, dataset.test)
    )
    return train, test


def chosen(labels: np.ndarray, count: int, *, seed: int) -> np.ndarray:
    """Which examples have their label told: as many of each class. With the seed, a larger count adds to a smaller.

    Raises:
      ValueError: if the count is no multiple of the classes, or a class has too few examples.
    """
    rng, classes = np.random.default_rng(seed), np.unique(labels)
    orders = [rng.permutation(np.flatnonzero(labels == label)) for label in classes]
    each, fewest = count // len(classes), min(map(len, orders))
    if count % len(classes) or not 1 <= each <= fewest:
        raise ValueError(f"count must be {len(classes)} equal shares of at most {fewest} examples each, got {count}")
    return np.concatenate([order[:each] for order in orders])


class Encoders(NamedTuple):
    """Encoders of one shape, on the leading axis of their parameters and statistics.

    Attributes:
      encode: ``(params, statistics, x) -> code``
      params: [encoders, ...]
      statistics: [encoders, ...]
    """

    encode: Callable[..., Array]
    params: PyTree
    statistics: PyTree


def trained(path: Path, seeds: int) -> Encoders:
    """Those of a run's replicas."""
    opened = [runs.open_run(path, index=index, which="last") for index in range(seeds)]
    learned = [(run.params, run.statistics) for run in opened]
    return _encoders(opened[0].model, jax.tree.map(lambda *leaves: jnp.stack(leaves), *learned))


def untrained(path: Path, seeds: int) -> Encoders:
    """Those of a run's model before it learned anything, drawn by seeds that the run did not use."""
    model, train = runs.open_run(path).model, splits(runs.open_run(path).config["data"]["name"])[0]
    keys = jnp.stack([jax.random.key(10_000 + seed) for seed in range(seeds)])
    return _encoders(model, jax.vmap(lambda key: model.init(key, {"x": jnp.asarray(train.x[:2])}))(keys))


def _encoders(model: Model, learned: tuple[PyTree, PyTree]) -> Encoders:
    assert model.encode is not None
    return Encoders(model.encode, *learned)


def accuracies(
    encoders: Encoders, train: Labelled, test: Labelled, *, labels: int, steps: int, learning_rate: float
) -> np.ndarray:
    """Share of the test examples that each encoder classifies rightly, after all of it has learned with a new head.

    Adam on the whole of the chosen examples at once, its rate falling to zero along a cosine. Encoder number i has the
    labels and the head of seed i, whatever encoders these are: so two kinds are compared in pairs.
    """
    count = len(jax.tree.leaves(encoders.params)[0])
    index = np.stack([chosen(train.y, labels, seed=seed) for seed in range(count)])
    keys = jnp.stack([jax.random.key(seed) for seed in range(count)])
    classes = len(np.unique(train.y))
    learn = partial(_learn, encoders.encode, nn.Dense(classes), steps)
    return np.asarray(learn(learning_rate, *encoders[1:], keys, Labelled(train.x[index], train.y[index]), test))


@partial(jax.jit, static_argnums=(0, 1, 2))
def _learn(
    encode: Callable[..., Array],
    head: nn.Module,
    steps: int,
    learning_rate: float,
    params: PyTree,
    statistics: PyTree,
    keys: Array,
    told: Labelled,
    test: Labelled,
) -> Array:
    optimizer = optax.adam(optax.cosine_decay_schedule(learning_rate, steps))

    def one(params: PyTree, statistics: PyTree, key: Array, told: Labelled) -> Array:
        def logits(learned: PyTree, x: ArrayLike) -> Array:
            return jnp.asarray(head.apply(learned["head"], encode(learned["encoder"], statistics, x)))

        def step(carry: PyTree, _: None) -> tuple[PyTree, None]:
            learned, state = carry
            gradient = jax.grad(lambda learned: categorical_nll(logits(learned, told.x), told.y).mean())(learned)
            updates, state = optimizer.update(gradient, state)
            return (optax.apply_updates(learned, updates), state), None

        code = encode(params, statistics, told.x[:1])
        learned = {"encoder": params, "head": head.init(key, code)}
        (learned, _), _ = jax.lax.scan(step, (learned, optimizer.init(learned)), length=steps)
        return jnp.mean(logits(learned, test.x).argmax(axis=-1) == test.y)

    return jax.vmap(one)(params, statistics, keys, told)
