"""Quantizers one by one: what the codes are, whose gradient goes where, and k-means as a limit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats
from flax import linen as nn
from sklearn.cluster import KMeans

from jaxgen import runs
from jaxgen.data import load
from jaxgen.model import AXIS
from jaxgen.models.likelihood import make_likelihood
from jaxgen.models.quantizers import Placement
from jaxgen.models.vq_vae import make_quantizer, quantized_autoencoder
from jaxgen.quantization import EmaCodebook, codebook_from_ema, kmeans, revive_dead_codes
from jaxgen.training import Options, train

KEY = jax.random.key(5)
CODES, DIM, GRID = 6, 3, (2, 3)
NAMES = ["ema", "gradient", "rotation", "finite_scalar", "residual", "gumbel"]
NUMBERS = {"num_codes": CODES, "code_dim": DIM, "levels": (3, 4), "stages": 2, "commitment": 0.4, "decay": 0.8}
POSITION = jnp.arange(4)


def make(name, *, dtype=jnp.float64, **options):
    """A quantizer with codes about which nothing is special, and encodings for it."""
    rng = np.random.default_rng(1)
    quantizer = make_quantizer(name, **(NUMBERS | {"revival": 0.0, "temperature": 0.7} | options))
    params, state = jax.eval_shape(quantizer.init, KEY)
    params, state = jax.tree.map(lambda s: jnp.asarray(rng.normal(size=s.shape), s.dtype), (params, state))
    if hasattr(state, "counts"):
        state = state._replace(counts=jnp.asarray(rng.uniform(1, 3, state.counts.shape), state.counts.dtype))
    encodings = jnp.asarray(rng.normal(size=(4, *GRID, quantizer.outputs)), dtype)
    return quantizer, params, state, encodings


def codebooks(name, params, state):
    """The codes that indices stand for: [codes, dim], of the residual quantizer [stages, codes, dim]."""
    if name in ("ema", "rotation", "residual"):
        return np.asarray(state.sums) / np.asarray(state.counts)[..., None]
    if name == "finite_scalar":
        return np.array([[(i % 3 - 1) / 1, (i // 3 - 2) / 2] for i in range(12)])
    return np.asarray(params["codes"]) + (np.asarray(state.offset) if name == "gradient" else 0)


def nearest(vectors, codebook):
    return np.square(np.asarray(vectors)[..., None, :] - codebook).sum(axis=-1).argmin(axis=-1)


@pytest.mark.parametrize("name", NAMES)
def test_codes_are_those_of_their_indices_and_encoding_is_deterministic(x64, name):
    quantizer, params, state, encodings = make(name)
    tables = codebooks(name, params, state)
    if name == "residual":
        first = nearest(encodings, tables[0])
        second = nearest(encodings - tables[0][first], tables[1])
        index, codes = np.stack([first, second], axis=-1), tables[0][first] + tables[1][second]
    elif name == "gumbel":
        index = np.argmax(encodings, axis=-1)
        codes = tables[index]
    elif name == "finite_scalar":
        # The level on which tanh rounds: three are symmetric, four lie at −1, −½, 0 and ½.
        half = 1.001 * 1.5
        levels = np.round(half * np.tanh(np.asarray(encodings[..., 1]) + np.arctanh(0.5 / half)) - 0.5)
        index = np.round(1.001 * np.tanh(np.asarray(encodings[..., 0]))) + 1 + 3 * (levels + 2)
        codes = tables[index.astype(int)]
    else:
        index = nearest(encodings, tables)
        codes = tables[index]
    assert len(np.unique(index)) > 2
    np.testing.assert_array_equal(quantizer.encode(params, state, encodings), index)
    np.testing.assert_allclose(quantizer.lookup(params, state, np.asarray(index, np.int32)), codes, rtol=1e-9)
    for train_now in (True, False):
        quantized = quantizer.quantize(params, state, encodings, KEY, POSITION, train_now)
        assert quantized.index.shape == (4, *GRID, *quantizer.stages)
        if name != "gumbel":
            np.testing.assert_array_equal(quantized.index, index)
        np.testing.assert_allclose(quantized.codes, quantizer.lookup(params, state, quantized.index), rtol=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_codes_stay_float32_whatever_the_compute_type(name):
    quantizer, params, state, encodings = make(name, dtype=jnp.bfloat16)
    wide = quantizer.quantize(params, state, encodings.astype(jnp.float32), KEY, POSITION, True)
    half = quantizer.quantize(params, state, encodings, KEY, POSITION, True)
    assert half.codes.dtype == half.penalty.dtype == jnp.float32
    np.testing.assert_array_equal(half.codes, wide.codes)
    np.testing.assert_array_equal(half.index, wide.index)
    jax.tree.map(np.testing.assert_array_equal, half.statistics, wide.statistics)
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(half.statistics))


@pytest.mark.parametrize("name", ["ema", "rotation", "gradient", "residual"])
def test_terms_are_squared_distances_each_with_its_own_gradient(x64, name):
    quantizer, params, state, encodings = make(name)

    def quantize(encodings, params, state):
        return quantizer.quantize(params, state, encodings, KEY, POSITION, True)

    quantized = quantize(encodings, params, state)
    codes = np.asarray(quantized.codes)
    squares = np.square(encodings - codes).sum(axis=(1, 2, 3))
    weights = {"commitment": 0.4} | ({"codebook": 1.0} if name == "gradient" else {})
    assert quantized.terms.keys() == weights.keys()
    for term in quantized.terms.values():
        np.testing.assert_allclose(term, squares, rtol=1e-9)
    np.testing.assert_allclose(quantized.penalty, sum(weights.values()) * squares, rtol=1e-9)
    of_encodings, of_params, of_state = jax.grad(
        lambda *arguments: quantize(*arguments).penalty.sum(), argnums=(0, 1, 2), allow_int=True
    )(encodings, params, state)
    # The commitment alone moves the encodings; the codebook's own term alone moves the codes.
    np.testing.assert_allclose(of_encodings, 0.4 * 2 * (encodings - codes), rtol=1e-8, atol=1e-12)
    assert all(np.all(leaf == 0) for leaf in jax.tree.leaves(of_state))
    if name != "gradient":
        assert not jax.tree.leaves(params)
        return
    one_hot = np.eye(CODES)[np.asarray(quantized.index).ravel()]
    pull = 2 * (codes - encodings).reshape(-1, DIM)
    np.testing.assert_allclose(of_params["codes"], one_hot.T @ pull, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("name", ["ema", "gradient", "residual"])
def test_what_the_decoder_wants_reaches_the_encoder_as_the_identity_and_the_codebook_not(x64, name):
    quantizer, params, state, encodings = make(name)
    wanted = jnp.asarray(np.random.default_rng(2).normal(size=(*encodings.shape[:-1], DIM)))

    def inner(encodings, params, state):
        return jnp.vdot(wanted, quantizer.quantize(params, state, encodings, KEY, POSITION, True).codes)

    to_encodings, *others = jax.grad(inner, argnums=(0, 1, 2))(encodings, params, state)
    np.testing.assert_array_equal(to_encodings, wanted)
    assert all(np.all(leaf == 0) for leaf in jax.tree.leaves(others))


def test_the_rotation_turns_the_gradient_as_it_turns_the_encoding(x64):
    """By the matrix exponential of the plane's generator, scaled by the ratio of the norms."""
    quantizer, params, state, encodings = make("rotation")
    codes = codebooks("rotation", params, state)[nearest(encodings, codebooks("rotation", params, state))]
    z, e = np.asarray(encodings[1, 0, 2]), codes[1, 0, 2]
    a, b = z / np.linalg.norm(z), e / np.linalg.norm(e)
    across = b - (a @ b) * a
    across /= np.linalg.norm(across)
    turn = scipy.linalg.expm(np.arccos(a @ b) * (np.outer(across, a) - np.outer(a, across)))
    expected = np.linalg.norm(e) / np.linalg.norm(z) * turn
    np.testing.assert_allclose(expected @ z, e, rtol=1e-9)

    def codes_of(one):
        at = encodings.at[1, 0, 2].set(one)
        return quantizer.quantize(params, state, at, KEY, POSITION, True).codes[1, 0, 2]

    np.testing.assert_allclose(jax.jacobian(codes_of)(encodings[1, 0, 2]), expected, rtol=1e-8, atol=1e-10)


