"""Codes out of a run and back, and completions, through files."""

import inspect
import warnings

import jax
import numpy as np
import pytest

from jaxgen import apply, mapped, report, runs
from jaxgen.data import load
from jaxgen.data.dataset import make_dataset
from jaxgen.errors import UserError
from jaxgen.shown import Shown
from jaxgen.training import Options

STEPS = Options(steps=2, batch_size=48)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def run(folder):
    arguments = {"latents": 3, "hidden": (8,), "likelihood": "gaussian", "importance_samples": 0}
    runs.train("vae", arguments, data="digits", workdir=folder / "vae", options=STEPS, quiet=True)
    return runs.open_run(folder / "vae")


@pytest.fixture(scope="module")
def codes(run):
    return apply.encode(str(run.path))


def test_codes_are_the_encoder_s_for_every_example_in_order(run, codes):
    digits = load("digits")
    with np.load(codes) as archive:
        assert {*archive.files} == {"x_train", "x_test", "y_train", "y_test", "fingerprint"}
        for name, split in (("train", digits.train), ("test", digits.test)):
            expected = jax.jit(run.model.encode)(run.params, run.statistics, split["x"].astype(np.float32) / 16)
            np.testing.assert_allclose(archive[f"x_{name}"], expected, rtol=1e-5, atol=1e-6)
            np.testing.assert_array_equal(archive[f"y_{name}"], split["label"])


def test_the_file_of_codes_is_a_data_set(codes):
    made = load(str(codes))
    assert (made.shape, made.num_classes, len(made.train["x"]), len(made.test["x"])) == ((3,), 10, 1500, 297)


def test_codes_decode_to_reconstructions(run, codes):
    with np.load(apply.decode(run.path, codes)) as archive:
        x = load("digits").test["x"].astype(np.float32) / 16
        expected = jax.jit(run.model.reconstruct)(run.params, run.statistics, x)
        np.testing.assert_allclose(archive["x_test"], expected, rtol=1e-5, atol=1e-5)
        assert archive["x_train"].shape == (1500, 8, 8, 1)


@pytest.fixture(scope="module")
def quantizer(folder):
    runs.train("vq_vae", {"hidden": (8,)}, data="digits", workdir=folder / "vq", options=STEPS, quiet=True)
    return runs.open_run(folder / "vq")


def test_indices_come_back_through_a_vq_vae_bit_by_bit(folder, quantizer):
    opened, path = quantizer, quantizer.path
    assert opened.model.decode is not None
    codes = apply.encode(path, out=folder / "vq.npz")
    with np.load(codes) as archive, np.load(apply.decode(path, codes)) as decoded:
        assert archive["x_test"].dtype == np.int32
        expected = jax.jit(opened.model.decode)(opened.params, opened.statistics, archive["x_test"])
        np.testing.assert_allclose(decoded["x_test"], expected, rtol=1e-5, atol=1e-6)


def test_no_code_is_made_of_a_value_that_is_not_a_number(quantizer, tmp_path):
    """A VQ-VAE would give NaN the code of some entry, and nothing would tell it from one that was meant."""
    x = np.asarray(load("digits").test["x"], np.float32)
    x[3, 0] = np.nan
    np.savez(tmp_path / "holes.npz", x=x)
    with pytest.raises(UserError, match=r"holes\.npz.*\b(NaN|nan)\b"):
        apply.encode(quantizer.path, data=str(tmp_path / "holes.npz"), out=tmp_path / "codes.npz")
    assert not (tmp_path / "codes.npz").exists()


@pytest.fixture
def grey(run):
    """The run as if its data were made bits whenever they are read, 0 as likely as 1; such data."""
    x = np.full((1200, 8, 8, 1), 8, np.uint8)
    config = run.config | {"options": run.config["options"] | {"binarize": "dynamic"}}
    return run._replace(config=config), make_dataset("grey", {"x": x}, {"x": x[:700]}, scale=16.0)


def given(run, dataset):
    """What a function of examples gets of each split."""
    same = mapped.mapped(run, lambda params, statistics, x: x)
    return {name: same(name, split) for name, split in mapped.splits(dataset)}


def test_no_two_examples_share_what_is_drawn_for_them(grey):
    """64 fair bits each: all 1900 differ, and across batches and splits they are as alike as chance makes them."""
    drawn = np.concatenate([*given(*grey).values()]).reshape(1900, 64)
    assert set(np.unique(drawn)) == {0, 1}
    assert abs(drawn.mean() - 0.5) < 5 * 0.5 / np.sqrt(drawn.size)
    assert len(np.unique(drawn, axis=0)) == 1900
    for first, second in ((drawn[:700], drawn[500:1200]), (drawn[:700], drawn[1200:])):
        assert abs((first == second).mean() - 0.5) < 5 * 0.5 / np.sqrt(first.size)


