"""The file of codes: what it must hold to be decoded, and what it hands on."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import apply, runs
from jaxgen.code_files import read_codes
from jaxgen.data import load
from jaxgen.errors import UserError
from jaxgen.model import Codes
from jaxgen.training import Options


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Of a model that is told a vector, on data that have labels too."""
    folder, rng = tmp_path_factory.mktemp("told"), np.random.default_rng(0)
    arrays = {"x": rng.normal(size=(20, 4)), "condition": rng.normal(size=(20, 3)), "y": np.arange(20) % 5}
    np.savez(folder / "toy.npz", **arrays)
    arguments = {"condition": "vector", "latents": 2, "hidden": (), "likelihood": "gaussian", "importance_samples": 0}
    options = Options(steps=1, batch_size=4)
    data = str(folder / "toy.npz")
    runs.train("conditional_vae", arguments, data=data, workdir=folder / "run", options=options, quiet=True)
    return runs.open_run(folder / "run")


@pytest.fixture(scope="module")
def codes(run):
    with np.load(apply.encode(run.path)) as archive:
        return dict(archive)


def test_codes_of_a_conditional_model_decode_with_what_they_came_with(run, codes, tmp_path):
    data = load(run.config["data"]["name"])
    assert run.model.reconstruct is not None
    with np.load(apply.decode(run.path, run.path / "codes.npz", out=tmp_path / "back")) as back:
        assert {*back.files} == {f"{key}_{name}" for key in ("x", "y", "condition") for name in ("train", "test")}
        for name, split in (("train", data.train), ("test", data.test)):
            told = split["condition"]
            expected = run.model.reconstruct(run.params, run.statistics, split["x"], condition=told)
            np.testing.assert_allclose(back[f"x_{name}"], expected, rtol=1e-5, atol=1e-6)
            np.testing.assert_array_equal(back[f"y_{name}"], split["label"])
            np.testing.assert_array_equal(back[f"condition_{name}"], told)
        others = run.model.reconstruct(run.params, run.statistics, data.test["x"], condition=-data.test["condition"])
        assert np.abs(back["x_test"] - others).max() > 0.01
    made = load(str(run.path / "codes.npz"))
    assert (made.num_classes, made.condition_size) == (5, 3)


def changed(codes, changes):
    return {name: array for name, array in {**codes, **changes}.items() if array is not None}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x_test": np.zeros((2, 3))}, r"x_test of .* is float64 of shape \(2, 3\), but .* float32 \[examples, 2\]"),
        ({"x_test": np.array(["a", "b"])}, "x_test of .* is <U1 of shape"),
        ({"x_test": np.zeros((2, 2), complex)}, "x_test of .* is complex128"),
        ({"x_test": np.full((2, 2), np.nan)}, "not finite"),
        ({"x_test": np.zeros((0, 2))}, "holds no codes"),
        ({"x_train": None, "x_test": None}, r"holds fingerprint, .*; give a file that 'jaxgen encode' wrote"),
        ({"fingerprint": None}, r"codes.npz holds x_train, .*; give a file that 'jaxgen encode' wrote"),
        ({"condition_test": None}, "x_test of .* comes without the condition that the model is told"),
        ({"condition_train": np.zeros((18, 2))}, r"have the shape \(18, 2\), but the model is told vectors .* 3\]"),
        ({"condition_train": np.zeros((17, 3))}, r"has 18 examples, its condition the shape \(17, 3\)"),
    ],
)
def test_codes_that_the_run_cannot_have_made_are_named(run, codes, tmp_path, changes, message):
    np.savez(tmp_path / "codes.npz", **changed(codes, changes))
    with pytest.raises(UserError, match=message):
        read_codes(tmp_path / "codes.npz", run, replica=0)


def test_numbers_of_codes_are_of_the_codebook_of_their_place(run, codes, tmp_path):
    """Compiled, a number that is none would be the nearest one, or nothing."""

    def encode(params, statistics, x, *, condition):
        return jnp.zeros((len(x), 2), jnp.int32)

    one, stages, grids = Codes(5), Codes(6, grids=((1, 2),), stages=2), Codes(6, grids=((1, 1), (1, 1)))
    for kind, values, message in (
        (one, [[0, 4]], None),
        (one, [[0, 5]], r"x_test of .* holds code 5 at \[1\] of an example, where codes lie in 0 … 4; encode the data"),
        (one, [[-1, 0]], r"holds code -1 at \[0\] of"),
        (one, [[0.0, 1.0]], r"is float64 of shape \(1, 2\), but .* int32 \[examples, 2\]"),
        (stages, [[2, 3]], None),
        (stages, [[3, 2]], r"holds code 3 at \[0\] of an example, where codes lie in 0 … 2"),
        (grids, [[2, 3]], None),
        (grids, [[0, 2]], r"holds code 2 at \[1\] of an example, where codes lie in 3 … 5"),
    ):
        discrete = run._replace(model=run.model._replace(encode=encode, codes=kind))
        changes = {"x_test": np.array(values), "y_test": np.zeros(1, int), "condition_test": np.zeros((1, 3))}
        train = {"x_train": np.tile([0, 0 if kind is one else 3], (18, 1))}
        np.savez(tmp_path / "codes.npz", **changed(codes, changes | train))
        if message is None:
            found = read_codes(tmp_path / "codes.npz", discrete, replica=0)
            assert found["test"]["x"].tolist() == values
            continue
        with pytest.raises(UserError, match=message):
            read_codes(tmp_path / "codes.npz", discrete, replica=0)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "no such file or directory"),
        (b"a,b", "it holds no arrays, or pickled ones"),
        (np.zeros(3), "it holds one array"),
    ],
)
def test_what_cannot_be_read_is_said_in_plain_words(run, tmp_path, content, reason):
    path = tmp_path / "codes.npz"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        with path.open("wb") as file:
            np.save(file, content)
    with pytest.raises(UserError, match=rf"codes.npz cannot be read \({reason}\); give a file"):
        apply.decode(run.path, path)
    if not isinstance(content, np.ndarray):
        with pytest.raises(UserError, match=rf"codes.npz cannot be read \({reason}\); give a .npy"):
            apply.impute(run.path, mask=path)
