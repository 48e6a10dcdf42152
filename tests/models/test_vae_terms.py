"""Every term of the VAE's loss, and its gradient, recomputed in NumPy from the same noise."""

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats

from jaxgen.metrics import active_units
from jaxgen.model import AXIS
from jaxgen.models import vae
from jaxgen.models.likelihood import SCALE_FLOOR

SHAPE, LATENTS, BATCH = (3, 2), 2, 4
KEY = jax.random.key(3)
DRAW_KEY = jax.random.split(KEY)[0]  # of the latents; the other is the penalty's, or the importance samples'
SMALL = {"shape": SHAPE, "latents": LATENTS, "hidden": (4,), "activation": "tanh", "importance_samples": 0}
GAUSSIAN = SMALL | {"likelihood": "gaussian", "fixed_scale": 0.7}


def make(options, *, batch_size=BATCH):
    """A model with random parameters and statistics, and a batch whose positions are not its indices."""
    rng = np.random.default_rng(8)
    model = vae(**options)
    batch = {
        "x": jnp.asarray(rng.uniform(size=(batch_size, *SHAPE))),
        "position": jnp.asarray(np.arange(17, 17 + batch_size)),
    }
    params, statistics = jax.eval_shape(model.init, KEY, batch)
    params = jax.tree.map(lambda s: jnp.asarray(0.7 * rng.normal(size=s.shape)), params)
    statistics = jax.tree.map(lambda s: jnp.asarray(np.ones(s.shape, s.dtype)), statistics)
    return model, params, statistics, batch


def train_loss(model, params, statistics, batch, key=KEY, train=True):
    return jax.jit(model.losses["vae"], static_argnums=4)(params, statistics, batch, key, train)


def evaluate(model, params, statistics, batch):
    return {k: np.asarray(v) for k, v in jax.jit(model.evaluate)(params, statistics, batch, KEY).items()}


def dense(layers, x):
    first, second = (layers["params"][f"Dense_{i}"] for i in range(2))
    return np.tanh(x @ first["kernel"] + first["bias"]) @ second["kernel"] + second["bias"]


def posterior(params, x):
    outputs = dense(params["vae"]["encoder"], x.reshape(len(x), -1)).reshape(len(x), 2, LATENTS)
    return outputs[:, 0], 14 * np.tanh(outputs[:, 1] / 14)


def noise(batch, samples, key=DRAW_KEY):
    """[samples, batch, latents]: the noise of an example depends on the key and its position alone."""
    return np.stack([_noise_at(key, int(p), samples) for p in batch["position"]], axis=1)


@functools.cache
def _draw(samples):
    return jax.jit(lambda key, p: jax.random.normal(jax.random.fold_in(key, p), (samples, LATENTS)))


def _noise_at(key, position, samples):
    return np.asarray(_draw(samples)(key, position))


def sigma_of(options, params, variance):
    scale = options.get("scale", "fixed")
    if scale == "fixed":
        return options["fixed_scale"]
    return np.sqrt(variance) if scale == "optimal" else SCALE_FLOOR + np.exp(params["vae"]["likelihood"]["log_scale"])


def nll_of(options, params, outputs, x, variance):
    """−log p(x|z), [samples, batch]."""
    if options["likelihood"] == "gaussian":
        density = scipy.stats.norm.logpdf(x, outputs, sigma_of(options, params, variance))
    else:
        density = x * scipy.special.log_expit(outputs) + (1 - x) * scipy.special.log_expit(-outputs)
        if options["likelihood"] == "continuous_bernoulli":
            p = scipy.special.expit(outputs)
            density = density + np.log(2 * np.arctanh(1 - 2 * p) / (1 - 2 * p))
    return -density.reshape(*outputs.shape[:2], -1).sum(axis=-1)


