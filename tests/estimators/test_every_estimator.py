"""What holds for every estimator: noise, types of results, refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.estimators import (
    SignalMoments,
    gumbel_argmax,
    gumbel_softmax,
    init_signal_moments,
    leave_one_out_baseline,
    reinforce,
    reparameterize,
    rotation_trick,
    straight_through,
    update_signal_moments,
    vimco,
)


def test_every_entry_has_noise_of_its_own(x64):
    zeros = np.zeros((3, 4, 5))
    assert len(np.unique(jax.jit(reparameterize)(jax.random.key(0), zeros, zeros))) == 60
    assert len(np.unique(jax.jit(gumbel_softmax)(jax.random.key(0), zeros))) == 60


BF16 = jnp.ones((3, 2), jnp.bfloat16)
RESULTS = {
    "reparameterize": lambda x: reparameterize(jax.random.key(0), x, x),
    "gumbel_softmax": lambda x: gumbel_softmax(jax.random.key(0), x, hard=True),
    "straight_through": lambda x: straight_through(x, x),
    "rotation_trick": lambda x: rotation_trick(x, x),
}


@pytest.mark.parametrize("name", RESULTS)
def test_results_have_the_type_of_the_inputs(name):
    assert jax.eval_shape(RESULTS[name], BF16).dtype == jnp.bfloat16
    with jax.enable_x64(True):
        assert jax.eval_shape(RESULTS[name], np.ones((3, 2))).dtype == jnp.float64


INTEGERS, FLOATS = np.ones((3, 2), np.int32), np.ones((3, 2), np.float32)

REFUSED = {
    "integer logvar": (TypeError, lambda k: reparameterize(k, FLOATS, INTEGERS), "logvar must be floating point"),
    "integer encodings": (TypeError, lambda k: straight_through(INTEGERS, FLOATS), "encodings must be floating"),
    "integer codes": (TypeError, lambda k: rotation_trick(FLOATS, INTEGERS), "codes must be floating"),
    "integer log-probability": (TypeError, lambda k: reinforce(INTEGERS, FLOATS), "log_prob must be floating"),
    "integer reward": (TypeError, lambda k: reinforce(FLOATS, INTEGERS), "reward must be floating"),
    "integer rewards": (TypeError, lambda k: leave_one_out_baseline(INTEGERS), "rewards must be floating"),
    "integer weights": (TypeError, lambda k: vimco(FLOATS, INTEGERS), "log_weights must be floating"),
    "integer signals": (
        TypeError,
        lambda k: update_signal_moments(init_signal_moments(), INTEGERS),
        "signals must be floating",
    ),
    "scale that enlarges": (
        ValueError,
        lambda k: reinforce(FLOATS[0], FLOATS[0], scale=FLOATS),
        r"scale must broadcast to reward, got shapes \(3, 2\) and \(2,\)",
    ),
    "negative scale": (ValueError, lambda k: reinforce(FLOATS, FLOATS, scale=-2.0), "scale must be positive, got -2"),
    "shapes of vimco": (ValueError, lambda k: vimco(FLOATS, FLOATS[:2]), r"\(3, 2\) and \(2, 2\)"),
    "scalar vector": (
        ValueError,
        lambda k: rotation_trick(np.float32(1), np.float32(2)),
        "vectors on the last axis, got a scalar",
    ),
    "integer mean": (
        TypeError,
        lambda k: reparameterize(k, INTEGERS, FLOATS),
        "mean must be floating point, got int32",
    ),
    "shapes of a Gaussian": (
        ValueError,
        lambda k: reparameterize(k, FLOATS, FLOATS[:1]),
        r"\(3, 2\) and \(1, 2\)",
    ),
    "integer logits": (TypeError, lambda k: gumbel_argmax(k, INTEGERS), "logits must be floating point"),
    "integer relaxed logits": (
        TypeError,
        lambda k: gumbel_softmax(k, INTEGERS),
        "logits must be floating point",
    ),
    "no class": (
        ValueError,
        lambda k: gumbel_softmax(k, FLOATS[:, :0]),
        r"classes on the last axis.*\(3, 0\)",
    ),
    "negative temperature": (
        ValueError,
        lambda k: gumbel_softmax(k, FLOATS, temperature=-0.5),
        "temperature must be positive, got -0.5",
    ),
    "zero temperature": (
        ValueError,
        lambda k: gumbel_softmax(k, FLOATS, temperature=0.0),
        "temperature .* got 0",
    ),
    "codes of another shape": (
        ValueError,
        lambda k: straight_through(FLOATS, FLOATS[0]),
        r"\(3, 2\) and \(2,\)",
    ),
    "rotated shapes": (ValueError, lambda k: rotation_trick(FLOATS, FLOATS[0]), r"\(3, 2\) and \(2,\)"),
    "reward of another shape": (ValueError, lambda k: reinforce(FLOATS, FLOATS[0]), r"\(3, 2\) and \(2,\)"),
    "baseline that enlarges": (
        ValueError,
        lambda k: reinforce(FLOATS[0], FLOATS[0], baseline=FLOATS),
        r"baseline must broadcast to reward, got shapes \(3, 2\) and \(2,\)",
    ),
    "scale": (ValueError, lambda k: reinforce(FLOATS, FLOATS, scale=0.0), "scale must be positive, got 0"),
    "one sample": (
        ValueError,
        lambda k: leave_one_out_baseline(FLOATS[:1]),
        "needs 2 samples or more on axis 0",
    ),
    "one sample of vimco": (ValueError, lambda k: vimco(FLOATS[:1], FLOATS[:1]), r"2 samples .*\(1, 2\)"),
    "no such axis": (
        ValueError,
        lambda k: vimco(FLOATS, FLOATS, axis=2),
        "axis 2 is not an axis of log_weights",
    ),
    "temperature per class": (
        ValueError,
        lambda k: gumbel_softmax(k, FLOATS, temperature=FLOATS[0]),
        r"temperature must be one number, got an array of shape \(2,\)",
    ),
    "complex temperature": (TypeError, lambda k: gumbel_softmax(k, FLOATS, temperature=1j), "temperature must be real"),
    "complex baseline": (
        TypeError,
        lambda k: reinforce(FLOATS, FLOATS, baseline=1j),
        "baseline must be real, got complex",
    ),
    "complex scale": (TypeError, lambda k: reinforce(FLOATS, FLOATS, scale=1j), "scale must be real, got complex"),
    "no baseline": (TypeError, lambda k: reinforce(FLOATS, FLOATS, baseline=None), "baseline must be .* got None"),
    "two axes": (TypeError, lambda k: vimco(FLOATS, FLOATS, axis=(0, 1)), r"axis must be an integer, got \(0, 1\)"),
    "axis of rewards": (TypeError, lambda k: leave_one_out_baseline(FLOATS, axis=None), "axis must be .* got None"),
    "moments of several signals": (
        ValueError,
        lambda k: update_signal_moments(SignalMoments(FLOATS[0], FLOATS[0]), FLOATS),
        r"moments.mean must be one number, got an array of shape \(2,\)",
    ),
    "decay while tracing": (
        ValueError,
        lambda k: jax.jit(lambda s: update_signal_moments(init_signal_moments(), s, decay=-0.1))(FLOATS),
        "decay .* got -0.1",
    ),
    "decay that is NaN": (
        ValueError,
        lambda k: update_signal_moments(init_signal_moments(), FLOATS, decay=float("nan")),
        "decay .* got nan",
    ),
    "decay": (
        ValueError,
        lambda k: update_signal_moments(init_signal_moments(), FLOATS, decay=1.0),
        "decay .* got 1",
    ),
    "no signal": (
        ValueError,
        lambda k: update_signal_moments(init_signal_moments(), FLOATS[:0]),
        "must not be empty",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.usefixtures("as_users_call")
def test_bad_input_is_refused_with_its_value(name):
    error, call, message = REFUSED[name]
    with pytest.raises(error, match=message):
        call(jax.random.key(0))
