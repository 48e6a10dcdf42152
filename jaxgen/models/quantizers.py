"""What stands between the encoder and the decoder of a VQ-VAE: encodings in, codes out, each with its own gradient."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike
from jaxtyping import Float, Int, Num, PyTree

from jaxgen.estimators import gumbel_argmax, gumbel_softmax, straight_through
from jaxgen.losses import codebook_loss, commitment_loss, kl_categorical_uniform
from jaxgen.model import device_axis, example_keys, over_devices
from jaxgen.quantization import (
    EmaCodebook,
    code_counts,
    codebook_from_ema,
    ema_codebook_update,
    finite_scalar_codes,
    finite_scalar_indices,
    finite_scalar_quantize,
    init_ema_codebook,
    lookup,
    nearest_code,
    residual_lookup,
    residual_nearest_codes,
    revive_dead_codes,
)


class Quantized(NamedTuple):
    """A batch of encodings, quantized.

    Attributes:
      codes: what the decoder takes; the gradient finds its way back to the encodings.
      index: of the codes.
      penalty: [batch], what the quantizer adds to the loss, in squared units of the encodings.
      terms: {name: [batch]} that the penalty is made of, unweighted; and ``kl``, what a drawn code costs in nats.
      statistics: after this batch.
    """

    codes: Float[Array, "batch h w dim"]
    index: Int[Array, "batch h w *stages"]
    penalty: Float[Array, " batch"]
    terms: dict[str, Array]
    statistics: PyTree


class Quantizer(NamedTuple):
    """Pure functions around a codebook; codes are float32 at least, whatever the encodings are.

    Attributes:
      outputs: channels that the encoder puts out.
      dim: channels that the decoder takes.
      num_codes: K, of each index.
      stages: trailing axes of an index: ``()``, or ``(stages,)`` where a place has several.
      init: ``key -> (params, statistics)``.
      quantize: ``(params, statistics, encodings, key, position, train) -> Quantized``; ``position`` of each example in
        the global batch, for noise of its own.
      encode: ``(params, statistics, encodings) -> index``, deterministic.
      lookup: ``(params, statistics, index) -> codes``.
      grids: of several levels, coarse first, each with a codebook of its own; an index is then [batch, places of all].
      drawn: whether a code is drawn and costs the ``kl`` of the terms, instead of log ``num_codes`` whatever it is.
    """

    outputs: int
    dim: int
    num_codes: int
    stages: tuple[int, ...]
    init: Callable[[Array], tuple[PyTree, PyTree]]
    quantize: Callable[..., Quantized]
    encode: Callable[..., Int[Array, "batch h w *stages"]]
    lookup: Callable[..., Float[Array, "batch h w dim"]]
    grids: tuple[tuple[int, int], ...] = ()
    drawn: bool = False


def ema_quantizer(
    num_codes: int,
    dim: int,
    *,
    commitment: float,
    decay: float,
    revival: float,
    through: Callable[[Array, Array], Array] = straight_through,
) -> Quantizer:
    """The nearest code of a codebook of running means (van den Oord et al., 2017, appendix A.1).

    Args:
      num_codes: entries of the codebook.
      dim: of each.
      commitment: weight of ‖z − sg(e)‖².
      decay: of the running means.
      revival: codes whose running count falls below this many vectors are put among the encodings; 0 never.
      through: ``(encodings, codes) -> codes``: how the gradient gets past the codes.
    """

    def init(key: Array) -> tuple[PyTree, PyTree]:
        return {}, _dead(init_ema_codebook(jax.random.normal(key, (num_codes, dim))), revival)

    def quantize(_p: Any, state: Any, encodings: Array, key: Array, position: Array, train: bool) -> Quantized:
        codes, index, state = _ema_step(key, state, encodings, decay=decay, revival=revival, train=train)
        committed = commitment_loss(encodings, codes)
        return Quantized(through(encodings, codes), index, commitment * committed, {"commitment": committed}, state)

    return Quantizer(
        outputs=dim,
        dim=dim,
        num_codes=num_codes,
        stages=(),
        init=init,
        quantize=quantize,
        encode=lambda _p, state, encodings: nearest_code(encodings, codebook_from_ema(state)),
        lookup=lambda _p, state, index: lookup(codebook_from_ema(state), index),
    )


def residual_quantizer(
    num_codes: int, dim: int, *, stages: int, commitment: float, decay: float, revival: float
) -> Quantizer:
    """The sum of one code of each stage, which quantizes what those before left over (Lee et al., 2022).

    Args:
      num_codes: entries of each stage's codebook of running means.
      dim: of each.
      stages: number of codebooks.
      commitment: weight of ‖z − sg(Σ e)‖².
      decay: of the running means.
      revival: as of ``ema_quantizer``, in each stage.
    """

    def init(key: Array) -> tuple[PyTree, PyTree]:
        # Later stages have less left over: were they as wide, they would only add to it.
        codebooks = [jax.random.normal(k, (num_codes, dim)) / 2**s for s, k in enumerate(jax.random.split(key, stages))]
        states = [_dead(init_ema_codebook(codebook), revival) for codebook in codebooks]
        return {}, jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)

    def quantize(_p: Any, states: Any, encodings: Array, key: Array, position: Array, train: bool) -> Quantized:
        wide = lax.stop_gradient(encodings.astype(jnp.promote_types(encodings.dtype, jnp.float32)))
        total, indices, after = jnp.zeros_like(wide), [], []
        for stage, stage_key in enumerate(jax.random.split(key, stages)):
            state = jax.tree.map(lambda leaf, stage=stage: leaf[stage], states)
            codes, index, state = _ema_step(stage_key, state, wide - total, decay=decay, revival=revival, train=train)
            total = total + codes
            indices.append(index)
            after.append(state)
        committed = commitment_loss(encodings, total)
        return Quantized(
            codes=straight_through(encodings, total),
            index=jnp.stack(indices, axis=-1),
            penalty=commitment * committed,
            terms={"commitment": committed},
            statistics=jax.tree.map(lambda *leaves: jnp.stack(leaves), *after),
        )

    return Quantizer(
        outputs=dim,
        dim=dim,
        num_codes=num_codes,
        stages=(stages,),
        init=init,
        quantize=quantize,
        encode=lambda _p, states, encodings: residual_nearest_codes(encodings, jax.vmap(codebook_from_ema)(states)),
        lookup=lambda _p, states, index: residual_lookup(jax.vmap(codebook_from_ema)(states), index),
    )


def gradient_quantizer(num_codes: int, dim: int, *, commitment: float, decay: float, revival: float) -> Quantizer:
    """The nearest code of a codebook that descends ‖sg(z) − e‖² (van den Oord et al., 2017, equation 3).

    Args:
      num_codes: entries of the codebook.
      dim: of each.
      commitment: weight of ‖z − sg(e)‖².
      decay: of the running counts, by which dead codes are known.
      revival: as of ``ema_quantizer``.
    """

    def init(key: Array) -> tuple[PyTree, PyTree]:
        return init_placed_codes(key, num_codes, dim, revival=revival)

    def quantize(params: Any, state: Any, encodings: Array, key: Array, position: Array, train: bool) -> Quantized:
        if train and revival:
            state = place_dead_codes(key, state, params, encodings, threshold=revival)
        codebook = placed_codes(params, state)
        index = nearest_code(encodings, codebook)
        codes = lookup(codebook, index)
        if train:
            state = count_codes(state, code_counts(index, num_codes), decay=decay)
        learned, committed = codebook_loss(encodings, codes), commitment_loss(encodings, codes)
        return Quantized(
            codes=straight_through(encodings, codes),
            index=index,
            penalty=learned + commitment * committed,
            terms={"codebook": learned, "commitment": committed},
            statistics=state,
        )

    return Quantizer(
        outputs=dim,
        dim=dim,
        num_codes=num_codes,
        stages=(),
        init=init,
        quantize=quantize,
        encode=lambda params, state, encodings: nearest_code(encodings, placed_codes(params, state)),
        lookup=lambda params, state, index: lookup(placed_codes(params, state), index),
    )


def finite_scalar_quantizer(levels: Sequence[int]) -> Quantizer:
    """Each channel rounded to its levels: no codebook, no term of the loss (Mentzer et al., 2023)."""
    levels = tuple(levels)

    def round_to_levels(encodings: Array) -> tuple[Array, Array]:
        codes = finite_scalar_quantize(encodings.astype(jnp.promote_types(encodings.dtype, jnp.float32)), levels=levels)
        return codes, finite_scalar_indices(lax.stop_gradient(codes), levels=levels)

    def quantize(_p: Any, _s: Any, encodings: Array, key: Array, position: Array, train: bool) -> Quantized:
        codes, index = round_to_levels(encodings)
        return Quantized(codes, index, jnp.zeros(len(codes), codes.dtype), {}, {})

    return Quantizer(
        outputs=len(levels),
        dim=len(levels),
        num_codes=math.prod(levels),
        stages=(),
        init=lambda _key: ({}, {}),
        quantize=quantize,
        encode=lambda _p, _s, encodings: round_to_levels(encodings)[1],
        lookup=lambda _p, _s, index: finite_scalar_codes(index, levels=levels),
    )


def gumbel_quantizer(num_codes: int, dim: int, *, temperature: float) -> Quantizer:
    """A code drawn from the encoder's logits, with the gradient of the relaxed draw (Jang et al., 2017).

    Args:
      num_codes: entries of the codebook, which is learned by the decoder's gradient.
      dim: of each.
      temperature: of the relaxation; draws themselves are exact.
    """

    def init(key: Array) -> tuple[PyTree, PyTree]:
        return {"codes": jax.random.normal(key, (num_codes, dim))}, {}

    def quantize(params: Any, _s: Any, logits: Array, key: Array, position: Array, train: bool) -> Quantized:
        logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
        keys = example_keys(key, position)
        if train:
            draw = jax.vmap(lambda key, row: gumbel_softmax(key, row, temperature=temperature, hard=True))(keys, logits)
            index = jnp.argmax(draw, axis=-1)
            codes = jnp.matmul(draw, params["codes"], precision=lax.Precision.HIGHEST)
        else:
            index = jax.vmap(gumbel_argmax)(keys, logits)
            codes = lookup(params["codes"], index)
        kl = kl_categorical_uniform(logits.reshape(len(logits), -1, num_codes))
        return Quantized(codes, index.astype(jnp.int32), jnp.zeros_like(kl), {"kl": kl}, {})

    return Quantizer(
        outputs=num_codes,
        dim=dim,
        num_codes=num_codes,
        stages=(),
        init=init,
        quantize=quantize,
        encode=lambda _p, _s, logits: jnp.argmax(logits, axis=-1).astype(jnp.int32),
        lookup=lambda params, _s, index: lookup(params["codes"], index),
        drawn=True,
    )


class Placement(NamedTuple):
    """Where codes that are learned by gradient were put, without a gradient, and how often each is used.

    A code is its parameter and its offset together: moving the offset, a loss revives a code whose parameter only the
    optimizer may change.
    """

    counts: Float[Array, " codes"]
    offset: Float[Array, "codes dim"]


def init_placed_codes(key: Array, num_codes: int, dim: int, *, revival: float) -> tuple[PyTree, Placement]:
    """Parameters and placement; with ``revival``, every code is dead until the first batch."""
    counts = jnp.full(num_codes, revival / 2 if revival else 1.0)
    return {"codes": jax.random.normal(key, (num_codes, dim))}, Placement(counts, jnp.zeros((num_codes, dim)))


def placed_codes(params: Any, state: Any) -> Float[Array, "codes dim"]:
    """The codebook."""
    return jnp.asarray(params["codes"]) + lax.stop_gradient(state.offset)


def place_dead_codes(key: Array, state: Any, params: Any, vectors: Array, *, threshold: float) -> Placement:
    """Codes used less than the threshold, put beside vectors of the batch; the others stay, to the bit."""
    dead, own = state.counts < threshold, lax.stop_gradient(jnp.asarray(params["codes"]))
    ema = EmaCodebook(state.counts, state.counts[:, None] * (own + state.offset))
    ema = revive_dead_codes(key, ema, vectors, threshold=threshold, axis_name=device_axis())
    return Placement(ema.counts, jnp.where(dead[:, None], codebook_from_ema(ema) - own, state.offset))


def count_codes(state: Placement, counts: Num[ArrayLike, " codes"], *, decay: float) -> Placement:
    """Running counts after one more batch, of which ``counts`` are this device's."""
    counts = over_devices(lax.psum, lax.stop_gradient(jnp.asarray(counts, state.counts.dtype)))
    return state._replace(counts=decay * state.counts + (1 - decay) * counts)


def _dead(state: EmaCodebook, revival: float) -> EmaCodebook:
    """Counted as dead, every code starts beside an encoding of the first batch."""
    return jax.tree.map(lambda a: revival / 2 * a, state) if revival else state


def _ema_step(
    key: Array, state: Any, encodings: Array, *, decay: float, revival: float, train: bool
) -> tuple[Array, Array, EmaCodebook]:
    """Codes, their indices, and the codebook after this batch, which was quantized with the old one."""
    axis = device_axis()
    if train and revival:
        state = revive_dead_codes(key, state, encodings, threshold=revival, axis_name=axis)
    codebook = codebook_from_ema(state)
    index = nearest_code(encodings, codebook)
    if train:
        state = ema_codebook_update(state, encodings, index, decay=decay, axis_name=axis)
    return lookup(codebook, index), index, state
