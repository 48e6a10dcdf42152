"""Codes out of a run and back, and completions, through files."""

import jax
import numpy as np
import pytest

from jaxgen import apply, runs
from jaxgen.data import load
from jaxgen.errors import UserError
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


def test_indices_come_back_through_a_vq_vae_bit_by_bit(folder):
    path = folder / "vq"
    runs.train("vq_vae", {"hidden": (8,)}, data="digits", workdir=path, options=STEPS, quiet=True)
    opened = runs.open_run(path)
    codes = apply.encode(path, out=folder / "vq.npz")
    with np.load(codes) as archive, np.load(apply.decode(path, codes)) as decoded:
        assert archive["x_test"].dtype == np.int32
        expected = jax.jit(opened.model.decode)(opened.params, opened.statistics, archive["x_test"])
        np.testing.assert_allclose(decoded["x_test"], expected, rtol=1e-5, atol=1e-6)


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


def write_mask(path, mask):
    np.save(path, mask)
    return path


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.ones((297, 8, 8), bool), "nothing is missing in digits"),
        (np.zeros((297, 8, 8), bool), "everything is missing in digits"),
        (np.ones((297, 8, 7), bool), r"shape \(297, 8, 7\); give booleans of shape \(297, 8, 8, 1\)"),
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
