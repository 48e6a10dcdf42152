"""The VQ-VAE: nearest codes by brute force, gradients by hand, statistics that move in training alone."""

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from flax import linen as nn

from jaxgen.errors import UserError
from jaxgen.model import AXIS
from jaxgen.models import vq_vae
from jaxgen.nets import ConvDecoder, ConvEncoder
from jaxgen.quantization import EmaCodebook
from jaxgen.unused import check_used

SHAPE, CODES, DIM, HIDDEN, SIGMA = (6, 5, 1), 5, 2, (3,), 0.7
CELLS = 9  # a grid of 3 × 3
KEY = jax.random.key(6)
SMALL = {
    "shape": SHAPE,
    "num_codes": CODES,
    "code_dim": DIM,
    "hidden": HIDDEN,
    "scale": "fixed",
    "fixed_scale": SIGMA,
    "revival": 0.0,
}
ENCODER = nn.Sequential([ConvEncoder(HIDDEN), nn.Conv(DIM, (1, 1))])
DECODER = nn.Sequential([nn.Conv(HIDDEN[-1], (3, 3)), ConvDecoder(HIDDEN, SHAPE)])
encoder_fn, decoder_fn = jax.jit(ENCODER.apply), jax.jit(DECODER.apply)


def make(batch_size=4, dtype=jnp.float64, **options):
    rng = np.random.default_rng(3)
    model = vq_vae(**(SMALL | options))
    batch = {"x": jnp.asarray(rng.uniform(size=(batch_size, *SHAPE)), dtype), "position": jnp.arange(batch_size)}
    params, _ = jax.eval_shape(model.init, KEY, batch)
    params = jax.tree.map(lambda s: jnp.asarray(rng.normal(size=s.shape), dtype), params)
    codes = options.get("num_codes", CODES)
    counts = rng.uniform(1, 3, codes)
    places = 2 * rng.normal(size=(codes, DIM)) + np.asarray(encode(params, batch["x"])).mean(axis=(0, 1, 2))
    codebook = EmaCodebook(jnp.asarray(counts, dtype), jnp.asarray(counts[:, None] * places, dtype))
    return model, params, {"codebook": codebook, "likelihood": {}}, batch


def encode(params, x):
    return encoder_fn(params["vq_vae"]["encoder"], x)


def decode(params, codes):
    return decoder_fn(params["vq_vae"]["decoder"], codes)


def places(statistics):
    return np.asarray(statistics["codebook"].sums) / np.asarray(statistics["codebook"].counts)[:, None]


def nearest(encodings, codebook):
    return np.square(np.asarray(encodings)[..., None, :] - codebook).sum(axis=-1).argmin(axis=-1)


def expected_terms(params, statistics, x):
    """Index, encodings, codes, and per example −log p(x|e) and ‖z − e‖²."""
    encodings, codebook = np.asarray(encode(params, x)), places(statistics)
    index = nearest(encodings, codebook)
    codes = codebook[index]
    density = scipy.stats.norm.logpdf(x, decode(params, jnp.asarray(codes)), SIGMA)
    squares = np.square(encodings - codes)
    return index, encodings, codes, -density.sum(axis=(1, 2, 3)), squares.sum(axis=(1, 2, 3))


def run_loss(model, *arguments, train):
    return jax.jit(model.losses["vq_vae"], static_argnums=4)(*arguments, KEY, train)


@pytest.mark.parametrize("train", [True, False])
def test_loss_and_terms_come_from_the_old_codebook(x64, train):
    # With decay 0 the new codebook is another one altogether.
    model, params, statistics, batch = make(decay=0.0, commitment=0.4)
    index, _, _, nll, committed = expected_terms(params, statistics, batch["x"])
    assert 1 < len(np.unique(index)) < CODES
    loss, aux = run_loss(model, params, statistics, batch, train=train)
    np.testing.assert_allclose(loss, nll.mean() + 0.4 * committed.mean() / SIGMA**2, rtol=1e-9)
    np.testing.assert_allclose(aux.metrics["nll"], nll.mean(), rtol=1e-9)
    np.testing.assert_allclose(aux.metrics["commitment"], committed.mean(), rtol=1e-9)
    counts = np.bincount(index.ravel(), minlength=CODES)
    entropy = scipy.stats.entropy(counts)
    np.testing.assert_allclose(aux.metrics["perplexity"], np.exp(entropy), rtol=1e-6)
    np.testing.assert_allclose(aux.metrics["usage"], np.mean(counts > 0), rtol=1e-6)


