"""Active units on means of known variance."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxgen.metrics import active_units


def means_of_variance(variances: list[float], num_examples: int = 100) -> np.ndarray:
    """Columns ±√v in equal parts: their variance over the data set is v exactly."""
    signs = np.where(np.arange(num_examples) % 2, 1.0, -1.0)
    return signs[:, None] * np.sqrt(variances)


def test_counts_the_latents_above_the_threshold(x64):
    means = means_of_variance([0.0, 0.0099, 0.0101, 1.0])
    assert active_units(means) == 2
    assert active_units(means, threshold=0.5) == 1
    assert active_units(means, threshold=0.001) == 3


def test_variance_is_of_the_data_set_not_its_unbiased_estimate(x64):
    means = means_of_variance([1.0], num_examples=2)
    assert active_units(means, threshold=1.5) == 0


def test_a_variance_at_the_threshold_is_not_active():
    assert active_units(means_of_variance([4.0]), threshold=4.0) == 0


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32])
def test_low_precision_is_summed_in_float32(dtype):
    means = jnp.asarray(means_of_variance([0.25, 0.0]), dtype)
    assert jax.jit(active_units)(jnp.tile(means, (300, 1))) == 1
    # In bfloat16 this threshold and the variance 0.25 are one number.
    assert active_units(means, threshold=0.2499) == 1


@settings(deadline=None, max_examples=20)
@given(st.floats(-1000, 1000), st.integers(0, 2**31))
def test_shift_and_order_do_not_matter(shift, seed):
    generator = np.random.default_rng(seed)
    means = means_of_variance([0.0, 0.005, 0.02, 3.0])
    moved = generator.permutation(generator.permutation(means, axis=0), axis=1) + shift
    assert active_units(moved.astype(np.float32)) == 2


def test_bad_input():
    with pytest.raises(ValueError, match=r"means must have shape .* got \(3,\)"):
        active_units(jnp.zeros(3))
    with pytest.raises(ValueError, match=r"means must hold at least 2 rows, got shape \(1, 3\)"):
        active_units(jnp.zeros((1, 3)))
    with pytest.raises(ValueError, match=r"threshold must not be negative, got -0\.1"):
        active_units(jnp.zeros((2, 3)), threshold=-0.1)
