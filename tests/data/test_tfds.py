"""Sets that TensorFlow Datasets prepared: small ones made here, and the real ones where they are at hand."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from jaxgen import apply, folder, report, runs
from jaxgen.data import check_values, load
from jaxgen.errors import UserError
from jaxgen.training import Options

REAL = Path(os.environ.get("TFDS_DATA_DIR") or Path(__file__).parents[3] / "shared" / "data" / "tfds")
GREY = {"image": tfds.features.Tensor(shape=(4, 3), dtype=np.uint8)}


def images(num_images, *, shape=(4, 3, 3), high=256):
    return np.random.default_rng(0).integers(0, high, (num_images, *shape), dtype=np.uint8)


def records(x, **fields):
    return [{"image": image, **{key: values[i] for key, values in fields.items()}} for i, image in enumerate(x)]


def assert_same_rows(actual, expected):
    """TensorFlow Datasets shuffles when it prepares, so that sets of rows are compared."""
    np.testing.assert_array_equal(
        np.unique(actual.reshape(len(actual), -1), axis=0),
        np.unique(expected.reshape(len(expected), -1), axis=0),
    )


def test_images_with_labels(prepare, tmp_path):
    x = images(300)
    paths = [tmp_path / f"{i}.png" for i in range(300)]
    for path, image in zip(paths, x):
        Image.fromarray(image).save(path)
    features = {
        "id": tfds.features.Scalar(dtype=np.int64),
        "image": tfds.features.Image(shape=(4, 3, 3)),
        "label": tfds.features.ClassLabel(num_classes=7),
    }
    train = [{"id": i, "image": str(path), "label": int(x[i, 0, 0, 0]) % 7} for i, path in enumerate(paths)]
    prepare("toy", features, {"train": train[:290], "validation": train[:5], "test": train[290:]})
    made = load("toy")
    assert_same_rows(made.train["x"], x[:290])
    assert_same_rows(made.test["x"], x[290:])
    for split in (made.train, made.test):
        np.testing.assert_array_equal(split["label"], split["x"][:, 0, 0, 0] % 7)
        assert (split["x"].dtype, split["label"].dtype) == (np.uint8, np.int32)
    assert (made.shape, made.scale, made.num_classes) == ((4, 3, 3), 255.0, 7)


def test_a_run_knows_the_folder_that_its_set_came_from(prepare, tmp_path, monkeypatch):
    """Of the shell that trained it, not of the one that looks at it, unless the run was moved to where that is none."""
    features = {**GREY, "label": tfds.features.ClassLabel(num_classes=2)}
    x = images(24, shape=(4, 3))
    prepare("toy", features, {"train": records(x[:16], label=[0, 1] * 8), "test": records(x[16:], label=[0, 1] * 4)})
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TFDS_DATA_DIR", "sets")
    arguments = {"hidden": (4,), "latents": 2, "likelihood": "gaussian", "importance_samples": 0}
    given = {"options": Options(steps=1, batch_size=8), "num_devices": 1, "quiet": True}
    runs.train("vae", arguments, data="toy", workdir="run", **given)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "of another shell"))
    config = folder.read_config(Path("run"))
    assert config["data_dir"] == str(tmp_path / "sets")
    assert report.evaluate("run")
    assert apply.encode("run").exists()
    assert runs.data_folder(config, own=False) is None
    runs.train("vae", arguments, data="toy", workdir="run", data_dir="sets", **given)  # goes on
    (tmp_path / "sets").rename(tmp_path / "of another shell")
    assert runs.data_folder(config) is None
    assert report.evaluate("run")
    monkeypatch.delenv("TFDS_DATA_DIR")
    assert runs.data_folder({**config, "data_dir": str(tmp_path)}, own=False) == str(tmp_path)
    runs.train("vae", arguments, data="digits", workdir="own", **given)
    assert folder.read_config(Path("own"))["data_dir"] is None


def test_a_set_that_withholds_labels_has_none(prepare):
    """-1 would be a class that no model knows; the examples are good for all that need no labels."""
    features = {**GREY, "label": tfds.features.ClassLabel(num_classes=3)}
    x = images(9, shape=(4, 3))
    prepare("toy", features, {"train": records(x[:6], label=[0, 1, 2] * 2), "test": records(x[6:], label=[-1] * 3)})
    with pytest.warns(UserWarning, match=r"toy: 3 labels are withheld \(-1\), so that it is used without labels"):
        made = load("toy")
    assert (set(made.train), set(made.test), made.num_classes) == ({"x"}, {"x"}, None)
    assert_same_rows(made.test["x"], x[6:, ..., None])


def test_second_read_comes_from_the_cache_and_needs_no_package(prepare, monkeypatch):
    folder = prepare(
        "toy", GREY, {"train": records(images(20, shape=(4, 3))), "test": records(images(2, shape=(4, 3)))}
    )
    first = load("toy")
    assert first.shape == (4, 3, 1)
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    again = load("toy")
    assert isinstance(again.train["x"], np.memmap)
    assert first.fingerprint == again.fingerprint
    np.testing.assert_array_equal(first.train["x"], again.train["x"])
    monkeypatch.undo()
    assert load("toy", data_dir=str(folder.parents[1])).fingerprint == first.fingerprint


def test_a_set_prepared_anew_is_read_anew(prepare, tmp_path):
    folder = prepare("toy", GREY, {"train": records(images(20, shape=(4, 3)))})
    first = load("toy")
    shutil.rmtree(folder)
    prepare("toy", GREY, {"train": records(images(20, shape=(4, 3)) ^ 255)})
    assert load("toy").fingerprint != first.fingerprint


def test_validation_is_the_test_split_where_there_is_no_other(prepare):
    x = images(30, shape=(4, 3))
    prepare("toy", GREY, {"train": records(x[:25]), "validation": records(x[25:])})
    assert_same_rows(load("toy").test["x"], x[25:])


def test_the_last_tenth_is_held_out_where_there_is_one_split(prepare):
    x = images(25, shape=(4, 3))
    prepare("toy", GREY, {"train": records(x)})
    made = load("toy")
    assert (len(made.train["x"]), len(made.test["x"])) == (23, 2)
    assert_same_rows(np.concatenate([made.train["x"], made.test["x"]]), x)


def test_bits_have_scale_one(prepare):
    prepare("toy", GREY, {"train": records(images(20, shape=(4, 3), high=2))})
    made = load("toy")
    assert made.scale == 1.0
    check_values(made, "binary")


def test_tables_are_read_too(prepare):
    x = np.random.default_rng(0).normal(size=(20, 4))
    features = {
        "features": tfds.features.Tensor(shape=(4,), dtype=np.float64),
        "label": tfds.features.ClassLabel(num_classes=2),
    }
    prepare("toy", features, {"train": [{"features": row, "label": i % 2} for i, row in enumerate(x)]})
    made = load("toy")
    assert (made.train["x"].dtype, made.shape, made.scale) == (np.float32, (4,), 1.0)
    assert_same_rows(np.concatenate([made.train["x"], made.test["x"]]), x.astype(np.float32))


def test_versions_and_configurations(prepare):
    x = images(4, shape=(4, 3))
    for version, keep in (("1.0.0", 2), ("1.9.0", 3), ("1.10.0", 4)):
        prepare("toy", GREY, {"train": records(x[:keep])}, version=version)
    assert len(load("toy").train["x"]) == 3
    assert len(load("toy:1.9.0").train["x"]) == 2
    prepare("other", GREY, {"train": records(x)}, config="small")
    assert len(load("other").train["x"]) == 3
    prepare("other", GREY, {"train": records(x[:2])}, config="large")
    assert len(load("other/small").train["x"]) == 3
    assert len(load("other/large:1.0.0").train["x"]) == 1
    with pytest.raises(UserError, match="several configurations: give one of other/large, other/small"):
        load("other")


def test_images_of_several_shapes(prepare):
    features = {"image": tfds.features.Tensor(shape=(None, 3), dtype=np.uint8)}
    prepare("toy", features, {"train": [{"image": np.zeros((rows, 3), np.uint8)} for rows in (4, 4, 5)]})
    with pytest.raises(UserError, match=r"example \d of the train split has shape \(\d, 3\), the first one \(\d, 3\)"):
        load("toy")


def test_sets_of_another_kind(prepare):
    scalar = {"a": tfds.features.Scalar(dtype=np.int64), "b": tfds.features.Text()}
    prepare("text", scalar, {"train": [{"a": 1, "b": "x"}]})
    with pytest.raises(UserError, match="text has the fields a, b; none is an image, 0 are arrays"):
        load("text")
    prepare("heldout", GREY, {"test": records(images(2, shape=(4, 3)))})
    with pytest.raises(UserError, match="heldout has the splits test but none named train"):
        load("heldout")


def test_a_set_in_a_format_without_positions(prepare):
    folder = prepare("toy", GREY, {"train": records(images(3, shape=(4, 3)))})
    info = json.loads((folder / "dataset_info.json").read_text())
    (folder / "dataset_info.json").write_text(json.dumps({**info, "fileFormat": "tfrecord"}))
    with pytest.raises(UserError, match="as tfrecord, which cannot be read by position"):
        load("toy")


@pytest.mark.skipif(importlib.util.find_spec("tensorflow") is not None, reason="tensorflow is installed")
def test_a_set_that_is_not_prepared_says_what_to_install_or_give(tmp_path):
    with pytest.raises(
        UserError, match=r"mnist is not prepared in .*sets.*pip install tensorflow-cpu.*--data-dir"
    ) as caught:
        load("mnist")
    assert str(tmp_path / "sets") in str(caught.value)
    with pytest.raises(UserError, match="elsewhere"):
        load("mnist", data_dir=str(tmp_path / "elsewhere"))


def test_where_tensorflow_is_installed_the_set_is_prepared(prepare, monkeypatch, tmp_path):
    """The stock builder is replaced by one that needs no network; the one asked for is that of TFDS."""
    asked = []

    class Builder:
        data_path = tmp_path / "sets" / "mnist" / "3.0.1"

        def download_and_prepare(self):
            prepare("mnist", GREY, {"train": records(images(20, shape=(4, 3)))}, version="3.0.1")

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name == "tensorflow")
    monkeypatch.setattr(tfds, "builder", lambda name, **options: asked.append((name, options)) or Builder())
    assert load("mnist").shape == (4, 3, 1)
    assert asked == [("mnist", {"data_dir": tmp_path / "sets", "file_format": "array_record"})]
    assert load("mnist").shape == (4, 3, 1)
    assert len(asked) == 1


def test_a_download_that_fails_says_why(monkeypatch):
    def offline(name, **options):
        raise ConnectionError("no route to host\nsecond line")

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name == "tensorflow")
    monkeypatch.setattr(tfds, "builder", offline)
    with pytest.raises(UserError, match=r"could not be prepared in .* \(ConnectionError: no route to host\)"):
        load("mnist")


@pytest.mark.skipif(not (REAL / "mnist").exists(), reason="MNIST is not at hand")
def test_real_mnist_without_tensorflow():
    """The mean pixel of the training images, .1307, and the counts of its ten digits are known everywhere."""
    made = load("mnist", data_dir=str(REAL))
    assert abs(made.train["x"].mean() / 255 - 0.13066) < 1e-5
    assert np.bincount(made.train["label"]).tolist() == [
        5923,
        6742,
        5958,
        6131,
        5842,
        5421,
        5918,
        6265,
        5851,
        5949,
    ]
    assert np.bincount(made.test["label"]).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    code = f"import sys; from jaxgen.data import load; load('mnist', data_dir='{REAL}'); print(*sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"tensorflow", "jax", "tensorflow_datasets"} & set(result.stdout.split())
    assert result.stderr == ""
