"""A causal transformer over a grid of codes, with a cache of keys and values."""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Float, Int, Num, PyTree

from jaxgen.nets.codes import among_own, check_codes, check_label, check_temperature


class CausalTransformer(nn.Module):
    """log p(code | codes before it) over the grid row by row, by pre-norm blocks of attention.

    What is read at a place is the code before it, a start token at the first; the start token is the label's where
    there are classes.

    Attributes:
      num_codes: entries of the codebook.
      grid: height and width.
      features: width of the residual stream.
      heads: of the attention; they divide the features.
      layers: number of blocks.
      classes: of the labels that it is conditional on; 0 for none.
      codebooks: of which codebook the code of each place is, where those of several are numbered through; empty where
        there is one.
    """

    num_codes: int
    grid: tuple[int, int]
    features: int = 64
    heads: int = 4
    layers: int = 4
    classes: int = 0
    codebooks: tuple[int, ...] = ()

    def setup(self) -> None:
        if self.heads < 1 or self.layers < 1 or self.features % self.heads or self.features < 1:
            raise ValueError(
                f"layers must be at least 1 and heads must divide the features, "
                f"got {self.layers} layers and {self.heads} heads for {self.features} features"
            )
        initializer = nn.initializers.normal(0.02)
        self.embed = nn.Embed(self.num_codes, self.features, embedding_init=initializer)
        self.start = nn.Embed(max(self.classes, 1), self.features, embedding_init=initializer)
        self.places = self.param("places", initializer, (math.prod(self.grid), self.features))
        self.blocks = [_Block(self.heads) for _ in range(self.layers)]
        self.norm = nn.LayerNorm()
        self.head = nn.Dense(self.num_codes)

    def __call__(self, codes: ArrayLike, label: ArrayLike | None = None) -> Float[Array, "batch h w codes"]:
        """Logits over the codes at each place, given the codes before it and the ``label`` [batch]."""
        codes = check_codes(codes, self.num_codes)
        if codes.shape[1:] != tuple(self.grid):
            raise ValueError(f"the network is for a grid {tuple(self.grid)}, got codes of shape {codes.shape}")
        return self.from_vectors(self.embed(codes), label)

    def from_vectors(
        self, vectors: Float[Array, "batch h w f"], label: ArrayLike | None
    ) -> Float[Array, "batch h w codes"]:
        """The same from embedded codes."""
        batch, length = len(vectors), math.prod(self.grid)
        before = vectors.reshape(batch, length, self.features)[:, :-1]
        x = jnp.concatenate([self.start_of(label, batch)[:, None], before], axis=1) + self.places
        for block in self.blocks:
            x, _ = block(x)
        logits = self.head(self.norm(x)).reshape(batch, *self.grid, self.num_codes)
        return among_own(logits, self.codebooks, self.num_codes)

    def start_of(self, label: ArrayLike | None, batch: int) -> Float[Array, "batch features"]:
        label = check_label(label, self.classes, batch)
        return self.start(jnp.zeros(batch, jnp.int32) if label is None else label)

    def empty_cache(self, batch: int) -> tuple[Float[Array, "2 batch places heads dim"], ...]:
        """Keys and values of no place yet, of one size for the whole grid, an array for each block.

        Not one array for all: to put a place into it, every place would be copied.
        """
        shape = (2, batch, math.prod(self.grid), self.heads, self.features // self.heads)
        return tuple(jnp.zeros(shape, self.places.dtype) for _ in self.blocks)

    def step(
        self,
        cache: tuple[Float[Array, "2 batch places heads dim"], ...],
        previous: Int[ArrayLike, " batch"],
        place: Int[ArrayLike, ""],
        label: ArrayLike | None = None,
    ) -> tuple[Float[Array, "batch codes"], tuple[Float[Array, "2 batch places heads dim"], ...]]:
        """Logits of one place from the code before it and the cache of the places before it.

        Args:
          cache: keys and values of the places before, for each block.
          previous: [batch], the code at the place before; whatever it is at the first.
          place: number of the place, row by row.
          label: [batch], for a conditional network.

        Returns:
          Logits [batch, num_codes], and the cache with this place.
        """
        previous = jnp.asarray(previous)
        x = jnp.where(jnp.equal(place, 0), self.start_of(label, len(previous)), self.embed(previous))
        x = (x + jnp.asarray(self.places)[place])[:, None]
        caches = []
        for block, of_block in zip(self.blocks, cache, strict=True):
            x, of_block = block(x, of_block, place)
            caches.append(of_block)
        return among_own(self.head(self.norm(x))[:, 0], self.codebooks, self.num_codes, place), tuple(caches)


class _Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)).

    With a cache, ``x`` is one place, whose keys and values join those of the places before it.
    """

    heads: int

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch t features"], cache: Array | None = None, place: ArrayLike = 0
    ) -> tuple[Float[Array, "batch t features"], Array | None]:
        features = x.shape[-1]
        projected = nn.DenseGeneral((3, self.heads, features // self.heads), name="attend")(nn.LayerNorm()(x))
        query, now = projected[:, :, 0], jnp.moveaxis(projected[:, :, 1:], 2, 0)
        if cache is not None:
            cache = jax.lax.dynamic_update_slice_in_dim(cache, now.astype(cache.dtype), place, axis=2)
            now = cache
        key, value = now
        seen = jnp.arange(key.shape[1]) <= (place + jnp.arange(x.shape[1]))[:, None]
        scores = jnp.einsum("bthd,bshd->bhts", query, key) / math.sqrt(features // self.heads)
        weights = nn.softmax(jnp.where(seen, scores, -jnp.inf), axis=-1)
        x = x + nn.DenseGeneral(features, axis=(-2, -1), name="merge")(jnp.einsum("bhts,bshd->bthd", weights, value))
        hidden = nn.gelu(nn.Dense(4 * features, name="widen")(nn.LayerNorm()(x)))
        return x + nn.Dense(features, name="narrow")(hidden), cache


def sample_transformer(
    network: CausalTransformer,
    params: PyTree,
    key: Array,
    n: int,
    *,
    label: ArrayLike | None = None,
    temperature: Num[ArrayLike, "..."] = 1.0,
) -> Int[Array, "n h w"]:
    r"""Grids of codes, drawn one code after the other; what was computed for a code is kept for all after it.

    .. math::
        k_t \sim \mathrm{softmax}(\eta_t(k_{<t}) / \tau)

    Args:
      network: whose parameters ``params`` are.
      params: of the network.
      key: used once.
      n: number of grids.
      label: [n], the class of each grid; for a conditional network.
      temperature: τ; below 1 the likelier codes are drawn more often than the network says.

    Returns:
      int32 [n, height, width].

    Raises:
      ValueError: a temperature that is not positive, a label for a network without classes, or none for one with them.

    Reference:
      Vaswani et al., Attention Is All You Need, 2017.

    Example:
      >>> network = CausalTransformer(num_codes=5, grid=(3, 2), features=4, heads=2, layers=1)
      >>> params = network.init(jax.random.key(0), jnp.zeros((1, 3, 2), jnp.int32))
      >>> sample_transformer(network, params, jax.random.key(1), 4).shape
      (4, 3, 2)
    """
    check_temperature(temperature)
    return _draw(network, params, key, n, check_label(label, network.classes, n), temperature)


# One program for all calls: a loop over a function that each call makes anew would be compiled anew.
@functools.partial(jax.jit, static_argnums=(0, 3), inline=True)
def _draw(
    network: CausalTransformer, params: PyTree, key: Array, n: int, label: Array | None, temperature: ArrayLike
) -> Int[Array, "n h w"]:
    length = math.prod(network.grid)

    def draw(carry: tuple[Any, Array], step: tuple[Array, Array]) -> tuple[tuple[Any, Array], Array]:
        (cache, previous), (place, key) = carry, step
        logits, cache = network.apply(params, cache, previous, place, label, method="step")
        code = jax.random.categorical(key, jnp.asarray(logits) / temperature).astype(jnp.int32)
        return (cache, code), code

    start: tuple[Any, Array] = network.apply(params, n, method="empty_cache"), jnp.zeros(n, jnp.int32)
    _, codes = jax.lax.scan(draw, start, (jnp.arange(length), jax.random.split(key, length)))
    return codes.T.reshape(n, *network.grid)
