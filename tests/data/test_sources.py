"""The built-in sets against what is known of them, names and their mistakes, what an import costs."""

import subprocess
import sys

import numpy as np
import pytest
from sklearn.datasets import load_digits

from jaxgen.data import load, names, synthetic
from jaxgen.data.dataset import WHOLE_FINGERPRINT_BYTES, array_fingerprint, make_dataset
from jaxgen.errors import UserError


def test_digits_are_those_of_scikit_learn():
    digits = load("digits")
    pixels, targets = load_digits(return_X_y=True)
    images = np.concatenate([digits.train["x"], digits.test["x"]])
    labels = np.concatenate([digits.train["label"], digits.test["label"]])
    np.testing.assert_array_equal(images.reshape(1797, 64), pixels)
    np.testing.assert_array_equal(labels, targets)
    assert (images.dtype, labels.dtype) == (np.uint8, np.int32)
    assert (len(digits.train["x"]), len(digits.test["x"])) == (1500, 297)
    assert (digits.shape, digits.scale, digits.num_classes, digits.modes) == ((8, 8, 1), 16.0, 10, None)


def test_negative_labels_are_no_classes_in_either_split():
    x, told = np.zeros((3, 2), np.float32), np.array([0, 4, 2], np.int32)
    untold = np.array([3, -1, 0], np.int32)
    assert make_dataset("toy", {"x": x, "label": told}, {"x": x}, scale=1.0).num_classes == 5
    for train, test in ((told, untold), (untold, told)):
        with pytest.raises(UserError, match="toy: labels run from -1 to 4: number the classes from 0"):
            make_dataset("toy", {"x": x, "label": train}, {"x": x, "label": test}, scale=1.0)


@pytest.mark.parametrize(
    ("name", "num_modes", "scale", "spacing"),
    [("ring", 8, 0.01, 2 * np.sin(np.pi / 8)), ("grid", 25, 0.05, 2.0)],
)
def test_synthetic_densities_have_the_moments_they_promise(name, num_modes, scale, spacing):
    made = load(name)
    assert made.modes is not None
    centers = made.modes.centers
    assert (centers.shape, made.modes.scale, made.num_classes) == ((num_modes, 2), scale, num_modes)
    distances = np.linalg.norm(centers[:, None] - centers[None], axis=-1) + 100 * np.eye(num_modes)
    np.testing.assert_allclose(distances.min(axis=1), spacing, rtol=1e-6)
    np.testing.assert_allclose(centers.mean(axis=0), 0, atol=1e-6)
    for split in (made.train, made.test):
        assert split["x"].dtype == np.float32
        num_examples = len(split["x"])
        noise = (split["x"] - centers[split["label"]]) / scale
        # Within five standard errors: of a mean 1/√n, of a variance √(2/n), of a count √(np(1−p)).
        assert np.abs(noise.mean(axis=0)).max() < 5 / np.sqrt(num_examples)
        assert np.abs(np.cov(noise.T) - np.eye(2)).max() < 5 * np.sqrt(2 / num_examples)
        counts = np.bincount(split["label"], minlength=num_modes)
        share = 1 / num_modes
        assert np.abs(counts - num_examples * share).max() < 5 * np.sqrt(num_examples * share * (1 - share))
    if name == "ring":  # the eighth roots of 1
        np.testing.assert_allclose(centers @ np.array([1, 1j]), np.exp(2j * np.pi * np.arange(8) / 8), atol=1e-6)
    else:
        assert (centers.min(), centers.max()) == (-4, 4)


def test_a_stack_is_of_three_digits_whose_label_it_is_and_each_kind_is_as_likely():
    stacks, digits = load("stacked_digits"), load("digits")
    for split in ("train", "test"):
        whole, single = getattr(stacks, split), getattr(digits, split)
        known = {image.tobytes(): label for image, label in zip(single["x"], single["label"])}
        some = slice(0, 500)
        found = [[known[x[..., c : c + 1].tobytes()] for c in range(3)] for x in whole["x"][some]]
        np.testing.assert_array_equal(found @ np.array([100, 10, 1]), whole["label"][some])
        expected = len(whole["label"]) / 1000
        counts = np.bincount(whole["label"], minlength=1000)
        # χ² of 999 degrees of freedom: mean 999, standard deviation √1998
        assert abs(np.sum((counts - expected) ** 2 / expected) - 999) < 5 * np.sqrt(1998)
    assert (stacks.shape, stacks.scale, stacks.num_classes) == ((8, 8, 3), 16.0, 1000)


