"""What the further families add to the VAE: groups and exact zeros, the aggregate posterior, a condition."""

import inspect
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.stats

from jaxgen.losses import maximum_mean_discrepancy
from jaxgen.model import AXIS, example_keys
from jaxgen.models import conditional_vae, info_vae, oi_vae, vae
from jaxgen.models.info_vae import _prior_features, features, halves, means_of_halves
from jaxgen.models.oi_vae import check_groups, group_norms, proximal_group_lasso

KEY = jax.random.key(8)
RNG = np.random.default_rng(3)


def batch_of(x, **more):
    return {"x": jnp.asarray(x), "position": jnp.arange(len(x)), **more}


def test_a_latent_whose_column_is_zero_does_not_reach_the_group(x64):
    model = oi_vae(shape=(6,), groups=(3, 1, 2), latents=2, group_width=4, group_hidden=(5,), importance_samples=0)
    params, statistics = jax.jit(model.init)(KEY, batch_of(RNG.normal(size=(2, 6))))
    weights = params["vae"]["decoder"]["params"]["W"].at[1, 0].set(0).at[0, 2].set(0)
    params["vae"]["decoder"]["params"]["W"] = weights
    jacobian = np.asarray(jax.jacobian(lambda z: model.decode(params, statistics, z[None])[0])(jnp.array([0.3, -0.7])))
    reached = np.abs(jacobian) > 1e-12
    np.testing.assert_array_equal(reached[:, 0], [True, True, True, True, False, False])
    np.testing.assert_array_equal(reached[:, 1], [False, False, False, True, True, True])
    np.testing.assert_array_equal(group_norms(params) > 0, [[True, True, False], [False, True, True]])


def test_groups_do_not_share_generators(x64):
    """The gradient of one group's outputs is zero in the weights of every other."""
    model = oi_vae(shape=(2, 3), latents=2, group_width=4, importance_samples=0)
    params, statistics = jax.jit(model.init)(KEY, batch_of(RNG.normal(size=(2, 2, 3))))

    def first_row(decoder):
        own = {"vae": {**params["vae"], "decoder": decoder}}
        return model.decode(own, statistics, jnp.array([[0.5, -1.0]]))[0, 0].sum()

    gradient = jax.grad(first_row)(params["vae"]["decoder"])["params"]
    assert np.all(np.asarray(gradient["W"])[:, 1] == 0)
    assert np.any(np.asarray(gradient["W"])[:, 0] != 0)
    assert np.all(np.asarray(gradient["kernel_0"])[1] == 0)


def test_the_proximal_step_uses_the_step_size_that_was_taken(x64):
    """Against the closed form after plain gradient descent with a falling rate, and with exact zeros."""
    rates = [0.5, 0.1]
    chain = optax.chain(
        optax.sgd(lambda count: jnp.array(rates)[count]), proximal_group_lasso(0.7, lambda c: jnp.array(rates)[c])
    )
    w = jnp.asarray(RNG.normal(size=(2, 3, 4))).at[0, 1].multiply(0.05)
    state, expected = chain.init(w), np.asarray(w)
    for rate in rates:
        gradient = RNG.normal(size=w.shape) * np.array([1.0, 0.01, 1.0])[None, :, None]
        updates, state = chain.update(jnp.asarray(gradient), state, w)
        w = optax.apply_updates(w, updates)
        stepped = expected - rate * gradient
        norms = np.linalg.norm(stepped, axis=-1, keepdims=True)
        expected = np.maximum(0, 1 - 0.7 * rate / norms) * stepped
        np.testing.assert_allclose(w, expected, rtol=1e-10, atol=1e-15)
    assert np.all(np.asarray(w)[0, 1] == 0)


def test_the_proximal_step_needs_the_parameters():
    transformation = proximal_group_lasso(0.7, lambda count: 0.1)
    with pytest.raises(ValueError, match="params must be given"):
        transformation.update(jnp.ones((1, 1, 2)), transformation.init(jnp.ones((1, 1, 2))))


def test_only_w_takes_the_proximal_step_and_generators_decay(x64):
    """With a zero gradient W shrinks by ηλ, the generators' other weights by Adam on their decay, the encoder rests."""
    model = oi_vae(shape=(4,), groups=(2, 2), latents=2, sparsity=0.5, weight_decay=0.1, step_ratio=2.0)
    params, _ = jax.jit(model.init)(KEY, batch_of(RNG.normal(size=(2, 4))))
    optimizer = model.optimizers(0.01)["vae"]
    own = params["vae"]
    updates, _ = optimizer.update(jax.tree.map(jnp.zeros_like, own), optimizer.init(own), own)
    after = optax.apply_updates(own, updates)
    jax.tree.map(np.testing.assert_array_equal, after["encoder"], own["encoder"])
    before_norms, after_norms = (np.linalg.norm(p["decoder"]["params"]["W"], axis=-1) for p in (own, after))
    np.testing.assert_allclose(after_norms, np.maximum(before_norms - 0.5 * 0.02, 0), rtol=1e-9)
    kernel = np.asarray(own["decoder"]["params"]["kernel_0"])
    moved = np.asarray(after["decoder"]["params"]["kernel_0"]) - kernel
    np.testing.assert_allclose(moved, -0.01 * np.sign(kernel), rtol=1e-3)