def test_gumbel_draws_the_posterior_and_pays_its_divergence(x64):
    quantizer, params, state, logits = make("gumbel")
    posterior = scipy.special.softmax(logits, axis=-1)
    kl = (np.log(CODES) - scipy.stats.entropy(posterior, axis=-1)).sum(axis=(1, 2))
    many = jnp.tile(logits[:1], (4000, 1, 1, 1))
    for train_now in (True, False):
        quantized = quantizer.quantize(params, state, logits, KEY, POSITION, train_now)
        np.testing.assert_allclose(quantized.terms["kl"], kl, rtol=1e-9)
        np.testing.assert_array_equal(quantized.penalty, 0)
        index = quantizer.quantize(params, state, many, KEY, jnp.arange(4000), train_now).index
        share = np.eye(CODES)[np.asarray(index)].mean(axis=0)
        assert np.all(np.abs(share - posterior[0]) < 5 * np.sqrt(posterior[0] * (1 - posterior[0]) / 4000))
        # Noise belongs to the example: in another place of the batch it draws the same.
        turned = quantizer.quantize(params, state, logits[::-1], KEY, POSITION[::-1], train_now)
        np.testing.assert_array_equal(turned.index[::-1], quantized.index)


def test_the_relaxed_gradient_of_gumbel_is_that_of_its_softmax(x64):
    """The cotangent of the one-hot draw goes through softmax((η + g)/τ); the codebook gets that of what was drawn."""
    quantizer, params, state, logits = make("gumbel", temperature=1e6)
    wanted = np.random.default_rng(2).normal(size=(4, *GRID, DIM))

    def inner(logits, params):
        return jnp.vdot(wanted, quantizer.quantize(params, state, logits, KEY, POSITION, True).codes)

    to_logits, to_params = jax.grad(inner, argnums=(0, 1))(logits, params)
    # So hot, the relaxed draw is uniform: (diag p − p pᵀ)/τ with p = 1/K, whatever the noise.
    worth = wanted @ np.asarray(params["codes"]).T
    centered = (worth - worth.mean(axis=-1, keepdims=True)) / CODES / 1e6
    np.testing.assert_allclose(to_logits, centered, rtol=1e-4, atol=1e-12)
    index = np.asarray(quantizer.quantize(params, state, logits, KEY, POSITION, True).index)
    one_hot = np.eye(CODES)[index.ravel()]
    np.testing.assert_allclose(to_params["codes"], one_hot.T @ wanted.reshape(-1, DIM), rtol=1e-8)