def test_what_is_drawn_for_an_example_depends_on_its_position_alone(grey, monkeypatch):
    expected = given(*grey)
    np.testing.assert_array_equal(Shown(*grey).x, expected["test"])  # pictures show what was encoded
    monkeypatch.setattr(mapped, "_BATCH", 64)
    for name, values in given(*grey).items():
        np.testing.assert_array_equal(values, expected[name])


def test_an_encoder_is_traced_once_in_a_program_for_any_parameters(run, folder, monkeypatch):
    """Both splits share it, and so do other parameters: a constant of the program would make it another."""
    traces, programs, jit, encoder = [], set(), jax.jit, run.model.encode

    def encode(params, statistics, x):
        traces.append(1)
        return encoder(params, statistics, x)

    def recording(function):
        def call(*arguments):
            programs.add(compiled.lower(*arguments).as_text())
            return compiled(*arguments)

        compiled = jit(function)
        return call

    monkeypatch.setattr(apply.jax, "jit", recording)
    for factor in (1, 2):
        learned = jax.tree.map(lambda a, factor=factor: factor * a, run.params)
        own = run._replace(params=learned, model=run.model._replace(encode=encode))
        monkeypatch.setattr(apply, "open_run", lambda *_arguments, own=own, **_keywords: own)
        with np.load(apply.encode(run.path, out=folder / f"traced {factor}")) as archive:
            x = load("digits").test["x"].astype(np.float32) / 16
            expected = jit(encoder)(learned, run.statistics, x)
            np.testing.assert_allclose(archive["x_test"], expected, rtol=1e-5, atol=1e-6)
        assert (len(traces), len(programs)) == (factor, 1)


def test_a_run_that_dequantizes_takes_levels_up_to_its_scale(run, tmp_path):
    own = run._replace(config=run.config | {"options": run.config["options"] | {"dequantize": True}})
    levels = np.full((20, 8, 8, 1), 16, np.float32)
    levels[3] = np.nan
    np.save(tmp_path / "levels.npy", levels)
    assert mapped.dataset_for(own, str(tmp_path / "levels.npy"), None).scale == 16
    for value, message in ((17, "the --data-scale 16, but .* run from 16 to 17"), (0.5, "levels.npy holds 0.5")):
        levels[0, 0] = value
        np.save(tmp_path / "levels.npy", levels)
        with pytest.raises(UserError, match=message):
            mapped.dataset_for(own, str(tmp_path / "levels.npy"), None)


def test_a_conditional_encoder_is_told_what_comes_with_each_example(folder):
    path = folder / "conditional"
    arguments = {"latents": 2, "hidden": (8,), "likelihood": "gaussian", "importance_samples": 0}
    runs.train("conditional_vae", arguments, data="digits", workdir=path, options=STEPS, quiet=True)
    opened, test = runs.open_run(path), load("digits").test
    assert opened.model.encode is not None
    x = test["x"].astype(np.float32) / 16
    expected, others = (
        jax.jit(opened.model.encode)(opened.params, opened.statistics, x, condition=told)
        for told in (test["label"], 9 - test["label"])
    )
    with np.load(apply.encode(path)) as archive:
        np.testing.assert_allclose(archive["x_test"], expected, rtol=1e-5, atol=1e-6)
        assert np.abs(archive["x_test"] - others).max() > 0.01


def test_a_file_that_cannot_be_written_is_named(run, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"file/codes.npz cannot be written .*; give another --out"):
        apply.encode(run.path, out=tmp_path / "file" / "codes.npz")
    with pytest.raises(UserError, match=r"file/drawn.npz cannot be written .*; give another --out"):
        report.sample(run.path, num=1, out=tmp_path / "file" / "drawn")
    (tmp_path / "drawn.png").mkdir()
    with pytest.raises(UserError, match=r"drawn.png cannot be written .*; give another --out"):
        report.sample(run.path, num=1, out=tmp_path / "drawn")
    assert len(np.load(tmp_path / "drawn.npz")["x"]) == 1


def test_codes_of_another_run_are_refused(run, codes, folder):
    other = folder / "other"
    arguments = run.config["arguments"]
    runs.train("vae", arguments, data="digits", workdir=other, options=STEPS._replace(seed=1), quiet=True)
    with pytest.raises(UserError, match=f"were made by {apply.fingerprint(run)}, but .*other"):
        apply.decode(other, codes)


