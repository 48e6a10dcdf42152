"""Examples of which a part is missing: losses over what was observed, completions against the exact conditional."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.metrics.importance import MAX_ELEMENTS, _largest, draws_at_a_time
from jaxgen.models import autoencoder, info_vae, vae
from jaxgen.models.likelihood import SCALE_FLOOR, make_likelihood

KEY = jax.random.key(5)
RNG = np.random.default_rng(2)
# A linear model of four observed variables and one latent, as factor analysis has it.
W, BIAS, SIGMA = np.array([1.0, -0.8, 0.5, 1.2]), np.array([0.3, 0.0, -0.5, 0.2]), 0.6
LINEAR = {"shape": (4,), "latents": 1, "hidden": (), "likelihood": "gaussian", "fixed_scale": SIGMA}


# The posterior of a whole example is narrower than that of a part: as a proposal its weights would have no variance.
WIDE = (0.0, 1.5)


def linear_vae(*, proposal=(0.0, 0.0)):
    """The model whose encoder is the exact posterior of a whole example, or off by a shift and a log-variance."""
    model = vae(**LINEAR, importance_samples=0)
    precision = 1 + W @ W / SIGMA**2
    gain, variance = W / SIGMA**2 / precision, 1 / precision
    kernel = np.zeros((4, 2))
    kernel[:, 0] = gain
    # raw log-variance r gives 14 tanh(r / 14)
    raw = 14 * np.arctanh((np.log(variance) + proposal[1]) / 14)
    encoder = {"kernel": jnp.asarray(kernel), "bias": jnp.array([-gain @ BIAS + proposal[0], raw])}
    decoder = {"kernel": jnp.asarray(W[None]), "bias": jnp.asarray(BIAS)}
    params = {"encoder": {"params": {"Dense_0": encoder}}, "decoder": {"params": {"Dense_0": decoder}}}
    return model, {"vae": params | {"likelihood": {}}}, {"updates": 0, "likelihood": {}, "latent": {}}


def conditional(x):
    """Mean and covariance of what is NaN in x, given the rest, under N(BIAS, WWᵀ + σ²I)."""
    missing = np.isnan(x)
    covariance = np.outer(W, W) + SIGMA**2 * np.eye(4)
    gain = covariance[np.ix_(missing, ~missing)] @ np.linalg.inv(covariance[np.ix_(~missing, ~missing)])
    mean = BIAS[missing] + gain @ (x - BIAS)[~missing]
    return mean, covariance[np.ix_(missing, missing)] - gain @ covariance[np.ix_(~missing, missing)]


X = np.array([[1.5, np.nan, -0.2, np.nan], [np.nan, -1.0, 0.4, 2.0]])


@pytest.mark.parametrize(("method", "draws"), [("importance", 400), ("gibbs", 30)])
def test_completions_are_drawn_from_the_exact_conditional(x64, method, draws):
    model, params, statistics = linear_vae(proposal=WIDE if method == "importance" else (0.0, 0.0))
    n = 4000

    def impute(key):
        return model.impute(params, statistics, X, key, n, method=method, draws=draws, noise=True)

    # Each call chooses its completions from draws of its own: a few calls, so that their error averages out.
    calls = 20 if method == "importance" else 1
    completions = np.concatenate([np.asarray(jax.jit(impute)(jax.random.fold_in(KEY, i))) for i in range(calls)])
    for i in range(len(X)):
        missing = np.isnan(X[i])
        np.testing.assert_array_equal(
            completions[:, i, ~missing], np.broadcast_to(X[i, ~missing], (n * calls, (~missing).sum()))
        )
        mean, covariance = conditional(X[i])
        draws_i = completions[:, i, missing]
        error = np.sqrt(np.diag(covariance) * (1 / n + 1 / draws) / calls) * 5
        assert np.all(np.abs(draws_i.mean(axis=0) - mean) < error)
        np.testing.assert_allclose(np.cov(draws_i.T).reshape(covariance.shape), covariance, rtol=0.15, atol=0.04)


def test_without_noise_completions_are_the_decoder_s_mean_and_their_average_is_the_best_guess(x64):
    model, params, statistics = linear_vae(proposal=WIDE)
    many = jax.jit(lambda key: model.impute(params, statistics, X, key, 2000, draws=20_000))(KEY)
    for i in range(len(X)):
        mean, _ = conditional(X[i])
        np.testing.assert_allclose(many[:, i, np.isnan(X[i])].mean(axis=0), mean, atol=0.06)
    # One latent: every completion lies on the line that the decoder draws.
    z = (np.asarray(many)[:, 0, 1] - BIAS[1]) / W[1]
    np.testing.assert_allclose(many[:, 0, 3], BIAS[3] + W[3] * z, atol=1e-12)


def test_an_encoder_that_is_far_off_is_made_up_for_by_the_prior_s_draws(x64):
    """q(z|x_o) eight prior deviations away and narrow: none of its draws fits what was observed."""
    model, params, statistics = linear_vae(proposal=(8.0, -3.0))
    many = jax.jit(lambda key: model.impute(params, statistics, X, key, 2000, draws=20_000))(KEY)
    for i in range(len(X)):
        mean, _ = conditional(X[i])
        np.testing.assert_allclose(many[:, i, np.isnan(X[i])].mean(axis=0), mean, atol=0.06)


@pytest.mark.parametrize(("arguments", "message"), [({"n": 0}, "at least 1, got 0"), ({"draws": 0}, "and 0")])
def test_counts_below_one_are_refused(arguments, message):
    model, params, statistics = linear_vae()
    with pytest.raises(ValueError, match=message):
        model.impute(params, statistics, X, KEY, **({"n": 1} | arguments))


@pytest.mark.parametrize("method", ["importance", "gibbs"])
def test_what_is_drawn_for_an_example_depends_on_its_own_key_alone(x64, method):
    """Not on its batch mates, nor on its place among them; one key is one for each place."""
    model, params, statistics = linear_vae(proposal=WIDE)
    keys = jax.vmap(jax.random.fold_in, (None, 0))(KEY, jnp.arange(3))
    x = np.concatenate([X, X[:1]])

    def impute(x, keys):
        return np.asarray(model.impute(params, statistics, x, keys, 5, method=method, draws=6, noise=True))

    whole = impute(x, keys)
    np.testing.assert_array_equal(impute(x, KEY), whole)
    np.testing.assert_allclose(impute(x[::-1].copy(), keys[::-1]), whole[:, ::-1], rtol=1e-12)
    np.testing.assert_allclose(impute(x[1:2], keys[1:2]), whole[:, 1:2], rtol=1e-12)
    assert np.abs(whole[:, 0] - whole[:, 2])[:, np.isnan(X[0])].min() > 1e-6


def test_the_largest_array_does_not_grow_with_the_draws():
    model, params, statistics = linear_vae()

    def largest(draws):
        traced = jax.make_jaxpr(lambda key: model.impute(params, statistics, X, key, 3, draws=draws))(KEY)
        return _largest(traced.jaxpr)

    assert largest(10**8) == largest(10**7) <= MAX_ELEMENTS


@pytest.mark.parametrize("max_elements", [1, 40, 10**6])
def test_completions_do_not_depend_on_how_many_draws_are_made_at_a_time(x64, monkeypatch, max_elements):
    model, params, statistics = linear_vae(proposal=WIDE)
    expected = model.impute(params, statistics, X, KEY, 4, draws=7)
    at_once = partial(draws_at_a_time, max_elements=max_elements)
    monkeypatch.setattr("jaxgen.models.imputation.draws_at_a_time", at_once)
    np.testing.assert_allclose(model.impute(params, statistics, X, KEY, 4, draws=7), expected, rtol=1e-12)


FACTORIES = {
    "vae": lambda: vae(shape=(6,), latents=2, hidden=(5,), likelihood="gaussian", importance_samples=3),
    "optimal": lambda: vae(shape=(6,), latents=2, hidden=(5,), likelihood="gaussian", scale="optimal"),
    "bernoulli": lambda: vae(shape=(6,), latents=2, hidden=(5,), samples=2, bound="iwae"),
    "mixed": lambda: vae(shape=(6,), columns=(1, 3, 1, 1), latents=2, hidden=(5,), likelihood="mixed"),
    "info_vae": lambda: info_vae(shape=(6,), latents=2, hidden=(5,)),
    "autoencoder": lambda: autoencoder(shape=(6,), latents=2, hidden=(5,)),
}


@pytest.mark.parametrize("name", FACTORIES)
def test_what_is_hidden_changes_neither_loss_nor_gradient_nor_figures(x64, name):
    model = FACTORIES[name]()
    (player,) = model.losses
    x = RNG.uniform(size=(4, 6))
    x[:, 1:4] = np.eye(3)[[0, 1, 2, 0]]
    mask = np.ones((4, 6), bool)
    mask[0, 0] = mask[2, 5] = mask[3, 4] = False
    mask[1, 1:4] = False
    batches = [
        {"x": jnp.asarray(np.where(mask, x, hidden)), "mask": jnp.asarray(mask), "position": jnp.arange(4)}
        for hidden in (0.0, 0.7, np.nan)
    ]
    params, statistics = jax.jit(model.init)(KEY, batches[0])
    results = []
    for batch in batches:

        def loss(own, batch=batch):
            return model.losses[player]({player: own}, statistics, batch, KEY, True)

        (value, aux), gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))(params[player])
        figures = jax.jit(model.evaluate)(params, statistics, batch, KEY)
        results.append((value, aux, gradient, figures))
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(results))
    for other in results[1:]:
        jax.tree.map(np.testing.assert_array_equal, results[0], other)
    # Where all is observed, a mask is none; where something is not, less is paid for.
    whole = {"x": jnp.asarray(x), "position": jnp.arange(4)}
    plain = jax.jit(model.evaluate)(params, statistics, whole, KEY)
    full = jax.jit(model.evaluate)(params, statistics, whole | {"mask": jnp.ones((4, 6), bool)}, KEY)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12), plain, full)
    assert not np.allclose(plain["nll"], results[0][3]["nll"])


def linear_autoencoder():
    model = autoencoder(shape=(4,), latents=1, hidden=())
    return model, *jax.jit(model.init)(KEY, {"x": jnp.zeros((1, 4))})


@pytest.mark.parametrize("make", [linear_vae, linear_autoencoder])
def test_nan_in_a_function_s_argument_is_what_a_mask_is_in_a_batch(make):
    model, params, statistics = make()
    x = X.astype(np.float32)
    known = np.nan_to_num(x)
    np.testing.assert_array_equal(model.encode(params, statistics, x), model.encode(params, statistics, known))
    assert np.all(np.isfinite(model.reconstruct(params, statistics, x)))


def test_mixed_columns_have_each_their_likelihood(x64):
    """Numbers: a Gaussian; blocks: −log softmax at the category, counted once for the whole block."""
    x = np.array([[0.3, 0, 1, 0, -1.0, 2.0]])
    observed = make_likelihood("mixed", (6,), columns=(1, 3, 1, 1))
    outputs = RNG.normal(size=(1, 6))
    own = {"log_scale": jnp.array([0.1, -0.3, 0.5])}
    sigma = SCALE_FLOOR + np.exp([0.1, -0.3, 0.5])
    numbers = [0, 4, 5]
    gaussian = 0.5 * ((x - outputs)[0, numbers] / sigma) ** 2 + np.log(sigma) + 0.5 * np.log(2 * np.pi)
    logits = outputs[0, 1:4]
    category = np.log(np.exp(logits).sum()) - logits[1]
    np.testing.assert_allclose(observed.nll(own, {}, outputs, x), [gaussian.sum() + category], rtol=1e-12)
    mask = np.array([[True, False, False, False, True, False]])
    np.testing.assert_allclose(observed.nll(own, {}, outputs, x, mask=mask), [gaussian[:2].sum()], rtol=1e-12)
    mean = np.asarray(observed.mean(jnp.asarray(outputs)))
    np.testing.assert_allclose(mean[0, 1:4], np.exp(logits) / np.exp(logits).sum(), rtol=1e-12)
    np.testing.assert_array_equal(mean[0, numbers], outputs[0, numbers])
    draws = np.asarray(
        jax.vmap(lambda key: observed.draw(own, {}, key, jnp.asarray(outputs)))(jax.random.split(KEY, 20_000))
    )[:, 0]
    np.testing.assert_allclose(draws[:, 1:4].mean(axis=0), mean[0, 1:4], atol=0.02)
    assert np.all(draws[:, 1:4].sum(axis=1) == 1)
    np.testing.assert_allclose(draws[:, numbers].std(axis=0), sigma, rtol=0.03)
    with pytest.raises(ValueError, match=r"got \(1, 4\)"):
        make_likelihood("mixed", (6,), columns=(1, 4))