@pytest.mark.parametrize("name", ["ema", "residual"])
def test_with_decay_zero_a_full_batch_is_one_step_of_lloyd(x64, name):
    quantizer, params, state, encodings = make(name, decay=0.0)
    after = quantizer.quantize(params, state, encodings, KEY, POSITION, True).statistics
    kept = quantizer.quantize(params, state, encodings, KEY, POSITION, False).statistics
    jax.tree.map(np.testing.assert_array_equal, kept, state)
    left = np.asarray(encodings).reshape(-1, DIM)
    old, new = (np.atleast_3d(codebooks(name, params, s).T).T for s in (state, after))
    for before, moved in zip(old, new, strict=True):
        index = nearest(left, before)
        for code in range(CODES):
            mine = left[index == code]
            place = mine.mean(axis=0) if len(mine) else before[code]
            np.testing.assert_allclose(moved[code], place, rtol=1e-8)
        # The next stage is given what the old codes left over.
        left = left - before[index]


def test_dead_codes_learned_by_gradient_return_beside_the_encodings_and_the_living_stay(x64):
    quantizer, params, state, encodings = make("gradient", revival=0.5)
    state = state._replace(counts=state.counts.at[2].set(0.1), offset=state.offset.at[2].set(100.0))
    old, flat = codebooks("gradient", params, state), np.asarray(encodings).reshape(-1, DIM)
    quantized = quantizer.quantize(params, state, encodings, KEY, POSITION, True)
    new = codebooks("gradient", params, quantized.statistics)
    np.testing.assert_array_equal(np.delete(new, 2, axis=0), np.delete(old, 2, axis=0))
    assert 1e-4 < np.linalg.norm(flat - new[2], axis=1).min() < 0.3 * np.linalg.norm(old[2] - new[2])
    index = nearest(encodings, new)
    np.testing.assert_array_equal(quantized.index, index)
    counts = np.bincount(index.ravel(), minlength=CODES)
    restart = np.asarray(state.counts).mean()
    expected = 0.8 * np.where(np.arange(CODES) == 2, restart, state.counts) + 0.2 * counts
    np.testing.assert_allclose(quantized.statistics.counts, expected, rtol=1e-9)
    kept = quantizer.quantize(params, state, encodings, KEY, POSITION, False).statistics
    jax.tree.map(np.testing.assert_array_equal, kept, state)