def test_completions_keep_what_was_observed_and_differ_in_the_rest(run, tmp_path):
    x = load("digits").test["x"]
    observed = np.random.default_rng(0).uniform(size=x.shape) < 0.5
    np.save(tmp_path / "mask.npy", observed[..., 0])
    written = apply.impute(run.path, mask=tmp_path / "mask.npy", num=3, draws=10, out=tmp_path / "filled")
    with np.load(written) as archive:
        values = archive["x"]
        np.testing.assert_array_equal(archive["mask"], observed)
    assert values.shape == (3, *x.shape)
    assert np.all(np.isfinite(values))
    for one in values:
        np.testing.assert_allclose(one[observed], (x / 16)[observed], rtol=1e-6)
    assert not np.allclose(values[0], values[1])


def test_missing_values_of_the_data_itself_are_filled_in(run, tmp_path):
    x = load("digits").test["x"].astype(np.float32)
    x[:, 4:] = np.nan
    np.savez(tmp_path / "half.npz", x_train=x, x_test=x)
    written = apply.impute(run.path, data=str(tmp_path / "half.npz"), num=2, method="gibbs", draws=3)
    with np.load(written) as archive:
        assert archive["x"].shape == (2, *x.shape)
        np.testing.assert_allclose(archive["x"][:, :, :4], np.broadcast_to(x[:, :4] / 16, (2, 297, 4, 8, 1)), rtol=1e-6)
        assert np.all(np.isfinite(archive["x"]))


def test_the_columns_of_a_table_keep_their_names(folder, tmp_path):
    rows = np.random.default_rng(0).normal(size=(60, 3)).round(3).tolist()
    rows[-1][1] = ""
    lines = ["height,weight,label,age", *(f"{a},{b},1,{c}" for a, b, c in rows)]
    (tmp_path / "table.csv").write_text("\n".join(lines))
    options, arguments = STEPS._replace(steps=1), {"hidden": (), "likelihood": "gaussian", "importance_samples": 0}
    runs.train(
        "vae", arguments, data=str(tmp_path / "table.csv"), workdir=folder / "table", options=options, quiet=True
    )
    with np.load(apply.impute(str(folder / "table"), num=1, draws=1, out=str(tmp_path / "full.npz"))) as archive:
        assert archive["names"].tolist() == ["height", "weight", "age"]
        assert archive["x"].shape == (1, 6, 3)
        assert np.argwhere(~archive["mask"]).tolist() == [[5, 1]]


def test_completions_of_an_example_depend_on_its_position_alone(run, tmp_path, monkeypatch):
    mask = write_mask(tmp_path / "mask.npy", np.arange(64).reshape(8, 8) % 2 > 0)
    whole, parts = (
        np.load(apply.impute(run.path, mask=mask, num=2, draws=6, noise=True, out=tmp_path / str(size)))["x"]
        for size in (500, 64)
        if not monkeypatch.setattr(mapped, "_BATCH", size)
    )
    np.testing.assert_allclose(whole, parts, rtol=1e-4, atol=1e-5)
    assert not np.allclose(whole[:, 0], whole[:, 64])


def test_a_method_that_there_is_not_and_completions_beyond_the_draws_are_named(run, tmp_path):
    with pytest.raises(UserError, match="--method 'mice' is not known"):
        inspect.unwrap(apply.impute)(run.path, method="mice")
    mask = write_mask(tmp_path / "mask.npy", np.arange(64).reshape(8, 8) % 2 > 0)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        apply.impute(run.path, mask=mask, num=3, draws=2, out=tmp_path / "few")
    assert "--num 3 completions are chosen among --draws 2" in str(caught[0].message)


def test_a_mask_that_hides_a_part_of_a_category_is_refused(folder, tmp_path):
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(size=(20, 1)), np.eye(3)[rng.integers(3, size=20)]], axis=1).astype(np.float32)
    np.savez(tmp_path / "table.npz", x=x, columns=[1, 3])
    options, arguments = STEPS._replace(steps=1, batch_size=4), {"hidden": (), "likelihood": "mixed"}
    path, data = folder / "mixed", str(tmp_path / "table.npz")
    runs.train("vae", arguments, data=data, workdir=path, options=options, quiet=True)
    mask = write_mask(tmp_path / "mask.npy", np.array([True, True, False, True]))
    with pytest.raises(UserError, match="hides 1 of the 3 entries of column 2, a category, in example 0"):
        apply.impute(path, mask=mask)
    mask = write_mask(tmp_path / "mask.npy", np.array([True, False, False, False]))
    with np.load(apply.impute(path, mask=mask, num=2, draws=4, noise=True)) as archive:
        assert np.all(archive["x"][:, :, 1:].sum(axis=-1) == 1)


