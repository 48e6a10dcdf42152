"""A user's own files: what is read from them, and one sentence for each way in which they are wrong."""

import numpy as np
import pytest

from jaxgen.data import check_values, load
from jaxgen.errors import UserError


@pytest.fixture
def write(tmp_path):
    def write_file(name, content):
        path = tmp_path / name
        if name.endswith(".npy"):
            np.save(path, content)
        elif isinstance(content, dict):
            np.savez(path, **content)
        else:
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)

    return write_file


def test_npy_is_mapped_and_its_last_tenth_is_the_test_split(write):
    x = np.arange(25 * 4 * 3, dtype=np.uint8).reshape(25, 4, 3)
    made = load(write("x.npy", x))
    assert isinstance(made.train["x"], np.memmap)
    np.testing.assert_array_equal(made.train["x"], x[:23, :, :, None])
    np.testing.assert_array_equal(made.test["x"], x[23:, :, :, None])
    assert (made.shape, made.scale, made.num_classes) == ((4, 3, 1), 255.0, None)


def test_a_small_file_keeps_one_example_for_the_test(write):
    made = load(write("x.npy", np.zeros((2, 3), np.float32)))
    assert (made.train["x"].shape, made.test["x"].shape) == ((1, 3), (1, 3))


@pytest.mark.parametrize(
    ("array", "dtype", "shape", "scale"),
    [
        (np.full((4, 3), 255, np.uint8), np.uint8, (3,), 255.0),
        (np.ones((4, 3), np.uint8), np.uint8, (3,), 1.0),
        (np.ones((4, 3), bool), np.uint8, (3,), 1.0),
        (np.full((4, 3), 255, np.int64), np.float32, (3,), 1.0),
        (np.ones((4, 3), np.float64), np.float32, (3,), 1.0),
        (np.ones((4, 3), ">f4"), np.float32, (3,), 1.0),
        (np.ones(4, np.float32), np.float32, (1,), 1.0),
        (np.ones((4, 3, 2), np.float32), np.float32, (3, 2, 1), 1.0),
        (np.ones((4, 3, 2, 3), np.float32), np.float32, (3, 2, 3), 1.0),
    ],
)
def test_types_shapes_and_scales(write, array, dtype, shape, scale):
    made = load(write("x.npy", array))
    assert made.train["x"].dtype == dtype
    assert made.train["x"].dtype.isnative
    assert (made.shape, made.scale) == (shape, scale)
    np.testing.assert_array_equal(made.train["x"].ravel(), array[:3].ravel())


def test_a_scale_of_ones_own(write):
    assert load(write("x.npy", np.full((4, 3), 16, np.uint8)), scale=16).scale == 16.0


def test_only_the_last_byte_above_one_decides_the_scale(write):
    x = np.zeros((1000, 3), np.uint8)
    x[890, 2] = 2
    assert load(write("x.npy", x)).scale == 255.0


@pytest.mark.parametrize("keys", [("x_train", "x_test"), ("train", "test"), ("X_train", "X_test"), ("x", "x_test")])
def test_npz_with_both_splits(write, keys):
    train, test = np.arange(12.0).reshape(6, 2), np.arange(4.0).reshape(2, 2)
    content = {
        keys[0]: train,
        keys[1]: test,
        "y_train": np.arange(6),
        "y_test": np.array([7.0, 0.0]),
        "other": "text",
    }
    with pytest.warns(UserWarning, match="nothing is read from other"):
        made = load(write("x.npz", content))
    np.testing.assert_array_equal(made.train["x"], train)
    np.testing.assert_array_equal(made.test["x"], test)
    np.testing.assert_array_equal(made.train["label"], np.arange(6))
    np.testing.assert_array_equal(made.test["label"], [7, 0])
    assert made.train["label"].dtype == made.test["label"].dtype == np.int32
    assert made.num_classes == 8


