"""What losses refuse by name and value, while tracing too."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import losses as L
from losses.cases import CASES, arguments, smooth_critic

TWO_ARRAYS = {
    "gaussian_nll": ("mean", "targets"),
    "bernoulli_nll": ("logits", "targets"),
    "continuous_bernoulli_nll": ("logits", "targets"),
    "optimal_gaussian_scale": ("mean", "targets"),
    "kl_diagonal_gaussian": ("mean", "logvar"),
    "kl_diagonal_gaussian_per_dimension": ("mean", "logvar"),
    "negative_elbo": ("nll", "kl"),
    "codebook_loss": ("encodings", "codes"),
    "commitment_loss": ("encodings", "codes"),
    "minimax_discriminator_loss": ("real_logits", "fake_logits"),
    "hinge_discriminator_loss": ("real_logits", "fake_logits"),
    "least_squares_discriminator_loss": ("real_logits", "fake_logits"),
    "wasserstein_discriminator_loss": ("real_logits", "fake_logits"),
}


@pytest.mark.parametrize("name", TWO_ARRAYS)
def test_two_shapes_that_differ_are_both_named_while_tracing(name):
    first, second = TWO_ARRAYS[name]
    # [4] against [3], and [1] that would broadcast.
    for size in (3, 1):
        with pytest.raises(ValueError, match=rf"{first} and {second} .*\(4,\) and \({size},\)"):
            jax.eval_shape(getattr(L, name), jnp.zeros(4), jnp.zeros(size))


# Targets may be integers; the lambda of the scale's case takes its exponential first.
INTEGERS_ALLOWED = {
    ("gaussian_nll", 1),
    ("bernoulli_nll", 1),
    ("continuous_bernoulli_nll", 1),
    ("optimal_gaussian_scale", 1),
    ("kl_isotropic_gaussian", 1),
}


@pytest.mark.parametrize(
    ("name", "position"),
    [
        (name, position)
        for name in CASES
        if "," not in name
        for position in range(len(CASES[name].floats))
        if (name, position) not in INTEGERS_ALLOWED
    ],
)
def test_integers_are_refused_while_tracing(name, position):
    case = CASES[name]
    floats, integers = arguments(case, np.float32)
    floats[position] = np.zeros(case.floats[position], np.int32)
    with pytest.raises(TypeError, match=r"must be floating point, got int32 of shape \("):
        jax.eval_shape(case.function, *floats, *integers)


BATCHED = [
    *TWO_ARRAYS,
    "free_bits",
    "kl_categorical_uniform",
    "minimax_generator_loss",
    "non_saturating_generator_loss",
    "hinge_generator_loss",
    "least_squares_generator_loss",
    "wasserstein_generator_loss",
]


@pytest.mark.parametrize("name", BATCHED)
def test_a_scalar_lacks_its_batch_axis(name, as_users_call):
    keywords = {"floor": 0.5} if name == "free_bits" else {}
    with pytest.raises(ValueError, match="must have a leading batch axis, got a scalar; add it with"):
        getattr(L, name)(*[np.float32(1)] * (2 if name in TWO_ARRAYS else 1), **keywords)


REFUSED = {
    "mask of another rank": (
        lambda: L.gaussian_nll(Z34, Z34, mask=np.ones(4)),
        r"mask .*\(4,\) and \(3, 4\)",
    ),
    "mask that would fit the wrong axis": (
        lambda: L.gaussian_nll(Z34[:, :3], Z34[:, :3], mask=np.ones(3)),
        r"mask .*\(3,\) and \(3, 3\)",
    ),
    "mask of another size": (lambda: L.bernoulli_nll(Z34, Z34, mask=np.ones((3, 2))), r"mask .*\(3, 2\) and"),
    "negative scale": (lambda: L.gaussian_nll(Z34, Z34, scale=-0.5), "scale must be positive, got -0.5"),
    "zero scale in an array": (
        lambda: L.gaussian_nll(Z34, Z34, scale=np.array([1, 2, 0, 1.0])),
        "scale .* got 0",
    ),
    "scale that enlarges": (
        lambda: L.gaussian_nll(Z34[:1], Z34[:1], scale=np.ones((3, 4))),
        "scale must broadcast",
    ),
    "isotropic scale": (lambda: L.kl_isotropic_gaussian(Z34, -1.0), "scale must be positive, got -1"),
    "isotropic scale per latent": (
        lambda: L.kl_isotropic_gaussian(Z34, np.ones((3, 4))),
        "scale must be a scalar",
    ),
    "floor": (lambda: L.optimal_gaussian_scale(Z34, Z34, floor=0.0), "floor must be positive, got 0"),
    "labels": (
        lambda: L.categorical_nll(Z34, np.zeros((3, 4), int)),
        r"labels .*\(3, 4\) and labels \(3, 4\)",
    ),
    "levels": (lambda: L.discretized_logistic_nll(Z34, Z34, K34, num_levels=1), "num_levels .* got 1"),
    "no dimensions": (lambda: L.bits_per_dim(Z34[0], 0), "num_dims must be at least 1, got 0"),
    "bin width": (lambda: L.bits_per_dim(Z34[0], 1, bin_width=0.0), "bin_width must be positive, got 0"),
    "codes": (lambda: L.kl_one_hot_uniform(0), "num_codes must be at least 1, got 0"),
    "two priors": (lambda: L.kl_between_diagonal_gaussians(Z34, Z34, Z34[:1], Z34[:1]), r"mean_q and mean_p"),
    "categorical without classes": (
        lambda: L.kl_categorical_uniform(Z34[0]),
        r"logits must be .* got \(4,\)",
    ),
    "mmd widths": (lambda: L.maximum_mean_discrepancy(Z34, Z34[:, :2]), r"\(3, 4\) and \(3, 2\)"),
    "mmd kernel": (lambda: L.maximum_mean_discrepancy(Z34, Z34, kernel="linear"), "kernel must be .* got 'linear'"),
    "mmd of images": (
        lambda: L.maximum_mean_discrepancy(Z34[None], Z34[None]),
        r"x and y must be \[n, dim\] and \[m, dim\], got \(1, 3, 4\)",
    ),
    "estimator of the decomposition": (
        lambda: L.kl_decomposition(Z34, Z34, Z34, dataset_size=3, estimator="exact"),
        "estimator must be .* got 'exact'",
    ),
    "no class": (
        lambda: L.categorical_nll(Z34[:, :0], K34[:, 0]),
        r"at least one class on the last axis, got shape \(3, 0\)",
    ),
    "levels of another shape": (
        lambda: L.discretized_logistic_nll(Z34, Z34, K34[:, :1]),
        r"mean and targets .*\(3, 4\) and \(3, 1\)",
    ),
    "mmd of one sample": (
        lambda: L.maximum_mean_discrepancy(Z34, Z34[:1]),
        "at least 2 samples each, got 3 and 1",
    ),
    "mmd bandwidth": (lambda: L.maximum_mean_discrepancy(Z34, Z34, bandwidth=-1.0), "bandwidth .* got -1"),
    "small data set": (
        lambda: L.kl_decomposition(Z34, Z34, Z34, dataset_size=2),
        "at least the batch size 3, got 2",
    ),
    "stratified single": (
        lambda: L.kl_decomposition(Z34[:1], Z34[:1], Z34[:1], dataset_size=2, estimator="stratified"),
        "needs 2 examples or more",
    ),
    "latents with a shape": (
        lambda: L.kl_decomposition(Z34[None], Z34[None], Z34[None], dataset_size=2),
        r"z must be \[batch, latents\]",
    ),
    "negative beta": (
        lambda: L.negative_elbo(Z34[0], Z34[0], beta=-1.0),
        "beta must not be negative, got -1",
    ),
    "beta of another batch": (
        lambda: L.negative_elbo(Z34[0], Z34[0], beta=np.ones(3)),
        "beta must broadcast to nll",
    ),
    "no samples": (
        lambda: L.importance_weighted_bound(Z34[:0]),
        r"a sample or more on axis 0, got shape \(0, 4\)",
    ),
    "no such axis": (
        lambda: L.importance_weighted_bound(Z34, axis=2),
        r"axis 2 is not an axis of log_weights",
    ),
    "negative floor": (lambda: L.free_bits(Z34, floor=-1.0), "floor must not be negative, got -1"),
    "negative threshold": (
        lambda: L.prox_group_lasso(Z34, -1.0, axis=0),
        "threshold must not be negative, got -1",
    ),
    "scalar floor": (
        lambda: L.optimal_gaussian_scale(Z34, Z34, floor=np.ones(3)),
        r"floor must be one number, got an array of shape \(3,\)",
    ),
    "floor for each latent": (
        lambda: L.free_bits(Z34, floor=np.ones(4)),
        r"floor must be one number, got an array of shape \(4,\)",
    ),
    "bin widths": (lambda: L.bits_per_dim(Z34[0], 7, bin_width=np.ones(4)), "bin_width must be one number"),
    "mmd bandwidths": (lambda: L.maximum_mean_discrepancy(Z34, Z34, bandwidth=np.ones(3)), "bandwidth must be one"),
    "mmd without dimensions": (
        lambda: L.maximum_mean_discrepancy(Z34[:, :0], Z34[:, :0]),
        r"got \(3, 0\) and \(3, 0\); dim must not be 0",
    ),
    "no example to decompose": (
        lambda: L.kl_decomposition(Z34[:0], Z34[:0], Z34[:0], dataset_size=9),
        r"z must hold an example or more, got shape \(0, 4\)",
    ),
    "KL of each latent": (
        lambda: L.negative_elbo(Z34, Z34),
        r"nll and kl must be \[batch\], got shape \(3, 4\)",
    ),
    "negative target": (
        lambda: L.gradient_penalty(smooth_critic, Z34, Z34, jax.random.key(0), target=-1.0),
        "target must not be negative, got -1",
    ),
    "target for each example": (
        lambda: L.gradient_penalty(smooth_critic, Z34, Z34, jax.random.key(0), target=np.ones(3)),
        r"target must be one number, got an array of shape \(3,\)",
    ),
    "critic of the whole batch": (
        lambda: L.r1_penalty(jnp.sum, Z34),
        r"critic must map a batch to \[batch\] logits, got \(3, 4\) to \(\)",
    ),
    "an axis twice": (lambda: L.group_lasso(Z34, axis=(0, -2)), r"axis \(0, -2\) must name axes .* each once"),
    "no axis": (lambda: L.group_lasso(Z34, axis=None), "axis None must name axes of weights"),
    "penalty shapes": (
        lambda: L.gradient_penalty(smooth_critic, Z34, Z34[:2], jax.random.key(0)),
        r"real and fake .*\(3, 4\) and \(2, 4\)",
    ),
}
Z34, K34 = np.zeros((3, 4), np.float32), np.zeros((3, 4), np.int32)


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.usefixtures("as_users_call")
def test_bad_input_is_refused_with_its_value(name):
    call, message = REFUSED[name]
    with pytest.raises(ValueError, match=message):
        call()


REFUSED_TYPES = {
    "levels": (lambda: L.discretized_logistic_nll(Z34, Z34, K34, num_levels=2.5), "num_levels must be an integer.*2.5"),
    "dimensions": (lambda: L.bits_per_dim(Z34[0], 784.0), "num_dims must be an integer.* got 784.0"),
    "dimensions that are NaN": (lambda: L.bits_per_dim(Z34[0], np.nan), "num_dims must be an integer.* got nan"),
    "traced dimensions": (
        lambda: jax.jit(lambda d: L.bits_per_dim(Z34[0], d))(7),
        "num_dims must be an integer known while tracing",
    ),
    "codes": (lambda: L.kl_one_hot_uniform(2.5), "num_codes must be an integer.* got 2.5"),
    "data set": (
        lambda: L.kl_decomposition(Z34, Z34, Z34, dataset_size=np.nan),
        "dataset_size must be an integer.* got nan",
    ),
    "complex scale": (lambda: L.gaussian_nll(Z34, Z34, scale=1j), "scale must be real"),
    "traced complex scale": (
        lambda: jax.eval_shape(lambda s: L.gaussian_nll(Z34, Z34, scale=s), np.complex64(1)),
        "scale must be real, got complex64",
    ),
    "scale that is text": (lambda: L.gaussian_nll(Z34, Z34, scale="unit"), "scale must be .* got 'unit'"),
    "complex isotropic scale": (lambda: L.kl_isotropic_gaussian(Z34, 1j), "scale must be real"),
    "complex beta": (lambda: L.negative_elbo(Z34[0], Z34[0], beta=1j), "beta must be real"),
    "complex mask": (lambda: L.gaussian_nll(Z34, Z34, mask=Z34 + 1j), "mask must be real, got complex64"),
    "no mean": (lambda: L.gaussian_nll(None, Z34), "mean must be an array or a number, got None"),
    "no targets": (lambda: L.bernoulli_nll(Z34, "digits"), "targets must be an array or a number, got 'digits'"),
    "two axes": (lambda: L.importance_weighted_bound(Z34, axis=(0, 1)), r"axis must be an integer, got \(0, 1\)"),
    "integer critic": (
        lambda: L.r1_penalty(lambda x: jnp.argmax(x, -1), Z34),
        "the critic's output must be floating point, got int32",
    ),
    "critic of two outputs": (
        lambda: L.r1_penalty(lambda x: (x[:, 0], x), Z34),
        "the critic's output must be an array or a number",
    ),
}


@pytest.mark.parametrize("name", REFUSED_TYPES)
@pytest.mark.usefixtures("as_users_call")
def test_what_is_no_number_of_its_kind_is_refused_by_name(name):
    call, message = REFUSED_TYPES[name]
    with pytest.raises(TypeError, match=message):
        call()


def test_an_axis_may_be_a_number_of_numpy(as_users_call):
    weights = np.array([[3.0, 4.0], [6.0, 8.0]], np.float32)
    assert L.group_lasso(weights, axis=np.int64(1)) == 15


def test_targets_of_the_wrong_kind_are_refused():
    with pytest.raises(TypeError, match="targets must be real, got complex64"):
        L.gaussian_nll(Z34, Z34 + 1j * Z34)
    with pytest.raises(TypeError, match="labels must be integers, got float32"):
        L.categorical_nll(Z34, Z34[:, 0])
    with pytest.raises(TypeError, match="targets must be integer levels from 0 to 255, got float32"):
        L.discretized_logistic_nll(Z34, Z34, Z34)


def test_values_unknown_while_tracing_are_not_checked():
    # A learned scale is a tracer: it must pass, whatever its value turns out to be.
    scale = jax.jit(lambda s: L.gaussian_nll(Z34, Z34, scale=s))(jnp.asarray(0.5))
    np.testing.assert_allclose(scale, 4 * (np.log(0.5) + 0.5 * np.log(2 * np.pi)), rtol=1e-5)
