"""What data tell a conditional model: refused in one sentence where the model does not know it, or never would."""

import numpy as np
import pytest

from jaxgen import mapped, runs
from jaxgen.data.dataset import make_dataset
from jaxgen.errors import UserError
from jaxgen.model import Condition
from jaxgen.told import as_told, check_conditions, check_learnable, check_told
from jaxgen.training import Options

LABEL, VECTOR = Condition("label", 3, classes=True), Condition("condition", 2, classes=False)


def data(train, test=(0,)):
    splits = [{"x": np.zeros((len(labels), 2), np.float32), "label": np.array(labels)} for labels in (train, test)]
    return make_dataset("toy", *splits, scale=1.0)


@pytest.mark.parametrize(
    ("condition", "values", "message"),
    [
        (LABEL, np.array([0, 3, 2]), "toy holds class 3, but the model knows the classes 0 … 2"),
        (LABEL, np.array([-1, 0]), "toy holds class -1"),
        (LABEL, np.array([0.0]), r"labels of toy are float64 of shape \(1,\)"),
        (LABEL, np.eye(3, dtype=int), r"labels of toy are int64 of shape \(3, 3\)"),
        (VECTOR, np.zeros((4, 3)), r"conditions of toy have the shape \(4, 3\), but .* \[examples, 2\]"),
        (VECTOR, np.zeros(4), r"conditions of toy have the shape \(4,\)"),
    ],
)
def test_a_condition_that_the_model_does_not_know_is_named(condition, values, message):
    with pytest.raises(UserError, match=message):
        check_told("toy", values, condition)


def test_what_the_model_knows_passes():
    check_told("toy", np.array([0, 2, 1]), LABEL)
    check_told("toy", np.zeros((0, 2)), VECTOR)
    check_learnable(data([0, 1, 2], [2]), LABEL)
    check_learnable(data([0, 0], [9]), None)
    check_learnable(data([0, 0], [9]), VECTOR)


def test_both_splits_are_looked_at():
    for train, test in (([0, 7], [0]), ([0, 1], [7])):
        with pytest.raises(UserError, match="class 7"):
            check_conditions(data(train, test), LABEL)
    with pytest.raises(UserError, match="no array 'condition'"):
        check_conditions(data([0]), VECTOR)


def test_a_class_that_training_never_shows_is_refused_before_the_run_begins(tmp_path):
    x = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
    labels = np.arange(20) % 2
    for changed, message in (
        ({"y_test": np.array([0, 5, 1, 0])}, "class 5 is in the test split alone"),
        (
            {"y_train": np.where(np.arange(16) == 3, 10**9, labels[:16])},
            "label 1000000000 makes 1000000001 classes of 16",
        ),
    ):
        arrays = {"x_train": x[:16], "x_test": x[16:], "y_train": labels[:16], "y_test": labels[16:]} | changed
        np.savez(tmp_path / "toy.npz", **arrays)
        with pytest.raises(UserError, match=message):
            runs.train(
                "conditional_vae",
                {"likelihood": "gaussian"},
                data=str(tmp_path / "toy.npz"),
                workdir=tmp_path / "run",
                options=Options(steps=1, batch_size=4),
                quiet=True,
            )
        assert not (tmp_path / "run").exists()


def test_data_that_a_run_is_applied_to_may_hold_the_classes_that_it_learned_alone(tmp_path):
    model = runs.build("conditional_vae", {"shape": (3,), "num_classes": 2, "likelihood": "gaussian"})
    options = {"seed": 0, "dequantize": False}
    config = {"data": {"name": "", "scale": 1.0}, "options": options, "data_dir": None, "arguments": {"shape": [3]}}
    run = runs.Run(tmp_path, config, model, {}, {}, 0, "last")
    x = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    for labels in ([0, 1, 1, 0], [0, 1, 2, 0]):
        np.savez(tmp_path / "toy.npz", x_train=x, x_test=x, y_train=labels, y_test=[0, 1, 1, 1])
        if max(labels) < 2:
            assert mapped.dataset_for(run, str(tmp_path / "toy.npz"), None).shape == (3,)
            continue
        with pytest.raises(UserError, match="holds class 2, but the model knows the classes 0 … 1"):
            mapped.dataset_for(run, str(tmp_path / "toy.npz"), None)


@pytest.mark.parametrize(
    ("condition", "values", "message"),
    [
        (None, (1.0,), "--condition 1 was given, but cvae is told nothing; leave it out"),
        (LABEL, (3.0,), "--condition takes one of the classes 0 … 2, got 3"),
        (LABEL, (-1.0,), "one of the classes 0 … 2, got -1"),
        (LABEL, (0.5,), "one of the classes 0 … 2, got 0.5"),
        (LABEL, (0.0, 1.0), "one of the classes 0 … 2, got 0 1"),
        (VECTOR, (0.5,), "--condition takes the 2 numbers that cvae is told, got 0.5"),
        (VECTOR, (0.5, np.inf), "takes the 2 numbers that cvae is told, got 0.5 inf"),
    ],
)
def test_what_is_asked_for_and_not_known_is_one_sentence(condition, values, message):
    with pytest.raises(UserError, match=f"{message}$"):
        as_told("cvae", values, condition)


def test_what_is_asked_for_is_a_class_or_a_vector():
    assert (as_told("cvae", (2.0,), LABEL), as_told("cvae", (2.0,), LABEL).dtype) == (2, np.int32)
    np.testing.assert_array_equal(as_told("cvae", (0.5, -1.0), VECTOR), np.float32([0.5, -1.0]))
