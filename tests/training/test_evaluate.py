"""Means over a split are exact, however it is cut into batches and over devices."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import jaxprs_in_params
from toys import Counted, denoiser, noise_of, numbered

from jaxgen.data import load
from jaxgen.data.dataset import Dataset, Modes, make_dataset
from jaxgen.data.prepare import make_prepare
from jaxgen.metrics import importance_weighted_log_likelihood, precision_recall
from jaxgen.model import Condition, Model, example_keys
from jaxgen.models import gan, vae
from jaxgen.training import Options, loop, train
from jaxgen.training import evaluate as evaluation
from jaxgen.training.devices import Devices, replicate

PREPARE = make_prepare(scale=1.0)
of_samples = partial(evaluation.of_samples, prepare=PREPARE)


def evaluated(model: Model, arrays, *, devices=1, batch_size=500, resident=True, prepare=PREPARE):
    chosen = Devices(jax.local_devices()[:devices])
    evaluator = evaluation.Evaluator(model, arrays, prepare, chosen, batch_size=batch_size, resident=resident)
    # Several leaves: pmap of JAX 0.10 takes as many leaves as arguments for the arguments themselves.
    return evaluator(*replicate(({"player": [np.zeros(1)] * 5}, {}), chosen))


def constant(values) -> Model:
    """A model whose metrics are functions of x alone."""
    return denoiser()._replace(evaluate=lambda params, statistics, batch, key: values(batch))


def test_means_weight_every_example_once():
    """Thirteen examples in batches of 8, 6 (two devices) and 500, resident or streamed: NumPy's mean."""
    arrays = numbered().test
    model = constant(lambda batch: {"square": batch["x"][:, 1] ** 2, "vector": batch["x"]})
    for devices, batch_size, resident in ((1, 8, True), (2, 5, True), (4, 500, False), (1, 4, False)):
        means = evaluated(model, arrays, devices=devices, batch_size=batch_size, resident=resident)
        np.testing.assert_allclose(means["square"], np.mean(arrays["x"].astype(float)[:, 1] ** 2), rtol=1e-6)
        np.testing.assert_allclose(means["vector"], arrays["x"].astype(float).mean(axis=0), rtol=1e-6, atol=1e-8)
        assert means["square"].dtype == np.float64


def test_noise_belongs_to_the_example_not_to_its_batch():
    arrays = numbered().test
    model = denoiser()._replace(
        evaluate=lambda params, statistics, batch, key: {"noise": noise_of(key, batch) * batch["x"][:, :1]}
    )
    whole = evaluated(model, arrays)["noise"]
    assert np.all(np.abs(whole) > 1e-4)
    for devices, batch_size, resident in ((1, 4, True), (4, 8, True), (2, 6, False)):
        means = evaluated(model, arrays, devices=devices, batch_size=batch_size, resident=resident)["noise"]
        np.testing.assert_allclose(means, whole, rtol=1e-5)


@pytest.mark.parametrize("how", [{"binarize": "dynamic"}, {"dequantize": True}])
def test_bits_and_levels_are_drawn_for_the_example_not_for_its_batch(how):
    """Equal grey values are told apart by their draws alone; each counts with the number of its example."""
    arrays = {"x": np.full((13, 64), 1, np.uint8)}
    model = constant(lambda batch: {"drawn": batch["x"] * (1.0 + batch["position"][:, None])})
    prepare = make_prepare(scale=2.0, **how)
    whole = evaluated(model, arrays, prepare=prepare)["drawn"]
    assert len(np.unique(whole)) > 20
    for devices, batch_size, resident in ((1, 4, True), (2, 6, True), (4, 8, False)):
        cut = evaluated(model, arrays, devices=devices, batch_size=batch_size, resident=resident, prepare=prepare)
        np.testing.assert_allclose(cut["drawn"], whole, rtol=1e-5)


