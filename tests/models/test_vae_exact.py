"""The linear VAE is probabilistic PCA: with its optimum set by hand, every figure has an exact answer."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA

from jaxgen.models import vae
from jaxgen.models.likelihood import SCALE_FLOOR

IMAGES = load_digits().images[..., None] / 16
FLAT = IMAGES.reshape(len(IMAGES), -1)
KEY = jax.random.key(11)


class Optimum(NamedTuple):
    pca: PCA
    sigma: float
    weights: np.ndarray  # [pixels, latents]
    eigenvalues: np.ndarray

    @property
    def to_mean(self):
        """M⁻¹ Wᵀ, where M = WᵀW + σ²I is the diagonal matrix of the leading eigenvalues."""
        return self.weights.T / self.eigenvalues[:, None]


def optimum(latents):
    pca = PCA(latents).fit(FLAT)
    eigenvalues, variance = pca.explained_variance_, pca.noise_variance_
    weights = pca.components_.T * np.sqrt(eigenvalues - variance)
    return Optimum(pca, float(np.sqrt(variance)), weights, eigenvalues)


def linear_vae(best, *, scale="fixed", shift=0.0, widen=0.0, **options):
    """A model at the optimum; ``shift`` and ``widen`` move mean and log-variance of its posterior off it."""
    latents = len(best.eigenvalues)
    model = vae(
        shape=(8, 8, 1),
        latents=latents,
        hidden=(),
        likelihood="gaussian",
        scale=scale,
        fixed_scale=best.sigma,
        **options,
    )
    logvar = np.log(best.sigma**2 / best.eigenvalues) + widen
    encoder = {
        "kernel": np.concatenate([best.to_mean.T, np.zeros((64, latents))], axis=1),
        "bias": np.concatenate([shift - best.to_mean @ best.pca.mean_, 14 * np.arctanh(logvar / 14)]),
    }
    own = {
        "encoder": {"params": {"Dense_0": encoder}},
        "decoder": {"params": {"Dense_0": {"kernel": best.weights.T, "bias": best.pca.mean_}}},
        "likelihood": {"log_scale": np.log(best.sigma - SCALE_FLOOR)} if scale == "shared" else {},
    }
    shapes, statistics = jax.eval_shape(model.init, KEY, batch(IMAGES[:1]))
    assert jax.tree.structure(shapes) == jax.tree.structure({"vae": own})
    statistics = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), statistics)
    return model, {"vae": jax.tree.map(jnp.asarray, own)}, statistics


def batch(images=IMAGES):
    return {"x": jnp.asarray(images), "position": jnp.arange(len(images))}


def evaluate(model, params, statistics, key=KEY):
    return {k: np.asarray(v) for k, v in jax.jit(model.evaluate)(params, statistics, batch(), key).items()}


@pytest.mark.parametrize(("latents", "scale", "k"), [(2, "fixed", 1), (10, "shared", 7)])
def test_log_px_is_that_of_probabilistic_pca_with_any_number_of_draws(x64, latents, scale, k):
    best = optimum(latents)
    log_px = evaluate(*linear_vae(best, scale=scale, importance_samples=k))["log_px"]
    np.testing.assert_allclose(log_px, best.pca.score_samples(FLAT), rtol=0, atol=1e-8)
    np.testing.assert_allclose(log_px.mean(), best.pca.score(FLAT), rtol=0, atol=1e-9)


@pytest.mark.parametrize("samples", [1, 5])
def test_the_importance_weighted_loss_is_the_negative_evidence_at_the_exact_posterior(x64, samples):
    best = optimum(3)
    model, params, statistics = linear_vae(best, bound="iwae", samples=samples, importance_samples=0)
    for train in (True, False):
        loss, _ = jax.jit(model.losses["vae"], static_argnums=4)(params, statistics, batch(), KEY, train)
        np.testing.assert_allclose(loss, -best.pca.score(FLAT), rtol=0, atol=1e-9)
    values = evaluate(model, params, statistics)
    np.testing.assert_allclose(values["loss"], -best.pca.score_samples(FLAT), rtol=0, atol=1e-8)
    assert "log_px" not in values


@pytest.mark.parametrize(("shift", "widen"), [(0.0, 0.0), (0.2, 0.0), (0.0, 1.0)])
def test_the_elbo_falls_short_of_the_evidence_by_the_divergence_from_the_posterior(x64, shift, widen):
    best = optimum(2)
    gap = 0.5 * (shift**2 * best.eigenvalues / best.sigma**2 + np.exp(widen) - 1 - widen).sum()
    model, params, statistics = linear_vae(best, shift=shift, widen=widen, samples=64, importance_samples=0)
    values = evaluate(model, params, statistics)
    short = best.pca.score_samples(FLAT) - values["elbo"]
    error = short.std() / np.sqrt(len(short))
    assert error < 0.01
    assert abs(short.mean() - gap) < 5 * error
    np.testing.assert_allclose(values["elbo"], -(values["nll"] + values["kl"]), rtol=1e-12)


def test_the_importance_weighted_bound_tightens_with_the_samples_on_average(x64):
    best = optimum(2)
    bounds = []
    for samples in (1, 4, 16):
        off = linear_vae(best, shift=0.1, widen=0.7, bound="iwae", samples=samples, importance_samples=0)
        bounds.append(-evaluate(*off)["loss"])
    evidence = best.pca.score_samples(FLAT)
    for tighter, looser in ((evidence, bounds[2]), (bounds[2], bounds[1]), (bounds[1], bounds[0])):
        gain = tighter - looser
        assert gain.mean() > 4 * gain.std() / np.sqrt(len(gain))


def test_latents_reconstructions_and_samples_are_those_of_probabilistic_pca(x64):
    best = optimum(4)
    model, params, statistics = linear_vae(best)
    mean = (FLAT - best.pca.mean_) @ best.to_mean.T
    np.testing.assert_allclose(model.encode(params, statistics, IMAGES), mean, atol=1e-10)
    expected = mean @ best.weights.T + best.pca.mean_
    reconstructed = model.reconstruct(params, statistics, IMAGES)
    np.testing.assert_allclose(reconstructed, expected.reshape(IMAGES.shape), atol=1e-10)
    np.testing.assert_allclose(model.decode(params, statistics, mean), reconstructed, atol=1e-10)
    error = evaluate(model, params, statistics)["squared_error"]
    np.testing.assert_allclose(error, np.square(expected - FLAT).sum(axis=1), atol=1e-10)
    n = 10_000
    samples = np.asarray(model.sample(params, statistics, KEY, n)).reshape(n, 64)
    latents = (samples - best.pca.mean_) @ np.linalg.pinv(best.weights).T
    np.testing.assert_allclose(latents @ best.weights.T, samples - best.pca.mean_, atol=1e-9)
    np.testing.assert_allclose(latents.mean(axis=0), 0, atol=5 / np.sqrt(n))
    np.testing.assert_allclose(np.cov(latents.T), np.eye(4), atol=5 * np.sqrt(2 / n))