@pytest.mark.parametrize(
    ("groups", "message"),
    [((3, 2), r"6 together, got \(3, 2\) with 5"), ((6, 0), "at least one entry each"), ((3, 4), "with 7")],
)
def test_groups_that_do_not_cover_the_example_are_refused(groups, message):
    with pytest.raises(ValueError, match=message):
        check_groups(groups, (2, 3))
    assert check_groups((), (2, 3)) == (3, 3)


def test_widths_of_nothing_are_refused():
    with pytest.raises(ValueError, match=r"group_hidden must be widths of at least 1, got \(4, 0\)"):
        oi_vae(shape=(4,), group_hidden=(4, 0))


INFO = {"shape": (6,), "latents": 2, "hidden": (5,), "importance_samples": 0}


def test_with_alpha_0_and_weight_1_the_loss_is_the_negative_elbo(x64):
    info, plain = info_vae(**INFO, alpha=0.0, mmd_weight=1.0), vae(**INFO)
    batch = batch_of(RNG.uniform(size=(4, 6)))
    params, statistics = jax.jit(plain.init)(KEY, batch)
    ours, theirs = (m.losses["vae"](params, statistics, batch, KEY, True)[0] for m in (info, plain))
    np.testing.assert_allclose(ours, theirs, rtol=1e-12)


def test_the_loss_is_put_together_from_its_terms(x64):
    info = info_vae(**INFO, alpha=0.4, mmd_weight=7.0)
    batch = batch_of(RNG.uniform(size=(5, 6)))
    params, statistics = jax.jit(info.init)(KEY, batch)
    value, aux = info.losses["vae"](params, statistics, batch, KEY, True)
    terms = aux.metrics
    np.testing.assert_allclose(value, terms["nll"] + 0.6 * terms["kl"] + 6.4 * terms["mmd"], rtol=1e-12)
    means = {k: np.asarray(v).mean(axis=0) for k, v in info.evaluate(params, statistics, batch, KEY).items()}
    figures = info.summarize(means)
    assert "features" not in figures
    np.testing.assert_allclose(figures["loss"], figures["nll"] + 0.6 * figures["kl"] + 6.4 * figures["mmd"], rtol=1e-9)


def test_a_key_that_draws_for_an_example_is_the_parent_of_no_other(monkeypatch):
    """In training posterior and prior; in evaluation the posterior alone, whose draws all figures are from."""
    used = {"parents": [], "children": []}

    def noted(key, position):
        keys = example_keys(key, position)
        if not isinstance(key, jax.core.Tracer):
            used["parents"].append(jax.random.key_data(key))
            used["children"].extend(jax.random.key_data(keys))
        return keys

    for name in ("info_vae", "variational"):  # the package has functions of these names
        monkeypatch.setattr(sys.modules[f"jaxgen.models.{name}"], "example_keys", noted)
    info = info_vae(**INFO)
    batch = batch_of(RNG.uniform(size=(4, 6)))
    params, statistics = jax.jit(info.init)(KEY, batch)
    for function, purposes in (
        (lambda: info.losses["vae"](params, statistics, batch, KEY, True)[0], 2),
        (lambda: info.evaluate(params, statistics, batch, KEY), 1),
    ):
        used.update(parents=[], children=[])
        function()
        words = {name: [np.asarray(key).tobytes() for key in keys] for name, keys in used.items()}
        assert len(words["parents"]) == purposes
        assert len({*words["parents"], *words["children"]}) == purposes * 5


@pytest.mark.parametrize("shift", [0.0, 1.5])
def test_features_tell_the_mmd_to_the_prior(x64, shift):
    z, prior = RNG.normal(size=(2000, 3)) * 0.7 + shift, RNG.normal(size=(2000, 3))
    exact = float(maximum_mean_discrepancy(z, prior, kernel="imq"))
    estimate = np.square(np.asarray(features(jnp.asarray(z), 3)).mean(axis=0) - _prior_features(3)).sum()
    np.testing.assert_allclose(estimate, exact, rtol=0.1, atol=3e-3)


