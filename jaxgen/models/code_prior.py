"""A prior over the codes of a quantizer: an autoregressor on their grid (van den Oord et al., 2016 and 2017)."""

import math
from dataclasses import dataclass
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Float, Int, PyTree

from jaxgen.losses import categorical_nll
from jaxgen.model import Aux, Batch, Condition, Model, Params
from jaxgen.models.condition import condition_of
from jaxgen.nets import CausalTransformer, GatedPixelCNN, sample_pixelcnn, sample_transformer

_PLAYER = "code_prior"
PriorNetwork = Literal["transformer", "pixelcnn"]


def code_prior(
    *,
    shape: tuple[int, ...],
    codebook_size: int,
    grids: tuple[tuple[int, int], ...],
    per_place: int = 1,
    num_classes: int | None = None,
    network: PriorNetwork = "transformer",
    condition: Literal["none", "label"] = "none",
    features: int = 64,
    layers: int = 4,
    kernel: int = 5,
    heads: int = 4,
) -> Model:
    """Learned prior over codes, such as those of a VQ-VAE: each code from the ones before it, row by row.

    The loss is −log p(codes) in nats an example, Σ of −log p(code | codes before it); divided by log 2 it is the size
    in bits to which the codes can be compressed. Two grids are p(top) p(bottom | top): the transformer reads both as
    one row, the PixelCNN is two, of which the second is shown the top grid.

    Args:
      shape: Shape of one example's codes, taken from the data.
      codebook_size: Number of codes, taken from the data.
      grids: Height and width of each grid that the codes fill, coarse first, taken from the data.
      per_place: Codes of each place, side by side and each of its own codebook, taken from the data.
      num_classes: Number of labels, taken from the data.
      network: Causal transformer, which keeps what it has computed while it draws a sample, or gated PixelCNN, which
        does not.
      condition: Whether the network is told the example's label.
      features: Width of the network.
      layers: Number of its layers.
      kernel: Size of the PixelCNN's convolutions, odd. A code sees layers · (kernel − 1)/2 places far: with 4 layers of
        5, all of a grid of 9×9, and of 14×14 no more than 8 rows and columns around it.
      heads: Of the transformer's attention; they divide the features.

    Returns:
      A model with one player, ``"code_prior"``, whose examples are codes.

    Raises:
      ValueError: for numbers out of range, grids that are not of the examples' size, or data without labels to tell.
    """
    grids = tuple((int(height), int(width)) for height, width in grids)
    if network not in get_args(PriorNetwork):
        raise ValueError(f"network must be transformer or pixelcnn, got {network!r}")
    if network == "transformer" and (heads < 1 or features % heads):
        raise ValueError(f"heads must divide the features, got {heads} for {features}")
    if network == "pixelcnn" and (kernel < 3 or kernel % 2 == 0):
        raise ValueError(f"kernel must be odd and at least 3, got {kernel}")
    if features < 1 or layers < 1:
        raise ValueError(f"features and layers must be at least 1, got {features} and {layers}")
    if condition == "label" and not num_classes:
        raise ValueError("the data has no labels to condition on; encode data with labels, or leave --condition out")
    if condition not in ("none", "label"):
        raise ValueError(f"condition must be none or label, got {condition!r}")
    books = len(grids) * per_place
    fit = sum(map(math.prod, grids)) == math.prod(shape) and all(width % per_place == 0 for _, width in grids)
    if codebook_size < 1 or codebook_size % books or not fit:
        raise ValueError(
            f"{codebook_size} codes on grids {grids} do not fit examples of shape {tuple(shape)}; learn codes that "
            f"'jaxgen encode' wrote"
        )
    told = None if condition == "none" else condition_of("label", num_classes, None)
    classes = told.size if told else 0
    if network == "transformer":
        grid = grids[0] if len(grids) == 1 else (1, math.prod(shape))
        places = [(level, place) for level, each in enumerate(grids) for place in range(math.prod(each))]
        own = tuple(level * per_place + place % per_place for level, place in places) if books > 1 else ()
        level = CausalTransformer(codebook_size, grid, features, heads, layers, classes, codebooks=own)
        parts = _Parts(tuple(shape), (grid,), codebook_size, (level,), told)
    else:
        size = codebook_size // len(grids)
        levels = []
        for number, grid in enumerate(grids):
            own = tuple(place % per_place for place in range(math.prod(grid))) if per_place > 1 else ()
            coarse = size if number else 0
            levels.append(GatedPixelCNN(size, features, layers, kernel, classes, coarse_codes=coarse, codebooks=own))
        levels = tuple(levels)
        parts = _Parts(tuple(shape), grids, size, levels, told)
    return Model(
        init=parts.init,
        losses={_PLAYER: parts.loss},
        turns={_PLAYER: 1},
        evaluate=parts.evaluate,
        sample=parts.sample,
        domain="codes",
        condition=told,
    )


