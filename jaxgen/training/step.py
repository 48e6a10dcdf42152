"""The compiled path: an update of one player, a round of turns, a loop of rounds."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import PyTree

from jaxgen.model import AXIS, Batch, Model, example_keys
from jaxgen.training.devices import mean_over_devices
from jaxgen.training.state import State

#: ``(keys [batch], raw batch) -> batch``: scaling, binarization and dequantization, inside the compiled step.
Prepare = Callable[[Array, Mapping[str, Array]], Batch]


def update(
    model: Model,
    optimizer: optax.GradientTransformation,
    player: str,
    state: State,
    batch: Batch,
    key: Array,
    *,
    measure: ArrayLike = True,
) -> tuple[State, dict[str, Array]]:
    """One gradient step of one player; the others' parameters are constants to it.

    Args:
      measure: whether the norm of the gradient is wanted. Reading every gradient once more costs a small model a tenth
        of its step.

    Returns:
      The next state, and the loss's terms with ``grad_norm`` (−1 where it was not measured) and, for each player,
      ``finite/player``: 0 where its parameters were broken before a loss that is not finite, else 1.
    """

    def loss_fn(own: PyTree):
        params = {**state.params, player: own}
        return model.losses[player](params, state.statistics, batch, key, True)

    (loss, aux), grads = jax.value_and_grad(loss_fn, has_aux=True)(state.params[player])
    grads, metrics = mean_over_devices((grads, {"loss": loss, **aux.metrics}))
    # With several seeds both branches run, since the loss is a vector: each reads its parameters once more a step.
    finite = jax.lax.cond(
        jnp.isfinite(metrics["loss"]),
        lambda params: dict.fromkeys(params, jnp.ones(())),
        lambda params: {name: _all_finite(own).astype(jnp.float32) for name, own in params.items()},
        state.params,
    )
    norm = jax.lax.cond(measure, optax.tree.norm, lambda grads: -jnp.ones_like(optax.tree.norm(grads)), grads)
    updates, opt_state = optimizer.update(grads, state.opt_state[player], state.params[player])
    state = state._replace(
        params={**state.params, player: optax.apply_updates(state.params[player], updates)},
        opt_state={**state.opt_state, player: opt_state},
        statistics=aux.statistics,
    )
    return state, {**metrics, "grad_norm": norm, **{f"finite/{name}": value for name, value in finite.items()}}


def _all_finite(tree: PyTree) -> Array:
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree)] or [jnp.array(True)]))


def play_round(
    model: Model,
    optimizers: Mapping[str, Any],
    prepare: Prepare,
    state: State,
    raw: Mapping[str, Array],
    *,
    measure: ArrayLike = True,
) -> tuple[State, dict[str, Array]]:
    """One round: every player takes its turns, each with a fresh batch and fresh noise.

    Args:
      raw: arrays [updates, batch, ...] of this device, with ``position`` in the global batch.
      measure: whether gradient norms are wanted.

    Returns:
      The next state, and ``{"player/metric": scalar}``, the mean over the player's turns.
    """
    round_key = jax.random.fold_in(jax.random.wrap_key_data(state.key), state.step)
    metrics: dict[str, Array] = {}
    done = 0
    for player, turns in model.turns.items():

        def turn(state, inputs, player=player):
            index, raw_batch = inputs
            prepare_key, loss_key = jax.random.split(jax.random.fold_in(round_key, index))
            batch = prepare(example_keys(prepare_key, raw_batch["position"]), raw_batch)
            return update(model, optimizers[player], player, state, batch, loss_key, measure=measure)

        indices = done + jnp.arange(turns)
        batches = {name: a[done : done + turns] for name, a in raw.items()}
        if turns == 1:
            state, terms = turn(state, jax.tree.map(lambda a: a[0], (indices, batches)))
        else:
            state, terms = jax.lax.scan(turn, state, (indices, batches))
            terms = jax.tree.map(lambda a: a.mean(axis=0), terms)
        metrics |= {f"{player}/{name}": value for name, value in terms.items()}
        done += turns
    return state._replace(step=state.step + 1), metrics


def pick(pieces: Sequence[Mapping[str, Array]], index: ArrayLike, limit: ArrayLike) -> dict[str, Array]:
    """Round ``index`` of the first ``limit``, which lie in order in one piece or in those that ``limit`` names.

    Several pieces are of …, 4, 2, 1 rounds, and those of the binary digits of ``limit`` hold the rounds. The highest
    digit in which index < limit differ is the round's piece, the digits below it are its row there.
    """
    if len(pieces) == 1:
        return {name: a[index] for name, a in pieces[0].items()}
    digit = 31 - jax.lax.clz(jnp.int32(index) ^ jnp.int32(limit))
    row = index & ((1 << digit) - 1)
    branches = [lambda row, piece=piece: {name: a[row] for name, a in piece.items()} for piece in reversed(pieces)]
    return jax.lax.switch(digit, branches, row)


def make_rounds(
    model: Model, optimizers: Mapping[str, Any], prepare: Prepare, *, measure_every: int = 1
) -> Callable[..., Any]:
    """The function that the trainer compiles once: up to ``length`` rounds, of which the first ``limit`` are played.

    ``limit`` is an argument and not a shape, so that the rest before a log point, an evaluation or the end is no
    second trace.

    Args:
      measure_every: rounds between two measured gradient norms; that of the last round is always measured, so that
        nothing broken is handed back unseen.

    Returns:
      ``(state, data, feed, start, limit) -> (state, {"player/metric": [length]})``. Each piece of ``feed`` (see
      ``pick``) holds either ``index`` [rounds, updates, batch] into ``data``, which lies on the device, or the
      examples. ``start`` is ``state.step``, but one for all replicas: what depends on it stays a condition under a
      ``vmap`` over states, and is not computed whether it holds or not.
    """

    def gather(data: Mapping[str, Array], inputs: Mapping[str, Array]) -> dict[str, Array]:
        if "index" not in inputs:
            return dict(inputs)
        return {name: a[inputs["index"]] for name, a in data.items()}

    def rounds(
        state: State, data: Mapping[str, Array], feed: Sequence[Mapping[str, Array]], start: Array, limit: Array
    ) -> tuple[State, dict[str, Array]]:
        firsts = [next(iter(piece.values())) for piece in feed]
        length, (updates, batch_size) = sum(len(a) for a in firsts), firsts[0].shape[1:3]
        position = jax.lax.axis_index(AXIS) * batch_size + jnp.arange(batch_size)
        position = jnp.broadcast_to(position, (updates, batch_size))

        # Jitted so that its shapes and its operations come out of one trace.
        @jax.jit
        def play(state: State, data: Mapping[str, Array], position: Array, inputs: Mapping[str, Array], measure: Array):
            raw = {**gather(data, inputs), "position": position}
            return play_round(model, optimizers, prepare, state, raw, measure=measure)

        def body(index: Array, carry: tuple[State, dict[str, Array]]):
            state, kept = carry
            measure = (index + 1 == limit) | ((start + index + 1) % measure_every == 0)
            state, metrics = play(state, data, position, pick(feed, index, limit), measure)
            return state, {name: kept[name].at[index].set(value) for name, value in metrics.items()}

        shapes = jax.eval_shape(play, state, data, position, pick(feed, 0, limit), limit == 0)[1]
        kept = {name: jnp.zeros((length, *s.shape), s.dtype) for name, s in shapes.items()}
        # Not a scan: one with a condition on ``limit`` copies the state in every round that it skips.
        return jax.lax.fori_loop(0, limit, body, (state, kept))

    return rounds