def recomputed(options, params, x, eps, *, variance=None, weight=None):
    """loss, nll, kl, and KL per dimension [batch, latents]; ``variance`` None is that of the batch."""
    mean, logvar = posterior(params, x)
    std = np.exp(logvar / 2)
    z = mean + std * eps
    outputs = dense(params["vae"]["decoder"], z).reshape(len(eps), *x.shape)
    variance = np.mean((outputs - x) ** 2) if variance is None else variance
    nll = nll_of(options, params, outputs, x, variance)
    kl = 0.5 * (mean**2 + std**2 - 1 - logvar)
    if options.get("bound") == "iwae":
        log_q, log_p = scipy.stats.norm.logpdf(z, mean, std), scipy.stats.norm.logpdf(z)
        log_w = -nll + (log_p - log_q).sum(axis=-1)
        loss = -(scipy.special.logsumexp(log_w, axis=0) - np.log(len(eps))).mean()
    else:
        weight = options.get("beta", 1.0) if weight is None else weight
        penalty = np.maximum(options.get("free_nats", 0.0), kl.mean(axis=0)).sum()
        loss = nll.mean() + weight * penalty
    return {"loss": loss, "nll": nll.mean(axis=0), "kl": kl.sum(axis=1), "kl_dim": kl}


VARIANTS = {
    "bernoulli": SMALL | {"likelihood": "bernoulli"},
    "continuous": SMALL | {"likelihood": "continuous_bernoulli", "samples": 3},
    "fixed": GAUSSIAN | {"beta": 2.5, "samples": 3},
    "shared": GAUSSIAN | {"scale": "shared"},
    "per_dimension": GAUSSIAN | {"scale": "per_dimension", "samples": 2},
    "optimal": GAUSSIAN | {"scale": "optimal", "samples": 3},
    "no_kl": GAUSSIAN | {"beta": 0.0},
    "free_bits": GAUSSIAN | {"free_nats": 2.2, "beta": 0.5},
    "iwae": GAUSSIAN | {"bound": "iwae", "samples": 5},
    "iwae_optimal": GAUSSIAN | {"bound": "iwae", "samples": 3, "scale": "optimal"},
}


@pytest.mark.parametrize("name", list(VARIANTS))
def test_loss_terms_and_gradient_are_those_recomputed_in_numpy(x64, name):
    options = VARIANTS[name]
    model, params, statistics, batch = make(options)
    loss_fn = jax.jit(jax.value_and_grad(model.losses["vae"], has_aux=True), static_argnums=4)
    (loss, aux), gradient = loss_fn(params, statistics, batch, KEY, True)
    x, eps = np.asarray(batch["x"]), noise(batch, options.get("samples", 1))
    expected = recomputed(options, params, x, eps)
    np.testing.assert_allclose(loss, expected["loss"], rtol=1e-10)
    for term in ("nll", "kl"):
        np.testing.assert_allclose(aux.metrics[term], expected[term].mean(), rtol=1e-10)
    leaves, structure = jax.tree.flatten(jax.tree.map(np.array, params))

    def at(which, index, step):
        moved = [a.copy() for a in leaves]
        moved[which][index] += step
        return recomputed(options, jax.tree.unflatten(structure, moved), x, eps)["loss"]

    for which, found in enumerate(jax.tree.leaves(gradient)):
        slopes = [(at(which, i, 1e-5) - at(which, i, -1e-5)) / 2e-5 for i in np.ndindex(found.shape)]
        np.testing.assert_allclose(np.ravel(found), slopes, rtol=1e-6, atol=1e-7)


def test_free_bits_spare_the_latents_under_the_floor_alone(x64):
    _, params, _, batch = make(VARIANTS["free_bits"])
    kl = recomputed(GAUSSIAN, params, np.asarray(batch["x"]), noise(batch, 1))["kl_dim"].mean(axis=0)
    assert kl.min() < 2.2 < kl.max()  # so that the variant above sees both sides


def test_warm_up_raises_the_weight_to_beta_in_training_and_never_elsewhere(x64):
    options = GAUSSIAN | {"beta": 2.5, "kl_warmup": 10}
    model, params, statistics, batch = make(options)
    x, eps = np.asarray(batch["x"]), noise(batch, 1)
    train = jax.jit(lambda statistics: model.losses["vae"](params, statistics, batch, KEY, True))
    for updates, weight in ((0, 0.0), (1, 0.25), (5, 1.25), (10, 2.5), (70, 2.5)):
        loss, aux = train(statistics | {"updates": jnp.int32(updates)})
        expected = recomputed(options, params, x, eps, weight=weight)["loss"]
        np.testing.assert_allclose(loss, expected, rtol=1e-10)
        np.testing.assert_allclose(aux.metrics["kl_weight"], weight, rtol=1e-6)
        assert aux.statistics["updates"] == updates + 1
    loss, aux = train_loss(model, params, statistics, batch, train=False)
    np.testing.assert_allclose(loss, recomputed(options, params, x, eps)["loss"], rtol=1e-10)
    assert aux.metrics["kl_weight"] == 2.5
    assert aux.statistics["updates"] == statistics["updates"]
    values = evaluate(model, params, statistics, batch)
    np.testing.assert_allclose(values["loss"], values["nll"] + 2.5 * values["kl"], rtol=1e-12)