@dataclass(frozen=True)
class _Parts:
    """The networks, coarse first, and what they compute together.

    Attributes:
      shape: of one example.
      grids: one for each network.
      size: codes of each grid, numbered after those of the grids before it.
      networks: one for each grid, from the second on conditional on the grid before it.
      condition: the label, where the networks are told it.
    """

    shape: tuple[int, ...]
    grids: tuple[tuple[int, int], ...]
    size: int
    networks: tuple[nn.Module, ...]
    condition: Condition | None

    def levels_of(self, x: ArrayLike) -> list[Int[Array, "batch h w"]]:
        """The codes of each grid, numbered from 0 on."""
        codes = jnp.round(jnp.asarray(x).reshape(len(jnp.asarray(x)), -1)).astype(jnp.int32)
        levels, first = [], 0
        for number, grid in enumerate(self.grids):
            part = codes[:, first : first + math.prod(grid)].reshape(-1, *grid)
            levels.append(part - number * self.size)
            first += math.prod(grid)
        return levels

    def told(self, label: ArrayLike | None, coarse: Array | None) -> dict[str, Any]:
        """What a network is told besides the codes before; a label that is not wanted is refused by the network."""
        return {"label": label} | ({} if coarse is None else {"coarse": coarse})

    def init(self, key: Array, batch: Batch) -> tuple[Params, PyTree]:
        label = batch["label"] if self.condition else None
        params, coarse = {}, None
        keys = jax.random.split(key, len(self.networks))
        for number, (key, network, codes) in enumerate(zip(keys, self.networks, self.levels_of(batch["x"]))):
            params[f"grid_{number}"] = network.init(key, codes, **self.told(label, coarse))
            coarse = codes
        return {_PLAYER: params}, {}

    def nll(self, params: Params, batch: Batch) -> Float[Array, " batch"]:
        """−log p(codes)."""
        label = batch["label"] if self.condition else None
        total, coarse = jnp.zeros(len(batch["x"])), None
        for number, (network, codes) in enumerate(zip(self.networks, self.levels_of(batch["x"]))):
            logits = network.apply(params[_PLAYER][f"grid_{number}"], codes, **self.told(label, coarse))
            total, coarse = total + categorical_nll(jnp.asarray(logits), codes), codes
        return total

    def loss(self, params: Params, statistics: PyTree, batch: Batch, key: Array, train: bool) -> tuple[Array, Aux]:
        nll = self.nll(params, batch).mean()
        return nll, Aux({"code_bits": nll / math.log(2)}, statistics)

    def evaluate(self, params: Params, statistics: PyTree, batch: Batch, key: Array) -> dict[str, Array]:
        nll = self.nll(params, batch)
        return {"loss": nll, "code_bits": nll / math.log(2)}

    def sample(
        self, params: Params, statistics: PyTree, key: Array, n: int, *, condition: ArrayLike | None = None
    ) -> Float[Array, "n ..."]:
        parts, coarse = [], None
        keys = jax.random.split(key, len(self.networks))
        for number, (own_key, network) in enumerate(zip(keys, self.networks)):
            own, told = params[_PLAYER][f"grid_{number}"], self.told(condition, coarse)
            if isinstance(network, GatedPixelCNN):
                coarse = sample_pixelcnn(network, own, own_key, n, grid=self.grids[number], **told)
            else:
                assert isinstance(network, CausalTransformer)
                coarse = sample_transformer(network, own, own_key, n, **told)
            parts.append(coarse.reshape(n, -1) + number * self.size)
        return jnp.concatenate(parts, axis=1).reshape(n, *self.shape).astype(jnp.float32)