def test_the_first_batch_is_nearly_a_step_of_kmeans_from_the_encodings_that_it_was_begun_with(x64):
    """A code that was put beside z counts for the threshold: e = (γ·0.01·z + (1 − γ) Σ of its own) / their counts."""
    quantizer, params, _, encodings = make("ema", num_codes=CODES, decay=0.99, revival=0.01)
    fresh = quantizer.init(KEY)[1]
    placed = jax.jit(lambda s: quantizer.quantize(params, s, encodings, KEY, POSITION, True))(fresh)
    begun = codebook_from_ema(revive_dead_codes(KEY, fresh, encodings, threshold=0.01))
    vectors, chosen = np.asarray(encodings).reshape(-1, DIM), np.asarray(placed.index).ravel()
    after = np.asarray(placed.statistics.sums) / np.asarray(placed.statistics.counts)[:, None]
    for code in np.unique(chosen):
        own = vectors[chosen == code]
        weight = 0.01 * len(own) / (0.01 * len(own) + 0.99 * 0.01)
        start = (after[code] - weight * own.mean(axis=0)) / (1 - weight)
        np.testing.assert_allclose(start, begun[code], rtol=1e-9)
    assert len(np.unique(chosen)) == CODES


def test_a_pass_over_the_data_comes_where_kmeans_of_the_first_batch_would():
    """Within a tenth in squared error on fixed encodings, the digits' patches of 2 × 2."""
    digits = load("digits").train["x"].reshape(-1, 4, 2, 4, 2) / np.float32(16)
    patches = digits.transpose(0, 1, 3, 2, 4).reshape(-1, 4, 4, 4)[:1472]
    quantizer = make_quantizer("ema", num_codes=64, code_dim=4, commitment=0.25, decay=0.99, revival=0.01)

    def follow(state, batch):
        return quantizer.quantize({}, state, batch, KEY, jnp.arange(64), True).statistics, None

    state, _ = jax.lax.scan(follow, quantizer.init(KEY)[1], patches.reshape(-1, 64, 4, 4, 4))
    flat = patches.reshape(-1, 4)
    best = kmeans(KEY, patches[:64].reshape(-1, 4), 64).centroids
    index, of_best = (nearest(flat, np.asarray(book)) for book in (codebooks("ema", {}, state), best))
    found = np.square(flat - codebooks("ema", {}, state)[index]).sum(axis=-1).mean()
    assert found < 1.1 * np.square(flat - np.asarray(best)[of_best]).sum(axis=-1).mean()


