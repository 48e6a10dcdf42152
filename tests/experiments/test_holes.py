"""What counts as a hole in a plane of codes."""

import numpy as np
from holes import in_holes


def test_a_hole_is_farther_from_all_codes_than_test_codes_are_in_any_unit():
    train = np.stack([np.arange(0.0, 10.0), np.zeros(10)], axis=1)
    test = train.repeat(20, axis=0) + np.array([0.0, 0.3])
    noise = np.array([[0.0, 0.2], [4.0, 0.31], [4.5, 0.0], [-2.0, 0.0], [9.0, -0.29]])
    for unit in (1.0, 1e-3, 50.0):
        np.testing.assert_array_equal(in_holes(unit * noise, unit * train, unit * test), [0, 1, 1, 1, 0])


def test_one_test_code_in_a_hundred_is_in_a_hole():
    rng = np.random.default_rng(0)
    train, test = rng.normal(size=(500, 2)), rng.normal(size=(1000, 2))
    assert in_holes(test, train, test).sum() == 10
