"""The stacked autoencoder: layers learned one after the other, then together (Bengio et al., 2007; Vincent et al.,
2010)."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jaxtyping import PyTree

from jaxgen.losses import gaussian_nll
from jaxgen.model import Aux, Batch, Model, Params, example_keys
from jaxgen.models.autoencoder import deterministic
from jaxgen.models.corruption import Corruption, make_corruption
from jaxgen.models.likelihood import Likelihood, LikelihoodName, make_likelihood
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

    Layer l first learns to give back its own input h from its code, −log N(h; ĥ, I) = ½‖ĥ − h‖² and a constant
    (−log p(x | code) for the lowest), with the layers below frozen; after the last, the whole is trained on
    −log p(x | code). The loss in training is that of the layer that is learned, the nll in evaluation that of the whole
    stack. It says little before the whole is trained, so that with pre-training the last checkpoint is kept, not the
    best.

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
    observed = make_likelihood(likelihood, shape)
    encoder, decoder = MLP(hidden, (latents,), activation), MLP(tuple(reversed(hidden)), shape, activation)
    whole = deterministic(
        _PLAYER,
        latents=latents,
        encoder=encoder,
        decoder=decoder,
        observed=observed,
    )
    stack = _Stack(whole, encoder, decoder, observed, pretrain, make_corruption(corruption, level))
    return whole._replace(
        init=stack.init,
        losses={_PLAYER: stack.loss},
        evaluate=stack.evaluate,
        optimizers=stack.optimizers,
        objective=None if pretrain else "nll",
    )


@dataclass(frozen=True)
class _Stack:
    """An autoencoder whose layers are learned one after the other.

    Attributes:
      whole: the autoencoder of all layers.
      encoder: its layers, the last of which gives the code.
      decoder: as many, which mirror them.
      observed: −log p(x | outputs).
      pretrain: updates of each layer alone.
      corrupt: ``(keys, h) -> h``, noise on the input of the layer that is learned.
    """

    whole: Model
    encoder: MLP
    decoder: MLP
    observed: Likelihood
    pretrain: int
    corrupt: Callable[[Array, Array], Array]

    @property
    def num_layers(self) -> int:
        return self.encoder.num_layers

    def init(self, key: Array, batch: Batch) -> tuple[Params, PyTree]:
        params, statistics = self.whole.init(key, batch)
        return params, {**statistics, "updates": jnp.zeros((), jnp.int32)}

    def phase_at(self, updates: Array) -> Array:
        """The layer that is learned; ``num_layers`` while all are."""
        if not self.pretrain:
            return jnp.full_like(updates, self.num_layers)
        return jnp.minimum(updates // self.pretrain, self.num_layers)

    def through(self, params: Params, part: str, layers: slice, h: Array) -> Array:
        """What some layers of the encoder or the decoder make of their input."""
        network = self.encoder if part == "encoder" else self.decoder
        return jnp.asarray(network.apply(params[_PLAYER][part], h, layers=layers))

    def layer_loss(self, layer: int, params: Params, statistics: Any, batch: Batch, key: Array) -> Array:
        """−log N(h; ĥ, I) of one layer's input h, or −log p(x | code) of the lowest one."""
        x, mask = batch["x"].astype(jnp.promote_types(batch["x"].dtype, jnp.float32)), batch.get("mask")
        h = x if mask is None else jnp.where(mask, x, 0)
        h = jax.lax.stop_gradient(self.through(params, "encoder", slice(layer), h))
        noisy = self.corrupt(example_keys(key, batch["position"]), h)
        code = self.through(params, "encoder", slice(layer, layer + 1), noisy)
        mirrored = self.num_layers - 1 - layer
        back = self.through(params, "decoder", slice(mirrored, mirrored + 1), code)
        if layer:
            return gaussian_nll(back, h).mean()
        likelihood, in_use = params[_PLAYER]["likelihood"], statistics["likelihood"]
        return self.observed.nll(likelihood, in_use, back, x, mask=mask).mean()

    def loss(self, params: Params, statistics: Any, batch: Batch, key: Array, train: bool) -> tuple[Array, Aux]:
        def fine_tuning(params: Params, statistics: Any, batch: Batch, key: Array) -> Array:
            return self.whole.losses[_PLAYER](params, statistics, batch, key, train)[0]

        phase = self.phase_at(statistics["updates"]) if train else jnp.asarray(self.num_layers)
        branches = [*(partial(self.layer_loss, layer) for layer in range(self.num_layers)), fine_tuning]
        # One branch alone is computed; of replicas side by side, whose counts are a vector, every branch is.
        value = jax.lax.switch(phase, branches, params, statistics, batch, key)
        return value, Aux({"layer": phase + 1.0}, {**statistics, "updates": statistics["updates"] + train})

    def evaluate(self, params: Params, statistics: Any, batch: Batch, key: Array) -> dict[str, Array]:
        """Of the whole stack; its nll is no loss of a layer, and is not called so."""
        values = self.whole.evaluate(params, statistics, batch, key)
        return {name: value for name, value in values.items() if name != "loss"}

    def layer_of(self, path: tuple[Any, ...], _: Array) -> str:
        part, name = path[0].key, path[2].key
        index = int(name.rsplit("_", 1)[1])
        return f"layer_{index if part == 'encoder' else self.num_layers - 1 - index}"

    def optimizers(self, learning_rate: Any) -> dict[str, optax.GradientTransformation]:
        """Adam for each layer, at rest while another is learned: its moments would go on moving it."""

        def of(layer: int) -> optax.GradientTransformation:
            def active(step: Any, **_: Any) -> Array:
                phase = self.phase_at(step)
                return (phase == layer) | (phase == self.num_layers)

            return optax.transforms.conditionally_mask(optax.scale_by_adam(), active)

        layers: dict[Hashable, Any] = {f"layer_{layer}": of(layer) for layer in range(self.num_layers)}
        labels = partial(jax.tree_util.tree_map_with_path, self.layer_of)
        return {_PLAYER: optax.chain(optax.partition(layers, labels), optax.scale_by_learning_rate(learning_rate))}
