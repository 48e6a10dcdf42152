"""Residual quantization: every stage quantizes what the stages before it left over."""

import functools

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike
from jaxtyping import Float, Int, Integer, PRNGKeyArray

from jaxgen._checks import as_float, as_indices, require, require_count, require_indices
from jaxgen.quantization.clustering import check_points, kmeans
from jaxgen.quantization.nearest import nearest_code


def residual_nearest_codes(
    vectors: Float[ArrayLike, "..."],
    codebooks: Float[ArrayLike, "..."],
    *,
    chunk_size: int | None = None,
) -> Int[Array, "*batch stages"]:
    r"""Nearest code of the vector, then of what remains, stage by stage.

    .. math::
        k_s = \arg\min_k \lVert r_s - e^s_k \rVert^2, \qquad r_0 = z, \qquad r_{s+1} = r_s - e^s_{k_s}

    Greedy, one stage after the other: not always the best combination of codes. No gradient flows.

    Args:
        vectors: [..., dim], floating.
        codebooks: [stages, codes, dim], floating.
        chunk_size: as for `nearest_code`.

    Returns:
        int32 [..., stages]; `residual_lookup` gives the sum of the codes.

    Raises:
        ValueError: codebooks that are empty or of another dim than the vectors'.
        TypeError: integer vectors or codebooks.

    Reference:
        Lee et al., Autoregressive Image Generation using Residual Quantization, 2022.

    Example:
        >>> import jax.numpy as jnp
        >>> codebooks = jnp.array([[[0.0], [8.0]], [[-1.0], [2.0]]])
        >>> residual_nearest_codes(jnp.array([[9.5], [-0.5]]), codebooks).tolist()
        [[1, 1], [0, 0]]
    """
    vectors, codebooks = as_float("vectors", vectors), as_float("codebooks", codebooks)
    _check_codebooks(codebooks)
    require(
        vectors.ndim >= 1 and vectors.shape[-1] == codebooks.shape[2],
        f"vectors {vectors.shape} and codebooks {codebooks.shape} must have the same last dimension",
    )
    return _search(vectors, codebooks, chunk_size)


@functools.partial(jax.jit, static_argnums=2, inline=True)
def _search(vectors: Array, codebooks: Array, chunk_size: int | None) -> Array:
    dtype = jnp.promote_types(jnp.promote_types(vectors.dtype, codebooks.dtype), jnp.float32)

    def stage(residual: Array, codebook: Array) -> tuple[Array, Array]:
        indices = nearest_code(residual, codebook, chunk_size=chunk_size)
        return residual - codebook[indices], indices

    start = lax.stop_gradient(vectors).astype(dtype)
    _, indices = lax.scan(stage, start, lax.stop_gradient(codebooks).astype(dtype))
    return jnp.moveaxis(indices, 0, -1)


def residual_lookup(
    codebooks: Float[ArrayLike, "..."], indices: Integer[ArrayLike, "..."]
) -> Float[Array, "*batch dim"]:
    r"""Sum of the codes of all stages.

    .. math::
        \hat z = \sum_s e^s_{k_s}

    Args:
        codebooks: [stages, codes, dim].
        indices: [..., stages]; the leading columns alone give the coarser approximation, with as many
            codebooks.

    Returns:
        [..., dim]; under `jit`, where values cannot be checked, NaN at an index that is negative or beyond the
        codebook. The gradient reaches the codebooks.

    Raises:
        ValueError: another number of stages in the indices than in the codebooks, an index outside them (outside
            `jit`).
        TypeError: indices that are not integers.

    Example:
        >>> import jax.numpy as jnp
        >>> codebooks = jnp.array([[[0.0], [8.0]], [[-1.0], [2.0]]])
        >>> residual_lookup(codebooks, jnp.array([[1, 1], [0, 0]])).tolist()
        [[10.0], [-1.0]]
    """
    given, codebooks, indices = indices, as_float("codebooks", codebooks), as_indices("indices", indices)
    _check_codebooks(codebooks)
    require(
        indices.ndim >= 1 and indices.shape[-1] == codebooks.shape[0],
        f"indices {indices.shape} must have as last dimension the stages of codebooks {codebooks.shape}",
    )
    require_indices("indices", given, codebooks.shape[1], "each codebook has")
    stages = jnp.arange(codebooks.shape[0])
    # A negative index would count from the end.
    indices = jnp.where(indices < 0, codebooks.shape[1], indices)
    return jnp.sum(codebooks.at[stages, indices].get(mode="fill", fill_value=jnp.nan), axis=-2)


def residual_kmeans(
    key: PRNGKeyArray, points: Float[ArrayLike, "..."], num_clusters: int, *, num_stages: int
) -> Float[Array, "stages clusters dim"]:
    r"""Codebooks of a residual quantizer, each from the k-means of what the stages before left over.

    .. math::
        e^s = \text{centroids of } \{ r_s(x_i) \}

    Args:
        key: one key.
        points: [points, dim], floating.
        num_clusters: codes of each stage.
        num_stages: number of stages; the rate is num_stages · log2 num_clusters bits a vector.

    Returns:
        [stages, clusters, dim].

    Raises:
        ValueError: fewer points than clusters, num_clusters or num_stages below one, points that are not
            finite.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> points = jnp.array([[0.0], [1.0], [10.0], [11.0]])
        >>> codebooks = residual_kmeans(jax.random.key(0), points, 2, num_stages=2)
        >>> residual_lookup(codebooks, residual_nearest_codes(points, codebooks)).ravel().tolist()
        [0.0, 1.0, 10.0, 11.0]
    """
    residual = check_points(points, "num_clusters", num_clusters)
    num_stages = require_count("num_stages", num_stages)
    codebooks = []
    for stage_key in jax.random.split(key, num_stages):
        result = kmeans(stage_key, residual, num_clusters)
        codebooks.append(result.centroids)
        residual = residual - result.centroids[result.assignments]
    return jnp.stack(codebooks)


def _check_codebooks(codebooks: Array) -> None:
    require(
        codebooks.ndim == 3 and codebooks.shape[0] >= 1 and codebooks.shape[1] >= 1,
        f"codebooks must be [stages, codes, dim], none of them 0, got shape {codebooks.shape}",
    )
