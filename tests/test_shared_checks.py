"""The checks that losses, estimators, metrics and quantizers share: what they see, and what passes unseen."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import _checks as checks


@pytest.mark.parametrize("value", [None, "2", b"2", ["a"], [[1], [2, 3]], 2**200, jax.random.key(0)])
def test_what_is_no_number_is_none_with_a_type_of_the_data_too(value):
    for check in (checks.as_real, lambda *a: checks.as_number(*a, jnp.float32)):
        with pytest.raises(TypeError, match="x must be an array or a number, got"):
            check("x", value)


def test_a_list_of_tracers_is_an_array():
    np.testing.assert_array_equal(jax.jit(lambda a, b: checks.as_real("x", [a, b]))(1.0, 2.0), [1, 2])
    with pytest.raises(TypeError, match=r"x must be real, got complex64 of shape \(2,\)"):
        jax.jit(lambda a, b: checks.as_real("x", [a, b]))(1j, 2j)


def test_a_number_beyond_the_type_of_the_data_is_infinite_without_a_warning():
    assert checks.as_positive("x", 1e300, jnp.float32) == np.inf


@pytest.mark.parametrize("array", [np.asarray, jnp.asarray])
def test_the_numbers_of_any_array_are_seen_and_those_of_a_tracer_are_not(array):
    value = array([-2.0, np.nan])
    for check, message in (
        (lambda x: checks.as_counts("x", x), "x must not be negative, got -2"),
        (lambda x: checks.as_non_negative("x", x, jnp.float32), "x must not be negative, got"),
        (lambda x: checks.as_positive("x", x, jnp.float32), "x must be positive, got"),
        (lambda x: checks.require_finite("x", x), "x must be finite, got 1 of 2 values that are NaN or infinite"),
    ):
        with pytest.raises(ValueError, match=message):
            check(value)
        with pytest.raises(ValueError, match=message):
            jax.jit(lambda check=check: check(value))()
        jax.jit(check)(value)
        jax.jit(lambda a, b, check=check: check([a, b]))(*value)
        jax.jit(lambda a, b, check=check: check([[a, b], (b, 1.0)]))(*value)
        with pytest.raises(ValueError, match=message.replace("2 values", "4 values")):
            check([list(value), [1.0, 1.0]])


def test_an_index_outside_is_seen_where_it_is_known():
    for index, seen in ((-1, "-1 to 0"), (4, "0 to 4")):
        with pytest.raises(ValueError, match=f"x must lie in 0 … 3, since there are 4 codes, got {seen}"):
            checks.require_indices("x", jnp.array([index, 0]), 4, "there are")
    jax.jit(lambda x: checks.require_indices("x", x, 4, "there are"))(jnp.array([-1, 4]))
    checks.require_indices("x", np.arange(4), 4, "there are")
    with pytest.raises(ValueError, match="x must lie in 0 … 2, since there are 3 classes, got 3 to 3"):
        checks.require_indices("x", [3], 3, "there are", noun="classes")


@pytest.mark.parametrize("value", [True, False, np.True_])
def test_a_boolean_is_no_count(value):
    with pytest.raises(TypeError, match=f"x must be an integer, got .*{bool(value)}"):
        checks.require_count("x", value, least=0)
    assert checks.require_count("x", np.int64(1)) == 1


def test_an_axis_counts_from_the_start():
    array = jnp.zeros((2, 3))
    assert [checks.require_axis("x", array, axis) for axis in (-2, -1, 0, np.int64(1))] == [0, 1, 0, 1]


def test_numbers_of_any_type_are_widened_to_floats_that_sum_without_rounding(x64):
    types = (bool, np.uint8, np.int64, jnp.bfloat16, np.float16, np.float32, np.float64)
    widened = [checks.as_widened("x", np.ones(2).astype(t)).dtype for t in types]
    assert widened == [np.float64, np.float64, np.float64, np.float32, np.float32, np.float32, np.float64]