@pytest.mark.parametrize("scale", ["fixed", "optimal"])
def test_evaluation_gives_every_term_of_every_example(x64, scale):
    options = GAUSSIAN | {"beta": 3.0, "samples": 2, "scale": scale}
    model, params, statistics, batch = make(options)
    if scale == "optimal":
        statistics = statistics | {"likelihood": {"variance": jnp.float64(0.3)}}
    values = evaluate(model, params, statistics, batch)
    x, (elbo_key, _) = np.asarray(batch["x"]), jax.random.split(KEY)
    # Evaluation uses the running variance, not the batch's.
    expected = recomputed(options, params, x, noise(batch, 2, elbo_key), variance=0.3)
    for term in ("nll", "kl", "kl_dim"):
        np.testing.assert_allclose(values[term], expected[term], rtol=1e-10)
    np.testing.assert_allclose(values["kl_dim"].sum(axis=1), values["kl"], rtol=1e-12)
    np.testing.assert_allclose(values["elbo"], -(values["nll"] + values["kl"]), rtol=1e-12)
    np.testing.assert_allclose(values["loss"], values["nll"] + 3 * values["kl"], rtol=1e-12)
    mean, _ = posterior(params, x)
    np.testing.assert_allclose(model.encode(params, statistics, x), mean, rtol=1e-10)
    reconstruction = dense(params["vae"]["decoder"], mean).reshape(x.shape)
    error = np.square(reconstruction - x).reshape(len(x), -1).sum(axis=1)
    np.testing.assert_allclose(values["squared_error"], error, rtol=1e-10)
    # An example's figures do not depend on who shares its batch.
    part = {name: a[jnp.array([2, 0])] for name, a in batch.items()}
    for name, value in evaluate(model, params, statistics, part).items():
        np.testing.assert_allclose(value, values[name][jnp.array([2, 0])], rtol=1e-10)


def test_summary_counts_the_units_whose_mean_varies(x64):
    model, params, statistics, batch = make(GAUSSIAN | {"latents": 2}, batch_size=50)
    layer = params["vae"]["encoder"]["params"]["Dense_1"]
    # The first latent's standard deviation is 0.11 and then 0.09; the second is far from 0, but constant.
    layer["kernel"] = layer["kernel"].at[:, 1].set(0.0)
    layer["bias"] = layer["bias"].at[1].set(5.0)
    spread = jnp.std(model.encode(params, statistics, batch["x"])[:, 0])
    unscaled = layer["kernel"][:, 0]
    for deviation, active in ((0.11, 1), (0.09, 0)):
        layer["kernel"] = layer["kernel"].at[:, 0].set(unscaled * deviation / spread)
        values = evaluate(model, params, statistics, batch)
        figures = model.summarize({name: a.mean(axis=0) for name, a in values.items()})
        means = model.encode(params, statistics, batch["x"])
        assert figures["active_units"] == active == active_units(means)
        assert figures["rate"] == figures["kl"]
        assert figures["distortion"] == figures["nll"]
        np.testing.assert_allclose(figures["kl_dim"].sum(), figures["kl"], rtol=1e-12)
        assert not {"mean_1", "mean_2"} & set(figures)


def test_a_decoder_that_ignores_the_latents_leaves_the_prior_as_posterior(x64):
    options = GAUSSIAN | {"hidden": ()}
    model, params, statistics, batch = make(options)
    decoder = params["vae"]["decoder"]["params"]["Dense_0"]
    decoder["kernel"] = jnp.zeros_like(decoder["kernel"])
    gradient = jax.grad(lambda p: model.losses["vae"](p, statistics, batch, KEY, True)[0])

    def step(encoder, _):
        full = {"vae": params["vae"] | {"encoder": encoder}}
        return jax.tree.map(lambda a, g: a - 0.3 * g, encoder, gradient(full)["vae"]["encoder"]), None

    encoder, _ = jax.jit(lambda e: jax.lax.scan(step, e, length=5000))(params["vae"]["encoder"])
    values = evaluate(model, {"vae": params["vae"] | {"encoder": encoder}}, statistics, batch)
    np.testing.assert_allclose(values["kl"], 0, atol=1e-6)
    np.testing.assert_allclose(values["mean_1"], 0, atol=1e-3)


