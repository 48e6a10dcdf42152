"""The gated PixelCNN over a grid of codes (van den Oord et al., 2016)."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Float, Int, Num, PyTree

from jaxgen.nets.codes import among_own, check_codes, check_label, check_temperature
from jaxgen.nets.convolution import Conv
from jaxgen.nets.resnet import ResidualBlock


class GatedPixelCNN(nn.Module):
    """log p(code | codes before it), where those above come before, and of the same row those to the left.

    A vertical stack sees the rows above, a horizontal stack what is left of a code and the vertical stack: together
    they have no blind spot. A code sees all before it where ``layers · (kernel // 2)`` is at least the grid's width
    less one, and its height less two.

    Attributes:
      num_codes: entries of the codebook.
      features: channels of both stacks.
      layers: of each stack.
      kernel: size of the convolutions, of which causality keeps half; odd.
      classes: of the labels that it is conditional on; 0 for none.
      coarse_codes: entries of the codebook of a coarser grid that it is conditional on; 0 for none.
      codebooks: of which codebook the code of each place is, where those of several are numbered through; empty where
        there is one.
    """

    num_codes: int
    features: int = 64
    layers: int = 8
    kernel: int = 5
    classes: int = 0
    coarse_codes: int = 0
    codebooks: tuple[int, ...] = ()

    def setup(self) -> None:
        if self.kernel % 2 == 0 or self.kernel < 3 or self.layers < 1 or self.features < 1:
            raise ValueError(
                f"kernel must be odd and at least 3, layers and features at least 1, "
                f"got {self.kernel}, {self.layers} and {self.features}"
            )
        self.embed = nn.Embed(self.num_codes, self.features)
        self.gated = [_GatedLayer(self.kernel // 2, first=index == 0) for index in range(self.layers)]
        self.hidden = nn.Dense(self.features)
        self.head = nn.Dense(self.num_codes)
        if self.classes:
            self.told = nn.Embed(self.classes, self.features)
        if self.coarse_codes:
            self.coarse = nn.Sequential(
                [nn.Embed(self.coarse_codes, self.features), Conv(self.features, (3, 3)), ResidualBlock()]
            )

    def __call__(
        self, codes: ArrayLike, label: ArrayLike | None = None, coarse: ArrayLike | None = None
    ) -> Float[Array, "batch h w codes"]:
        """Logits over the codes at each place, given the codes before it and what the network is told.

        Args:
          codes: [batch, h, w].
          label: [batch], for a network with classes.
          coarse: [batch, h', w'], all codes of the coarser grid, for a network that is conditional on one.
        """
        return self.from_vectors(self.embed(check_codes(codes, self.num_codes)), label, coarse)

    def from_vectors(
        self, vectors: Float[Array, "batch h w f"], label: ArrayLike | None, coarse: ArrayLike | None = None
    ) -> Float[Array, "batch h w codes"]:
        """The same from embedded codes."""
        told = self.told_of(label, coarse, vectors.shape)
        vertical = horizontal = vectors
        for layer in self.gated:
            vertical, horizontal = layer(vertical, horizontal, told)
        logits = self.head(nn.relu(self.hidden(nn.relu(horizontal))))
        return among_own(logits, self.codebooks, self.num_codes)

    def told_of(
        self, label: ArrayLike | None, coarse: ArrayLike | None, shape: tuple[int, ...]
    ) -> Float[Array, "batch #h #w f"] | None:
        """What every layer is told: of the class everywhere the same, of the coarser codes those above each place."""
        label = check_label(label, self.classes, shape[0])
        parts = [] if label is None else [self.told(label)[:, None, None]]
        if (coarse is None) != (not self.coarse_codes):
            raise ValueError(
                f"this network is conditional on a coarser grid of {self.coarse_codes} codes: give its codes"
                if self.coarse_codes
                else "this network is not conditional on a coarser grid: leave coarse out"
            )
        if coarse is not None:
            maps = self.coarse(check_codes(coarse, self.coarse_codes))
            if len(maps) != shape[0]:
                raise ValueError(f"coarse must hold one grid for each of {shape[0]} examples, got {len(maps)}")
            rows, columns = (np.arange(n) // -(-n // m) for n, m in zip(shape[1:3], maps.shape[1:3]))
            parts.append(maps[:, rows[:, None], columns])
        return sum(parts[1:], start=parts[0]) if parts else None


class _GatedLayer(nn.Module):
    """One layer of both stacks.

    Attributes:
      radius: how far it sees up, left and, in the rows above, right.
      first: whether it takes the codes themselves, of which the vertical stack may not see its own row, nor the
        horizontal one its own column. Later layers may: what they see there has not seen the code (masks A and B).
    """

    radius: int
    first: bool

    @nn.compact
    def __call__(self, vertical: Array, horizontal: Array, told: Array | None) -> tuple[Array, Array]:
        radius, features = self.radius, vertical.shape[-1]
        above, left = vertical, horizontal
        if self.first:
            above = jnp.pad(above, ((0, 0), (1, 0), (0, 0), (0, 0)))[:, :-1]
            left = jnp.pad(left, ((0, 0), (0, 0), (1, 0), (0, 0)))[:, :, :-1]
        window = (radius + 1, 2 * radius + 1)
        v = Conv(2 * features, window, padding=((radius, 0), (radius, radius)), name="vertical")(above)
        h = Conv(2 * features, (1, radius + 1), padding=((0, 0), (radius, 0)), name="horizontal")(left)
        h = h + nn.Dense(2 * features, name="across")(v)
        if told is not None:
            v = v + nn.Dense(2 * features, use_bias=False, name="told_vertical")(told)
            h = h + nn.Dense(2 * features, use_bias=False, name="told_horizontal")(told)
        v, h = _gate(v), nn.Dense(features, name="out")(_gate(h))
        return (v, h) if self.first else (vertical + v, horizontal + h)


def _gate(x: Array) -> Array:
    signal, gate = jnp.split(x, 2, axis=-1)
    return jnp.tanh(signal) * nn.sigmoid(gate)


def sample_pixelcnn(
    network: GatedPixelCNN,
    params: PyTree,
    key: Array,
    n: int,
    *,
    grid: tuple[int, int],
    label: ArrayLike | None = None,
    coarse: ArrayLike | None = None,
    temperature: Num[ArrayLike, "..."] = 1.0,
) -> Int[Array, "n h w"]:
    r"""Grids of codes, drawn one code after the other: each costs a pass of the network.

    .. math::
        k_{ij} \sim \mathrm{softmax}(\eta_{ij}(k_{<ij}) / \tau)

    Args:
      network: whose parameters ``params`` are.
      params: of the network.
      key: used once.
      n: number of grids.
      grid: height and width.
      label: [n], the class of each grid; for a conditional network.
      coarse: [n, h', w'], the codes of the coarser grid of each; for a network that is conditional on one.
      temperature: τ; below 1 the likelier codes are drawn more often than the network says.

    Returns:
      int32 [n, height, width].

    Raises:
      ValueError: a temperature that is not positive, a label for a network without classes, or none for one with them;
        likewise a coarser grid.

    Reference:
      van den Oord et al., Conditional Image Generation with PixelCNN Decoders, 2016.

    Example:
      >>> network = GatedPixelCNN(num_codes=5, features=4, layers=1)
      >>> params = network.init(jax.random.key(0), jnp.zeros((1, 3, 2), jnp.int32))
      >>> sample_pixelcnn(network, params, jax.random.key(1), 4, grid=(3, 2)).shape
      (4, 3, 2)
    """
    check_temperature(temperature)
    label = check_label(label, network.classes, n)
    coarse = check_codes(coarse, network.coarse_codes) if network.coarse_codes and coarse is not None else coarse
    return _draw(network, params, key, n, tuple(grid), label, coarse, temperature)


# One program for all calls: a loop over a function that each call makes anew would be compiled anew.
@functools.partial(jax.jit, static_argnums=(0, 3, 4), inline=True)
def _draw(
    network: GatedPixelCNN,
    params: PyTree,
    key: Array,
    n: int,
    grid: tuple[int, int],
    label: Array | None,
    coarse: ArrayLike | None,
    temperature: ArrayLike,
) -> Int[Array, "n h w"]:
    height, width = grid

    def draw(codes: Array, step: tuple[Array, Array]) -> tuple[Array, None]:
        place, key = step
        logits = jnp.asarray(network.apply(params, codes, label, coarse))
        row, column = place // width, place % width
        code = jax.random.categorical(key, logits[:, row, column] / temperature)
        return codes.at[:, row, column].set(code.astype(jnp.int32)), None

    places = jnp.arange(height * width), jax.random.split(key, height * width)
    return jax.lax.scan(draw, jnp.zeros((n, height, width), jnp.int32), places)[0]