def test_statistics_follow_the_encodings_in_training_alone(x64):
    model, params, statistics, batch = make(decay=0.8)
    index, encodings, *_ = expected_terms(params, statistics, batch["x"])
    one_hot = np.eye(CODES)[index.ravel()]
    old = statistics["codebook"]
    counts = 0.8 * old.counts + 0.2 * one_hot.sum(axis=0)
    sums = 0.8 * old.sums + 0.2 * one_hot.T @ encodings.reshape(-1, DIM)
    new = run_loss(model, params, statistics, batch, train=True)[1].statistics["codebook"]
    np.testing.assert_allclose(new.counts, counts, rtol=1e-10)
    np.testing.assert_allclose(new.sums, sums, rtol=1e-9, atol=1e-12)
    kept = run_loss(model, params, statistics, batch, train=False)[1].statistics["codebook"]
    np.testing.assert_array_equal(kept.counts, old.counts)
    np.testing.assert_array_equal(kept.sums, old.sums)


def test_the_codebook_has_no_gradient_and_the_encoder_that_of_its_code(x64):
    model, params, statistics, batch = make(commitment=0.4)
    x = batch["x"]
    _, encodings, codes, *_ = expected_terms(params, statistics, x)
    gradient_fn = jax.jit(jax.grad(model.losses["vq_vae"], argnums=(0, 1), has_aux=True), static_argnums=4)
    (gradient, of_statistics), _ = gradient_fn(params, statistics, batch, KEY, True)
    assert all(np.all(a == 0) for a in jax.tree.leaves(of_statistics))

    def distortion(own, codes):
        return jnp.square(DECODER.apply(own, codes) - x).sum() / (2 * SIGMA**2) / len(x)

    of_decoder, of_codes = jax.jit(jax.grad(distortion, argnums=(0, 1)))(
        params["vq_vae"]["decoder"], jnp.asarray(codes)
    )
    # Straight through: what would move the code moves the encoding, and the commitment pulls besides.
    cotangent = of_codes + 0.4 * 2 * (encodings - codes) / SIGMA**2 / len(x)
    _, pull = jax.vjp(lambda own: ENCODER.apply(own, x), params["vq_vae"]["encoder"])
    expected = {"encoder": pull(cotangent)[0], "decoder": of_decoder, "codebook": {}, "likelihood": {}}
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-10), gradient["vq_vae"], expected)
    assert any(np.any(np.abs(a) > 1e-3) for a in jax.tree.leaves(gradient["vq_vae"]["encoder"]))


@pytest.mark.parametrize("quantizer", ["ema", "gradient"])
def test_a_narrower_likelihood_pulls_no_other_way(quantizer):
    """σ² times the gradient is the same for any σ, and of the best σ too: encodings cannot drift as σ falls."""

    def scaled(options, variance_of):
        model = vq_vae(**(SMALL | {"quantizer": quantizer} | options))
        batch = {"x": jax.random.uniform(KEY, (4, *SHAPE)), "position": jnp.arange(4)}
        params, statistics = model.init(KEY, batch)
        gradient, aux = jax.grad(model.losses["vq_vae"], has_aux=True)(params, statistics, batch, KEY, True)
        return jax.tree.map(lambda g: g * variance_of(aux.metrics), gradient)

    expected = scaled({"fixed_scale": 1.0}, lambda _: 1.0)
    narrow = scaled({"fixed_scale": 0.1}, lambda _: 0.01)
    optimal = scaled({"scale": "optimal", "fixed_scale": 1.0}, lambda terms: jnp.square(terms["scale"]))
    assert max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(expected)) > 0.1
    for found in (narrow, optimal):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), found, expected)


