"""What oi-VAE and InfoVAE add to the VAE: groups and exact zeros, the aggregate posterior."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.integrate
from slopes import slopes

from jaxgen.losses import maximum_mean_discrepancy
from jaxgen.model import AXIS, example_keys
from jaxgen.models import info_vae, oi_vae, vae
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


def test_w_takes_a_plain_step_of_its_own_size_and_its_proximal_step_and_the_rest_adam_s(x64):
    """Two steps at a falling rate, against NumPy: step_ratio is W's alone, and its prox has the size of its step."""
    rates, ratio, sparsity, decay = np.array([0.02, 0.005]), 3.0, 0.8, 0.5
    model = oi_vae(
        shape=(4,), groups=(1, 3), latents=2, sparsity=sparsity, weight_decay=decay, step_ratio=ratio, hidden=(3,)
    )
    params, _ = jax.jit(model.init)(KEY, batch_of(RNG.normal(size=(2, 4))))
    optimizer = model.optimizers(lambda count: jnp.asarray(rates)[count])["vae"]
    own = jax.tree.map(lambda a: a + 0.1, params["vae"])
    state, w = optimizer.init(own), np.asarray(own["decoder"]["params"]["W"])
    others = {"encoder": 0.0, "kernel_0": decay}
    for count, rate in enumerate(rates):
        before = own
        gradient = jax.tree.map(lambda a: jnp.asarray(RNG.choice([-1.0, 1.0], a.shape) * 2), own)
        updates, state = optimizer.update(gradient, state, own)
        own = optax.apply_updates(own, updates)
        stepped = w - ratio * rate * np.asarray(gradient["decoder"]["params"]["W"])
        norms = np.linalg.norm(stepped, axis=-1, keepdims=True)
        w = np.maximum(0, 1 - sparsity * ratio * rate / norms) * stepped
        np.testing.assert_allclose(own["decoder"]["params"]["W"], w, rtol=1e-9, atol=1e-15)
        if count == 0:  # Adam's first step is the sign of what it is given
            for name, weight in others.items():
                part, of = ("encoder", "Dense_0") if name == "encoder" else ("decoder", name)
                old, new, slope = (tree[part]["params"][of] for tree in (before, own, gradient))
                old, new, slope = ((t["kernel"] if name == "encoder" else t) for t in (old, new, slope))
                np.testing.assert_allclose(new - old, -rate * np.sign(slope + weight * old), rtol=1e-6)


def test_links_are_columns_not_exactly_zero_and_dominance_the_strongest_one_s_share():
    model = oi_vae(shape=(6,), groups=(1, 2, 3), latents=2, group_width=2, importance_samples=0)
    batch = batch_of(RNG.normal(size=(3, 6)))
    params, statistics = jax.jit(model.init)(KEY, batch)
    w = np.array([[[3.0, 4.0], [0.0, 0.01], [0.0, 0.0]], [[0.0, 5.0], [0.06, 0.08], [1.0, 0.0]]])
    params["vae"]["decoder"]["params"]["W"] = jnp.asarray(w, jnp.float32)
    values = jax.jit(model.evaluate)(params, statistics, batch, KEY)
    figures = model.summarize({name: np.asarray(value).mean(axis=0) for name, value in values.items()})
    assert figures["links"] == 5
    np.testing.assert_allclose(figures["dominance"], np.mean([5 / 10, 0.1 / 0.11, 1.0]), rtol=1e-5)


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


def test_in_training_the_mmd_is_that_of_draws_and_its_gradient_reaches_the_encoder(x64):
    info = info_vae(**INFO, alpha=1.0, mmd_weight=50.0)
    batch = batch_of(RNG.uniform(size=(5, 6)))
    params, statistics = jax.jit(info.init)(KEY, batch)

    def normal(key):
        return np.asarray(jax.vmap(lambda k: jax.random.normal(k, (2,)))(example_keys(key, batch["position"])))

    def kernel(a, b):
        return 4 / (4 + np.square(a[:, None] - b).sum(axis=-1))  # C is twice the two latents

    draw_key, prior_key = jax.random.split(KEY)
    mean, logvar = (np.asarray(a) for a in info.posterior(params, statistics, batch["x"]))
    z, prior = mean + np.exp(logvar / 2) * normal(draw_key), normal(prior_key)
    apart = ~np.eye(5, dtype=bool)
    mmd = kernel(z, z)[apart].mean() + kernel(prior, prior)[apart].mean() - 2 * kernel(z, prior).mean()
    _, aux = jax.jit(info.losses["vae"], static_argnums=4)(params, statistics, batch, KEY, True)
    np.testing.assert_allclose(aux.metrics["mmd"], mmd, rtol=1e-9)

    @jax.jit
    def loss(encoder):
        return info.losses["vae"]({"vae": params["vae"] | {"encoder": encoder}}, statistics, batch, KEY, True)[0]

    encoder = jax.tree.map(lambda a: np.asarray(a, np.float64), params["vae"]["encoder"])
    gradient = jax.jit(jax.grad(loss))(encoder)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), gradient, slopes(loss, encoder))


@pytest.mark.parametrize("shift", [0.0, 0.7])
def test_the_evaluated_mmd_is_that_of_the_aggregate_posterior(x64, shift):
    """q(z|x) = N(shift, I) for every x: the MMD of the prior from itself, or from the shifted one by quadrature.

    k = ∫ exp(−s d²/C) exp(−s) ds, and under N(μ, 2I) the mean of exp(−a‖z‖²) is (1 + 4a)^(−1) exp(−a‖μ‖²/(1 + 4a)).
    """
    n, info = 4000, info_vae(shape=(1,), latents=2, hidden=(), importance_samples=0)
    params, statistics = jax.jit(info.init)(KEY, batch_of(np.zeros((1, 1))))
    encoder = {"kernel": jnp.zeros((1, 4)), "bias": jnp.array([shift, shift, 0.0, 0.0])}
    params["vae"]["encoder"]["params"]["Dense_0"] = encoder

    def density(s):
        a = s / 4
        return 2 * np.exp(-s) / (1 + 4 * a) * -np.expm1(-a * 2 * shift**2 / (1 + 4 * a))

    exact = scipy.integrate.quad(density, 0, np.inf)[0]
    found = []
    for index in range(4):
        values = jax.jit(info.evaluate)(params, statistics, batch_of(np.zeros((n, 1))), jax.random.key(index))
        found.append(info.summarize({k: np.asarray(v).mean(axis=0) for k, v in values.items()})["mmd"])
    np.testing.assert_allclose(np.mean(found), exact, atol=1e-3, rtol=0.05)


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