@pytest.mark.parametrize("name", ["ring", "grid", "stacked_digits", "stacked_mnist"])
def test_synthetic_densities_follow_their_seed(name, monkeypatch):
    monkeypatch.setattr("jaxgen.data.tfds.load_prepared", lambda name, data_dir: load("digits"))  # in MNIST's place
    first, again, other = load(name, seed=3), load(name, seed=3), load(name, seed=4)
    np.testing.assert_array_equal(first.train["x"], again.train["x"])
    assert first.fingerprint == again.fingerprint != other.fingerprint
    same_label = first.train["label"][: len(first.test["label"])] == first.test["label"]
    assert same_label.mean() < 0.5, "the splits are drawn apart"
    assert np.abs(first.train["x"][:100] - other.train["x"][:100]).max() > 0


@pytest.mark.parametrize("seed", [0, 5])
def test_synthetic_data_and_their_order_share_no_random_words(seed):
    """Labels drawn from the words that order an epoch agree by chance alone: within five standard errors of 1/8."""
    made = load("ring", seed=seed)
    for split in (made.train, made.test):
        count = len(split["label"])
        for epoch in range(3):
            words = np.random.Philox(np.random.SeedSequence([seed, epoch]))
            drawn = np.random.Generator(words).integers(8, size=count, dtype=np.int32)
            assert abs(np.mean(drawn == split["label"]) - 1 / 8) < 5 * np.sqrt(7 / 64 / count)


def test_the_scale_given_is_the_scale_used():
    assert load("digits", scale=8).scale == 8.0
    with pytest.raises(UserError, match="positive number, got 0"):
        load("digits", scale=0)
    with pytest.raises(UserError, match="must not be negative, got -1"):
        load("ring", seed=-1)


def test_names_are_all_known_and_each_has_a_line():
    assert list(names())[:3] == ["digits", "ring", "grid"]
    assert {"mnist", "fashion_mnist", "binarized_mnist"} <= set(names())
    assert all(line and "\n" not in line for line in names().values())
    names()["digits"] = "changed"
    assert names()["digits"] != "changed"


@pytest.mark.parametrize(
    ("name", "near"), [("digts", "digits"), ("mnsit", "mnist"), ("fashion-mnist", "fashion_mnist")]
)
def test_a_misspelt_name_suggests_the_right_one(name, near):
    with pytest.raises(UserError, match=rf"Unknown data set '{name}': did you mean .*\b{near}\b.*\.npz"):
        load(name)


def test_a_name_like_no_other_lists_the_built_in_ones():
    with pytest.raises(UserError, match="give one of digits, ring, grid, stacked_digits, mnist"):
        load("qqqqqqqqqq")


def test_import_and_names_load_nothing_heavy():
    heavy = ("jax", "tensorflow", "tensorflow_datasets", "sklearn", "scipy", "flax", "matplotlib")
    code = f"import sys, jaxgen.data; jaxgen.data.names(); print([m for m in {heavy} if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_fingerprint_sees_content_shape_and_type():
    array = np.arange(12, dtype=np.float32).reshape(3, 4)
    seen = {
        array_fingerprint(array),
        array_fingerprint(array.reshape(4, 3)),
        array_fingerprint(array.view(np.int32)),
    }
    changed = array.copy()
    changed[-1, -1] += 1
    seen.add(array_fingerprint(changed))
    assert len(seen) == 4
    assert array_fingerprint(array) == array_fingerprint(np.asfortranarray(array))
    assert array_fingerprint(array) == array_fingerprint(array.astype(">f4"))


def test_fingerprint_of_a_large_array_reads_a_part_of_it(tmp_path):
    path = tmp_path / "large.npy"
    shape = (WHOLE_FINGERPRINT_BYTES // 1024 + 1024, 1024)
    large = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
    zeros = array_fingerprint(large)
    large[-1, -1] = 1
    assert array_fingerprint(large) != zeros


def test_a_stack_draws_a_class_evenly_and_then_one_of_its_digits():
    """Of class c there are c + 1 digits, each of a level of its own."""
    label = np.repeat(np.arange(10, dtype=np.int32), np.arange(1, 11))
    x = np.arange(len(label), dtype=np.uint8).reshape(-1, 1, 1, 1)
    digits = make_dataset("toy", {"x": x, "label": label}, {"x": x, "label": label}, scale=100.0)
    stacks = synthetic.stacked("stacks", digits)
    for split in (stacks.train, stacks.test):
        expected = len(split["x"]) / 10 / (1 + label)
        for channel in range(3):
            counts = np.bincount(split["x"][:, 0, 0, channel], minlength=len(label))
            assert np.all(np.abs(counts - expected) < 5 * np.sqrt(expected))