def test_the_evaluated_mmd_is_unbiased_however_small_the_split(x64):
    """Of draws from the prior itself the mean of many estimates is 0; the square of one mean adds about 1/N."""
    draws, prior = RNG.normal(size=(2000, 7, 3)), _prior_features(3)
    found = np.asarray(features(jnp.asarray(draws.reshape(-1, 3)), 3)).reshape(2000, 7, -1)
    means = {k: np.asarray(v) for k, v in halves(jnp.asarray(found.reshape(14000, -1)), jnp.arange(14000) % 7).items()}
    apart = means["features"].reshape(2000, 7, 2, -1).mean(axis=1)
    share = means["first_half"].reshape(2000, 7).mean(axis=1)
    np.testing.assert_allclose(share, 4 / 7)
    first, second = np.swapaxes(np.stack([means_of_halves(a, s) for a, s in zip(apart, share)]), 0, 1)
    np.testing.assert_allclose(first, found[:, ::2].mean(axis=1), rtol=1e-9, atol=1e-12)
    unbiased = ((first - prior) * (second - prior)).sum(axis=-1)
    biased = np.square(found.mean(axis=1) - prior).sum(axis=-1)
    assert abs(unbiased.mean()) < 4 * unbiased.std() / np.sqrt(2000)
    assert biased.mean() > 10 * unbiased.std() / np.sqrt(2000)


def test_evaluation_takes_its_figures_from_the_same_draws(x64):
    """What an info-VAE tells besides changes nothing that a VAE tells, and is that of those draws."""
    info, plain = info_vae(**INFO, alpha=0.0, mmd_weight=1.0), vae(**INFO)
    batch = batch_of(RNG.uniform(size=(5, 6)))
    params, statistics = jax.jit(plain.init)(KEY, batch)
    ours, theirs = (m.evaluate(params, statistics, batch, KEY) for m in (info, plain))
    for name, value in theirs.items():
        np.testing.assert_array_equal(ours[name], value)
    mean, logvar = plain.posterior(params, statistics, batch["x"])
    noise = jax.vmap(lambda k: jax.random.normal(k, (1, 2)))(example_keys(jax.random.split(KEY)[0], batch["position"]))
    z = mean + np.exp(logvar / 2) * noise[:, 0]
    figures = info.summarize({name: np.asarray(value).mean(axis=0) for name, value in ours.items()})
    first, second = (np.asarray(features(z[start::2], 2)).mean(axis=0) - _prior_features(2) for start in (0, 1))
    np.testing.assert_allclose(figures["mmd"], first @ second, rtol=1e-9)


@pytest.mark.parametrize("devices", [2, 4])
def test_the_divergence_is_that_of_the_whole_batch_on_any_devices(x64, devices):
    info = info_vae(**INFO)
    batch = batch_of(RNG.uniform(size=(8, 6)))
    params, statistics = jax.jit(info.init)(KEY, batch)

    def gradient(own, batch):
        def loss(own):
            return info.losses["vae"]({"vae": own}, statistics, batch, KEY, True)[0]

        value, grads = jax.value_and_grad(loss)(own)
        return jax.lax.pmean((value, grads), AXIS)

    def on(count):
        parts = jax.tree.map(lambda a: a.reshape(count, -1, *a.shape[1:]), batch)
        played = jax.jit(jax.vmap(gradient, in_axes=(None, 0), axis_name=AXIS))(params["vae"], parts)
        return jax.tree.map(lambda a: a[0], played)

    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), on(devices), on(1))


@pytest.mark.parametrize("options", [{"alpha": 1.5}, {"alpha": 0.5, "mmd_weight": 0.2}])
def test_weights_that_reward_a_divergence_are_refused(options):
    with pytest.raises(ValueError, match="no divergence is rewarded"):
        info_vae(**INFO, **options)


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
    importance_key = jax.random.fold_in(jax.random.split(KEY)[1], 0)
    noise = jax.vmap(lambda k: jax.random.normal(k, (1, 2)))(example_keys(importance_key, batch["position"]))[:, 0]
    z = mean_q + std_q * np.asarray(noise)
    log_ratio = (scipy.stats.norm.logpdf(z, mean_p, std_p) - scipy.stats.norm.logpdf(z, mean_q, std_q)).sum(axis=1)
    x_hat = model.decode(params, statistics, z, condition=label)
    log_px = scipy.stats.norm.logpdf(batch["x"], x_hat, 1.0).sum(axis=1)
    np.testing.assert_allclose(figures["log_px"], log_px + log_ratio, rtol=1e-9)
    drawn = np.asarray(model.sample(params, statistics, KEY, 3, condition=label))
    assert drawn.shape == (3, 6)


def test_vectors_and_classes_are_checked_where_they_are_known():
    model = conditional_vae(**CONDITIONAL)
    x = jnp.zeros((2, 6))
    params, statistics = jax.jit(model.init)(KEY, batch_of(x, label=jnp.array([0, 1])))
    with pytest.raises(ValueError, match="classes must lie in 0 … 2, got 0 … 3"):
        model.encode(params, statistics, x, condition=np.array([0, 3]))
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
