"""Networks against NumPy and SciPy, on images of every size, and the choices they refuse."""

import inspect
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.signal
from flax import linen as nn

from jaxgen.nets import (
    MLP,
    ConvDecoder,
    ConvEncoder,
    GroupedDecoder,
    ResidualBlock,
    grid_decoder,
    grid_encoder,
    vector_decoder,
    vector_encoder,
)

RNG = np.random.default_rng(0)
NUMPY_ACTIVATIONS = {
    "relu": lambda x: np.maximum(x, 0),
    "tanh": np.tanh,
    "gelu": lambda x: x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))),
    "silu": lambda x: x / (1 + np.exp(-x)),
    "leaky_relu": lambda x: np.where(x > 0, x, 0.2 * x),
}


def parameters(network, example_shape, batch=2):
    """Parameter shapes and output shape, without computing anything."""
    x = jax.ShapeDtypeStruct((batch, *example_shape), jnp.float32)
    params = jax.eval_shape(network.init, jax.random.key(0), x)
    return params, jax.eval_shape(network.apply, params, x).shape


def random_parameters(network, example_shape):
    shapes, _ = parameters(network, example_shape)
    return jax.tree.map(lambda s: jnp.asarray(RNG.normal(size=s.shape)), shapes)


@pytest.mark.parametrize("activation", list(NUMPY_ACTIVATIONS))
def test_an_mlp_is_dense_layers_with_the_activation_between_and_none_at_the_end(x64, activation):
    network = MLP((4, 3), (2, 5), activation)
    params = random_parameters(network, (3, 2))
    x = RNG.normal(size=(6, 3, 2))
    first, second, last = (params["params"][f"Dense_{i}"] for i in range(3))
    act, expected = NUMPY_ACTIVATIONS[activation], x.reshape(6, 6)
    for layer in (first, second):
        expected = act(expected @ np.asarray(layer["kernel"]) + np.asarray(layer["bias"]))
    expected = expected @ np.asarray(last["kernel"]) + np.asarray(last["bias"])
    np.testing.assert_allclose(network.apply(params, x), expected.reshape(6, 2, 5), atol=1e-12)


@pytest.mark.parametrize("hidden", [(), (5,)])
def test_a_grouped_decoder_is_a_network_of_its_own_for_each_group(x64, hidden):
    """x_g = f_g(W_g z), with the activation before each further layer."""
    sizes = (2, 3, 1)
    network = GroupedDecoder(sizes, 4, hidden, (3, 2), "tanh")
    params = random_parameters(network, (2,))
    z, expected = RNG.normal(size=(7, 2)), []
    layers = {name: np.asarray(value) for name, value in params["params"].items()}
    for group, size in enumerate(sizes):
        h = z @ layers["W"][:, group]
        for index in range(1 + len(hidden)):
            h = np.tanh(h) @ layers[f"kernel_{index}"][group] + layers[f"bias_{index}"][group]
        expected.append(h[:, :size])
    np.testing.assert_allclose(network.apply(params, z), np.concatenate(expected, axis=1).reshape(7, 3, 2), atol=1e-12)


def test_an_mlp_without_hidden_layers_is_affine_and_one_with_them_is_not(x64):
    a, b = RNG.normal(size=(2, 5, 4))

    def departure(hidden):
        network = MLP(hidden, (3,))
        params = random_parameters(network, (4,))
        origin, fa, fb, mixed = (network.apply(params, x) for x in (0 * a, a, b, 2 * a - 3 * b))
        return np.abs(mixed - (2 * fa - 3 * fb + 2 * origin)).max()

    assert departure(()) < 1e-12
    assert departure((8,)) > 0.1


@pytest.mark.parametrize("shape", [(7, 5, 1), (8, 8, 1), (28, 28, 3), (1, 9, 2)])
@pytest.mark.parametrize("network", ["conv", "resnet"])
def test_images_of_any_size_are_halved_rounding_up_and_come_back_exactly(shape, network):
    hidden = (4, 6, 5)
    height, width = shape[:2]
    for _ in hidden:
        height, width = math.ceil(height / 2), math.ceil(width / 2)
    encoder = grid_encoder(network, hidden, shape, activation="relu")
    assert parameters(encoder, shape)[1] == (2, height, width, 5)
    decoder = grid_decoder(network, hidden, shape, activation="relu")
    assert parameters(decoder, (height, width, 11))[1] == (2, *shape)
    to_vector = vector_encoder(network, hidden, shape, outputs=(2, 3), activation="relu")
    assert parameters(to_vector, shape)[1] == (2, 2, 3)
    assert parameters(vector_decoder(network, hidden, shape, activation="relu"), (3,))[1] == (2, *shape)


def test_the_decoder_runs_through_the_widths_backwards():
    def kernels(network, example_shape):
        params, _ = parameters(network, example_shape)
        return [a.shape for path, a in jax.tree_util.tree_leaves_with_path(params) if "kernel" in str(path)]

    shape = (7, 5, 1)
    encoder = vector_encoder("mlp", (9, 4), shape, outputs=(2, 3), activation="relu")
    assert kernels(encoder, shape) == [(35, 9), (9, 4), (4, 6)]
    decoder = vector_decoder("mlp", (9, 4), shape, activation="relu")
    assert kernels(decoder, (3,)) == [(3, 4), (4, 9), (9, 35)]
    assert kernels(ConvEncoder((9, 4)), shape) == [(4, 4, 1, 9), (4, 4, 9, 4)]
    assert kernels(ConvDecoder((9, 4), shape), (2, 2, 4)) == [(4, 4, 4, 9), (4, 4, 9, 1)]


