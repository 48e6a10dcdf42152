"""Shallow vector quantization: k-means as an autoencoder, a Gaussian mixture as a VAE."""

import math
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Float, Int, Num, PyTree

from jaxgen.losses import gaussian_nll, kl_categorical_uniform, kl_one_hot_uniform
from jaxgen.model import Aux, Batch, Codes, Model, Params, over_devices
from jaxgen.models.likelihood import squared_error
from jaxgen.models.quantizers import count_codes, init_placed_codes, place_dead_codes, placed_codes
from jaxgen.quantization import (
    GaussianMixture,
    code_counts,
    lookup,
    mixture_log_joint,
    nearest_code,
    perplexity,
    usage,
)

_PLAYER = "shallow_vq"
_COUNT_DECAY = 0.99
#: So much of the way to its examples' mean at a learning rate of 1; the trainer's default is a tenth of the way.
_STEP = 100
#: A centroid with more of a batch than so many times 1/K moves no further than one with as many.
_MOST = 2


def shallow_vq(
    *,
    shape: tuple[int, ...],
    num_codes: int = 64,
    kind: Literal["kmeans", "gmm"] = "kmeans",
    fixed_scale: float = 1.0,
    revival: float = 0.01,
) -> Model:
    """Shallow VQ: k-means as an autoencoder, or a Gaussian mixture as a VAE; no network, an example is one code.

    The decoder is a table of centroids, x ~ N(μ_z, σ² I), the prior of z uniform. The loss is −log p(x|z) + log K
    at the nearest centroid (k-means), or −log p(x) of the mixture, the ELBO of the exact posterior (GMM). A centroid
    with n of a batch of B examples moves 100 min(n K/B, 2) times the learning rate of the way to their mean in an
    update, which is 100 times where all have as many, and never past it: a rate above 0.005 is taken for 0.005. That on
    a cosine schedule finds better optima than k-means from one start.

    Args:
      shape: Shape of one example, taken from the data.
      num_codes: Number K of centroids.
      kind: Whether an example has one centroid, or a share in each by its posterior.
      fixed_scale: Standard deviation of an example about its centroid, in units of the scaled data; 1 is the identity
        covariance. Centroids of a mixture merge along directions in which the data vary by less.
      revival: Centroids whose running count falls below this many examples are put beside others; 0 never, and then
        they do not start beside examples either.

    Returns:
      A model with one player, ``"shallow_vq"``.

    Raises:
      ValueError: for numbers out of range, or an unknown kind.
    """
    if num_codes < 1 or not fixed_scale > 0 or revival < 0:
        raise ValueError(
            f"num_codes must be at least 1, fixed_scale positive and revival not negative, "
            f"got {num_codes}, {fixed_scale} and {revival}"
        )
    if kind not in ("kmeans", "gmm"):
        raise ValueError(f"kind must be kmeans or gmm, got {kind!r}")
    parts = _Parts(tuple(shape), num_codes, kind == "gmm", fixed_scale, revival)
    return Model(
        init=parts.init,
        losses={_PLAYER: parts.loss},
        turns={_PLAYER: 1},
        evaluate=parts.evaluate,
        summarize=parts.summarize,
        encode=parts.encode,
        decode=parts.decode,
        sample=parts.sample,
        reconstruct=parts.reconstruct,
        optimizers=parts.optimizers,
        codes=Codes(num_codes),
    )


class _Divided(NamedTuple):
    """A batch among the centroids: negative ELBO and its terms, [batch] each, the likeliest code, examples of each."""

    loss: Array
    terms: dict[str, Array]
    index: Int[Array, " batch"]
    counts: Array