def test_the_first_batch_places_every_code_beside_an_encoding(x64):
    # As many codes as encodings: left to quantize is what they lie beside them, a tenth of the spread.
    model, _, _, batch = make(batch_size=1, num_codes=CELLS, revival=0.01)
    params, statistics = jax.jit(model.init)(KEY, batch)
    _, aux = run_loss(model, params, statistics, batch, train=True)
    encodings = np.asarray(encode(params, batch["x"])).reshape(-1, DIM)
    variance = encodings.var(axis=0).mean()
    assert 0 < aux.metrics["commitment"] < 2 * CELLS * DIM * variance / 100
    assert np.linalg.norm(places(aux.statistics)[:, None] - encodings, axis=-1).min(axis=1).max() < variance**0.5 / 2
    model = vq_vae(**(SMALL | {"num_codes": CELLS}))
    params, statistics = jax.jit(model.init)(KEY, batch)
    assert run_loss(model, params, statistics, batch, train=True)[1].metrics["commitment"] > 0.1


def test_a_dead_code_returns_to_the_encodings_and_the_living_stay(x64):
    model, params, statistics, batch = make(decay=1.0, revival=0.5)
    old = statistics["codebook"]
    dead = EmaCodebook(old.counts.at[2].set(0.1), old.sums.at[2].set(100.0))
    statistics = statistics | {"codebook": dead}
    _, aux = run_loss(model, params, statistics, batch, train=True)
    moved, living = places(aux.statistics), [0, 1, 3, 4]
    np.testing.assert_allclose(moved[living], places(statistics)[living], rtol=1e-12)
    encodings = np.asarray(encode(params, batch["x"])).reshape(-1, DIM)
    assert np.linalg.norm(encodings - moved[2], axis=1).min() < 0.4 * np.sqrt(encodings.var(axis=0).mean())
    _, aux = run_loss(model, params, statistics, batch, train=False)
    np.testing.assert_array_equal(aux.statistics["codebook"].sums, dead.sums)


def test_figures_of_a_split_count_its_codes_and_charge_log_k_for_each(x64):
    model, params, statistics, batch = make(batch_size=6, commitment=0.4)
    index, _, codes, nll, committed = expected_terms(params, statistics, batch["x"])
    values = jax.jit(model.evaluate)(params, statistics, batch, KEY)
    np.testing.assert_allclose(values["nll"], nll, rtol=1e-9)
    np.testing.assert_allclose(values["commitment"], committed, rtol=1e-9)
    np.testing.assert_allclose(values["loss"], nll + 0.4 * committed / SIGMA**2, rtol=1e-9)
    error = np.square(decode(params, codes) - batch["x"]).sum(axis=(1, 2, 3))
    np.testing.assert_allclose(values["squared_error"], error, rtol=1e-9)
    figures = model.summarize({name: np.asarray(a).mean(axis=0) for name, a in values.items()})
    counts = np.bincount(index.ravel(), minlength=CODES)
    assert 0 < np.sum(counts == 0) < CODES
    np.testing.assert_allclose(figures["perplexity"], np.exp(scipy.stats.entropy(counts)), rtol=1e-6)
    np.testing.assert_allclose(figures["usage"], np.mean(counts > 0), rtol=1e-6)
    assert figures["dead_codes"] == np.sum(counts == 0)
    np.testing.assert_allclose(figures["rate"], CELLS * np.log(CODES), rtol=1e-6)
    np.testing.assert_allclose(figures["elbo"], -(nll.mean() + CELLS * np.log(CODES)), rtol=1e-6)
    assert "code_frequency" not in figures


