"""VAE + GAN: the three players' losses and gradients in NumPy from the same draws, and what none of them is paid."""

import inspect
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from payoffs import OBJECTIVES
from scipy.special import log_expit
from scipy.stats import norm
from slopes import slopes

from jaxgen.models import vae_gan

BATCH, LATENTS, KEY = 4, 2, jax.random.key(3)
POSITIONS = np.arange(7, 7 + BATCH)
WEIGHTS = {"similarity_weight": 0.3, "beta": 0.7}


def make(**options):
    rng = np.random.default_rng(2)
    model = vae_gan(**({"shape": (3,), "latents": LATENTS, "hidden": (4,), "activation": "tanh"} | options))
    batch = {"x": jnp.asarray(rng.normal(size=(BATCH, 3))), "position": jnp.asarray(POSITIONS)}
    params, statistics = jax.eval_shape(model.init, KEY, batch)
    assert statistics == {}
    return model, jax.tree.map(lambda s: jnp.asarray(rng.normal(size=s.shape)), params), batch


def network(own, x, features=False):
    """Dense layers with tanh between them; of the discriminator the features are those before the last."""
    own = own["params"]
    if features:
        hidden = own["features"]["Dense_0"]
        seen = np.tanh(x @ hidden["kernel"] + hidden["bias"])
        last = own["MLP_0"]["Dense_0"]
        return (seen @ last["kernel"] + last["bias"])[:, 0], seen
    x = np.tanh(x @ own["Dense_0"]["kernel"] + own["Dense_0"]["bias"])
    return x @ own["Dense_1"]["kernel"] + own["Dense_1"]["bias"]


@cache
def noise(which, size):
    """Drawn for each place of the batch by the first key or the second; once, for all the slopes."""
    key = jax.random.split(KEY)[which]
    return np.stack([jax.random.normal(jax.random.fold_in(key, p), size) for p in POSITIONS])


def played(params, batch):
    """Logits and features of examples, reconstructions and samples, and the divergence from the prior by dimension."""
    outputs = network(params["encoder"], np.asarray(batch["x"])).reshape(BATCH, 2, LATENTS)
    mean, logvar = outputs[:, 0], 14 * np.tanh(outputs[:, 1] / 14)
    z = mean + np.exp(logvar / 2) * noise(0, (1, LATENTS))[:, 0]
    shown = (np.asarray(batch["x"]), *(network(params["generator"], z) for z in (z, noise(1, (LATENTS,)))))
    kl = 0.5 * (mean**2 + np.exp(logvar) - 1 - logvar)
    return shown, [network(params["discriminator"], x, features=True) for x in shown], kl


def expected(player, params, batch, similarity, objective):
    """Of each example: its loss, and the divergence and likelihood in it."""
    (x, rebuilt, _), ((real, seen), (on_rebuilt, seen_rebuilt), (on_fake, _)), kl = played(params, batch)
    pair = (seen, seen_rebuilt) if similarity == "features" else (x, rebuilt)
    nll = -norm.logpdf(pair[0], pair[1]).sum(axis=1)
    of_discriminator, of_generator = OBJECTIVES[objective]
    if player == "discriminator":
        return (of_discriminator(real, on_rebuilt) + of_discriminator(real, on_fake)) / 2, {}
    if player == "encoder":
        kl = kl.sum(axis=1)
        return 0.7 * kl + nll, {"kl": kl, "feature_nll" if similarity == "features" else "nll": nll}
    return 0.3 * nll + (of_generator(on_rebuilt) + of_generator(on_fake)) / 2, {}


@pytest.mark.parametrize(
    ("similarity", "objective"),
    [("features", "non_saturating"), ("pixels", "minimax"), ("features", "hinge"), ("pixels", "least_squares")],
)
def test_each_player_s_loss_and_gradient_are_its_own(x64, similarity, objective):
    model, params, batch = make(similarity=similarity, objective=objective, **WEIGHTS)
    assert list(model.turns.items()) == [("discriminator", 1), ("encoder", 1), ("generator", 1)]
    for player in model.losses:

        def loss(own, player=player):
            return model.losses[player](params | {player: own}, {}, batch, KEY, True)

        (value, aux), gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))(params[player])
        each, terms = expected(player, params, batch, similarity, objective)
        np.testing.assert_allclose(value, np.mean(each), rtol=1e-10)
        for name, term in terms.items():
            np.testing.assert_allclose(aux.metrics[name], np.mean(term), rtol=1e-10)
        finite = slopes(
            lambda own, p=player: np.mean(expected(p, params | {p: own}, batch, similarity, objective)[0]),
            params[player],
        )
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), gradient, finite)