def test_bits_are_not_drawn_from_the_key_of_the_latents():
    """Of one key the uniform draw would be the very one that the bits were cut from."""
    arrays = {"x": np.full((13, 64), 1, np.uint8)}

    def evaluate(params, statistics, batch, key):
        uniform = jax.vmap(lambda k: jax.random.uniform(k, (64,)))(example_keys(key, batch["position"]))
        return {"agree": jnp.mean((uniform < 0.5) == batch["x"], axis=1)}

    prepare = make_prepare(scale=2.0, binarize="dynamic")
    agree = evaluated(denoiser()._replace(evaluate=evaluate), arrays, prepare=prepare)["agree"]
    assert abs(agree - 0.5) < 4 * 0.5 / np.sqrt(13 * 64)


def test_padding_can_neither_add_nor_spoil():
    """What is not finite in a padded entry, and is never seen otherwise, leaves the mean as it is."""
    arrays = numbered().test

    def values(batch):
        padded = batch["position"] >= 13
        return {"one": jnp.where(padded, jnp.nan, 1.0), "vector": jnp.where(padded, jnp.inf, 2.0)[:, None, None]}

    for devices, batch_size in ((1, 8), (4, 500)):
        means = evaluated(constant(values), arrays, devices=devices, batch_size=batch_size)
        assert means["one"] == 1.0
        np.testing.assert_array_equal(means["vector"], [[2.0]])


def test_means_of_many_examples_do_not_lose_digits():
    """The batches are added in float64: a large offset keeps its small part."""
    x = np.full((200_000, 1), 1e4, np.float32)
    x[::2] += 0.25
    means = evaluated(constant(lambda batch: {"x": batch["x"][:, 0]}), {"x": x})
    assert abs(float(means["x"]) - 10000.125) < 5e-3


def test_a_streamed_evaluation_gathers_ahead_of_the_device(monkeypatch):
    """The next batch is on its way before the sums of the last are waited for."""
    events, place, first = [], evaluation.place, evaluation.first
    monkeypatch.setattr(evaluation, "place", lambda *a: [events.append("gather"), place(*a)][1])
    monkeypatch.setattr(evaluation, "first", lambda tree: [events.append("wait"), first(tree)][1])
    evaluated(constant(lambda batch: {"x": batch["x"][:, 0]}), numbered().test, batch_size=4, resident=False)
    assert events == ["gather"] + ["gather", "wait"] * 3 + ["wait"]


def test_importance_weights_do_not_depend_on_the_batch(monkeypatch):
    """Draws of a chunked estimate belong to the example: the same for every batch size and number of devices."""
    few_at_a_time = partial(importance_weighted_log_likelihood, max_elements=6000)
    monkeypatch.setattr("jaxgen.models.variational.importance_weighted_log_likelihood", few_at_a_time)
    model = vae(shape=(8, 8, 1), hidden=(8,), latents=2, importance_samples=7, likelihood="gaussian")
    batch = {"x": jnp.asarray(load("digits").test["x"][:21] / np.float32(16)), "position": jnp.arange(21)}
    params, statistics = jax.jit(model.init)(jax.random.key(1), batch)
    estimate = jax.jit(lambda batch: model.evaluate(params, statistics, batch, jax.random.key(2))["log_px"])
    part = jax.tree.map(lambda a: a[5:8], batch)
    np.testing.assert_allclose(estimate(part), estimate(batch)[5:8], rtol=1e-5)


def test_figures_of_replicas_are_lists_and_vectors_get_numbers():
    model = denoiser()._replace(summarize=lambda means: {**means, "double": 2 * means["a"]})
    means = {"a": np.array([1.0, 2.0]), "v": np.array([[1.0, 2.0], [3.0, 4.0]])}
    figures = evaluation.summarize(model, means, replicas=2)
    assert figures == {"a": [1.0, 2.0], "v/00": [1.0, 3.0], "v/01": [2.0, 4.0], "double": [2.0, 4.0]}
    single = evaluation.summarize(model, {"a": np.array(1.0), "v": np.array([1.0, 2.0])}, replicas=1)
    assert single == {"a": 1.0, "v/00": 1.0, "v/01": 2.0, "double": 2.0}


