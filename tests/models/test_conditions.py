"""Conditional VAEs: what they are told, the prior that depends on it, and conditions that are refused."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from jaxgen.model import example_keys
from jaxgen.models import conditional_vae, vae
from jaxgen.models.condition import join

KEY = jax.random.key(8)
RNG = np.random.default_rng(3)


def batch_of(x, **more):
    return {"x": jnp.asarray(x), "position": jnp.arange(len(x)), **more}


CONDITIONAL = {"shape": (6,), "num_classes": 3, "condition_size": 2, "latents": 2, "hidden": (5,)}


def test_a_conditional_prior_enters_kl_and_weights(x64):
    """KL between two Gaussians, and log p(z|c) in the importance weights, recomputed with scipy."""
    model = conditional_vae(**CONDITIONAL, prior="conditional", likelihood="gaussian", importance_samples=1)
    label = jnp.array([0, 2, 1])
    batch = batch_of(RNG.normal(size=(3, 6)), label=label)
    params, statistics = jax.jit(model.init)(KEY, batch)
    figures = model.evaluate(params, statistics, batch, KEY)

    def network(layers, x):
        first, second = (layers["params"][f"Dense_{i}"] for i in range(2))
        h = np.maximum(x @ first["kernel"] + first["bias"], 0) @ second["kernel"] + second["bias"]
        h = h.reshape(len(x), 2, 2)
        return h[:, 0], np.exp(7 * np.tanh(h[:, 1] / 14))

    one_hot = np.eye(3)[np.asarray(label)]
    mean_q, std_q = network(params["vae"]["encoder"], np.concatenate([batch["x"], one_hot], axis=1))
    mean_p, std_p = network(params["vae"]["prior"], one_hot)
    kl = np.log(std_p / std_q) + (std_q**2 + (mean_q - mean_p) ** 2) / (2 * std_p**2) - 0.5
    np.testing.assert_allclose(figures["kl"], kl.sum(axis=1), rtol=1e-10)
    _, aux = model.losses["vae"](params, statistics, batch, KEY, True)
    np.testing.assert_allclose(aux.metrics["kl"], kl.sum(axis=1).mean(), rtol=1e-10)
    importance_key = jax.random.fold_in(jax.random.split(KEY)[1], 0)
    noise = jax.vmap(lambda k: jax.random.normal(k, (1, 2)))(example_keys(importance_key, batch["position"]))[:, 0]
    z = mean_q + std_q * np.asarray(noise)
    log_ratio = (scipy.stats.norm.logpdf(z, mean_p, std_p) - scipy.stats.norm.logpdf(z, mean_q, std_q)).sum(axis=1)
    x_hat = model.decode(params, statistics, z, condition=label)
    log_px = scipy.stats.norm.logpdf(batch["x"], x_hat, 1.0).sum(axis=1)
    np.testing.assert_allclose(figures["log_px"], log_px + log_ratio, rtol=1e-9)


def test_samples_of_a_conditional_prior_have_its_mean_and_variance(x64):
    """Of a linear decoder: E[x|c] is the decoded mean of p(z|c), and Cov[x|c] = A diag(σ²) Aᵀ."""
    model = conditional_vae(**{**CONDITIONAL, "hidden": ()}, prior="conditional", likelihood="gaussian")
    params, statistics = jax.jit(model.init)(KEY, batch_of(np.zeros((1, 6)), label=jnp.array([0])))
    prior = np.array([[0.5, -1.0, 0.3, -0.2], [2.0, 0.7, 1.1, -1.6], [0.0, 0.0, 0.0, 0.0]])  # μ, then log σ²
    raw = np.concatenate([prior[:, :2], 14 * np.arctanh(prior[:, 2:] / 14)], axis=1)
    params["vae"]["prior"]["params"]["Dense_0"] = {"kernel": jnp.asarray(raw), "bias": jnp.zeros(4)}
    a, n = np.asarray(params["vae"]["decoder"]["params"]["Dense_0"]["kernel"])[:2].T, 20_000
    for label, (mean, logvar) in enumerate(prior.reshape(3, 2, 2)):
        told = np.full(n, label)
        x = np.asarray(model.sample(params, statistics, KEY, n, condition=told))
        covariance = a @ np.diag(np.exp(logvar)) @ a.T
        expected = model.decode(params, statistics, mean[None], condition=told[:1])[0]
        assert np.all(np.abs(x.mean(axis=0) - expected) < 4.5 * np.sqrt(np.diag(covariance) / n))
        np.testing.assert_allclose(np.cov(x.T), covariance, atol=0.05 * np.abs(covariance).max())


def test_a_convolutional_model_sees_its_condition_in_every_pixel(x64):
    x, told = RNG.normal(size=(2, 4, 3, 1)), RNG.normal(size=(2, 5))
    joined = join(jnp.asarray(x), jnp.asarray(told), spatial=True)
    np.testing.assert_array_equal(joined[..., :1], x)
    np.testing.assert_array_equal(joined[..., 1:], np.broadcast_to(told[:, None, None], (2, 4, 3, 5)))
    model = conditional_vae(shape=(4, 3, 1), num_classes=2, latents=2, network="conv", hidden=(3,))
    params, statistics = jax.jit(model.init)(KEY, batch_of(x, label=jnp.array([0, 1])))
    z = np.zeros((2, 2))
    for function, given in ((model.encode, x), (model.decode, z)):
        first, second = (np.asarray(function(params, statistics, given[:1], condition=np.array([c]))) for c in (0, 1))
        assert np.abs(first - second).max() > 1e-3


def test_vectors_and_classes_are_checked_where_they_are_known():
    model = conditional_vae(**CONDITIONAL)
    x = jnp.zeros((2, 6))
    params, statistics = jax.jit(model.init)(KEY, batch_of(x, label=jnp.array([0, 1])))
    with pytest.raises(ValueError, match="classes must lie in 0 … 2, got 0 … 3"):
        model.encode(params, statistics, x, condition=np.array([0, 3]))
    with pytest.raises(ValueError, match="classes must lie in 0 … 2, got -1 … 0"):
        model.encode(params, statistics, x, condition=np.array([0, -1]))
    with pytest.raises(ValueError, match="classes must be integers"):
        model.encode(params, statistics, x, condition=np.array([0.0, 1.0]))
    # A constant of a compiled function is known, and is checked and used as outside.
    label, unseen = jnp.array([2, 0]), jnp.array([0, 3])
    inside = jax.jit(lambda x: model.encode(params, statistics, x, condition=label))(x)
    np.testing.assert_allclose(inside, model.encode(params, statistics, x, condition=label), rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="classes must lie in 0 … 2, got 0 … 3"):
        jax.jit(lambda x: model.encode(params, statistics, x, condition=unseen))(x)
    vector = conditional_vae(**CONDITIONAL, condition="vector")
    told = {"condition": jnp.zeros((2, 2))}
    params, statistics = jax.jit(vector.init)(KEY, batch_of(x, **told))
    with pytest.raises(ValueError, match=r"must have shape \[batch, 2\], got \(2, 3\)"):
        vector.encode(params, statistics, x, condition=np.zeros((2, 3)))
    with pytest.raises(ValueError, match="takes no condition"):
        vae(shape=(6,)).encode({}, {}, x, condition=np.zeros((2, 3)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_classes": None}, "the data has no labels to condition on; add labels, or take condition vector"),
        (
            {"condition": "vector", "condition_size": None},
            "has no array `condition` .*; add it, or take condition label",
        ),
        ({"condition": "colour"}, "must be label or vector, got 'colour'"),
        ({"prior": "flat"}, "must be standard or conditional, got 'flat'"),
    ],
)
def test_conditions_that_the_data_lacks_are_refused(options, message):
    # Without the hook's own check of the annotation, as a user would call it.
    with pytest.raises(ValueError, match=message):
        inspect.unwrap(conditional_vae)(**{**CONDITIONAL, **options})
