"""Discrete latents few enough to enumerate: likelihood, bound, divergence, and each estimator's gradient."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from jaxgen.models import discrete_vae
from jaxgen.models.discrete_vae import categorical_latent

KEY = jax.random.key(6)
LATENTS, CLASSES = 2, 3
SMALL = {"shape": (5,), "latents": LATENTS, "classes": CLASSES, "hidden": (4,), "activation": "tanh"}
X = np.random.default_rng(1).integers(0, 2, size=(3, 5)).astype(np.float64)
BATCH = {"x": jnp.asarray(X), "position": jnp.arange(3)}
STATES = np.array(list(itertools.product(range(CLASSES), repeat=LATENTS)))


def make(**options):
    model = discrete_vae(**SMALL, **options)
    params, statistics = jax.jit(model.init)(jax.random.key(1), BATCH)
    return model, jax.tree.map(lambda a: 1.5 * a, params), statistics


def mlp(layers, x):
    first, second = (layers["params"][f"Dense_{i}"] for i in range(2))
    return jnp.tanh(x @ first["kernel"] + first["bias"]) @ second["kernel"] + second["bias"]


def terms(own):
    """log q [batch, states] and −log p(x|z) [batch, states] of every state."""
    log_q = jax.nn.log_softmax(mlp(own["encoder"], X).reshape(3, LATENTS, CLASSES))
    one_hot = jax.nn.one_hot(STATES, CLASSES).reshape(len(STATES), -1)
    logits = mlp(own["decoder"], one_hot)
    nll = jnp.logaddexp(0, logits)[None] - X[:, None] * logits[None]
    of_states = sum(log_q[:, latent][:, STATES[:, latent]] for latent in range(LATENTS))
    return of_states, nll.sum(axis=-1)


def exact_loss(own):
    """The negative ELBO by summing over every state."""
    log_q, nll = terms(own)
    kl = log_q + LATENTS * np.log(CLASSES)
    return (jnp.exp(log_q) * (nll + kl)).sum(axis=1).mean()


def test_likelihood_bound_and_divergence_are_those_of_the_enumeration(x64):
    model, params, statistics = make(importance_samples=20_000, samples=2000)
    figures = jax.jit(model.evaluate)(params, statistics, BATCH, KEY)
    log_q, nll = (np.asarray(a) for a in terms(params["vae"]))
    evidence = scipy.special.logsumexp(-nll, axis=1) - LATENTS * np.log(CLASSES)
    kl = (np.exp(log_q) * (log_q + LATENTS * np.log(CLASSES))).sum(axis=1)
    np.testing.assert_allclose(figures["kl"], kl, rtol=1e-5)
    np.testing.assert_allclose(figures["log_px"], evidence, atol=0.05)
    expected = (np.exp(log_q) * nll).sum(axis=1)
    spread = np.sqrt((np.exp(log_q) * (nll - expected[:, None]) ** 2).sum(axis=1) / 2000)
    assert np.all(np.abs(figures["nll"] - expected) < 4.5 * spread)
    assert np.all(np.asarray(figures["elbo"]) <= evidence + 4.5 * spread)


@pytest.mark.parametrize("estimator", ["reinforce", "reinforce_constant", "reinforce_leave_one_out"])
def test_the_score_function_s_gradient_is_that_of_the_enumeration(x64, estimator):
    model, params, statistics = make(estimator=estimator, samples=2, importance_samples=0)
    if estimator == "reinforce_constant":
        statistics = {**statistics, "latent": {"mean": jnp.asarray(3.0), "updates": jnp.asarray(9.0)}}
    exact = jax.grad(exact_loss)(params["vae"])

    def gradient(key):
        def loss(own):
            return model.losses["vae"]({"vae": own}, statistics, BATCH, key, True)[0]

        return jax.grad(loss)(params["vae"])

    draws = jax.lax.map(gradient, jax.random.split(KEY, 20_000), batch_size=500)
    for drawn, truth in zip(jax.tree.leaves(draws), jax.tree.leaves(exact)):
        error = np.asarray(drawn.mean(axis=0) - truth)
        standard_error = np.asarray(drawn).std(axis=0) / np.sqrt(len(drawn))
        assert np.all(np.abs(error) < 5 * standard_error + 1e-12)


@pytest.mark.parametrize("estimator", ["gumbel_softmax", "straight_through"])
def test_cold_relaxations_come_near_the_enumeration_and_hot_ones_do_not(x64, estimator):
    def error(temperature):
        options = {"temperature": temperature, "final_temperature": temperature, "importance_samples": 0}
        model, params, statistics = make(estimator=estimator, samples=4, **options)
        exact = jax.grad(exact_loss)(params["vae"])["encoder"]

        def gradient(key):
            def loss(own):
                return model.losses["vae"]({"vae": own}, statistics, BATCH, key, True)[0]

            return jax.grad(loss)(params["vae"])["encoder"]

        drawn = jax.lax.map(gradient, jax.random.split(KEY, 4000), batch_size=500)
        pairs = zip(jax.tree.leaves(drawn), jax.tree.leaves(exact))
        return float(np.sqrt(sum(np.square(np.asarray(d.mean(axis=0) - e)).sum() for d, e in pairs)))

    cold, hot = error(0.1), error(5.0)
    assert cold < hot / 3 if estimator == "gumbel_softmax" else cold < hot


def test_training_relaxes_and_evaluation_does_not(x64):
    latent = categorical_latent(2, 3, estimator="gumbel_softmax", temperature_at=lambda updates: 0.5 + 0 * updates)
    q = latent.posterior(jnp.asarray(np.random.default_rng(0).normal(size=(4, 2, 3))))
    keys = jax.random.split(KEY, 4)
    relaxed = latent.draw(keys, q, (), 5, updates=jnp.asarray(0)).z.reshape(5, 4, 2, 3)
    exact = latent.draw(keys, q, (), 5).z.reshape(5, 4, 2, 3)
    np.testing.assert_allclose(relaxed.sum(axis=-1), 1, rtol=1e-12)
    assert np.all((np.asarray(relaxed) > 0) & (np.asarray(relaxed) < 1))
    assert set(np.unique(exact)) == {0.0, 1.0}
    np.testing.assert_array_equal(exact.sum(axis=-1), 1)


def test_the_temperature_falls_by_the_same_factor_each_update():
    model, params, statistics = make(temperature=2.0, final_temperature=0.5, anneal=4, importance_samples=0)

    def temperature(updates):
        at = {**statistics, "updates": jnp.asarray(updates)}
        return float(model.losses["vae"](params, at, BATCH, KEY, True)[1].metrics["temperature"])

    np.testing.assert_allclose([temperature(t) for t in (0, 1, 2, 4, 9)], [2, 2**0.5, 1, 0.5, 0.5], rtol=1e-6)


def test_draws_are_relaxed_at_the_temperature_of_their_update(x64):
    """τ (log z_i − log z_j) is the same at every temperature: the logits and the noise."""
    latent = categorical_latent(2, 3, estimator="gumbel_softmax", temperature_at=lambda updates: 2.0 / (1 + updates))
    q = latent.posterior(jnp.asarray(np.random.default_rng(0).normal(size=(4, 2, 3))))
    keys = jax.random.split(KEY, 4)

    def odds(updates):
        log_z = np.log(latent.draw(keys, q, (), 5, updates=jnp.asarray(updates)).z).reshape(5, 4, 2, 3)
        return log_z[..., 1:] - log_z[..., :1]

    np.testing.assert_allclose(odds(3) * 0.5, odds(0) * 2.0, rtol=1e-9)


def test_straight_through_trains_on_one_hot_draws_with_the_relaxed_gradient(x64):
    def drawn(estimator, logits):
        latent = categorical_latent(2, 3, estimator=estimator, temperature_at=lambda updates: 0.7)
        q = latent.posterior(logits)
        return latent.draw(jax.random.split(KEY, 4), q, (), 5, updates=jnp.asarray(0)).z

    logits = jnp.asarray(np.random.default_rng(0).normal(size=(4, 2, 3)))
    hard = np.asarray(drawn("straight_through", logits)).reshape(5, 4, 2, 3)
    relaxed = np.asarray(drawn("gumbel_softmax", logits)).reshape(5, 4, 2, 3)
    np.testing.assert_array_equal(hard, np.eye(3)[relaxed.argmax(axis=-1)])
    names = ("straight_through", "gumbel_softmax")
    slope, expected = (jax.jacobian(lambda v, name=name: drawn(name, v))(logits) for name in names)
    np.testing.assert_allclose(slope, expected, rtol=1e-9, atol=1e-12)


def test_the_prior_draws_every_class_of_every_latent_as_often(x64):
    n, classes = 20_000, 3
    latent = categorical_latent(2, classes, estimator="gumbel_softmax", temperature_at=lambda updates: 1.0)
    z = np.asarray(latent.sample(KEY, latent.standard, n)).reshape(n, 2, classes)
    np.testing.assert_array_equal(z.sum(axis=-1), 1)
    np.testing.assert_allclose(z.mean(axis=0), 1 / classes, atol=4.5 * np.sqrt(2 / 9 / n))
    both = z[:, 0, :, None] * z[:, 1, None, :]
    np.testing.assert_allclose(both.mean(axis=0), 1 / 9, atol=4.5 * np.sqrt(8 / 81 / n))


def test_a_latent_is_active_where_its_posterior_is_not_uniform(x64):
    """Three latents: one uniform whatever x is, one at 0.5, 0.3, 0.2, one decided."""
    model = discrete_vae(**{**SMALL, "latents": 3, "hidden": ()}, importance_samples=0)
    params, statistics = jax.jit(model.init)(KEY, BATCH)
    shares = np.array([[1, 1, 1], [0.5, 0.3, 0.2], [1, 1e-6, 1e-6]]) / np.array([[3], [1], [1 + 2e-6]])
    params["vae"]["encoder"]["params"]["Dense_0"] = {"kernel": jnp.zeros((5, 9)), "bias": jnp.log(shares.ravel())}
    values = jax.jit(model.evaluate)(params, statistics, BATCH, KEY)
    figures = model.summarize({name: np.asarray(value).mean(axis=0) for name, value in values.items()})
    expected = (shares * np.log(3 * shares)).sum(axis=1)
    np.testing.assert_allclose(figures["kl_dim"], expected, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(figures["rate"], expected.sum(), rtol=1e-6)
    assert figures["active_units"] == 2


def test_the_running_baseline_is_that_of_the_updates_before(x64):
    model, params, statistics = make(estimator="reinforce_constant", importance_samples=0)
    means = []
    for step in range(3):
        assert float(statistics["latent"]["mean"]) == pytest.approx(np.mean(means) if means else 0.0)
        key = jax.random.fold_in(KEY, step)
        _, aux = model.losses["vae"](params, statistics, BATCH, key, True)
        means.append(float(aux.metrics["nll"]))
        statistics = aux.statistics
    _, aux = model.losses["vae"](params, statistics, BATCH, KEY, False)
    assert float(aux.statistics["latent"]["mean"]) == float(statistics["latent"]["mean"])


def test_codes_are_indices_that_decode(x64):
    model, params, statistics = make()
    index = model.encode(params, statistics, X)
    log_q = jax.nn.log_softmax(mlp(params["vae"]["encoder"], X).reshape(3, LATENTS, CLASSES))
    np.testing.assert_array_equal(index, log_q.argmax(axis=-1))
    one_hot = jax.nn.one_hot(index, CLASSES).reshape(3, -1)
    np.testing.assert_allclose(
        model.decode(params, statistics, index), jax.nn.sigmoid(mlp(params["vae"]["decoder"], one_hot)), rtol=1e-5
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": 0.0}, "must be positive and anneal at least 1, got 0.0"),
        ({"final_temperature": -1.0}, "must be positive"),
        ({"anneal": 0}, "anneal at least 1"),
        ({"classes": 1}, "classes at least 2, got 2 and 1"),
        ({"estimator": "reinforce_leave_one_out"}, "needs samples of at least 2, got 1"),
    ],
)
def test_settings_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        discrete_vae(**{**SMALL, **options})
