"""The weight of the KL term in every family, and its ends: without it an autoencoder, without reconstruction the
prior, without codes a mean."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxgen.models import autoencoder, conditional_vae, discrete_vae, oi_vae, vae

SHAPE, BATCH, LATENTS = (6,), 8, 3
COMMON = {"shape": SHAPE, "latents": LATENTS, "hidden": (5,), "activation": "tanh"}
KEY, HEAD = jax.random.key(3), "Dense_1"  # the encoder's last layer: means, then log-variances


def batch_of(x):
    return {"x": jnp.asarray(x), "position": jnp.arange(len(x))}


@pytest.fixture
def batch(x64):
    return batch_of(np.random.default_rng(0).uniform(size=(BATCH, *SHAPE)))


def fit(model, batch, *, steps, learning_rate=0.05):
    """Parameters and statistics after full-batch Adam, its rate falling to zero."""
    params, statistics = model.init(jax.random.key(0), batch)
    optimizer = optax.adam(optax.cosine_decay_schedule(learning_rate, steps))

    def step(carry, key):
        params, statistics, state = carry
        gradients, aux = jax.grad(model.losses["vae"], has_aux=True)(params, statistics, batch, key, True)
        updates, state = optimizer.update(gradients, state)
        return (optax.apply_updates(params, updates), aux.statistics, state), None

    keys = jax.random.split(jax.random.key(1), steps)
    (params, statistics, _), _ = jax.lax.scan(step, (params, statistics, optimizer.init(params)), keys)
    return params, statistics


def slopes(loss, params):
    return jax.jit(jax.value_and_grad(loss))(params)


FAMILIES = {
    "vae": lambda **options: vae(**COMMON, **options),
    "conditional_vae": lambda **options: conditional_vae(**COMMON, num_classes=2, prior="conditional", **options),
    "discrete_vae": lambda **options: discrete_vae(**COMMON, classes=2, **options),
    "oi_vae": lambda **options: oi_vae(**COMMON, groups=(2, 4), **options),
}


@pytest.mark.parametrize(
    ("name", "updates", "share"),
    [(name, None, 1.0) for name in FAMILIES]
    + [(name, *at) for name in ("conditional_vae", "discrete_vae") for at in ((1, 0.25), (6, 1.0))],
)
def test_training_pays_beta_times_the_kl_term_as_far_as_it_is_warmed_up(batch, name, updates, share):
    warm = {} if updates is None else {"kl_warmup": 4}
    model = FAMILIES[name](beta=0.3, importance_samples=0, **warm)
    told = {**batch, "label": jnp.arange(BATCH) % 2}
    params, statistics = jax.jit(model.init)(KEY, told)
    statistics = {**statistics, "updates": jnp.asarray(updates or 0)}
    value, aux = jax.jit(model.losses["vae"], static_argnums=4)(params, statistics, told, KEY, True)
    assert aux.metrics["kl"] > 0.01
    np.testing.assert_allclose(value, aux.metrics["nll"] + 0.3 * share * aux.metrics["kl"], rtol=1e-12)


@pytest.mark.parametrize("likelihood", ["gaussian", "bernoulli"])
def test_without_a_kl_term_and_noise_the_loss_and_its_gradient_are_an_autoencoder_s(batch, likelihood):
    model = vae(**COMMON, likelihood=likelihood, beta=0.0, importance_samples=0)
    plain = autoencoder(**COMMON, likelihood=likelihood)
    params, statistics = model.init(jax.random.key(0), batch)
    other, unused = plain.init(jax.random.key(0), batch)

    def split(params):
        """The VAE's parameters without the half of the head that makes log-variances."""
        layers = params["vae"]["encoder"]["params"]
        means = {name: value[..., :LATENTS] for name, value in layers[HEAD].items()}
        return {"encoder": {"params": layers | {HEAD: means}}, "decoder": params["vae"]["decoder"]}

    head = params["vae"]["encoder"]["params"][HEAD]
    # log σ² comes out at its limit, −14: σ below 1e-3.
    head |= {"kernel": head["kernel"].at[:, LATENTS:].set(0), "bias": head["bias"].at[LATENTS:].set(-200.0)}
    params["vae"]["encoder"]["params"][HEAD] = head
    other = {"autoencoder": other["autoencoder"] | split(params)}

    ours, gradient = slopes(lambda p: model.losses["vae"](p, statistics, batch, KEY, True)[0], params)
    theirs, expected = slopes(lambda p: plain.losses["autoencoder"](p, unused, batch, KEY, True)[0], other)
    np.testing.assert_allclose(ours, theirs, rtol=5e-4)  # σ times the slope
    expected = {name: expected["autoencoder"][name] for name in ("encoder", "decoder")}
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=3e-3), split(gradient), expected)


def test_where_the_data_say_nothing_the_posterior_is_the_prior(batch):
    model = vae(**COMMON, likelihood="gaussian", fixed_scale=1e4, importance_samples=0)
    params, statistics = fit(model, batch, steps=2000)
    mean, logvar = model.posterior(params, statistics, batch["x"])
    np.testing.assert_allclose(mean, 0, atol=1e-3)
    np.testing.assert_allclose(logvar, 0, atol=1e-3)


@pytest.mark.parametrize("likelihood", ["gaussian", "bernoulli"])
def test_images_that_share_a_code_decode_to_their_average(x64, likelihood):
    """The blur of a VAE: the best that a decoder can say of two images it cannot tell apart is their mean."""
    x = np.random.default_rng(1).uniform(0.2, 0.8, (2, *SHAPE))
    model = vae(**COMMON, likelihood=likelihood, beta=1e6, importance_samples=0)
    params, statistics = fit(model, batch_of(x), steps=3000)
    found = model.reconstruct(params, statistics, x)
    np.testing.assert_allclose(found, np.broadcast_to(x.mean(axis=0), x.shape), atol=2e-3)
