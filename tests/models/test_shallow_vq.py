"""Shallow VQ: steps of k-means and EM by NumPy, densities by SciPy, the distortion beside scikit-learn's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats
from sklearn.cluster import KMeans

from jaxgen.data import load
from jaxgen.model import AXIS
from jaxgen.models import shallow_vq
from jaxgen.models.quantizers import Placement
from jaxgen.training import Options, train

SHAPE, CODES, SIGMA = (3, 2), 4, 0.7
KEY = jax.random.key(2)


def make(kind, *, examples=9, **options):
    rng = np.random.default_rng(0)
    model = shallow_vq(**({"shape": SHAPE, "num_codes": CODES, "kind": kind, "fixed_scale": SIGMA} | options))
    x = rng.normal(size=(examples, *SHAPE))
    centroids = rng.normal(size=(CODES, 6))
    centroids[3] += 9  # nobody's
    return model, *centered(centroids), {"x": jnp.asarray(x), "position": jnp.arange(examples)}


def centered(centroids, counts=1.0):
    """Parameters and statistics of a model with these centroids, half of each in the offset."""
    offset = jnp.asarray(centroids) / 2
    placement = Placement(jnp.full(len(centroids), counts, offset.dtype), offset)
    return {"shallow_vq": {"codes": jnp.asarray(centroids) - offset}}, placement


def by_hand(params, statistics, x, sigma=SIGMA):
    """Centroids, log N(x; μ_k, σ² I) [batch, K] and the nearest."""
    centroids = np.asarray(params["shallow_vq"]["codes"] + statistics.offset)
    flat = np.asarray(x).reshape(len(x), -1)
    log_density = scipy.stats.norm.logpdf(flat[:, None], centroids, sigma).sum(axis=-1)
    return flat, centroids, log_density, log_density.argmax(axis=1)


@pytest.mark.parametrize("kind", ["kmeans", "gmm"])
def test_a_whole_step_down_the_gradient_is_one_of_lloyd_or_of_expectation_and_maximization(x64, kind):
    model, params, statistics, batch = make(kind)
    flat, centroids, log_density, nearest = by_hand(params, statistics, batch["x"])
    share = np.eye(CODES)[nearest] if kind == "kmeans" else scipy.special.softmax(log_density, axis=1)
    gradient, _ = jax.grad(model.losses["shallow_vq"], has_aux=True)(params, statistics, batch, KEY, True)
    gradient = np.asarray(gradient["shallow_vq"]["codes"])
    mass = share.sum(axis=0)
    used = [0, 1, 2]
    assert mass[used].min() > 0.5
    assert mass.max() <= 2 * len(flat) / CODES
    stepped = centroids[used] - len(flat) * SIGMA**2 / mass[used, None] * gradient[used]
    np.testing.assert_allclose(stepped, (share.T @ flat)[used] / mass[used, None], rtol=1e-10)
    np.testing.assert_allclose(gradient[3], 0, atol=1e-20)


@pytest.mark.parametrize("scale", [0.7, 0.1])
def test_the_learning_rate_is_a_share_of_the_way_to_the_mean(x64, scale):
    model, params, statistics, batch = make("kmeans", fixed_scale=scale)
    flat, centroids, _, nearest = by_hand(params, statistics, batch["x"])
    optimizer = model.optimizers(0.003)["shallow_vq"]
    gradient, _ = jax.grad(model.losses["shallow_vq"], has_aux=True)(params, statistics, batch, KEY, True)
    own = params["shallow_vq"]
    update, _ = optimizer.update(gradient["shallow_vq"], optimizer.init(own), own)
    for code in range(3):
        mine = flat[nearest == code]
        way = 0.3 * CODES * len(mine) / len(flat) * (mine.mean(axis=0) - centroids[code])
        np.testing.assert_allclose(update["codes"][code], way, rtol=1e-10)


@pytest.mark.parametrize("devices", [1, 4])
@pytest.mark.parametrize("kind", ["kmeans", "gmm"])
def test_no_centroid_goes_past_the_mean_of_its_examples(x64, kind, devices):
    """Not even with all of a batch, at any rate, of whatever devices its examples lie on."""
    model, params, statistics, batch = make(kind, examples=8, fixed_scale=0.3, revival=0.0)
    near = np.asarray(params["shallow_vq"]["codes"] + statistics.offset)[0].reshape(SHAPE)
    batch = batch | {"x": jnp.concatenate([near + 0.1 * batch["x"][:7] + 0.1, batch["x"][7:] + 9])}
    flat, centroids, log_density, nearest = by_hand(params, statistics, batch["x"], sigma=0.3)
    np.testing.assert_array_equal(nearest, [0] * 7 + [3])
    share = scipy.special.softmax(log_density, axis=1) if kind == "gmm" else np.eye(CODES)[nearest]
    gradient_of = jax.grad(model.losses["shallow_vq"], has_aux=True)

    def on_device(part):
        return jax.lax.pmean(gradient_of(params, statistics, part, KEY, True)[0], AXIS)

    parts = {name: a.reshape(devices, -1, *a.shape[1:]) for name, a in batch.items()}
    gradient = jax.pmap(on_device, axis_name=AXIS, devices=jax.devices()[:devices])(parts)
    gradient = jax.tree.map(lambda leaf: leaf[0], gradient["shallow_vq"])
    used = jnp.array([0, 3])
    share = share[:, used]
    to_mean = (share.T @ flat) / share.sum(axis=0)[:, None] - centroids[used]
    for rate, way in ((0.001, [0.2, 0.05]), (0.005, [1.0, 0.25]), (3.0, [1.0, 0.25])):
        optimizer = model.optimizers(lambda count, rate=rate: rate)["shallow_vq"]
        update, _ = optimizer.update(gradient, optimizer.init(params["shallow_vq"]), params["shallow_vq"])
        np.testing.assert_allclose(update["codes"][used], np.array(way)[:, None] * to_mean, rtol=1e-6)


def test_the_loss_of_kmeans_is_that_of_the_nearest_centroid_and_log_k(x64):
    model, params, statistics, batch = make("kmeans")
    flat, centroids, log_density, nearest = by_hand(params, statistics, batch["x"])
    values = model.evaluate(params, statistics, batch, KEY)
    np.testing.assert_allclose(values["nll"], -log_density.max(axis=1), rtol=1e-10)
    np.testing.assert_allclose(values["kl"], np.full(9, np.log(CODES)), rtol=1e-7)
    np.testing.assert_allclose(values["loss"], -log_density.max(axis=1) + np.log(CODES), rtol=1e-7)
    np.testing.assert_allclose(values["squared_error"], np.square(flat - centroids[nearest]).sum(axis=1), rtol=1e-10)
    loss, aux = model.losses["shallow_vq"](params, statistics, batch, KEY, True)
    np.testing.assert_allclose(loss, np.log(CODES) - log_density.max(axis=1).mean(), rtol=1e-7)
    np.testing.assert_allclose(aux.metrics["nll"], -log_density.max(axis=1).mean(), rtol=1e-10)
    counts = np.bincount(nearest, minlength=CODES)
    np.testing.assert_allclose(aux.metrics["perplexity"], np.exp(scipy.stats.entropy(counts)), rtol=1e-6)
    assert aux.metrics["usage"] == 0.75


def test_the_loss_of_the_mixture_is_its_density_and_the_elbo_is_tight(x64):
    model, params, statistics, batch = make("gmm")
    _, _, log_density, _ = by_hand(params, statistics, batch["x"])
    log_p = scipy.special.logsumexp(log_density - np.log(CODES), axis=1)
    posterior = scipy.special.softmax(log_density, axis=1)
    values = model.evaluate(params, statistics, batch, KEY)
    np.testing.assert_allclose(values["loss"], -log_p, rtol=1e-10)
    np.testing.assert_allclose(values["nll"], -(posterior * log_density).sum(axis=1), rtol=1e-9)
    np.testing.assert_allclose(values["kl"], np.log(CODES) - scipy.stats.entropy(posterior, axis=1), rtol=1e-9)
    assert 0.05 < values["kl"].min() < values["kl"].max() - 0.05
    loss, aux = model.losses["shallow_vq"](params, statistics, batch, KEY, True)
    np.testing.assert_allclose(loss, -log_p.mean(), rtol=1e-10)
    np.testing.assert_allclose(aux.metrics["nll"] + aux.metrics["kl"], loss, rtol=1e-10)


def test_a_narrow_mixture_is_kmeans(x64):
    (soft, params, statistics, batch), (hard, *_) = (make(k, fixed_scale=0.02) for k in ("gmm", "kmeans"))
    ours, theirs = (model.evaluate(params, statistics, batch, KEY) for model in (soft, hard))
    for name in ("loss", "kl", "nll"):
        np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-6)


@pytest.mark.parametrize("kind", ["kmeans", "gmm"])
def test_examples_become_the_nearest_code_and_codes_their_centroids(x64, kind):
    model, params, statistics, batch = make(kind)
    _, centroids, _, nearest = by_hand(params, statistics, batch["x"])
    np.testing.assert_array_equal(model.encode(params, statistics, batch["x"]), nearest)
    places = centroids.reshape(CODES, *SHAPE)
    np.testing.assert_array_equal(model.decode(params, statistics, np.array([2, 0])), places[[2, 0]])
    np.testing.assert_array_equal(model.reconstruct(params, statistics, batch["x"]), places[nearest])
    with pytest.raises(ValueError, match=r"indices must lie in 0 … 3, since the codebook has 4 codes, got 4 to 4"):
        model.decode(params, statistics, np.array([4]))


def test_figures_of_a_split_count_its_codes(x64):
    model, params, statistics, batch = make("gmm", examples=30)
    nearest = by_hand(params, statistics, batch["x"])[3]
    means = {
        name: np.asarray(value).mean(axis=0) for name, value in model.evaluate(params, statistics, batch, KEY).items()
    }
    figures = model.summarize(means)
    counts = np.bincount(nearest, minlength=CODES)
    np.testing.assert_allclose(figures["perplexity"], np.exp(scipy.stats.entropy(counts)), rtol=1e-6)
    assert (figures["usage"], figures["dead_codes"]) == (0.75, 1)
    assert figures["elbo"] == -means["loss"]
    assert "code_frequency" not in figures


def test_samples_are_noise_about_uniform_centroids(x64):
    model = make("kmeans")[0]
    places = 100.0 * np.arange(CODES)[:, None] * np.ones(6)
    samples = np.asarray(model.sample(*centered(places), KEY, 8000))
    assert samples.shape == (8000, *SHAPE)
    flat = samples.reshape(8000, 6)
    code = np.rint(flat.mean(axis=1) / 100).astype(int)
    assert np.all(np.abs(np.bincount(code, minlength=CODES) / 8000 - 0.25) < 5 * np.sqrt(0.25 * 0.75 / 8000))
    noise = (flat - places[code]) / SIGMA
    assert scipy.stats.kstest(noise.ravel(), "norm").pvalue > 1e-3
    assert np.abs(np.corrcoef(noise.T) - np.eye(6)).max() < 5 / np.sqrt(8000)


@pytest.mark.parametrize("kind", ["kmeans", "gmm"])
def test_the_first_batch_puts_centroids_beside_examples_and_apart(x64, kind):
    """More than there are examples: each example has its turn before one has another."""
    model = shallow_vq(shape=SHAPE, num_codes=7, kind=kind)
    x = jnp.asarray(10 * np.random.default_rng(0).normal(size=(3, *SHAPE)))
    params, statistics = model.init(KEY, {"x": x})
    after = model.losses["shallow_vq"](params, statistics, {"x": x}, KEY, True)[1].statistics
    centroids = np.asarray(model.decode(params, after, np.arange(7))).reshape(7, 6)
    distance = np.linalg.norm(centroids[:, None] - np.asarray(x).reshape(3, 6), axis=-1)
    assert distance.min(axis=1).max() < 0.5 * np.linalg.norm(x[0] - x[1])
    assert sorted(np.bincount(distance.argmin(axis=1))) == [2, 2, 3]
    assert distance.min() > 1e-3
    kept = model.losses["shallow_vq"](params, statistics, {"x": x}, KEY, False)[1].statistics
    jax.tree.map(np.testing.assert_array_equal, kept, statistics)


@pytest.mark.parametrize("kind", ["kmeans", "gmm"])
def test_counts_follow_what_examples_a_centroid_has_and_the_dead_return(x64, kind):
    model, params, statistics, batch = make(kind, revival=0.05)
    _, centroids, log_density, nearest = by_hand(params, statistics, batch["x"])
    share = np.eye(CODES)[nearest] if kind == "kmeans" else scipy.special.softmax(log_density, axis=1)
    after = model.losses["shallow_vq"](params, statistics, batch, KEY, True)[1].statistics
    np.testing.assert_allclose(after.counts, 0.99 + 0.01 * share.sum(axis=0), rtol=1e-9)
    dead = statistics._replace(counts=statistics.counts.at[3].set(0.04))
    after = model.losses["shallow_vq"](params, dead, batch, KEY, True)[1].statistics
    moved = np.asarray(params["shallow_vq"]["codes"] + after.offset)
    np.testing.assert_array_equal(moved[:3], centroids[:3])
    beside = np.linalg.norm(np.asarray(batch["x"]).reshape(9, 6) - moved[3], axis=1).min()
    assert 1e-3 < beside < 0.2 * np.linalg.norm(centroids[3] - moved[3])
    assert after.counts[3] > 0.7


def test_four_devices_give_what_one_gives(x64):
    model, params, statistics, batch = make("gmm", examples=8, revival=1.5)
    statistics = statistics._replace(counts=jnp.array([2.0, 2.0, 2.0, 1.0]))
    loss_fn = jax.value_and_grad(model.losses["shallow_vq"], has_aux=True)
    (loss, aux), gradient = jax.jit(loss_fn, static_argnums=4)(params, statistics, batch, KEY, True)

    def on_device(part):
        (loss, aux), gradient = loss_fn(params, statistics, part, KEY, True)
        return jax.lax.pmean((loss, aux.metrics, gradient), AXIS), aux.statistics

    parts = {name: a.reshape(4, 2, *a.shape[1:]) for name, a in batch.items()}
    several = jax.pmap(on_device, axis_name=AXIS, devices=jax.devices()[:4])(parts)
    for device in range(4):
        jax.tree.map(
            lambda a, b, device=device: np.testing.assert_allclose(a[device], b, rtol=1e-9, atol=1e-9),
            several,
            ((loss, aux.metrics, gradient), aux.statistics),
        )


def test_the_distortion_on_digits_is_within_one_percent_of_scikit_learns():
    dataset = load("digits")
    points = dataset.train["x"].reshape(-1, 64) / 16
    model = shallow_vq(shape=(8, 8, 1))
    options = Options(steps=600, batch_size=128, learning_rate=0.005, schedule="cosine", evaluate_every=600)
    state = train(model, dataset, options).state
    centroids = np.asarray(model.decode(state.params, state.statistics, np.arange(64))).reshape(64, 64)
    ours = np.square(points[:, None] - centroids).sum(axis=-1).min(axis=1).mean()
    theirs = KMeans(64, n_init=3, random_state=0).fit(points).inertia_ / len(points)
    assert ours < 1.01 * theirs


def test_far_examples_have_finite_losses_and_gradients():
    for kind in ("kmeans", "gmm"):
        model, params, statistics, batch = make(kind)
        params, statistics, x = jax.tree.map(lambda a: a.astype(jnp.float32), (params, statistics, batch["x"]))
        batch = {"x": x.at[0].set(1e6)}
        (loss, aux), gradient = jax.value_and_grad(model.losses["shallow_vq"], has_aux=True)(
            params, statistics, batch, KEY, True
        )
        assert all(np.all(np.isfinite(a)) for a in jax.tree.leaves((loss, aux, gradient)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_codes": 0}, "num_codes must be at least 1, .* got 0, 1.0 and 0.01"),
        ({"fixed_scale": 0.0}, "fixed_scale positive .* got 64, 0.0 and 0.01"),
        ({"revival": -1.0}, "revival not negative, got 64, 1.0 and -1.0"),
    ],
)
def test_settings_that_make_no_quantizer_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        shallow_vq(shape=SHAPE, **options)