@pytest.mark.parametrize("key", ["y", "label", "labels"])
def test_npz_without_a_test_split(write, key):
    made = load(write("x.npz", {"x": np.arange(20.0)[:, None], key: np.arange(20)[:, None] % 3}))
    np.testing.assert_array_equal(made.test["label"], [0, 1])
    np.testing.assert_array_equal(made.test["x"], [[18], [19]])
    assert made.num_classes == 3


def test_npz_with_one_array_under_any_name(write):
    assert load(write("x.npz", {"frames": np.zeros((4, 3))})).shape == (3,)


def test_fingerprint_follows_the_content_not_the_name(write):
    x = np.arange(40.0).reshape(10, 4)
    first, again = load(write("a.npy", x)), load(write("b.npz", {"x": x}))
    changed = load(write("c.npy", x + np.eye(10, 4)))
    assert first.fingerprint == again.fingerprint != changed.fingerprint


@pytest.mark.parametrize(
    "text",
    [
        "a,b\n1,2\n3,4\n5,6\n",
        "1,2\n3,4\n5,6",
        "\ufeffa,b\r\n1,2\r\n3,4\r\n5,6\r\n",
        "\ufeff1,2\r\n3,4\r\n5,6\r\n",
        "a;b\n1;2\n3;4\n5;6\n",
        '"a"\t"b"\n1\t2\n3\t4\n5\t6\n',
        "a,b\n1,2\n\n3,4\n5,6\n\n",
        "a,b,label\n1,2,0\n3,4,1\n5,6,0\n",
        "class,a,b\nred,1,2\nblue,3,4\nred,5,6\n",
    ],
)
def test_csv_numbers(write, text):
    made = load(write("x.csv", text))
    np.testing.assert_array_equal(made.train["x"], [[1, 2], [3, 4]])
    np.testing.assert_array_equal(made.test["x"], [[5, 6]])
    assert (made.shape, made.scale, made.train["x"].dtype) == ((2,), 1.0, np.float32)


def test_csv_labels(write):
    numbers = load(write("x.csv", "a,label\n1,0\n3,4\n5,0\n"))
    assert (numbers.train["label"].tolist(), numbers.test["label"].tolist(), numbers.num_classes) == (
        [0, 4],
        [0],
        5,
    )
    words = load(write("y.csv", "class,a\nred,1\nblue,3\nred,5\n"))
    assert (words.train["label"].tolist(), words.test["label"].tolist(), words.num_classes) == (
        [1, 0],
        [1],
        2,
    )


def test_csv_names_are_those_of_the_examples_entries(write):
    """Those of labels and of text are left out with their columns; numbers have none."""
    assert load(write("x.csv", "b,label,a\n1,0,2\n3,1,4\n")).names == ("b", "a")
    with pytest.warns(UserWarning, match="left out"):
        assert load(write("y.csv", "b,city,a\n1,Ulm,2\n3,Bonn,4\n")).names == ("b", "a")
    assert load(write("z.csv", "1,2\n3,4\n")).names is None


def test_csv_columns_of_text_are_left_out_with_a_warning(write):
    with pytest.warns(UserWarning, match=r"left out columns that are not numbers: city, note\.$"):
        made = load(write("x.csv", "a,city,b,note\n1,Bonn,2,\n3,Ulm,4,x\n5,Kiel,6,\n"))
    np.testing.assert_array_equal(made.train["x"], [[1, 2], [3, 4]])


def test_csv_lines_that_begin_with_a_hash_are_no_comments(write):
    with pytest.warns(UserWarning, match=r"not numbers: a\.$"):
        made = load(write("x.csv", "a,b\n1,2\n#3,4\n5,6\n"))
    assert (len(made.train["x"]), len(made.test["x"])) == (2, 1)