@pytest.mark.parametrize(
    ("options", "measured", "rate"),
    [
        ({"quantizer": "residual", "stages": 3}, {}, CELLS * 3 * np.log(CODES)),
        ({"quantizer": "finite_scalar", "levels": (4, 3)}, {}, CELLS * np.log(12)),
        ({"quantizer": "gumbel"}, {"kl": 2.5}, 2.5),
    ],
)
def test_the_rate_counts_every_code_at_the_logarithm_of_their_number_or_what_a_draw_costs(options, measured, rate):
    model = vq_vae(**(SMALL | options))
    means = {"nll": 4.0, "code_frequency": np.full(model.codes.size, 1 / model.codes.size), **measured}
    figures = model.summarize(means)
    np.testing.assert_allclose(figures["rate"], rate, rtol=1e-6)
    np.testing.assert_allclose(figures["elbo"], -4.0 - rate, rtol=1e-6)


@pytest.mark.parametrize("quantizer", ["ema", "gumbel"])
def test_the_best_checkpoint_is_that_of_the_best_bound(quantizer):
    """Whatever the commitment weighs: what it minimizes is −elbo, but for what all codes cost alike."""
    model = vq_vae(**(SMALL | {"quantizer": quantizer, "scale": "shared"}))
    batch = {"x": jax.random.uniform(KEY, (4, *SHAPE)), "position": jnp.arange(4)}
    params, statistics = model.init(KEY, batch)
    evaluate, rows = jax.jit(model.evaluate), []
    for log_scale in (0.0, -1.0, -2.0):
        params["vq_vae"]["likelihood"]["log_scale"] = jnp.asarray(log_scale)
        values = evaluate(params, statistics, batch, KEY)
        rows.append(model.summarize({name: np.asarray(value).mean(axis=0) for name, value in values.items()}))
    bounds = np.array([row["elbo"] for row in rows])
    assert np.ptp(bounds) > 10
    uniform = 0 if quantizer == "gumbel" else CELLS * np.log(CODES)
    np.testing.assert_allclose([row[model.objective] for row in rows], -bounds - uniform, rtol=1e-5)


def residual(stages=3):
    """A model of several codebooks, of which each has codes that no encoding is near, and examples."""
    model, params, _, batch = make(batch_size=6, quantizer="residual", stages=stages)
    rng, spread = np.random.default_rng(8), np.asarray(encode(params, batch["x"])).std()
    codebooks = rng.normal(size=(stages, CODES, DIM)) * spread / 2.0 ** np.arange(stages)[:, None, None]
    codebooks[0] += np.asarray(encode(params, batch["x"])).mean(axis=(0, 1, 2))
    codebooks[:, -1] += 100
    state = EmaCodebook(jnp.ones((stages, CODES)), jnp.asarray(codebooks))
    left, chosen = np.asarray(encode(params, batch["x"])), []
    for codebook in codebooks:
        chosen.append(nearest(left, codebook))
        left = left - codebook[chosen[-1]]
    return model, params, {"codebook": state, "likelihood": {}}, batch, codebooks, np.stack(chosen, axis=-1)


def test_figures_of_several_stages_are_those_of_their_own_codebooks(x64):
    model, params, statistics, batch, _, chosen = residual()
    counts = np.stack([np.bincount(chosen[..., stage].ravel(), minlength=CODES) for stage in range(3)])
    dead, mean = np.sum(counts == 0), np.mean(np.exp(scipy.stats.entropy(counts, axis=1)))
    assert np.sum(counts.sum(axis=0) == 0) < dead  # Counted together, one stage's codes would hide another's.
    _, aux = run_loss(model, params, statistics, batch, train=False)
    values = jax.jit(model.evaluate)(params, statistics, batch, KEY)
    figures = model.summarize({name: np.asarray(a).mean(axis=0) for name, a in values.items()})
    for seen in (aux.metrics, figures):
        np.testing.assert_allclose(seen["perplexity"], mean, rtol=1e-6)
        np.testing.assert_allclose(seen["usage"], 1 - dead / (3 * CODES), rtol=1e-6)
    assert figures["dead_codes"] == dead


