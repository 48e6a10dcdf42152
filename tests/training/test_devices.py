"""The number of devices, the place of the data and the number of replicas change no result."""

import os

import jax
import numpy as np
import pytest
from toys import Counted, denoiser, force_streaming, numbered

from jaxgen import runs
from jaxgen.data import load
from jaxgen.data.prepare import make_prepare
from jaxgen.errors import UserError
from jaxgen.training import Options, train
from jaxgen.training.devices import Devices, check_fits, choose, first, parallel, replicate

# What sums over the whole batch: free bits, the optimal scale, the EMA codebook with revival, batches of both players,
# batch normalization.
MODELS = {
    "vae": {"hidden": (16,), "latents": 2, "likelihood": "gaussian", "scale": "optimal", "free_nats": 0.1},
    "vq_vae": {"hidden": (4,), "num_codes": 12, "code_dim": 4, "decay": 0.8, "revival": 1.0},
    "vae_gan": {"hidden": (16,), "latents": 3},
    "gan": {
        "hidden": (16,),
        "noise_dim": 4,
        "noise": "uniform",
        "discriminator_steps": 2,
        "packing": 2,
        "dropout": 0.2,
        "average": 0.9,
        "spectral_norm": True,
        "penalty": "gradient",
    },
    "conditional_gan": {"hidden": (4, 8), "network": "dcgan", "noise_dim": 4, "packing": 2, "generator_steps": 2},
}


def trained(name: str, devices: int):
    dataset = load("digits")
    arguments = {**MODELS[name], **({"importance_samples": 8} if name == "vae" else {})}
    model = runs.build(name, runs.complete(name, arguments, dataset))
    options = Options(steps=20, batch_size=16, log_every=20, evaluate_every=20, learning_rate=3e-3)
    writer = Counted()
    return model, train(model, dataset, options, num_devices=devices, writers=(writer,)), writer.points


def assert_close(tree, other, *, tolerance: float):
    """Leaf by leaf, relative to the largest value of the leaf."""
    names = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(tree)]
    for name, a, b in zip(names, jax.tree.leaves(tree), jax.tree.leaves(other), strict=True):
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        np.testing.assert_allclose(a, b, atol=tolerance * max(1, np.abs(b).max(initial=0)), rtol=0, err_msg=name)


def assert_equal(tree, other):
    jax.tree.map(np.testing.assert_array_equal, tree, other)


@pytest.mark.parametrize("name", MODELS)
def test_devices_agree_on_the_same_global_batch(name):
    model, alone, points = trained(name, 1)
    x = load("digits").test["x"][:64] / np.float32(16)
    for devices in (2, 4):
        _, result, several_points = trained(name, devices)
        assert_close(result.state.params, alone.state.params, tolerance=1e-5)
        assert_close(result.state.statistics, alone.state.statistics, tolerance=1e-5)
        assert_close(result.figures, alone.figures, tolerance=1e-4)
        for (_step, _kind, values), (_, _, expected) in zip(several_points, points, strict=True):
            assert_close(values, expected, tolerance=1e-4)
        if model.encode:
            codes, expected = (np.asarray(model.encode(s.params, s.statistics, x)) for s in (result.state, alone.state))
            if np.issubdtype(codes.dtype, np.integer):
                assert np.mean(codes == expected) > 0.99
                assert len(np.unique(codes)) > 3
            else:
                assert_close(codes, expected, tolerance=1e-4)


def test_the_codebook_and_the_free_bits_are_in_play():
    """What the test above compares has moved: dead codes were revived, some latents are free, the scale is learned."""
    _model, vae, _points = trained("vae", 1)
    assert 0.1 < vae.state.statistics["likelihood"]["variance"] < 0.95
    state = trained("vq_vae", 1)[1].state.statistics["codebook"]
    assert np.all(np.isfinite(state.sums))
    assert float(np.sum(state.counts)) > 1


OPTIONS = Options(steps=23, batch_size=8, log_every=7, evaluate_every=9, memory_budget=1, seed=5)


@pytest.mark.parametrize("seeds", [1, 2])
def test_streamed_and_resident_data_give_the_same_bits(monkeypatch, seeds):
    dataset, options = numbered(), OPTIONS._replace(seeds=seeds)
    resident = train(denoiser(), dataset, options, num_devices=2)
    force_streaming(monkeypatch, bytes_a_call=500 * seeds)
    streamed = train(denoiser(), dataset, options, num_devices=2)
    assert_equal(streamed.state, resident.state)
    assert_close(streamed.figures, resident.figures, tolerance=1e-6)


def test_streamed_labels_belong_to_their_examples(monkeypatch):
    """Every array of the split is streamed under the same index."""
    dataset = numbered()
    number = np.round(64 * dataset.train["x"][:, 0]).astype(np.int32)
    test_number = np.round(64 * dataset.test["x"][:, 0]).astype(np.int32)
    dataset = dataset._replace(
        train={**dataset.train, "label": number}, test={**dataset.test, "label": test_number}, num_classes=50
    )
    model, loss = denoiser(), denoiser().losses["denoiser"]

    def checked(params, statistics, batch, key, train):
        value, aux = loss(params, statistics, batch, key, train)
        wrong = abs(64 * batch["x"][:, 0] - batch["label"]).max()
        return value, aux._replace(metrics={"wrong": wrong})

    force_streaming(monkeypatch, bytes_a_call=600)
    writer = Counted()
    train(model._replace(losses={"denoiser": checked}), dataset, OPTIONS, writers=(writer,), num_devices=1)
    assert [values["wrong"] for _, kind, values in writer.points if kind == "train"] == [0.0] * 4


