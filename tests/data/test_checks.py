"""Each kind of bad value is named with the range seen and the remedy; good values pass without a word."""

import re
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest

from jaxgen.data import Dataset, check_values, load
from jaxgen.data import dataset as dataset_module
from jaxgen.errors import UserError


def dataset(train, test=None, *, scale=1.0, dtype: type = np.float32) -> Dataset:
    train = np.asarray(train, dtype)
    test = train if test is None else np.asarray(test, train.dtype)
    return Dataset("toy", {"x": train}, {"x": test}, train.shape[1:], scale, None, "0")


@pytest.mark.parametrize("domain", ["real", "unit"])
def test_good_values_pass_silently(domain):
    check_values(load("digits"), domain)
    check_values(dataset([[0.0, 0.5, 1.0]]), domain)
    check_values(dataset([[0, 128, 255]], dtype=np.uint8, scale=255.0), domain)


def test_rounding_beyond_the_ends_is_no_mistake():
    check_values(dataset([[np.float32(-1e-7), 1 + np.float32(2e-7)]]), "unit")


@pytest.mark.parametrize(
    ("values", "scale", "seen", "remedy"),
    [
        ([[0, 17, 255]], 1.0, "from 0 to 255, outside", "--data-scale 255"),
        ([[0, 17, 250]], 1.0, "from 0 to 250, outside", "--data-scale 255"),
        ([[0, 8, 16]], 1.0, "from 0 to 16, outside", "--data-scale 16"),
        ([[0, 8, 16]], 4.0, "from 0 to 4, outside", "--data-scale 16"),
        ([[0.0, 1.01]], 1.0, "from 0 to 1.01, outside", "--data-scale 1.01"),
        ([[-1.0, 1.0]], 1.0, "from -1 to 1, outside", "rescale the data"),
        ([[-0.01, 1.0]], 1.0, "from -0.01 to 1, outside", "rescale the data"),
    ],
)
@pytest.mark.parametrize("domain", ["unit", "binary"])
def test_values_outside_the_unit_interval(values, scale, seen, remedy, domain):
    with pytest.raises(UserError) as caught:
        check_values(dataset(values, scale=scale), domain)
    assert seen in str(caught.value)
    assert remedy in str(caught.value)
    check_values(dataset(values, scale=scale), "real")


def test_the_test_split_is_looked_at_too():
    with pytest.raises(UserError, match="from 0 to 3, outside"):
        check_values(dataset([[0.0, 1.0]], [[0.0, 3.0]]), "unit")


def test_the_remedy_works():
    bytes_as_floats = dataset([[0.0, 255.0]])
    with pytest.raises(UserError, match="--data-scale 255"):
        check_values(bytes_as_floats, "unit")
    check_values(bytes_as_floats._replace(scale=255.0), "unit")


def test_grey_values_of_a_bernoulli_are_warned_of_once_unless_binarized():
    grey = dataset([[0.0, 0.5, 1.0, 1.0]])
    with pytest.warns(UserWarning, match=r"25.0% of the values are neither 0 nor 1") as warned:
        check_values(grey, "binary")
    assert len(warned) == 1
    check_values(grey, "binary", binarized=True)
    check_values(dataset([[0, 255]], dtype=np.uint8, scale=255.0), "binary")
    with pytest.warns(UserWarning, match=r"50.0% of the values"):
        check_values(dataset([[0, 1]], dtype=np.uint8, scale=1.5), "binary")
    with pytest.warns(UserWarning, match=r"50.0% of the values"):
        check_values(dataset([[0, 1]], dtype=np.uint8, scale=255.0), "binary")


@pytest.mark.parametrize("domain", ["real", "unit", "binary"])
@pytest.mark.parametrize(
    ("bad", "message"),
    [(np.nan, "1 of 2 values of the test split are missing"), (-np.inf, "1 of 2 .* are infinite")],
)
def test_values_that_are_not_finite(domain, bad, message):
    with pytest.raises(UserError, match=message):
        check_values(dataset([[0.0, 1.0]], [[0.0, bad]]), domain)


def test_missing_values_where_they_are_allowed():
    check_values(dataset([[0.0, np.nan, 1.0]]), "binary", allow_missing=True)
    with pytest.raises(UserError, match="from 0 to 2, outside"):
        check_values(dataset([[0.0, np.nan, 2.0]]), "unit", allow_missing=True)
    with pytest.raises(UserError, match="every value of the train split is missing"):
        check_values(dataset([[np.nan]], [[1.0]]), "real", allow_missing=True)
    with pytest.raises(UserError, match="infinite"):
        check_values(dataset([[np.nan, np.inf]]), "real", allow_missing=True)


