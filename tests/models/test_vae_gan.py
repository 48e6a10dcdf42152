"""VAE + GAN: the three players' losses and gradients in NumPy from the same draws, and what none of them is paid."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_expit
from scipy.stats import norm
from slopes import slopes

from jaxgen.models import vae_gan

BATCH, LATENTS, KEY = 4, 2, jax.random.key(3)
WEIGHTS = {"similarity_weight": 0.3, "beta": 0.7}


def make(**options):
    rng = np.random.default_rng(2)
    model = vae_gan(**({"shape": (3,), "latents": LATENTS, "hidden": (4,), "activation": "tanh"} | options))
    batch = {"x": jnp.asarray(rng.normal(size=(BATCH, 3))), "position": jnp.asarray(np.arange(7, 7 + BATCH))}
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


def noise(key, position, size):
    return np.stack([jax.random.normal(jax.random.fold_in(key, p), size) for p in np.asarray(position)])


def played(params, batch):
    """Logits and features of examples, reconstructions and samples, and the divergence from the prior."""
    posterior_key, prior_key = jax.random.split(KEY)
    outputs = network(params["encoder"], np.asarray(batch["x"])).reshape(BATCH, 2, LATENTS)
    mean, logvar = outputs[:, 0], 14 * np.tanh(outputs[:, 1] / 14)
    z = mean + np.exp(logvar / 2) * noise(posterior_key, batch["position"], (1, LATENTS))[:, 0]
    shown = (
        np.asarray(batch["x"]),
        *(network(params["generator"], z) for z in (z, noise(prior_key, batch["position"], (LATENTS,)))),
    )
    kl = 0.5 * np.sum(mean**2 + np.exp(logvar) - 1 - logvar, axis=1)
    return shown, [network(params["discriminator"], x, features=True) for x in shown], kl


def expected(player, params, batch, similarity):
    (x, rebuilt, _), ((real, seen), (on_rebuilt, seen_rebuilt), (on_fake, _)), kl = played(params, batch)
    pair = (seen, seen_rebuilt) if similarity == "features" else (x, rebuilt)
    nll = -norm.logpdf(pair[0], pair[1]).sum(axis=1)
    if player == "discriminator":
        return np.mean(-log_expit(real) - 0.5 * log_expit(-on_rebuilt) - 0.5 * log_expit(-on_fake))
    if player == "encoder":
        return np.mean(0.7 * kl + nll)
    return np.mean(0.3 * nll - 0.5 * log_expit(on_rebuilt) - 0.5 * log_expit(on_fake))


@pytest.mark.parametrize("similarity", ["features", "pixels"])
def test_each_player_s_loss_and_gradient_are_its_own(x64, similarity):
    model, params, batch = make(similarity=similarity, **WEIGHTS)
    assert list(model.turns) == ["discriminator", "encoder", "generator"]
    for player in model.losses:

        def loss(own, player=player):
            return model.losses[player](params | {player: own}, {}, batch, KEY, True)[0]

        value, gradient = jax.jit(jax.value_and_grad(loss))(params[player])
        np.testing.assert_allclose(value, expected(player, params, batch, similarity), rtol=1e-10)
        finite = slopes(lambda own, p=player: expected(p, params | {p: own}, batch, similarity), params[player])
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), gradient, finite)


def test_figures_are_of_the_mean_of_the_draws_and_of_the_prior(x64):
    model, params, batch = make()
    figures = jax.jit(model.evaluate)(params, {}, batch, KEY)
    _, ((real, seen), (rebuilt_logits, seen_rebuilt), (fake, _)), kl = played(params, batch)
    np.testing.assert_allclose(figures["encoder/kl"], kl, rtol=1e-10)
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