def test_half_precision_images_are_computed_in_single():
    model, params, statistics, batch = make(GAUSSIAN)
    params = jax.tree.map(lambda a: a.astype(jnp.float32), params)
    half = batch["x"].astype(jnp.bfloat16)
    losses = [train_loss(model, params, statistics, batch | {"x": x})[0] for x in (half, half.astype("float32"))]
    assert losses[0].dtype == jnp.float32
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-5)


@pytest.mark.parametrize("likelihood", ["bernoulli", "continuous_bernoulli", "gaussian"])
def test_loss_and_gradient_stay_finite_where_every_output_saturates(likelihood):
    model, params, statistics, batch = make(SMALL | {"likelihood": likelihood, "activation": "relu"})
    loss_fn = jax.jit(jax.value_and_grad(model.losses["vae"], has_aux=True), static_argnums=4)
    for size in (1e4, -1e4):
        extreme = jax.tree.map(lambda a, size=size: jnp.full(a.shape, size, jnp.float32), params)
        extreme["vae"]["decoder"] = jax.tree.map(lambda a: a / 1e4, extreme["vae"]["decoder"])
        (loss, _), gradient = loss_fn(extreme, statistics, batch, KEY, True)
        assert np.isfinite(loss)
        assert all(np.all(np.isfinite(a)) for a in jax.tree.leaves(gradient))


def test_four_devices_give_what_one_gives_on_the_same_batch(x64):
    _, params, _, batch = make(GAUSSIAN | {"scale": "optimal"}, batch_size=8)
    kl = recomputed(GAUSSIAN, params, np.asarray(batch["x"]), noise(batch, 1))["kl_dim"]
    # Over the whole batch both latents are above the floor; on some device one is below it.
    floor = 0.99 * kl.mean(axis=0).min()
    assert kl.reshape(4, 2, LATENTS).mean(axis=1).min() < floor
    model, params, statistics, batch = make(GAUSSIAN | {"scale": "optimal", "free_nats": float(floor)}, batch_size=8)
    loss_fn = jax.value_and_grad(model.losses["vae"], has_aux=True)
    (loss, aux), gradient = jax.jit(loss_fn, static_argnums=4)(params, statistics, batch, KEY, True)
    parts = {name: a.reshape(4, 2, *a.shape[1:]) for name, a in batch.items()}

    def on_device(part):
        (loss, aux), gradient = loss_fn(params, statistics, part, KEY, True)
        return jax.lax.pmean((loss, aux.metrics, gradient), AXIS), aux.statistics

    shared, kept = jax.pmap(on_device, axis_name=AXIS, devices=jax.devices()[:4])(parts)
    for device in range(4):
        jax.tree.map(
            lambda a, b, device=device: np.testing.assert_allclose(a[device], b, rtol=1e-9, atol=1e-12),
            (shared, kept),
            ((loss, aux.metrics, gradient), aux.statistics),
        )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"latents": 0}, "latents must be at least 1, got 0"),
        ({"samples": 0}, "samples must be at least 1 and importance_samples not negative, got 0"),
        ({"beta": -1.0}, "must not be negative, got -1.0"),
        ({"kl_warmup": -1}, "must not be negative"),
        ({"free_nats": -0.5}, "must not be negative"),
        ({"bound": "iwae", "beta": 2.0}, "leave beta at 1"),
        ({"bound": "iwae", "kl_warmup": 5}, "leave beta at 1"),
        ({"bound": "iwae", "free_nats": 0.1}, "leave beta at 1"),
        ({"bound": "dreg"}, "bound must be elbo or iwae, got 'dreg'"),
        ({"network": "conv"}, r"shape \(3, 2\); use network 'mlp'"),
    ],
)
def test_settings_that_make_no_vae_are_refused(options, message):
    # Without the hook's own check of the annotation, as a user would call it.
    with pytest.raises(ValueError, match=message):
        inspect.unwrap(vae)(**(SMALL | options))