def test_codes_of_several_stages_are_numbered_through(x64):
    model, params, statistics, batch, codebooks, chosen = residual()
    numbered = chosen + CODES * np.arange(3)
    assert model.codes.size == 3 * CODES
    np.testing.assert_array_equal(jax.jit(model.encode)(params, statistics, batch["x"]), numbered)
    codes = codebooks.reshape(-1, DIM)[numbered].sum(axis=-2)
    np.testing.assert_allclose(model.decode(params, statistics, numbered), decode(params, codes), rtol=1e-9)
    assert np.all(np.isfinite(model.sample(params, statistics, KEY, 3)))
    # A code of another stage is none of this one's; compiled, where it cannot be seen, it has no image.
    swapped = numbered[..., ::-1]
    assert np.all(np.isnan(jax.jit(model.decode)(params, statistics, swapped)).any(axis=(1, 2, 3)))
    for index, seen in ((swapped, swapped[0, 0, 0, 0]), (np.array([15, 5, 10]) + np.zeros((1, 3, 3, 1), int), 15)):
        message = rf"index holds code {seen} at \[0, 0, 0\] of an example, where codes lie in 0 … 4; give codes as"
        with pytest.raises(ValueError, match=message):
            model.decode(params, statistics, index)
    with pytest.raises(ValueError, match=r"index must be \[batch, height, width, 3\], got the shape \(6, 3, 3\)"):
        model.decode(params, statistics, chosen[..., 0])


def test_images_become_the_nearest_codes_and_codes_become_images(x64):
    model, params, statistics, batch = make()
    index, _, codes, *_ = expected_terms(params, statistics, batch["x"])
    x = np.asarray(batch["x"])
    np.testing.assert_array_equal(model.encode(params, statistics, x), index)
    image = decode(params, codes)
    np.testing.assert_allclose(model.decode(params, statistics, index), image, rtol=1e-9)
    np.testing.assert_allclose(model.reconstruct(params, statistics, x), image, rtol=1e-9)


def test_samples_are_decoded_from_uniform_codes(x64):
    model = vq_vae(**(SMALL | {"shape": (2, 2, 1), "num_codes": 4}))  # a single cell
    params, statistics = jax.jit(model.init)(KEY, {"x": jnp.zeros((1, 2, 2, 1))})
    images = np.asarray(model.decode(params, statistics, np.arange(4).reshape(4, 1, 1)))
    samples = np.asarray(model.sample(params, statistics, KEY, 4000))
    difference = np.abs(samples[:, None] - images).max(axis=(2, 3, 4))
    np.testing.assert_allclose(difference.min(axis=1), 0, atol=1e-6)
    counts = np.bincount(difference.argmin(axis=1), minlength=4)
    assert np.all(np.abs(counts / 4000 - 0.25) < 5 * np.sqrt(0.25 * 0.75 / 4000))


def test_four_devices_keep_one_codebook_and_give_what_one_gives(x64):
    model, params, statistics, batch = make(batch_size=8, revival=1.4)  # the least used code is dead
    assert np.sum(np.asarray(statistics["codebook"].counts) < 1.4) == 1
    loss_fn = jax.value_and_grad(model.losses["vq_vae"], has_aux=True)
    (loss, aux), gradient = jax.jit(loss_fn, static_argnums=4)(params, statistics, batch, KEY, True)
    parts = {name: a.reshape(4, 2, *a.shape[1:]) for name, a in batch.items()}

    def on_device(part):
        (loss, aux), gradient = loss_fn(params, statistics, part, KEY, True)
        return jax.lax.pmean((loss, aux.metrics, gradient), AXIS), aux.statistics

    shared, kept = jax.pmap(on_device, axis_name=AXIS, devices=jax.devices()[:4])(parts)
    close = functools.partial(np.testing.assert_allclose, rtol=1e-6, atol=1e-9)
    for device in range(4):
        jax.tree.map(
            lambda a, b, device=device: close(a[device], b),
            (shared, kept),
            ((loss, aux.metrics, gradient), aux.statistics),
        )