def test_figures_are_of_the_mean_of_the_draws_and_of_the_prior(x64):
    model, params, batch = make()
    figures = jax.jit(model.evaluate)(params, {}, batch, KEY)
    _, ((real, seen), (rebuilt_logits, seen_rebuilt), (fake, _)), kl = played(params, batch)
    np.testing.assert_allclose(figures["encoder/kl"], kl.sum(axis=1), rtol=1e-10)
    np.testing.assert_allclose(figures["kl_dim"], kl, rtol=1e-10)
    np.testing.assert_allclose(figures["encoder/feature_nll"], -norm.logpdf(seen, seen_rebuilt).sum(axis=1), rtol=1e-10)
    # What the discriminator maximizes: of what is not real half are reconstructions.
    value = log_expit(real) + 0.5 * log_expit(-rebuilt_logits) + 0.5 * log_expit(-fake)
    np.testing.assert_allclose(figures["value"], value, rtol=1e-10)
    for name, right in (("real", real > 0), ("fake", fake < 0), ("reconstructed", rebuilt_logits < 0)):
        np.testing.assert_array_equal(figures[f"discriminator/accuracy_{name}"], right)
    mean = network(params["encoder"], np.asarray(batch["x"]))[:, :LATENTS]
    rebuilt = network(params["generator"], mean)
    np.testing.assert_allclose(model.encode(params, {}, batch["x"]), mean, rtol=1e-10)
    np.testing.assert_allclose(model.reconstruct(params, {}, batch["x"]), rebuilt, rtol=1e-10)
    np.testing.assert_allclose(figures["squared_error"], np.square(rebuilt - batch["x"]).sum(axis=1), rtol=1e-10)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"objective": "wasserstein"}, "must not be wasserstein"),
        ({"objective": "best"}, "objective must be one of non_saturating, .* got 'best'"),
        ({"similarity": "none"}, "features or pixels, got 'non_saturating' and 'none'"),
        ({"beta": -1.0}, "finite and not negative, got 0.01 and -1.0"),
        ({"similarity_weight": -2.0}, "finite and not negative, got -2.0 and 1.0"),
        ({"similarity_weight": float("inf")}, "finite and not negative, got inf and 1.0"),
        ({"beta": float("nan")}, "finite and not negative, got 0.01 and nan"),
        ({"hidden": ()}, "outputs are the features, got \\(\\)"),
        ({"latents": 0}, "latents must be at least 1, got 0"),
        ({"network": "conv"}, "needs images"),
    ],
)
def test_settings_that_make_no_contest_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        inspect.unwrap(vae_gan)(**({"shape": (3,)} | options))


@pytest.mark.parametrize(("objective", "boundary"), [("hinge", 0.0), ("least_squares", 0.5)])
def test_accuracies_in_training_are_shares_on_the_right_side_of_the_boundary(x64, objective, boundary):
    model, params, batch = make(objective=objective)
    last = params["discriminator"]["params"]["MLP_0"]["Dense_0"]
    last["bias"] = last["bias"] + boundary + 0.9  # among the logits of samples
    _, ((real, _), (on_rebuilt, _), (on_fake, _)), _ = played(params, batch)
    metrics = model.losses["discriminator"](params, {}, batch, KEY, True)[1].metrics
    assert dict(metrics) == {
        "accuracy_real": np.mean(real > boundary),
        "accuracy_fake": np.mean(on_fake < boundary),
        "accuracy_reconstructed": np.mean(on_rebuilt < boundary),
    }
    assert metrics["accuracy_fake"] == 0.75 != metrics["accuracy_real"]


def test_a_dimension_is_active_whose_mean_varies_over_the_split(x64):
    """Wherever that mean lies: the second is 3 for every example."""
    model, params, batch = make()
    last = params["encoder"]["params"]["Dense_1"]
    last["kernel"], last["bias"] = last["kernel"].at[:, 1].set(0), last["bias"].at[1].set(3)
    figures = model.evaluate(params, {}, batch, KEY)
    mean = network(params["encoder"], np.asarray(batch["x"]))[:, :LATENTS]
    np.testing.assert_array_equal(mean.var(axis=0) > 0.01, [True, False])
    found = model.summarize({name: np.mean(value, axis=0) for name, value in figures.items()})
    assert found["active_units"] == 1
    assert set(found) == {*figures, "active_units"} - {"mean_1", "mean_2"}
    np.testing.assert_allclose(found["squared_error"], np.mean(figures["squared_error"]))


def test_samples_are_decoded_from_the_standard_normal(x64):
    """By a decoder that is made linear: z = relu(z) − relu(−z)."""
    model, params, _ = make(activation="relu")
    own, n = params["generator"]["params"], 20_000
    kernel, bias = (np.asarray(own["Dense_1"][name]) for name in ("kernel", "bias"))
    own["Dense_0"] = {"kernel": jnp.concatenate([jnp.eye(2), -jnp.eye(2)], axis=1), "bias": jnp.zeros(4)}
    own["Dense_1"] = {"kernel": jnp.concatenate([kernel[:2], -kernel[:2]]), "bias": jnp.asarray(bias)}
    samples = np.asarray(model.sample(params, {}, KEY, n))
    covariance = kernel[:2].T @ kernel[:2]
    spread = np.sqrt(np.diag(covariance))
    assert np.all(np.abs(samples.mean(axis=0) - bias) < 5 * spread / np.sqrt(n))
    assert np.all(np.abs(np.cov(samples.T) - covariance) < 5 * np.sqrt(2 / n) * np.outer(spread, spread))
