"""The stacked autoencoder: layers learned one after the other, then together (Bengio et al., 2007; Vincent et al.,
2010)."""

from collections.abc import Hashable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from jax import Array
from jaxtyping import Float, PyTree

from jaxgen.losses import gaussian_nll
from jaxgen.model import Aux, Batch, Model, Params, example_keys
from jaxgen.models.autoencoder import deterministic
from jaxgen.models.corruption import Corruption, make_corruption
from jaxgen.models.likelihood import LikelihoodName, make_likelihood
from jaxgen.nets import ACTIVATIONS, MLP, Activation

_PLAYER = "autoencoder"


def stacked_autoencoder(
    *,
    shape: tuple[int, ...],
    latents: int = 16,
    hidden: tuple[int, ...] = (256, 128),
    activation: Activation = "tanh",
    likelihood: LikelihoodName = "gaussian",
    pretrain: int = 500,
    corruption: Corruption = "none",
    level: float = 0.25,
) -> Model:
    """Stacked autoencoder: each layer pre-trained on the code of the layers below, then all fine-tuned together.

    Layer l first learns to give back its own input h from its code, ½‖ĥ − h‖² (−log p(x | code) for the lowest), with
    the layers below frozen; after the last, the whole is trained on −log p(x | code).

    Args:
      shape: Shape of one example, taken from the data.
      latents: Dimensions of the code, the highest layer.
      hidden: Widths of the layers below it; the decoder mirrors them.
      activation: Activation between layers; the code is linear.
      likelihood: Distribution of the data given the code; it decides the reconstruction error.
      pretrain: Updates of each layer alone; 0 trains the whole from its random start.
      corruption: Noise on each layer's input while it is learned.
      level: Standard deviation of the Gaussian noise, or share of corrupted entries.

    Returns:
      A model with one player, ``"autoencoder"``.

    Raises:
      ValueError: for numbers out of range.
    """
    if pretrain < 0 or any(width < 1 for width in hidden):
        raise ValueError(f"pretrain must not be negative and hidden widths at least 1, got {pretrain} and {hidden}")
    if activation not in ACTIVATIONS:
        raise ValueError(f"activation must be one of {', '.join(ACTIVATIONS)}, got {activation!r}")
    widths, num_layers, act = (*hidden, latents), len(hidden) + 1, ACTIVATIONS[activation]
    observed, corrupt = make_likelihood(likelihood, shape), make_corruption(corruption, level)
    encoder, decoder = MLP(hidden, (latents,), activation), MLP(tuple(reversed(hidden)), shape, activation)
    whole = deterministic(_PLAYER, latents=latents, encoder=encoder, decoder=decoder, observed=observed)

    def phase_at(updates: Array) -> Array:
        """The layer that is learned; ``num_layers`` while all are."""
        return jnp.minimum(updates // pretrain, num_layers) if pretrain else jnp.full_like(updates, num_layers)

    def dense(params: Params, part: str, index: int, width: int, h: Array) -> Array:
        return jnp.asarray(nn.Dense(width).apply({"params": params[_PLAYER][part]["params"][f"Dense_{index}"]}, h))

    def up(params: Params, layer: int, h: Array) -> Float[Array, "batch width"]:
        h = dense(params, "encoder", layer, widths[layer], h)
        return h if layer == num_layers - 1 else act(h)

    def layer_loss(layer: int):
        def loss(params: Params, statistics: Any, batch: Batch, key: Array) -> Array:
            x = batch["x"].astype(jnp.promote_types(batch["x"].dtype, jnp.float32))
            h = (x if "mask" not in batch else jnp.where(batch["mask"], x, 0)).reshape(len(x), -1)
            for below in range(layer):
                h = up(params, below, h)
            h = jax.lax.stop_gradient(h)
            code = up(params, layer, corrupt(example_keys(key, batch["position"]), h))
            back = dense(params, "decoder", num_layers - 1 - layer, h.shape[-1], code)
            if layer:
                return gaussian_nll(act(back), h).mean()
            nll = observed.nll(
                params[_PLAYER]["likelihood"],
                statistics["likelihood"],
                back.reshape(x.shape),
                x,
                mask=batch.get("mask"),
            )
            return nll.mean()

        return loss

    def init(key: Array, batch: Batch) -> tuple[Params, PyTree]:
        params, statistics = whole.init(key, batch)
        return params, {**statistics, "updates": jnp.zeros((), jnp.int32)}

    def loss(params: Params, statistics: Any, batch: Batch, key: Array, train: bool) -> tuple[Array, Aux]:
        def fine_tuning(params: Params, statistics: Any, batch: Batch, key: Array) -> Array:
            return whole.losses[_PLAYER](params, statistics, batch, key, train)[0]

        phase = phase_at(statistics["updates"]) if train else jnp.asarray(num_layers)
        branches = [*map(layer_loss, range(num_layers)), fine_tuning]
        value = jax.lax.switch(phase, branches, params, statistics, batch, key)
        return value, Aux({"layer": phase + 1.0}, {**statistics, "updates": statistics["updates"] + train})

    def labels(params: PyTree) -> PyTree:
        def label(path: tuple[Any, ...], _: Array) -> str:
            part, name = path[0].key, path[2].key
            index = int(name.rsplit("_", 1)[1])
            return f"layer_{index if part == 'encoder' else num_layers - 1 - index}"

        return jax.tree_util.tree_map_with_path(label, params)

    def optimizers(learning_rate: Any) -> dict[str, optax.GradientTransformation]:
        """Adam for each layer, at rest while another is learned: its moments would go on moving it."""

        def of(layer: int) -> optax.GradientTransformation:
            def active(step: Any, **_: Any) -> Array:
                phase = phase_at(step)
                return (phase == layer) | (phase == num_layers)

            return optax.transforms.conditionally_mask(optax.scale_by_adam(), active)

        layers: dict[Hashable, Any] = {f"layer_{layer}": of(layer) for layer in range(num_layers)}
        return {_PLAYER: optax.chain(optax.partition(layers, labels), optax.scale_by_learning_rate(learning_rate))}

    return whole._replace(init=init, losses={_PLAYER: loss}, optimizers=optimizers)