def test_encodings_far_from_every_code_stay_finite_and_half_precision_is_refined():
    model, params, statistics, batch = make(dtype=jnp.float32, scale="optimal")
    statistics = statistics | {"likelihood": {"variance": jnp.ones(()), "batches": jnp.ones(())}}
    loss_fn = jax.jit(jax.value_and_grad(model.losses["vq_vae"], has_aux=True), static_argnums=4)
    far = {"vq_vae": params["vq_vae"] | {"encoder": jax.tree.map(lambda a: 1e4 * a, params["vq_vae"]["encoder"])}}
    (loss, _), gradient = loss_fn(far, statistics, batch, KEY, True)
    assert all(np.all(np.isfinite(a)) for a in jax.tree.leaves((loss, gradient)))
    half = batch["x"].astype(jnp.bfloat16)
    (of_half, aux), _ = loss_fn(params, statistics, batch | {"x": half}, KEY, True)
    (expected, _), _ = loss_fn(params, statistics, batch | {"x": half.astype(jnp.float32)}, KEY, True)
    np.testing.assert_allclose(of_half, expected, rtol=1e-4)
    assert aux.statistics["codebook"].sums.dtype == jnp.float32


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_codes": 0}, "num_codes, code_dim and stages must be at least 1, got 0, 2 and 4"),
        ({"code_dim": 0}, "num_codes, code_dim and stages must be at least 1, got 5, 0 and 4"),
        ({"commitment": -0.1}, "commitment and revival must not be negative"),
        ({"revival": -0.1}, "commitment and revival must not be negative"),
        ({"decay": 1.1}, r"decay must lie in \[0, 1\], got 0.25, 0.0, 1.1"),
        ({"stages": 0}, "stages must be at least 1, got 5, 2 and 0"),
        ({"levels": ()}, r"levels must be one or more counts of at least 2, got \(\)"),
        ({"levels": (3, 1)}, r"levels must be one or more counts of at least 2, got \(3, 1\)"),
        ({"temperature": 0.0}, "temperature must be positive, got 0.0"),
        ({"hidden": ()}, r"at least one stage, got \(\)"),
        ({"hidden": (3, 3, 3, 3)}, "images of 6×5 can be halved 3 times .* halves them 4 times; name fewer stages"),
        ({"shape": (1, 9, 1)}, "images of 1×9 can be halved 0 times"),
        ({"shape": (64,)}, r"codes needs images .* got examples of shape \(64,\)$"),
    ],
)
def test_settings_that_make_no_vq_vae_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        vq_vae(**(SMALL | options))


@pytest.mark.parametrize(
    ("quantizer", "given", "needed"),
    [
        ("finite_scalar", {"num_codes": 7}, "ema"),
        ("finite_scalar", {"code_dim": 5}, "gumbel"),
        ("ema", {"levels": (3, 3)}, "finite_scalar"),
        ("rotation", {"stages": 2}, "residual"),
        ("gradient", {"temperature": 0.5}, "gumbel"),
        ("gumbel", {"commitment": 0.5}, "gradient"),
        ("finite_scalar", {"decay": 0.5}, "rotation"),
        ("gumbel", {"revival": 0.5}, "residual"),
    ],
)
def test_an_argument_of_another_quantizer_is_refused_and_changes_nothing(quantizer, given, needed):
    defaults = {p.name: p.default for p in inspect.signature(vq_vae).parameters.values()}
    with pytest.raises(UserError, match=r"would change nothing here: it takes .*--quantizer"):
        check_used(defaults | given | {"quantizer": quantizer}, defaults)
    check_used(defaults | given | {"quantizer": needed}, defaults)
    batch = {"x": jnp.asarray(np.random.default_rng(3).uniform(size=(4, *SHAPE)), jnp.float32)}
    batch["position"] = jnp.arange(4)

    def learned(**options):
        model = vq_vae(**({"shape": SHAPE, "hidden": (3,)} | options))
        return jax.jit(lambda p, s: model.losses["vq_vae"](p, s, batch, KEY, True))(*model.init(KEY, batch))

    jax.tree.map(np.testing.assert_array_equal, learned(quantizer=quantizer, **given), learned(quantizer=quantizer))