def write_mask(path, mask):
    np.save(path, mask)
    return path


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.ones((297, 8, 8), bool), "nothing is missing in digits"),
        (np.zeros((297, 8, 8), bool), "every value of digits is hidden; a mask is True where"),
        (
            np.ones((297, 8, 7), bool),
            r"shape \(297, 8, 7\); give booleans of shape \(297, 8, 8, 1\), or \(8, 8, 1\) for one",
        ),
        (np.ones((297, 8, 8)), "is float64 of shape"),
    ],
)
def test_masks_that_cannot_be_meant_are_refused(run, tmp_path, mask, message):
    with pytest.raises(UserError, match=message):
        apply.impute(run.path, mask=write_mask(tmp_path / "m.npy", mask))


def test_data_of_another_shape_and_models_that_cannot_are_named(run, folder, tmp_path):
    with pytest.raises(UserError, match=r"ring has examples of shape \(2,\), but the run was trained on \(8, 8, 1\)"):
        apply.encode(run.path, data="ring")
    runs.train("gan", {"hidden": (4,)}, data="ring", workdir=folder / "gan", options=STEPS, quiet=True)
    with pytest.raises(UserError, match="gan has no encoder"):
        apply.encode(folder / "gan")
    with pytest.raises(UserError, match="gan does not impute"):
        apply.impute(folder / "gan")
    (tmp_path / "codes.npz").write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"codes.npz cannot be read .*; give a file that 'jaxgen encode' wrote"):
        apply.decode(run.path, tmp_path / "codes.npz")


def test_one_mask_may_stand_for_all_examples(run, tmp_path):
    one = np.arange(64).reshape(8, 8) % 3 > 0
    whole = np.broadcast_to(one, (297, 8, 8))
    asked = [apply.impute(run.path, mask=write_mask(tmp_path / f"{i}.npy", mask), num=1, draws=2, out=tmp_path / str(i))
             for i, mask in enumerate((one, one[..., None], whole))]  # fmt: skip
    filled = [np.load(path) for path in asked]
    for other in filled[1:]:
        np.testing.assert_array_equal(filled[0]["x"], other["x"])
    np.testing.assert_array_equal(filled[0]["mask"][..., 0], whole)


@pytest.mark.parametrize("kind", ["emptied", "cut", "one array"])
def test_a_damaged_file_of_codes_or_of_a_mask_is_named(run, codes, tmp_path, kind):
    content = {"emptied": b"", "cut": codes.read_bytes()[:400]}.get(kind)
    for name in ("codes.npz", "mask.npy"):
        if content is None:
            np.savez(tmp_path / "x.npz", a=np.zeros(3), b=np.zeros(3))
            np.save(tmp_path / "x.npy", np.zeros(3))
            (tmp_path / name).write_bytes((tmp_path / ("x.npy" if name == "codes.npz" else "x.npz")).read_bytes())
        else:
            (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=r"codes.npz cannot be read"):
        apply.decode(run.path, tmp_path / "codes.npz")
    with pytest.raises(UserError, match=r"the mask .*mask.npy (cannot be read|is an archive)"):
        apply.impute(run.path, mask=tmp_path / "mask.npy")


def test_no_file_but_the_named_one_is_written(tmp_path):
    assert mapped.save_arrays(tmp_path / "results.v2", {}) == tmp_path / "results.v2.npz"
    assert mapped.save_arrays(tmp_path / "mask.npy", {}) == tmp_path / "mask.npy.npz"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mask.npy.npz", "results.v2.npz"]
    with pytest.raises(UserError, match="is a folder"):
        mapped.save_arrays(tmp_path, {})


def test_completions_that_diverged_are_refused_and_those_that_are_all_one_are_warned_of():
    observed = np.array([[True, False], [False, False], [True, True]])
    values = np.random.default_rng(0).normal(size=(3, 3, 2))
    apply._check_completions(values, observed, draws=7, method="importance")
    same = np.broadcast_to(values[0], values.shape)
    with pytest.warns(UserWarning, match="of 100% of the examples .*: one of 7 draws"):
        apply._check_completions(same, observed, draws=7, method="importance")
    with pytest.raises(UserError, match="a gibbs chain left what the model knows"):
        apply._check_completions(np.where(values > 0, values, np.nan), observed, draws=7, method="gibbs")