def test_csv_missing_values_are_nan_and_caught_by_the_check(write):
    made = load(write("x.csv", "a,b\n1,\n\nNA,4\n5,6\n"))
    np.testing.assert_array_equal(made.train["x"], [[1, np.nan], [np.nan, 4]])
    with pytest.raises(UserError, match="2 of 4 values of the train split are missing"):
        check_values(made, "real")
    check_values(made, "real", allow_missing=True)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.csv", "", "first line is empty"),
        ("x.csv", "a,b\n", "holds no rows"),
        ("x.csv", "a,b\nx,y\nz,w\n", "no column holds numbers"),
        ("x.csv", "a,b\n1,2\n3\n", "line 3 has 1 cells, not 2"),
        ("x.csv", "a,b,c\n1,2\n3,4\n", "names 3 columns, but there are 2"),
        ("x.csv", b"a,b\n1,\xff2\n", "could not be read"),
        ("x.csv", "a,label\n1,0.5\n2,1\n", "one whole number for each"),
        ("x.csv", "a,label\n1,-3\n2,1\n", "labels run from -3"),
        ("x.csv", "a,label\n1,\n2,1\n", "one whole number for each"),
        ("x.npy", np.zeros((0, 3)), "holds 0 examples"),
        ("x.npy", np.zeros((1, 3)), "holds 1 examples"),
        ("x.npy", np.zeros((4, 0)), "is empty"),
        ("x.npy", np.float32(3), "single number"),
        ("x.npy", np.array(["a", "b"]), "not real numbers"),
        ("x.npy", np.array([1j, 2j]), "not real numbers"),
        ("x.npy", np.array([np.zeros(2), np.zeros(3)], dtype=object), "saved without pickle"),
        ("x.npz", {"a": np.zeros(3), "b": np.zeros(3)}, "named a, b; one must be x or x_train"),
        ("x.npz", {}, "named nothing"),
        ("x.npz", b"a,b\n1,2\n", "it holds no arrays, or pickled ones.: give arrays of numbers"),
        (
            "x.npz",
            {"x_train": np.full((4, 3), 0.5), "x_test": np.full((4, 3), 255, np.uint8)},
            "train examples are float32 and the test examples uint8",
        ),
        ("x.npz", {"x": np.zeros((4, 3)), "y": np.zeros(3)}, "4 examples but 3 of label"),
        ("x.npz", {"x": np.zeros((4, 3)), "y": np.eye(4)}, "of one-hot labels, the argmax"),
        ("x.npz", {"x_train": np.zeros((4, 3)), "x_test": np.zeros((4, 2))}, r"shape \(2,\), but \(3,\)"),
        (
            "x.npz",
            {"x_train": np.zeros((4, 3)), "x_test": np.zeros((0, 3))},
            "test split of shape .* is empty",
        ),
        (
            "x.npz",
            {"x": np.zeros((4, 3)), "x_test": np.zeros((4, 3)), "y": np.zeros(4)},
            "labels for one split only",
        ),
        ("x.npz", {"x": np.zeros((2, 3)), "y": np.array(["a", "b"])}, "labels are <U1"),
        ("x.mat", b"MATLAB 5.0", "path that ends in .npz, .npy, .csv"),
    ],
)
def test_files_that_cannot_be_used(write, name, content, message):
    path = write(name, content)
    with pytest.raises(UserError, match=message) as caught:
        load(path)
    assert path in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["x.npy", "x.npz"])
@pytest.mark.parametrize("keep", [0, 40, 200])
def test_damaged_files(write, tmp_path, name, keep):
    x = np.arange(100.0)
    path = write(name, {"x": x} if name == "x.npz" else x)
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[:keep])
    with pytest.raises(UserError, match="could not be read"):
        load(path)


def test_a_damaged_header(write, tmp_path):
    path = write("x.npy", np.arange(100.0))
    (tmp_path / "x.npy").write_bytes((tmp_path / "x.npy").read_bytes().replace(b", }", b", ("))
    with pytest.raises(UserError, match="could not be read"):
        load(path)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match=r"There is no file .*absent\.npz: check the path"):
        load(str(tmp_path / "absent.npz"))


