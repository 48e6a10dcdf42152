"""Convolutions that are as fast inside a loop as outside of it, on every platform.

On a CPU, XLA computes a convolution by its fast routine only outside of loops: inside a scanned epoch the same
convolution takes 3 to 40 times as long. There it is written as one product with the windows of the image.
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jax import Array, lax

_LAYOUT = ("NHWC", "HWIO", "NHWC")


def convolve(
    lhs: Array,
    rhs: Array,
    window_strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    lhs_dilation: Sequence[int] | None = None,
    rhs_dilation: Sequence[int] | None = None,
    dimension_numbers: Any = None,
    feature_group_count: int = 1,
    precision: Any = None,
) -> Array:
    """`jax.lax.conv_general_dilated` of images [batch, height, width, channels], for Flax's layers to call.

    Args and result are those of JAX's function, for two spatial dimensions.
    """
    spread = tuple(lhs_dilation or (1, 1))
    general = functools.partial(
        lax.conv_general_dilated,
        window_strides=window_strides,
        padding=padding,
        lhs_dilation=spread,
        rhs_dilation=rhs_dilation,
        dimension_numbers=dimension_numbers or _LAYOUT,
        feature_group_count=feature_group_count,
        precision=precision,
    )
    transposed = max(spread) > 1
    if (
        lhs.ndim != 4
        or feature_group_count != 1
        or max(rhs_dilation or (1, 1)) > 1
        or (transposed and (max(window_strides) > 1 or any(w < s for w, s in zip(rhs.shape, spread))))
    ):
        return general(lhs, rhs)
    if isinstance(padding, str):
        padding = lax.padtype_to_pads(lhs.shape[1:3], rhs.shape[:2], window_strides, padding)
    product = functools.partial(_by_product, strides=window_strides, padding=padding, precision=precision)
    if transposed:
        product = functools.partial(_by_phases, padding=padding, spread=spread, precision=precision)
    return lax.platform_dependent(lhs, rhs, cpu=product, default=general)


def _by_product(
    x: Array, kernel: Array, *, strides: Sequence[int], padding: Sequence[tuple[int, int]], precision: Any
) -> Array:
    """y = windows of x [batch · height · width, window · channels] times the kernel as a matrix."""
    height, width, channels, features = kernel.shape
    x = lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *((*sides, 0) for sides in padding), (0, 0, 0)])
    rows, columns = (
        (size - window) // stride + 1 for size, window, stride in zip(x.shape[1:3], (height, width), strides)
    )
    shifted = [
        x[:, i : i + (rows - 1) * strides[0] + 1 : strides[0], j : j + (columns - 1) * strides[1] + 1 : strides[1]]
        for i in range(height)
        for j in range(width)
    ]
    windows = jnp.concatenate(shifted, axis=-1).reshape(-1, height * width * channels)
    y = jnp.matmul(windows, kernel.reshape(-1, features), precision=precision)
    return y.reshape(len(x), rows, columns, features)


def _by_phases(
    x: Array, kernel: Array, *, padding: Sequence[tuple[int, int]], spread: Sequence[int], precision: Any
) -> Array:
    """The convolution of an image with zeros between its pixels, none of which is multiplied.

    Of ``spread`` neighbouring outputs each sees another part of the kernel, and x itself.
    """
    lengths = [
        (size - 1) * by + 1 + sum(sides) - window + 1
        for size, by, sides, window in zip(x.shape[1:3], spread, padding, kernel.shape[:2])
    ]
    counts = [-(-length // by) for length, by in zip(lengths, spread)]

    def part(axis: int, phase: int) -> tuple[slice, tuple[int, int]]:
        """Of outputs phase, phase + spread, …: the part of the kernel that meets pixels, and the padding then."""
        by, before, size = spread[axis], padding[axis][0], x.shape[1 + axis]
        first = (before - phase) % by
        taps = len(range(first, kernel.shape[axis], by))
        low = (before - phase - first) // by
        return slice(first, None, by), (low, counts[axis] + taps - 1 - size - low)

    rows = []
    for down in range(spread[0]):
        above, vertical = part(0, down)
        row = []
        for right in range(spread[1]):
            left, horizontal = part(1, right)
            row.append(
                _by_product(x, kernel[above, left], strides=(1, 1), padding=(vertical, horizontal), precision=precision)
            )
        rows.append(jnp.stack(row, axis=3))
    y = jnp.stack(rows, axis=2)
    y = y.reshape(len(x), counts[0] * spread[0], counts[1] * spread[1], kernel.shape[-1])
    return y[:, : lengths[0], : lengths[1]]


#: Flax's convolution, computed by ``convolve``.
Conv = functools.partial(nn.Conv, conv_general_dilated=convolve)

#: Doubles height and width: the transpose of a convolution of 4×4 windows that goes by steps of two.
ConvTranspose = functools.partial(Conv, kernel_size=(4, 4), input_dilation=(2, 2), padding=((2, 2), (2, 2)))