@pytest.mark.parametrize("name", ["ema", "gradient", "residual"])
def test_the_first_batch_puts_the_codes_among_the_encodings(name):
    quantizer, *_, encodings = make(name, dtype=jnp.float32, revival=0.01)
    params, state = quantizer.init(KEY)
    far = 50 + encodings
    first = quantizer.quantize(params, state, far, KEY, POSITION, True)
    assert len(np.unique(first.index[..., 0] if name == "residual" else first.index)) == CODES
    # 24 encodings, 6 codes among them: less is left than their spread.
    spread = np.square(far - far.mean(axis=(0, 1, 2))).sum(axis=-1).mean()
    assert np.square(far - first.codes).sum(axis=-1).mean() < 0.8 * spread


class _Reshape(nn.Module):
    """The identity, as another shape."""

    shape: tuple[int, ...]

    @nn.compact
    def __call__(self, x):
        return jnp.reshape(x, (jnp.shape(x)[0], *self.shape))


def identity(name, **options):
    return quantized_autoencoder(
        "identity",
        encoder=_Reshape((1, 1, 64)),
        decoder=_Reshape((8, 8, 1)),
        observed=make_likelihood("gaussian", (8, 8, 1)),
        grid=(1, 1),
        quantizer=make_quantizer(name, **(NUMBERS | options)),
    )


@pytest.mark.parametrize(("name", "rate"), [("ema", 0.0), ("gradient", 0.2)])
def test_with_identity_networks_the_model_is_kmeans(name, rate):
    """Mean squared error on the digits within one percent of scikit-learn's, 64 codes."""
    points = jnp.asarray(load("digits").train["x"].reshape(-1, 8, 8, 1) / 16, jnp.float32)
    options = {"num_codes": 64, "code_dim": 64, "decay": 0.9, "revival": 0.3, "temperature": 1.0}
    model = identity(name, **options)
    params, statistics = model.init(KEY, {"x": points[:2]})

    def update(carry, key):
        (params, statistics), steps = carry
        order_key, loss_key = jax.random.split(key)
        index = jax.random.permutation(order_key, len(points))[:256]
        batch = {"x": points[index], "position": jnp.arange(256)}
        gradient, aux = jax.grad(model.losses["identity"], has_aux=True)(params, statistics, batch, loss_key, True)
        # 64 codes, of which each has its share of the batch, and a gradient of twice the way.
        falling = rate * 32 * (1 + jnp.cos(jnp.pi * steps / 600)) / 2
        params = jax.tree.map(lambda p, g: p - falling * g, params, gradient)
        return ((params, aux.statistics), steps + 1), None

    keys = jax.random.split(KEY, 600)
    ((params, statistics), _), _ = jax.jit(lambda c: jax.lax.scan(update, c, keys))(((params, statistics), 0.0))
    if name == "ema":
        # To the end: the whole set and no decay.
        exact = identity(name, **options | {"decay": 0.0, "revival": 0.0}).losses["identity"]
        batch = {"x": points, "position": jnp.arange(len(points))}
        for _ in range(10):
            statistics = exact(params, statistics, batch, KEY, True)[1].statistics
    error = np.square(model.reconstruct(params, statistics, points) - points).sum(axis=(1, 2, 3)).mean()
    theirs = KMeans(64, n_init=3, random_state=0).fit(points.reshape(-1, 64)).inertia_ / len(points)
    assert error < 1.01 * theirs