@dataclass(frozen=True)
class _Parts:
    """The arguments of the factory, and what they compute together."""

    shape: tuple[int, ...]
    num_codes: int
    soft: bool
    scale: float
    revival: float

    def init(self, key: Array, batch: Batch) -> tuple[Params, PyTree]:
        params, placement = init_placed_codes(key, self.num_codes, math.prod(self.shape), revival=self.revival)
        return {_PLAYER: params}, placement

    def optimizers(self, learning_rate: Any) -> dict[str, optax.GradientTransformation]:
        """Plain descent: Adam would move a centroid with few examples as far as one with many, and past its mean.

        For a centroid with 1/K of the batch, the gradient is 1/(K σ²) of the way.
        """

        def step_size(count: Any) -> Array:
            rate: Any = learning_rate(count) if callable(learning_rate) else learning_rate
            return jnp.minimum(_STEP * rate, 1 / _MOST)

        return {_PLAYER: optax.chain(optax.scale(self.num_codes * self.scale**2), optax.sgd(step_size))}

    def centroids(self, params: Params, statistics: Any) -> Float[Array, "codes dim"]:
        return placed_codes(params[_PLAYER], statistics)

    def divide(self, params: Params, statistics: Any, x: Array, *, train: bool = False) -> _Divided:
        """Examples among the centroids; in training the gradient of the loss is bounded, its value the same."""
        flat, centroids = _flat(x), self.centroids(params, statistics)
        if not self.soft:
            index = nearest_code(flat, centroids)
            nll = gaussian_nll(lookup(centroids, index), flat, scale=self.scale)
            kl, counts = jnp.full_like(nll, kl_one_hot_uniform(self.num_codes)), code_counts(index, self.num_codes)
            loss = _held(nll, _shares(counts)[index]) if train else nll
            return _Divided(loss + kl, {"nll": nll, "kl": kl}, index, counts)
        weights = jnp.full(self.num_codes, 1 / self.num_codes, flat.dtype)
        variances = jnp.full(self.num_codes, self.scale**2, flat.dtype)
        joint = mixture_log_joint(flat, GaussianMixture(weights, centroids, variances, jnp.zeros((), flat.dtype)))
        counts = jax.nn.softmax(joint).sum(axis=0)
        loss = -jax.nn.logsumexp(_held(joint, _shares(counts)) if train else joint, axis=-1)
        kl = kl_categorical_uniform(joint[:, None])
        index = jnp.argmax(joint, axis=-1).astype(jnp.int32)
        return _Divided(loss, {"nll": loss - kl, "kl": kl}, index, counts)

    def loss(self, params: Params, statistics: Any, batch: Batch, key: Array, train: bool) -> tuple[Array, Aux]:
        x = batch["x"]
        if train and self.revival:
            statistics = place_dead_codes(key, statistics, params[_PLAYER], _flat(x), threshold=self.revival)
        divided = self.divide(params, statistics, x, train=train)
        if train:
            statistics = count_codes(statistics, divided.counts, decay=_COUNT_DECAY)
        counts = over_devices(jax.lax.psum, code_counts(divided.index, self.num_codes))
        use = {"perplexity": perplexity(counts), "usage": usage(counts)}
        terms = {name: term.mean() for name, term in divided.terms.items()}
        return divided.loss.mean(), Aux(terms | use, statistics)

    def evaluate(self, params: Params, statistics: Any, batch: Batch, key: Array) -> dict[str, Array]:
        divided = self.divide(params, statistics, batch["x"])
        error = squared_error(self.decode(params, statistics, divided.index), batch["x"])
        frequency = jax.nn.one_hot(divided.index, self.num_codes)
        return {"loss": divided.loss, **divided.terms, "squared_error": error, "code_frequency": frequency}

    def summarize(self, means: dict[str, Any]) -> dict[str, Any]:
        frequency = means["code_frequency"]
        return {
            **{name: value for name, value in means.items() if name != "code_frequency"},
            "elbo": -means["loss"],
            "perplexity": perplexity(frequency),
            "usage": usage(frequency),
            "dead_codes": np.sum(frequency == 0),
        }

    def encode(self, params: Params, statistics: PyTree, x: ArrayLike) -> Int[Array, " batch"]:
        # All weights and variances are the same: the likeliest centroid is the nearest.
        return nearest_code(_flat(x), self.centroids(params, statistics))

    def decode(self, params: Params, statistics: PyTree, index: Int[ArrayLike, " batch"]) -> Array:
        return lookup(self.centroids(params, statistics), index).reshape(-1, *self.shape)

    def sample(self, params: Params, statistics: PyTree, key: Array, n: int) -> Array:
        """Centroids drawn uniformly, each pixel with noise of its own: at σ = 1 it hides images scaled to [0, 1]."""
        code_key, noise_key = jax.random.split(key)
        mean = self.decode(params, statistics, jax.random.randint(code_key, (n,), 0, self.num_codes))
        return mean + self.scale * jax.random.normal(noise_key, mean.shape, mean.dtype)

    def reconstruct(self, params: Params, statistics: PyTree, x: ArrayLike) -> Array:
        return self.decode(params, statistics, self.encode(params, statistics, x))


def _flat(x: ArrayLike) -> Float[Array, "batch dim"]:
    x = jnp.asarray(x)
    return x.reshape(len(x), math.prod(x.shape[1:])).astype(jnp.promote_types(x.dtype, jnp.float32))


def _shares(counts: Num[Array, " codes"]) -> Float[Array, " codes"]:
    """Examples of each centroid over all devices, as multiples of 1/K of the batch."""
    counts = over_devices(jax.lax.psum, jax.lax.stop_gradient(counts))
    return len(counts) * (counts / counts.sum())


def _held(values: Array, share: Array) -> Array:
    """The values, with no more of a gradient than those of a share of `_MOST`: one of K would go far past the mean."""
    fixed = jax.lax.stop_gradient(values)
    return fixed + (values - fixed) / jnp.maximum(share / _MOST, 1)
