"""The contract: a model is a NamedTuple of pure functions, training is a game of players who take turns."""

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import jax
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Int, Key, PyTree

#: Name of the mapped device axis inside the trainer's compiled step.
AXIS = "devices"

#: What a likelihood allows: any real number, the interval [0, 1], {0, 1} (with [0, 1] tolerated and warned of), or
#: codes, which are whole numbers from 0 on.
Domain = Literal["real", "unit", "binary", "codes"]

#: ``x`` in network units, ``position`` of each example in the global batch; where the data has one, ``label``,
#: ``condition``, and ``mask``, which is True where ``x`` was observed.
Batch = Mapping[str, Array]
Params = dict[str, PyTree]


class Aux(NamedTuple):
    """What a loss hands back besides its value.

    Attributes:
      metrics: scalars to log, already means over the (local) batch; the trainer averages them over devices.
      statistics: running estimates after this loss, learned without a gradient (EMA codebook, batch statistics,
        a count of updates). They must leave a loss equal on all devices: combine them with ``over_devices``.
    """

    metrics: dict[str, Array]
    statistics: PyTree


class Condition(NamedTuple):
    """What a conditional model is told besides the example.

    Attributes:
      name: of the array in a batch: ``label``, or ``condition`` for any vector.
      size: number of classes, or width of the vector.
      classes: whether it is one of ``size`` classes.
    """

    name: str
    size: int
    classes: bool


class Codes(NamedTuple):
    """What the whole numbers of a discrete code are.

    Attributes:
      size: how many of them there are, from 0 on.
      shared: whether they are entries of one codebook wherever they stand, or each latent has classes of its own.
      grids: height and width of the grids that the codes of one example fill row by row, coarse first; empty where
        they lie on none.
      stages: codes of one place, side by side, each of a codebook of its own; those of all are numbered through.
    """

    size: int
    shared: bool = True
    grids: tuple[tuple[int, int], ...] = ()
    stages: int = 1


class Model(NamedTuple):
    """Pure functions over pytrees; what a model cannot do is ``None``.

    Attributes:
      init: ``(key, batch) -> (params, statistics)`` with ``params = {player: pytree}``.
      losses: ``{player: (params, statistics, batch, key, train) -> (scalar, Aux)}``. A loss sees every player's
        parameters and is differentiated in its own only.
      turns: ``{player: updates per round}``, played in this order; each update draws a fresh batch.
      evaluate: ``(params, statistics, batch, key) -> {metric: [batch, ...]}``, per example, so that means over a
        split are exact.
      summarize: ``{metric: mean over the split} -> {figure: value}``: what follows from means alone, such as active
        units from two moments or the perplexity from code frequencies. Array-valued means that only serve it are
        dropped by leaving them out of what it returns.
      encode: ``(params, statistics, x) -> latent``, deterministic (the mean, the code indices).
      decode: ``(params, statistics, latent) -> x``.
      sample: ``(params, statistics, key, n) -> x``.
      reconstruct: ``(params, statistics, x) -> x``.
      posterior: ``(params, statistics, x) -> (mean, logvar)`` where it is Gaussian.
      impute: ``(params, statistics, x, key, n, *, method, draws, noise) -> [n, batch, *shape]``: several completions of
        what is NaN in ``x``, from as many ``draws`` or turns of the ``method``, "importance" or "gibbs"; with ``noise``
        values are drawn, without it they are the decoder's means. The three have defaults. ``key`` may be one for each
        example, [batch]: what is drawn for an example depends on its own alone.
      corrupt: ``(key, x) -> x``: what a denoising model is shown, so that pictures can show it too.
      optimizers: ``learning_rate -> {player: optax.GradientTransformation}``; ``None`` is Adam for every player.
      objective: the evaluated figure that the best checkpoint minimizes, in the mean over replicas; ``None`` keeps the
        last alone.
      domain: what the observations may be.
      latents: dimensions of a continuous latent vector, ``None`` where there is none.
      codes: what the numbers of a discrete code are, ``None`` where codes are none.
      condition: what the six functions above are given as ``condition=``, ``None`` for nothing.
      together: examples that a loss judges as one; they must divide the batch of a device.
      missing: whether examples may be partly observed: ``mask`` in a batch, NaN in ``x`` of the functions above.
    """

    init: Callable[..., tuple[Params, PyTree]]
    losses: Mapping[str, Callable[..., tuple[Array, Aux]]]
    turns: Mapping[str, int]
    evaluate: Callable[..., dict[str, Array]]
    summarize: Callable[[dict[str, Any]], dict[str, Any]] | None = None
    encode: Callable[..., Array] | None = None
    decode: Callable[..., Array] | None = None
    sample: Callable[..., Array] | None = None
    reconstruct: Callable[..., Array] | None = None
    posterior: Callable[..., tuple[Array, Array]] | None = None
    impute: Callable[..., Array] | None = None
    corrupt: Callable[..., Array] | None = None
    optimizers: Callable[..., Mapping[str, Any]] | None = None
    objective: str | None = "loss"
    domain: Domain = "real"
    latents: int | None = None
    codes: Codes | None = None
    condition: Condition | None = None
    together: int = 1
    missing: bool = False


def check_players(model: Model, **others: Mapping[str, Any]) -> None:
    """Checks that losses, turns and every other table (parameters, optimizers) name the same players.

    Raises:
      ValueError: naming the table and the difference, or a player whose turns are not a positive integer.
    """
    players = set(model.losses)
    for name, table in {"turns": model.turns, **others}.items():
        if set(table) != players:
            missing, extra = sorted(players - set(table)), sorted(set(table) - players)
            raise ValueError(
                f"the players of `losses` are {sorted(players)}, but `{name}` lacks {missing} and adds {extra}; "
                f"give both the same names"
            )
    for player, count in model.turns.items():
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            raise ValueError(f"`turns` of player {player!r} must be an integer of at least 1, got {count!r}")


def device_axis() -> str | None:
    """The device axis while a loss is traced for several devices, ``None`` anywhere else: one has nobody to ask.

    Pass it on as ``axis_name`` to whatever sums over the whole batch: the EMA codebook, batch normalization.
    """
    try:
        return AXIS if jax.lax.axis_size(AXIS) > 1 else None
    except NameError:
        return None


def over_devices(collective: Callable[[PyTree, str], PyTree], tree: PyTree) -> PyTree:
    """``collective(tree, AXIS)`` over several devices, such as ``jax.lax.psum``; the tree itself on one.

    >>> over_devices(jax.lax.psum, 3.0)
    3.0
    """
    axis = device_axis()
    return tree if axis is None else collective(tree, axis)


def example_keys(key: Key[Array, ""], position: Int[ArrayLike, " batch"]) -> Key[Array, " batch"]:
    """One key for each example, from its position in the global batch: the number of devices changes no result.

    Args:
      key: the key of this update.
      position: position of each example in the global batch (``batch["position"]``).

    Returns:
      Keys to be used under ``jax.vmap``, one draw each.

    >>> keys = example_keys(jax.random.key(0), jax.numpy.arange(3))
    >>> jax.vmap(jax.random.normal)(keys).shape
    (3,)
    """
    return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, position)
