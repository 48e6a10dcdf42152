"""What happens to raw bytes inside the compiled step: scaling, dequantization, binarization."""

from collections.abc import Mapping
from typing import Literal, get_args

import jax
import jax.numpy as jnp
from jax import Array

Binarize = Literal["none", "dynamic", "threshold"]


def make_prepare(*, scale: float, binarize: Binarize = "none", dequantize: bool = False):
    """The map from a raw batch to network units, with one key an example.

    - ``dequantize``: (x + u) / (scale + 1) with u ~ U[0, 1), a density on [0, 1) that the discrete likelihood
      bounds;
    - ``binarize="dynamic"``: a fresh Bernoulli draw with probability x / scale each time the example is seen;
    - ``binarize="threshold"``: x / scale > ½;
    - otherwise x / scale.

    Where the batch has a ``mask``, what was not observed becomes 0, since NaN · 0 is NaN.

    Args:
      scale: the raw value that becomes 1.
      binarize: how grey values become bits.
      dequantize: whether uniform noise fills the steps between levels.

    Returns:
      ``(keys [batch], raw) -> batch``; arrays other than ``x`` pass through.

    Raises:
      ValueError: for an unknown binarization.

    >>> prepare = make_prepare(scale=255.0)
    >>> raw = {"x": jnp.array([[0, 255]], jnp.uint8)}
    >>> prepare(jax.random.split(jax.random.key(0), 1), raw)["x"].tolist()
    [[0.0, 1.0]]
    """

    if binarize not in get_args(Binarize):
        raise ValueError(f"binarize must be one of {', '.join(get_args(Binarize))}, got {binarize!r}")

    def prepare(keys: Array, raw: Mapping[str, Array]) -> dict[str, Array]:
        x = raw["x"].astype(jnp.float32)
        if dequantize or binarize == "dynamic":
            uniform = jax.vmap(lambda key: jax.random.uniform(key, x.shape[1:]))(keys)
        if dequantize:
            # The sum may round up to the next integer: stay below 1.
            x = jnp.minimum((x + uniform) / (scale + 1), 1 - 2.0**-24)
        elif scale != 1:
            x = x / scale
        if binarize == "dynamic":
            x = (uniform < x).astype(jnp.float32)
        elif binarize == "threshold":
            x = (x > 0.5).astype(jnp.float32)
        if "mask" in raw:
            x = jnp.where(raw["mask"], x, 0)
        return {**raw, "x": x}

    return prepare
