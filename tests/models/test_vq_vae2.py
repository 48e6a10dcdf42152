"""VQ-VAE-2: two grids, the finer told of the coarser."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxgen import runs
from jaxgen.data import load
from jaxgen.models import vq_vae2
from jaxgen.models.vq_vae import make_quantizer
from jaxgen.models.vq_vae2 import two_levels
from jaxgen.training import Options, train

KEY = jax.random.key(3)
SHAPE, CODES, DIM = (6, 5, 1), 7, 3
#: Of images 6 × 5: halved to 3 × 3, and again to 2 × 2.
TOP, BOTTOM = (2, 2), (3, 3)
PLAYER = "vq_vae2"


def make(dtype=jnp.float64, **options):
    """A model with codes and networks about which nothing is special."""
    rng = np.random.default_rng(2)
    given = {"hidden": (4,), "num_codes": CODES, "code_dim": DIM, "scale": "fixed", "decay": 0.8, "revival": 0.0}
    model = vq_vae2(shape=SHAPE, **(given | options))
    batch = {"x": jnp.asarray(rng.uniform(size=(4, *SHAPE)), dtype), "position": jnp.arange(4)}
    shapes = jax.eval_shape(model.init, KEY, batch)
    params, statistics = jax.tree.map(lambda s: jnp.asarray(0.5 * rng.normal(size=s.shape), dtype), shapes)
    for level in ("top", "bottom"):
        state = statistics["codebook"][level]
        statistics["codebook"][level] = state._replace(counts=jnp.asarray(rng.uniform(1, 3, CODES), dtype))
    return model, params, statistics, batch


def nearest(vectors, codebook):
    return np.square(np.asarray(vectors)[..., None, :] - codebook).sum(axis=-1).argmin(axis=-1)


def codebook(statistics, level):
    state = statistics["codebook"][level]
    return np.asarray(state.sums) / np.asarray(state.counts)[:, None]


def test_a_code_is_the_top_grid_and_after_it_the_bottom_one_numbered_through(x64):
    model, params, statistics, batch = make()
    index = np.asarray(jax.jit(model.encode)(params, statistics, batch["x"]))
    assert index.shape == (4, 4 + 9)
    assert model.codes == (2 * CODES, True, (TOP, BOTTOM), 1)
    assert 0 <= index[:, :4].min() <= index[:, :4].max() < CODES
    assert index[:, 4:].min() >= CODES
    back = jax.jit(model.decode)(params, statistics, index)
    np.testing.assert_array_equal(back, jax.jit(model.reconstruct)(params, statistics, batch["x"]))


def test_the_loss_has_the_commitment_of_both_levels_and_each_codebook_takes_its_own_encodings(x64):
    """With decay 0 a step of training is one step of Lloyd on each level."""
    model, params, statistics, batch = make(decay=0.0, commitment=0.7)
    (value, aux) = jax.jit(model.losses[PLAYER], static_argnums=4)(params, statistics, batch, KEY, True)
    np.testing.assert_allclose(value, aux.metrics["nll"] + 0.7 * aux.metrics["commitment"], rtol=1e-12)
    index = np.asarray(jax.jit(model.encode)(params, statistics, batch["x"]))
    spread = 0.0
    for level, chosen in (("top", index[:, :4].ravel()), ("bottom", index[:, 4:].ravel() - CODES)):
        after = aux.statistics["codebook"][level]
        seen = np.bincount(chosen, minlength=CODES)
        np.testing.assert_allclose(np.asarray(after.counts)[seen > 0], seen[seen > 0], rtol=1e-12)
        # Σ‖z − e‖² over an example = Σ‖z − mean‖² + n‖mean − e‖², so it is no less than the second part.
        means = np.asarray(after.sums)[seen > 0] / seen[seen > 0, None]
        spread += np.sum(seen[seen > 0] * np.square(means - codebook(statistics, level)[seen > 0]).sum(axis=-1)) / 4
    assert spread < aux.metrics["commitment"]


class _Pooled(nn.Module):
    @nn.compact
    def __call__(self, x):
        return x.reshape(len(x), 2, 2, 2, 2, -1).mean(axis=(2, 4))


class _Added(nn.Module):
    @nn.compact
    def __call__(self, x):
        return x[..., :DIM] + x[..., DIM:]


class _Spread(nn.Module):
    @nn.compact
    def __call__(self, x):
        return x.repeat(2, axis=1).repeat(2, axis=2)


def linear(name, **options):
    """Two levels with networks that pool, spread and add, codes about which nothing is special, and what they are."""
    numbers = {"num_codes": CODES, "code_dim": DIM, "commitment": 0.25, "decay": 0.8, "revival": 0.0}
    level = make_quantizer(name, **(numbers | options))
    both = two_levels(level, upper=_Pooled(), lower=_Added(), unfold=_Spread(), maps=(4, 4, DIM))
    rng = np.random.default_rng(0)
    z = jnp.asarray(rng.normal(size=(3, 4, 4, DIM)))
    params, state = jax.tree.map(lambda leaf: jnp.asarray(rng.uniform(1, 2, leaf.shape)), both.init(KEY))
    tables = {
        grid: np.asarray(params[grid]["codes"] + s.offset if name == "gradient" else s.sums / s.counts[:, None])
        for grid, s in state.items()
    }
    return level, both, params, state, tables, z


def repeated(x):
    return x.repeat(2, axis=1).repeat(2, axis=2)


def pooled(x):
    return x.reshape(3, 2, 2, 2, 2, DIM).mean(axis=(2, 4))


@pytest.mark.parametrize("name", ["ema", "gradient"])
def test_two_levels_are_their_equations(x64, name):
    """By NumPy: e_t nearest to the pooled z, e_b to z plus e_t spread; and how the decoder's gradient and that of the
    commitments get back to z."""
    _, both, params, state, tables, z = linear(name)
    wanted = np.random.default_rng(1).normal(size=(3, 4, 4, 2 * DIM))

    def value(z):
        found = both.quantize(params, state, z, KEY, jnp.arange(3), False)
        return jnp.vdot(wanted, found.codes) + found.penalty.sum(), found

    gradient, found = jax.jit(jax.grad(value, has_aux=True))(z)
    top = nearest(pooled(z), tables["top"])
    spread = repeated(tables["top"][top])
    bottom = nearest(z + spread, tables["bottom"])
    of_top, of_bottom = pooled(z) - tables["top"][top], z + spread - tables["bottom"][bottom]
    expected = np.square(of_top).sum(axis=(1, 2, 3)) + np.square(of_bottom).sum(axis=(1, 2, 3))
    np.testing.assert_array_equal(found.index, np.concatenate([top.reshape(3, -1), bottom.reshape(3, -1)], axis=1))
    assert found.terms.keys() == {"commitment"} | ({"codebook"} if name == "gradient" else set())
    for term in found.terms.values():
        np.testing.assert_allclose(term, expected, rtol=1e-9)
    np.testing.assert_allclose(found.penalty, (0.25 + (name == "gradient")) * expected, rtol=1e-9)
    np.testing.assert_allclose(found.codes, np.concatenate([tables["bottom"][bottom], spread], axis=-1), rtol=1e-9)
    np.testing.assert_array_equal(both.encode(params, state, z), found.index)
    np.testing.assert_allclose(both.lookup(params, state, found.index), found.codes, rtol=1e-9)
    # To the bottom encodings; from them, and from the decoder itself, to the top codes and so to the pooled z.
    to_bottom = wanted[..., :DIM] + 0.5 * of_bottom
    to_top = pooled(to_bottom + wanted[..., DIM:]) + 0.5 * of_top / 4
    np.testing.assert_allclose(gradient, to_bottom + repeated(to_top), rtol=1e-8, atol=1e-12)


def test_each_level_draws_with_a_key_of_its_own(x64):
    level, *_, params, state, _, z = linear("ema")
    keys = []

    def quantize(*arguments):
        keys.append(arguments[3])
        return level.quantize(*arguments)

    spied = two_levels(
        level._replace(quantize=quantize), upper=_Pooled(), lower=_Added(), unfold=_Spread(), maps=(4, 4, DIM)
    )
    spied.quantize(params, state, z, KEY, jnp.arange(3), True)
    assert len({jax.random.key_data(key).tobytes() for key in [KEY, *keys]}) == 3


def test_dead_codes_of_both_levels_return_among_the_encodings(x64):
    """A thousand away, they would cost a million for each coordinate."""
    model, params, statistics, batch = make(revival=0.5)
    for grid, state in statistics["codebook"].items():
        far = state._replace(counts=jnp.full(CODES, 0.1), sums=jnp.full((CODES, DIM), 100.0))
        statistics["codebook"][grid] = far
    _, aux = jax.jit(model.losses[PLAYER], static_argnums=4)(params, statistics, batch, KEY, True)
    assert aux.metrics["commitment"] < 1e3


def test_a_codebook_that_is_learned_by_gradient_is_a_parameter_on_both_levels():
    model, params, statistics, batch = make(jnp.float32, quantizer="gradient")
    shapes = jax.tree.map(jnp.shape, params[PLAYER]["codebook"])
    assert (shapes["top"], shapes["bottom"]) == ({"codes": (CODES, DIM)},) * 2
    _, aux = jax.eval_shape(lambda: model.losses[PLAYER](params, statistics, batch, KEY, True))
    assert {"codebook", "commitment"} <= set(aux.metrics)


def test_the_bottom_codes_are_nearest_to_encodings_that_know_the_top_codes(x64):
    """Another top codebook moves bottom codes although the image is the same; another bottom one leaves top codes."""
    model, params, statistics, batch = make()
    encode = jax.jit(model.encode)
    index = np.asarray(encode(params, statistics, batch["x"]))
    moved = {}
    for level in ("top", "bottom"):
        state = statistics["codebook"][level]
        other = {**statistics["codebook"], level: state._replace(sums=state.sums + 2.0)}
        moved[level] = np.asarray(encode(params, {**statistics, "codebook": other}, batch["x"]))
    assert np.any(moved["top"][:, 4:] != index[:, 4:])
    np.testing.assert_array_equal(moved["bottom"][:, :4], index[:, :4])


def test_the_decoder_sees_both_grids(x64):
    model, params, statistics, batch = make()
    decode = jax.jit(model.decode)
    index = np.asarray(jax.jit(model.encode)(params, statistics, batch["x"][:1]))
    image = np.asarray(decode(params, statistics, index))
    for place, first in ((0, 0), (4, CODES)):
        other = index.copy()
        other[0, place] = first + (index[0, place] - first + 1) % CODES
        assert not np.allclose(decode(params, statistics, other), image)


def test_the_decoders_gradient_passes_both_quantizers_and_no_codebook(x64):
    model, params, statistics, batch = make(commitment=0.0)

    def loss(own, statistics):
        return model.losses[PLAYER]({PLAYER: own}, statistics, batch, KEY, False)[0]

    gradient, of_codes = jax.jit(jax.grad(loss, argnums=(0, 1)))(params[PLAYER], statistics)
    for part in ("upper", "lower", "unfold"):
        assert any(np.any(leaf != 0) for leaf in jax.tree.leaves(gradient["codebook"][part])), part
    assert any(np.any(leaf != 0) for leaf in jax.tree.leaves(gradient["encoder"]))
    # No gradient of its own; that of the top codes is what the bottom encodings and the decoder are told of them.
    for leaf in jax.tree.leaves(of_codes["codebook"]["bottom"]):
        np.testing.assert_array_equal(leaf, 0)


def test_every_place_of_both_grids_costs_log_k(x64):
    model, params, statistics, batch = make()
    means = jax.tree.map(lambda a: np.asarray(a).mean(axis=0), model.evaluate(params, statistics, batch, KEY))
    figures = model.summarize(means)
    np.testing.assert_allclose(figures["rate"], 13 * np.log(CODES), rtol=1e-12)
    np.testing.assert_allclose(figures["elbo"], -(means["nll"] + figures["rate"]), rtol=1e-12)
    index = np.asarray(model.encode(params, statistics, batch["x"]))
    np.testing.assert_allclose(figures["usage"], len(np.unique(index)) / (2 * CODES), rtol=1e-12)
    entropies = [
        -np.sum(p[p > 0] * np.log(p[p > 0]))
        for part in (index[:, :4], index[:, 4:] - CODES)
        for p in [np.bincount(part.ravel(), minlength=CODES) / part.size]
    ]
    np.testing.assert_allclose(figures["perplexity"], np.mean(np.exp(entropies)), rtol=1e-5)


def test_several_devices_give_what_one_gives_after_twenty_steps():
    dataset = load("digits")
    arguments = {"hidden": (4,), "num_codes": 12, "code_dim": 4, "decay": 0.8, "revival": 1.0}
    model = runs.build("vq_vae2", runs.complete("vq_vae2", arguments, dataset))
    options = Options(steps=20, batch_size=16, log_every=20, evaluate_every=20, learning_rate=3e-3)
    alone, several = (train(model, dataset, options, num_devices=n).state for n in (1, 4))

    def assert_close(a, b):
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        np.testing.assert_allclose(a, b, atol=2e-5 * max(1, np.abs(b).max(initial=0)), rtol=0)

    jax.tree.map(assert_close, several.params, alone.params)
    jax.tree.map(assert_close, several.statistics, alone.statistics)
    x = dataset.test["x"][:64] / np.float32(16)
    codes, expected = (np.asarray(model.encode(s.params, s.statistics, x)) for s in (several, alone))
    assert np.mean(codes == expected) > 0.99


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden": ()}, "at least one stage"),
        ({"hidden": (4, 4, 4)}, "the network halves them 4 times"),
        ({"num_codes": 0}, "at least 1, got 0"),
    ],
)
def test_settings_that_make_no_vq_vae2_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        vq_vae2(shape=SHAPE, **options)


def test_codes_of_another_number_of_places_or_of_the_other_grid_are_refused(x64):
    model, params, statistics, _ = make()
    with pytest.raises(ValueError, match=r"index must be \[batch, 13\], got the shape \(2, 3, 3\)"):
        model.decode(params, statistics, np.zeros((2, 3, 3), np.int32))
    message = r"index holds code 0 at \[4\] of an example, where codes lie in "
    with pytest.raises(ValueError, match=message + f"{CODES} … {2 * CODES - 1}"):
        model.decode(params, statistics, np.zeros((2, 13), np.int32))
