"""Spectral normalization as a function of parameters: a network's kernels over their largest singular value."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, PyTree

_TINY = 1e-12


def init_spectral(key: Array, params: PyTree) -> dict[str, Float[Array, " outputs"]]:
    """A random unit vector u for each kernel, by the kernel's path."""
    kernels = _kernels(params)
    keys = jax.random.split(key, max(1, len(kernels)))
    return {name: _unit(jax.random.normal(key, w.shape[-1:], w.dtype)) for key, (name, w) in zip(keys, kernels.items())}


def spectral_normalize(
    params: PyTree, vectors: dict[str, Array], *, iterations: int = 1
) -> tuple[PyTree, dict[str, Array]]:
    r"""Every kernel W over its largest singular value, as power iteration finds it.

    .. math::
        v \leftarrow \frac{W u}{\lVert W u \rVert}, \qquad u \leftarrow \frac{W^\top v}{\lVert W^\top v \rVert}, \qquad
        \hat W = \frac{W}{v^\top W u}

    with W as the matrix [inputs, outputs] of a dense layer, or [height · width · channels, outputs] of a convolution.
    The gradient takes u and v for constants, so that it flows through W above and below the stroke alone.

    Args:
        params: of a Flax module; leaves that are called ``kernel`` are normalized, all others kept.
        vectors: u of each kernel, as ``init_spectral`` makes them and the last call left them.
        iterations: of the power method; with 0 the vectors stay as they are.

    Returns:
        Parameters of the same structure, and the vectors for the next call.

    Reference:
        Miyato et al., Spectral Normalization for Generative Adversarial Networks, 2018.

    Example:
        >>> params = {"kernel": jnp.diag(jnp.array([3.0, 1.0]))}
        >>> normal, _ = spectral_normalize(params, init_spectral(jax.random.key(0), params), iterations=20)
        >>> normal["kernel"].round(3).tolist()
        [[1.0, 0.0], [0.0, 0.3330000042915344]]
    """
    found = dict(vectors)

    def normalize(path: tuple[Any, ...], w: Array) -> Array:
        name = _name(path)
        if name not in vectors:
            return w
        matrix, u = w.reshape(-1, w.shape[-1]), vectors[name]
        constant = jax.lax.stop_gradient(matrix)
        v = _unit(constant @ u)
        for _ in range(iterations):
            u = _unit(constant.T @ v)
            v = _unit(constant @ u)
        found[name] = u
        return w / jnp.maximum(v @ matrix @ u, _TINY)

    return jax.tree_util.tree_map_with_path(normalize, params), found


def _kernels(params: PyTree) -> dict[str, Array]:
    leaves, _ = jax.tree_util.tree_flatten_with_path(params)
    return {_name(path): leaf for path, leaf in leaves if path and getattr(path[-1], "key", None) == "kernel"}


def _name(path: tuple[Any, ...]) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")


def _unit(x: Array) -> Array:
    return x / jnp.maximum(jnp.linalg.norm(x), _TINY)