# Running means are in the devices' own tests.
@pytest.mark.parametrize("name", ["gradient", "residual", "gumbel"])
def test_several_devices_give_what_one_gives_after_twenty_steps(name):
    dataset = load("digits")
    arguments = {"quantizer": name, "hidden": (4,), "num_codes": 12, "code_dim": 4}
    if name != "gumbel":
        arguments |= {"decay": 0.8, "revival": 1.0}
    model = runs.build("vq_vae", runs.complete("vq_vae", arguments, dataset))
    options = Options(steps=20, batch_size=16, log_every=20, evaluate_every=20, learning_rate=3e-3)
    alone, several = (train(model, dataset, options, num_devices=n).state for n in (1, 4))
    x = dataset.test["x"][:64] / np.float32(16)

    def assert_close(a, b):
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        np.testing.assert_allclose(a, b, atol=2e-5 * max(1, np.abs(b).max(initial=0)), rtol=0)

    jax.tree.map(assert_close, several.params, alone.params)
    jax.tree.map(assert_close, several.statistics, alone.statistics)
    codes, expected = (np.asarray(model.encode(s.params, s.statistics, x)) for s in (several, alone))
    assert np.mean(codes == expected) > 0.99
    assert len(np.unique(codes)) > 3


def test_placement_on_four_devices_takes_the_vectors_of_all(x64):
    quantizer, params, state, encodings = make("gradient", revival=0.5)
    state = Placement(state.counts.at[2:].set(0.1), state.offset)
    one = jax.jit(lambda e: quantizer.quantize(params, state, e, KEY, POSITION, True).statistics)(encodings)
    each = jax.pmap(
        lambda e: quantizer.quantize(params, state, e, KEY, POSITION[:1], True).statistics,
        axis_name=AXIS,
        devices=jax.devices()[:4],
    )(encodings[:, None])
    for device in range(4):
        jax.tree.map(lambda a, b, d=device: np.testing.assert_allclose(a[d], b, rtol=1e-9), each, one)


def test_indices_outside_the_codebook_are_refused():
    for name in NAMES:
        quantizer, params, state, _ = make(name, dtype=jnp.float32)
        index = np.full((1, *GRID, *quantizer.stages), quantizer.num_codes)
        with pytest.raises(ValueError, match=rf"indices must lie in 0 … {quantizer.num_codes - 1}"):
            quantizer.lookup(params, state, index)


def test_an_ema_codebook_of_one_stage_is_a_residual_one_of_one(x64):
    one, params, state, encodings = make("ema")
    stacked = EmaCodebook(state.counts[None], state.sums[None])
    residual = make_quantizer("residual", **(NUMBERS | {"stages": 1, "revival": 0.0, "temperature": 1.0}))
    ours = residual.quantize({}, stacked, encodings, KEY, POSITION, True)
    theirs = one.quantize(params, state, encodings, KEY, POSITION, True)
    np.testing.assert_array_equal(ours.index[..., 0], theirs.index)
    np.testing.assert_allclose(ours.codes, theirs.codes, rtol=1e-12)
    np.testing.assert_allclose(ours.penalty, theirs.penalty, rtol=1e-12)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a[0], b, rtol=1e-12), ours.statistics, theirs.statistics)


def test_each_stage_begins_with_half_the_width_of_the_one_before(x64):
    """It quantizes what that one left over."""
    _, state = make_quantizer("residual", **(NUMBERS | {"num_codes": 500, "stages": 3, "revival": 0.0})).init(KEY)
    spread = (state.sums / state.counts[..., None]).std(axis=(1, 2))
    np.testing.assert_allclose(spread, [1, 1 / 2, 1 / 4], rtol=5 / np.sqrt(2 * 500 * DIM))


def test_a_code_returns_a_tenth_of_the_spread_beside_its_vector(x64):
    """Coordinate by coordinate, however many there are."""
    number, dim = 200, 8
    quantizer, params, state, _ = make("gradient", num_codes=number, code_dim=dim, revival=0.5)
    dead = Placement(jnp.full(number, 0.1), state.offset)
    vectors = np.random.default_rng(3).normal(0, 3, size=(4, 10, 10, dim))
    after = jax.jit(lambda z: quantizer.quantize(params, dead, z, KEY, POSITION, True).statistics)(vectors)
    flat, new = vectors.reshape(-1, dim), codebooks("gradient", params, after)
    beside = new - flat[nearest(new, flat)]
    np.testing.assert_allclose(beside.std() / flat.std(), 0.1, rtol=5 / np.sqrt(2 * number * dim))