def test_numbers_too_large_for_float32_are_named_by_the_check(write):
    made = load(write("x.npy", np.array([[1e300], [1.0], [2.0]])))
    with pytest.raises(UserError, match="infinite"):
        check_values(made, "real")


def test_what_is_missing_becomes_a_mask_and_a_mask_of_one_s_own_is_joined_to_it(write):
    x = np.arange(20 * 3, dtype=np.float32).reshape(20, 3)
    x[0, 1] = np.nan
    mask = np.ones((20, 3), bool)
    mask[1, 2] = mask[19, 0] = False
    alone, joined = load(write("a.npz", {"x": x})), load(write("b.npz", {"x": x, "mask": mask}))
    expected = ~np.isnan(x)
    np.testing.assert_array_equal(alone.train["mask"], expected[:18])
    np.testing.assert_array_equal(alone.test["mask"], expected[18:])
    np.testing.assert_array_equal(joined.train["mask"], (expected & mask)[:18])
    np.testing.assert_array_equal(joined.test["mask"], (expected & mask)[18:])
    assert "mask" not in load(write("c.npz", {"x": np.nan_to_num(x)})).train


def test_images_of_bytes_take_a_mask_without_an_axis_of_channels(write):
    mask = np.arange(10 * 4 * 4).reshape(10, 4, 4) % 3 > 0
    made = load(write("x.npz", {"x": np.ones((10, 4, 4), np.uint8), "mask": mask}))
    np.testing.assert_array_equal(made.train["mask"], mask[:9, ..., None])
    with pytest.raises(UserError, match=r"1\d of 144 values of the train split are missing|of 144 .* are missing"):
        check_values(made, "unit")
    check_values(made, "unit", allow_missing=True)


def test_conditions_and_columns_come_with_the_examples(write):
    condition = np.arange(20.0).reshape(10, 2)
    made = load(write("x.npz", {"x": np.ones((10, 5), np.float32), "condition": condition, "columns": [1, 4]}))
    np.testing.assert_array_equal(made.test["condition"], condition[9:])
    assert (made.train["condition"].dtype, made.condition_size, made.columns) == (np.float32, 2, (1, 4))
    plain = load(write("y.npz", {"x": np.ones((10, 5), np.float32)}))
    assert (plain.condition_size, plain.columns) == (None, None)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"mask": np.ones((10, 4), bool)}, r"the mask of the train split has shape \(9, 4\), its examples \(9, 5\)"),
        ({"mask": np.full((10, 5), 0.5)}, "the mask is float64: give booleans"),
        ({"mask": np.full((10, 5), 2)}, "give booleans"),
        ({"condition": np.ones(10)}, r"shape \(10,\): give finite numbers \[examples, width\]"),
        ({"condition": np.full((10, 1), np.nan)}, "give finite numbers"),
        ({"condition": np.ones((9, 1))}, "10 examples but 9 of condition"),
        ({"columns": np.array([1, 3])}, "columns are 4 wide together, an example has 5 values"),
        ({"columns": np.array([0, 5])}, r"widths of at least 1, got \[0, 5\]"),
    ],
)
def test_masks_conditions_and_columns_that_do_not_fit_are_named(write, arrays, message):
    with pytest.raises(UserError, match=message):
        load(write("x.npz", {"x": np.ones((10, 5), np.float32), **arrays}))


def test_an_array_of_a_name_that_nothing_is_read_from_is_warned_of(tmp_path):
    np.savez(tmp_path / "typo.npz", x_train=np.zeros((20, 3), np.float32), xtest=np.zeros((5, 3), np.float32))
    with pytest.warns(UserWarning, match="typo.npz: nothing is read from xtest; known are .*x_test"):
        assert len(load(str(tmp_path / "typo.npz")).test["x"]) == 2