def test_each_replica_is_its_own_single_run():
    dataset, writer = numbered(), Counted()
    options = OPTIONS._replace(seeds=3)
    together = train(denoiser(), dataset, options, writers=(writer,), num_devices=2)
    singles = []
    for index in range(3):
        alone = Counted()
        result = train(denoiser(), dataset, OPTIONS._replace(seed=5 + index), writers=(alone,), num_devices=2)
        singles.append(result)
        own = jax.tree.map(lambda a, index=index: a[index], together.state)
        assert_close(own, result.state, tolerance=1e-5)
        np.testing.assert_array_equal(own.key, result.state.key)
        for name, value in result.figures.items():
            np.testing.assert_allclose(np.asarray(together.figures[name])[index], value, rtol=1e-5)
        for (step, kind, values), (s, k, several) in zip(alone.points, writer.points, strict=True):
            assert (step, kind, values.keys()) == (s, k, several.keys())
            for name, value in values.items():
                assert len(several[name]) == 3
                np.testing.assert_allclose(several[name][index], value, rtol=1e-4)
    weights = [r.state.params["denoiser"]["weights"] for r in singles]
    assert not np.allclose(weights[0], weights[1], atol=1e-3)
    assert not np.allclose(weights[1], weights[2], atol=1e-3)


SUMMING = {
    **{name: MODELS[name] for name in ("vae", "vq_vae")},
    "info_vae": {"hidden": (16,), "latents": 2},
    "discrete_vae": {"hidden": (16,), "latents": 2, "estimator": "reinforce_constant"},
}


@pytest.mark.parametrize("name", SUMMING)
def test_one_device_asks_nobody(name):
    """Its program holds no collective; that of two does."""
    dataset = load("digits")
    model = runs.build(name, runs.complete(name, SUMMING[name], dataset))
    prepare = make_prepare(scale=dataset.scale)

    def collectives(devices: int) -> int:
        raw = {"x": dataset.train["x"][: 4 * devices], "position": np.arange(4 * devices)}
        batch = prepare(jax.random.split(jax.random.key(0), 4 * devices), jax.tree.map(jax.numpy.asarray, raw))
        shared = jax.eval_shape(model.init, jax.random.key(0), batch)
        split = jax.tree.map(lambda a: a.reshape(devices, 4, *a.shape[1:]), batch)

        def loss(shared, batch):
            (player,) = model.losses
            return model.losses[player](*shared, batch, jax.random.key(1), True)

        run = parallel(loss, Devices(jax.local_devices()[:devices]), in_axes=(None, 0), replica_axes=(None, 0))
        return run.lower(shared, split).as_text().count("stablehlo.all_")

    assert collectives(1) == 0
    assert collectives(2) > 0


class _Lacking:
    """What a computation left that memory did not suffice for: to convert it would end the process."""

    shape, dtype = (2,), np.dtype(np.float32)

    def block_until_ready(self):
        raise MemoryError

    def __array__(self, *_):
        raise AssertionError("converted before it was waited for")

    addressable_shards = property(__array__)


@pytest.mark.parametrize("convert", [first, lambda tree: replicate(tree, Devices(jax.local_devices()[:2]))])
def test_what_memory_did_not_suffice_for_is_an_error_and_not_the_end(convert):
    with pytest.raises(MemoryError):
        convert({"a": np.zeros(2), "b": _Lacking()})


def test_what_does_not_fit_into_memory_is_refused_by_its_size(monkeypatch):
    class Small:
        def memory_stats(self):
            return {"bytes_limit": 2_000_000_000}

    devices, here = Devices([Small(), Small()]), Devices(jax.local_devices()[:4])
    shapes = {"a": jax.ShapeDtypeStruct((250_000, 1000), np.float32), "b": jax.ShapeDtypeStruct((1000,), np.uint8)}
    monkeypatch.setattr(os, "sysconf", {"SC_PAGE_SIZE": 1000, "SC_PHYS_PAGES": 2_000_000}.__getitem__)
    with pytest.raises(
        UserError, match=r"^things of 1\.0 GB do not fit into the 0\.5 GB that each device has; lower it$"
    ):
        check_fits(shapes, here, what="things", lower="it")
    check_fits(shapes, devices, what="things", lower="it")
    check_fits({"a": shapes["a"]}, Devices(here.local[:2]), what="things", lower="it")
    with pytest.raises(UserError, match=r"2\.0 GB do not fit into the 2\.0 GB"):
        check_fits([shapes, shapes], devices, what="things", lower="it")


@pytest.mark.parametrize(("devices", "each"), [(1, ""), (2, ", 8 on each of 2 devices,")])
def test_examples_that_are_judged_together_share_a_device(devices, each):
    together = 5 if devices == 1 else 16
    with pytest.raises(UserError, match=f"batch of 16{each} does not divide by the {together} examples .* multiple of"):
        choose(devices, batch_size=16, together=together)
    assert choose(devices, batch_size=16, together=8).num_global == devices


def test_a_run_whose_packs_do_not_divide_the_batch_leaves_its_folder_alone(tmp_path):
    options = Options(steps=1, batch_size=16)
    with pytest.raises(UserError, match="does not divide by the 3 examples"):
        runs.train("gan", {"packing": 3}, data="ring", workdir=tmp_path / "run", options=options, num_devices=1)
    assert not (tmp_path / "run").exists()