@pytest.mark.parametrize(("shift", "modes", "share"), [(0.0, 2.0, 1.0), (2.9, 2.0, 1.0), (3.1, 0.0, 0.0)])
def test_coverage_counts_within_three_standard_deviations(shift, modes, share):
    centers = np.array([[0.0, 0.0], [5.0, 0.0], [0.0, 5.0]], np.float32)
    dataset = numbered()._replace(modes=Modes(centers, 0.1))
    here, counts = jnp.asarray(centers[:2]) + jnp.array([0.0, 0.1 * shift]), []
    model = denoiser()._replace(
        sample=lambda params, statistics, key, n: [counts.append(n), jnp.tile(here, (n // 2, 1))][1]
    )
    figures = of_samples(model, dataset, {}, {})
    assert counts == [2500]  # as in PacGAN's tables
    assert (figures["modes"], figures["high_quality"]) == (modes, share)
    if modes:
        np.testing.assert_allclose(figures["reverse_kl"], np.log(3 / 2), rtol=1e-6)


def test_no_coverage_where_modes_are_unknown_or_nothing_is_sampled():
    assert of_samples(denoiser(), numbered()._replace(modes=Modes(np.zeros((1, 2)), 1.0)), {}, {}) == {}
    sampling = denoiser()._replace(sample=lambda params, statistics, key, n: jnp.zeros((n, 2)))
    assert of_samples(sampling, numbered(), {}, {}) == {}


@pytest.mark.parametrize("replicas", [1, 2])
def test_samples_of_a_model_without_an_objective_are_held_against_test_examples(monkeypatch, replicas):
    """As many of both, evenly over the split and in network units: by the public function, of each replica its own."""
    monkeypatch.setattr(evaluation, "_NUM_COMPARED", 40)
    raw = np.random.default_rng(3).integers(9, size=(120, 2, 3, 1))
    scale, params = 4.0, np.linspace(0.6, 0.7, replicas)

    def sample(params, statistics, key, n):
        return params * jax.random.uniform(key, (n, 2, 3, 1), maxval=2.0)

    model = denoiser()._replace(sample=sample, objective=None)
    data = make_dataset("levels", {"x": raw}, {"x": raw}, scale=scale)
    given = {"prepare": make_prepare(scale=scale), "replicas": replicas}
    figures = evaluation.of_samples(model, data, params if replicas > 1 else params[0], {}, **given)
    assert set(figures) == {"precision", "recall"}
    for index, own in enumerate(params):
        fake = np.asarray(sample(own, {}, evaluation._keys()[2], 40)).reshape(40, 6)
        expected = precision_recall(jnp.asarray(raw[::3].reshape(40, 6) / scale, jnp.float32), fake, k=3)
        found = [np.atleast_1d(figures[name])[index] for name in ("precision", "recall")]
        np.testing.assert_allclose(found, expected, rtol=1e-6)
        assert 0 < found[1] < 1
    assert evaluation.of_samples(model._replace(objective="loss"), data, params, {}, **given) == {}
    few = data._replace(test={"x": raw[:3]})  # without a third neighbour
    assert evaluation.of_samples(model, few, params, {}, **given) == {}


def ring(num_modes: int = 8) -> Dataset:
    """Examples on a circle, whose modes are known."""
    angle = 2 * np.pi * np.arange(num_modes) / num_modes
    centers = np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)
    x = np.tile(centers, (4, 1))
    return make_dataset("ring", {"x": x}, {"x": x[:16]}, scale=1.0, modes=Modes(centers, 0.2))


def searches(jaxpr) -> int:
    inner = [searches(sub) for equation in jaxpr.eqns for sub in jaxprs_in_params(equation.params)]
    return sum(inner) + sum(equation.primitive.name == "argmin" for equation in jaxpr.eqns)


def test_modes_are_searched_once_for_all_figures_and_replicas():
    def sample(params, statistics, key, n):
        return params + jax.random.normal(key, (n, 2))

    centers = ring().modes.centers
    for replicas, params in ((1, jnp.zeros(2)), (3, jnp.zeros((3, 2)))):
        measure = jax.make_jaxpr(evaluation._measure(sample, PREPARE, 2500, replicas))
        # 2500 samples are nine chunks of 256 in a loop and a ragged rest beside it.
        assert searches(measure(params, {}, {}, (centers, 0.6), {}).jaxpr) == 2


def test_coverage_of_replicas_is_that_of_each_alone():
    """Three generators that reach one mode, another, and none."""
    data, params = ring(), jnp.array([[1.0, 0.0], [0.0, 1.0], [9.0, 0.0]])
    model = denoiser()._replace(sample=lambda p, s, key, n: p + 0.02 * jax.random.normal(key, (n, 2)))
    together = of_samples(model, data, params, {}, replicas=3)
    alone = [of_samples(model, data, own, {}) for own in params]
    for name, values in together.items():
        np.testing.assert_allclose(values, [row[name] for row in alone], rtol=1e-6, err_msg=name)
    assert together["modes"] == [1.0, 1.0, 0.0]
    np.testing.assert_allclose(together["reverse_kl"], np.log(8), rtol=1e-5)  # every sample counts for its nearest


@pytest.mark.parametrize("num_examples", [16, 5000])
def test_a_conditional_model_is_told_what_the_test_examples_come_with(num_examples):
    """One that samples just where it is told to finds the modes of the labels, and as often: no class is left out."""
    labels = np.sort(np.arange(num_examples, dtype=np.int32) % 6)  # of eight modes
    data = ring()
    data = data._replace(test={"x": np.zeros((num_examples, 2), np.float32), "label": labels})
    centers = jnp.asarray(ring().modes.centers)
    model = denoiser()._replace(
        sample=lambda p, s, key, n, *, condition: centers[condition] * jnp.ones((n, 1)),
        condition=Condition("label", 8, classes=True),
    )
    figures = of_samples(model, data, {}, {})
    assert figures["modes"] == 6
    assert figures["high_quality"] == 1
    share = np.bincount(labels) / num_examples
    # Of 2500 samples each mode has at most one more or less than its share.
    np.testing.assert_allclose(figures["reverse_kl"], np.sum(share * np.log(8 * share)), atol=2e-3)


@pytest.mark.parametrize(("seeds", "devices"), [(1, 2), (2, 1)])
def test_a_run_compiles_its_sampler_once_and_fetches_no_parameters(monkeypatch, seeds, devices):
    model, writer, traces, fetched = gan(shape=(2,), hidden=(8,), noise_dim=2), Counted(), [], []
    sample, first = model.sample, loop.first

    def counted(*arguments):
        traces.append(1)
        return sample(*arguments)

    monkeypatch.setattr(loop, "first", lambda tree: [fetched.append(type(tree).__name__), first(tree)][1])
    options = Options(steps=6, batch_size=8, log_every=3, evaluate_every=2, seeds=seeds)
    result = train(model._replace(sample=counted), ring(), options, writers=(writer,), num_devices=devices)
    assert len(traces) == 1
    assert (len([0 for _, kind, _ in writer.points if kind == "evaluate"]), fetched.count("State")) == (3, 1)
    assert set(fetched) == {"dict", "State"}  # of each call its metrics, of the run its last state
    assert np.shape(result.figures["modes"]) == (() if seeds == 1 else (2,))
    # The figures are of the very parameters that the run ends with.
    own = jax.tree.map(jnp.asarray, (result.state.params, result.state.statistics))
    expected = of_samples(model, ring(), *own, replicas=seeds)
    assert {name: result.figures[name] for name in expected} == expected


def test_samples_are_drawn_by_no_key_of_the_evaluation():
    """Of one key a sample would be of the noise that a test example has been judged with."""
    uniform = denoiser()._replace(
        evaluate=lambda params, statistics, batch, key: {"u": jax.random.uniform(key) * jnp.ones(len(batch["x"]))}
    )
    of_evaluation = float(evaluated(uniform, numbered().test)["u"])

    def sample(params, statistics, key, n):
        same = jnp.abs(jax.random.uniform(key) - of_evaluation) < 1e-5
        return jnp.where(same, jnp.zeros((n, 2)), 5.0)

    dataset = numbered()._replace(modes=Modes(np.zeros((1, 2), np.float32), 0.1))
    assert of_samples(denoiser()._replace(sample=sample), dataset, {}, {})["modes"] == 0
