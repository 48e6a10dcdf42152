"""The convolution that a CPU is given is JAX's, forward and backward, and accelerators are given JAX's itself."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax import lax

from jaxgen.nets.convolution import Conv, ConvTranspose, convolve

RNG = np.random.default_rng(0)
LAYOUT = ("NHWC", "HWIO", "NHWC")


@pytest.mark.parametrize(
    ("size", "window", "strides", "padding", "spread"),
    [
        ((7, 5), (4, 4), (2, 2), "SAME", 1),
        ((8, 8), (4, 4), (2, 2), "VALID", 1),
        ((7, 5), (3, 3), (1, 1), "SAME", 1),
        ((6, 6), (1, 1), (1, 1), "SAME", 1),
        ((6, 5), (3, 5), (1, 1), ((2, 0), (2, 2)), 1),
        ((6, 5), (1, 3), (2, 1), ((0, 0), (2, 0)), 1),
        ((3, 4), (4, 4), (1, 1), ((2, 2), (2, 2)), 2),
        ((3, 4), (3, 3), (1, 1), ((1, 2), (2, 1)), 2),
        ((3, 1), (5, 4), (1, 1), ((0, 3), (4, 4)), 3),
        ((3, 4), (2, 5), (1, 1), ((1, 1), (3, 4)), 3),
    ],
)
def test_it_is_jax_s_convolution_and_so_are_its_gradients(x64, size, window, strides, padding, spread):
    x = jnp.asarray(RNG.normal(size=(2, *size, 3)))
    kernel = jnp.asarray(RNG.normal(size=(*window, 3, 4)))

    def by(convolution):
        return lambda x, kernel: convolution(
            x, kernel, strides, padding, lhs_dilation=(spread, spread), dimension_numbers=LAYOUT
        )

    expected = by(lax.conv_general_dilated)(x, kernel)
    weight = RNG.normal(size=expected.shape)

    @jax.jit
    def both(x, kernel):
        def value(convolution):
            return lambda *given: jnp.vdot(weight, jnp.sin(by(convolution)(*given)))

        return [(by(f)(x, kernel), jax.grad(value(f), (0, 1))(x, kernel)) for f in (convolve, lax.conv_general_dilated)]

    found, expected = both(x, kernel)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-12), found, expected)


def test_the_layers_are_flax_s_with_the_parameters_of_the_same_names(x64):
    x = RNG.normal(size=(2, 5, 3, 3))
    pairs = [
        (Conv(4, (3, 3)), nn.Conv(4, (3, 3))),
        (Conv(4, (4, 4), strides=(2, 2), use_bias=False), nn.Conv(4, (4, 4), strides=(2, 2), use_bias=False)),
        (ConvTranspose(4), nn.ConvTranspose(4, (4, 4), strides=(2, 2))),
    ]
    for own, flax in pairs:
        params = own.init(jax.random.key(0), x)
        jax.tree.map(np.testing.assert_array_equal, params, flax.init(jax.random.key(0), x))
        np.testing.assert_allclose(own.apply(params, x), flax.apply(params, x), atol=1e-12)


@pytest.mark.parametrize("layer", [Conv(4, (4, 4), strides=(2, 2)), ConvTranspose(4)])
def test_a_cpu_multiplies_matrices_where_an_accelerator_convolves(layer):
    x = jnp.zeros((2, 6, 6, 3))
    params = layer.init(jax.random.key(0), x)
    step = jax.jit(jax.value_and_grad(lambda params, x: jnp.sum(layer.apply(params, x) ** 2), (0, 1)))
    for platform, expected in (("cpu", False), ("cuda", True), ("tpu", True)):
        text = step.trace(params, x).lower(lowering_platforms=(platform,)).as_text()
        assert ("stablehlo.convolution" in text) == expected
        assert ("stablehlo.dot_general" in text) != expected


def test_what_neither_has_a_fast_form_for_is_jax_s(x64):
    x, kernel = jnp.asarray(RNG.normal(size=(2, 6, 6, 4))), jnp.asarray(RNG.normal(size=(3, 3, 2, 4)))

    def by(convolution):
        return convolution(
            x, kernel, (1, 1), "SAME", rhs_dilation=(2, 2), dimension_numbers=LAYOUT, feature_group_count=2
        )

    np.testing.assert_array_equal(by(convolve), by(lax.conv_general_dilated))