def test_arrays_that_do_not_fit():
    with pytest.raises(UserError, match=r"train split of shape \(0, 3\) is empty"):
        check_values(dataset(np.zeros((0, 3))), "real")
    with pytest.raises(UserError, match=r"test split has shape \(2,\), but \(3,\) was expected"):
        check_values(dataset(np.zeros((4, 3)), np.zeros((4, 2))), "real")
    x = np.zeros((4, 2), np.float32)
    for name, array in (("label", np.zeros(3, np.int32)), ("condition", np.zeros((5, 4))), ("label", np.array(1))):
        with pytest.raises(UserError, match=rf"4 examples but {name} of shape {re.escape(str(array.shape))}"):
            check_values(dataset(x)._replace(train={"x": x, name: array}), "real")
    check_values(dataset(x)._replace(train={"x": x, "label": np.zeros((4, 2)), "condition": np.zeros((4, 3))}), "real")
    ragged = np.array([np.zeros(2), np.zeros(3)], dtype=object)
    with pytest.raises(UserError, match="object, not numbers of one shape"):
        check_values(dataset([[0.0]])._replace(train={"x": ragged}), "real")


def test_what_a_mask_hides_is_neither_out_of_range_nor_grey():
    x = np.array([[0.0, 1.0, 0.5, -7.0], [1.0, 0.0, 0.25, np.inf]], np.float32)
    mask = np.array([[True, True, True, False], [True, True, False, False]])
    made = dataset(x)._replace(train={"x": x, "mask": mask}, test={"x": x[:1], "mask": mask[:1]})
    with pytest.warns(UserWarning, match="25.0% of the values are neither 0 nor 1"):  # 2 of the 8 that are seen
        check_values(made, "binary", allow_missing=True)
    with pytest.raises(UserError, match="3 of 8 values of the train split are missing"):
        check_values(made, "unit")


def test_both_splits_have_one_width_of_everything():
    x = np.zeros((4, 2), np.float32)
    made = dataset(x)._replace(
        train={"x": x, "condition": np.zeros((4, 2))}, test={"x": x, "condition": np.zeros((4, 3))}
    )
    with pytest.raises(UserError, match=r"condition of the train split has shape \(4, 2\), of the test split \(4, 3\)"):
        check_values(made, "real")


def test_a_category_is_observed_as_a_whole_or_not_at_all():
    x = np.zeros((4, 6), np.float32)
    mask = np.ones((4, 6), bool)
    mask[0, 0] = mask[1, 3:5] = False
    mask[2, 1:3] = False
    made = dataset(x)._replace(columns=(1, 2, 2, 1))
    check_values(made._replace(train={"x": x, "mask": mask}), "real", allow_missing=True)
    mask[3, 4] = False
    with pytest.raises(UserError, match="hides 1 of the 2 entries of column 3, a category, in example 3"):
        check_values(made._replace(train={"x": x, "mask": mask}), "real", allow_missing=True)
    check_values(dataset(x)._replace(train={"x": x, "mask": mask}), "real", allow_missing=True)


@pytest.mark.parametrize("scale", [0.0, -1.0, np.inf, np.nan])
def test_scale_must_be_positive(scale):
    with pytest.raises(UserError, match="scale must be a positive number"):
        check_values(dataset([[0.0]], scale=scale), "real")


def test_unknown_domain():
    with pytest.raises(ValueError, match="got 'binray'"):
        check_values(dataset([[0.0]]), "binray")


@pytest.mark.parametrize("row", [0, 500, 999])
def test_a_bad_value_in_any_of_many_chunks_is_found(monkeypatch, row):
    monkeypatch.setattr(dataset_module, "_CHUNK_BYTES", 64)
    values = np.zeros((1000, 4), np.float32)
    values[row, -1], values[row, 0] = 7, -3
    with pytest.raises(UserError, match="from -3 to 7"):
        check_values(dataset(values), "unit")


def test_memory_does_not_grow_with_the_data():
    """Peak of NumPy's allocations for 192 MB against 16 MB chunks, their masks and copies."""
    train = np.zeros((48, 2**20), np.float32)
    made = Dataset("toy", {"x": train}, {"x": train[:1]}, train.shape[1:], 1.0, None, "0")
    tracemalloc.start()
    check_values(made, "unit")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 64 * 2**20


@pytest.mark.skipif(sys.platform != "linux", reason="memory is measured as Linux counts it")
def test_memory_does_not_grow_with_a_mapped_file(tmp_path):
    """Two files of 160 and 320 MB, below and above the limit of whole fingerprints: less than 100 MB each."""
    code = (
        "import re, sys; from jaxgen.data import load, check_values\n"
        "peak = lambda: int(re.search(r'VmHWM:\\s+(\\d+) kB', open('/proc/self/status').read())[1])\n"
        "before = peak(); check_values(load(sys.argv[1]), 'unit'); print((peak() - before) // 1024)"
    )
    for num_examples in (10_000, 20_000):
        path = tmp_path / f"{num_examples}.npy"
        x = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=(num_examples, 2**14))
        x[0, 0] = 200
        del x
        result = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
        path.unlink()
        assert int(result.stdout) < 100