@pytest.mark.parametrize("size", [6, 7])
def test_a_cell_of_the_feature_map_sees_and_paints_its_own_corner_of_the_image(x64, size):
    # Kernel 4, stride 2: cell i belongs to pixels 2i − 1 … 2i + 2, also where an odd size was cut.
    cells = -(-size // 2)
    near = np.array([[2 * i - 1 <= pixel <= 2 * i + 2 for pixel in range(size)] for i in range(cells)])
    encoder, decoder = ConvEncoder((1,), activation="tanh"), ConvDecoder((1,), (size, size, 1))
    encoder_params = random_parameters(encoder, (size, size, 1))
    decoder_params = random_parameters(decoder, (cells, cells, 1))
    image, feature_map = np.full((1, size, size, 1), 0.01), np.zeros((1, cells, cells, 1))
    seen = jax.jit(jax.jacobian(lambda x: encoder.apply(encoder_params, x)))(image)[0, :, :, 0, 0, :, :, 0]
    painted = jax.jit(jax.jacobian(lambda z: decoder.apply(decoder_params, z)))(feature_map)
    painted = jnp.transpose(painted[0, :, :, 0, 0, :, :, 0], (2, 3, 0, 1))
    expected = np.einsum("ih,jw->ijhw", near, near)
    np.testing.assert_array_equal(np.asarray(seen) != 0, expected)
    np.testing.assert_array_equal(np.asarray(painted) != 0, expected)


def test_a_residual_block_adds_two_convolutions_of_the_activated_input(x64):
    block = ResidualBlock("leaky_relu")
    params = random_parameters(block, (6, 5, 1))
    x = RNG.normal(size=(6, 5))
    first, second = params["params"]["Conv_0"], params["params"]["Conv_1"]
    act = NUMPY_ACTIVATIONS["leaky_relu"]
    hidden = scipy.signal.correlate2d(act(x), np.asarray(first["kernel"])[..., 0, 0], mode="same")
    hidden = hidden + float(first["bias"][0])
    expected = x + float(second["kernel"][0, 0, 0, 0]) * act(hidden) + float(second["bias"][0])
    np.testing.assert_allclose(block.apply(params, x[None, :, :, None])[0, :, :, 0], expected, atol=1e-12)


def test_residual_blocks_make_the_resnet_and_no_other_network():
    def count(network):
        params, _ = parameters(grid_encoder(network, (4, 4), (8, 8, 1), activation="relu"), (8, 8, 1))
        return str(jax.tree.structure(params)).count("ResidualBlock")

    assert count("conv") == 0
    assert count("resnet") == 4


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (vector_decoder, r"conv.*\(64,\).*use network 'mlp'"),
        (grid_encoder, r"a grid of codes needs images .*\(64,\)$"),  # there is no other network to advise
        (grid_decoder, r"a grid of codes needs images .*\(64,\)$|conv.*\(64,\)"),
    ],
)
def test_an_image_network_on_vectors_names_the_shape_and_the_remedy(make, message):
    with pytest.raises(ValueError, match=message):
        make("conv", (4,), (64,), activation="relu")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"network": "cnn"}, "mlp, conv or resnet, got 'cnn'"),
        ({"activation": "swish"}, "relu, tanh, gelu, silu, leaky_relu, got 'swish'"),
        ({"hidden": (8, 0)}, r"at least 1, got \(8, 0\)"),
        ({"network": "conv", "hidden": ()}, r"at least one stage.*, got \(\)"),
        ({"network": "resnet", "shape": (8, 8)}, r"got examples of shape \(8, 8\)"),
    ],
)
def test_choices_that_make_no_network_are_refused_when_it_is_made(change, message):
    chosen = {"network": "mlp", "hidden": (4,), "shape": (8, 8, 1), "activation": "relu"} | change
    activation = chosen.pop("activation")
    for make, extra in ((vector_encoder, {"outputs": (3,)}), (vector_decoder, {})):
        # Without the hook's own check of the annotation, as a user would call it.
        with pytest.raises(ValueError, match=message):
            inspect.unwrap(make)(*chosen.values(), activation=activation, **extra)


def test_layers_of_an_mlp_come_one_after_the_other(x64):
    network, x = MLP((5, 4), (3, 2), "tanh"), RNG.normal(size=(2, 3, 1))
    params = network.init(jax.random.key(0), x)
    whole = network.apply(params, x)
    assert whole.shape == (2, 3, 2)
    h = x
    for index in range(network.num_layers):
        np.testing.assert_array_equal(network.apply(params, x, layers=slice(index)), np.reshape(h, (2, -1)))
        h = network.apply(params, h, layers=slice(index, index + 1))
    np.testing.assert_array_equal(h, whole)


def test_a_decoder_of_images_is_transposed_convolutions_with_the_activation_before_each_but_the_first(x64):
    """Fed from vectors also before the first; by Flax's own layers, and each size cut to what the encoder had."""
    shape = (7, 6, 2)
    network = vector_decoder("conv", (3, 4), shape, activation="tanh")
    params, z = random_parameters(network, (5,)), RNG.normal(size=(2, 5))

    def transposed(features, layer, x):
        return nn.ConvTranspose(features, (4, 4), strides=(2, 2)).apply({"params": layer}, x)

    first, stages = params["params"]["Dense_0"], params["params"]["ConvDecoder_0"]
    maps = np.tanh(z @ first["kernel"] + first["bias"]).reshape(2, 2, 2, 4)
    expected = transposed(2, stages["Conv_1"], jnp.tanh(transposed(3, stages["Conv_0"], maps)[:, :4, :3]))[:, :7, :6]
    np.testing.assert_allclose(network.apply(params, z), expected, atol=1e-12)
    grid = grid_decoder("conv", (3, 4), shape, activation="tanh")
    np.testing.assert_allclose(grid.apply({"params": stages}, maps), expected, atol=1e-12)
