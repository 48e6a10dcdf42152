"""What holds for every loss: types, transformations, gradients and extremes. One row of `cases` a function."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from jaxgen import losses as L
from losses.cases import BATCH, CASES, WITHOUT_ARRAYS, arguments


def test_no_public_loss_is_missing_here():
    assert {name.split(",")[0] for name in CASES} | WITHOUT_ARRAYS == set(L.__all__)


@pytest.mark.parametrize("name", CASES)
def test_gradients_in_float64(x64, name):
    case = CASES[name]
    floats, integers = arguments(case)
    check_grads(jax.jit(lambda *a: case.function(*a, *integers)), floats, order=1, modes=["rev"])


@pytest.mark.parametrize("name", CASES)
def test_float64_stays_and_half_precision_is_summed_in_float32(name):
    case = CASES[name]
    function = jax.jit(case.function)
    with jax.enable_x64(True):
        floats, integers = arguments(case)
        assert jax.eval_shape(function, *floats, *integers).dtype == jnp.float64
    floats, integers = arguments(case, jnp.bfloat16)
    result = function(*floats, *integers)
    keeps_its_type = name == "prox_group_lasso"
    assert result.dtype == (jnp.bfloat16 if keeps_its_type else jnp.float32)
    wide = function(*[f.astype(np.float32) for f in floats], *integers)
    # The functions of this table that exponentiate or wrap an argument themselves do so in bfloat16.
    coarse = keeps_its_type or "," in name or name in ("kl_isotropic_gaussian", "gradient_penalty", "r1_penalty")
    np.testing.assert_allclose(result, wide, rtol=0.05 if coarse else 1e-5, atol=1e-2 if coarse else 1e-5)


@pytest.mark.parametrize("name", [name for name in CASES if not CASES[name].couples_examples])
def test_examples_are_independent_and_in_order(x64, name):
    case = CASES[name]
    floats, integers = arguments(case)
    order = np.array([2, 0, 3, 1])
    function = jax.jit(case.function)
    whole = function(*floats, *integers)
    assert whole.shape[0] == BATCH
    permuted = function(*[a[order] for a in floats + integers])
    np.testing.assert_allclose(permuted, whole[order], rtol=1e-12)
    one_by_one = jax.vmap(lambda *a: function(*[x[None] for x in a])[0])(*floats, *integers)
    np.testing.assert_allclose(one_by_one, whole, rtol=1e-10)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("name", CASES)
def test_value_and_gradient_are_finite_at_extreme_inputs(name, dtype):
    case = CASES[name]
    ranges = case.extremes * (len(case.floats) if len(case.extremes) == 1 else 1)
    if "learned scale" in name:
        # The slope in σ itself is r²/σ³, which float32 holds down to about σ = e⁻²⁰.
        ranges = ((-1e4, 1e4), (-1e4, 1e4), (-20, 10))
    _, integers = arguments(case)
    total = jax.jit(jax.value_and_grad(lambda *a: case.function(*a, *integers).sum(), tuple(range(len(case.floats)))))
    for corner in range(2 ** len(case.floats)):
        floats = []
        for position, (shape, ends) in enumerate(zip(case.floats, ranges)):
            values = np.full(shape, ends[corner >> position & 1], dtype)
            # One ordinary and one zero entry, so that the ends also meet the middle.
            values.flat[0], values.flat[-1] = 0, 1
            floats.append(values)
        value, gradients = total(*floats)
        assert np.isfinite(value), (corner, value)
        assert all(np.all(np.isfinite(g.astype(jnp.float32))) for g in gradients), corner
