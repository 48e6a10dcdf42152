"""What codebooks and their measures refuse by name, as users call them: without the checks of annotations."""

import jax
import numpy as np
import pytest

from jaxgen.quantization import (
    EmaCodebook,
    code_counts,
    codebook_from_ema,
    ema_codebook_update,
    init_ema_codebook,
    lookup,
    nearest_code,
    perplexity,
    revive_dead_codes,
    usage,
)


def normals(seed, *shape, dtype=np.float32):
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


STATE = EmaCodebook(np.ones(4, np.float32), np.ones((4, 3), np.float32))
FLOATS, INTEGERS = np.ones((5, 3), np.float32), np.ones((5, 3), np.int32)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: nearest_code(INTEGERS, FLOATS), TypeError, "vectors must be floating point, got int32"),
        (lambda: nearest_code(FLOATS, INTEGERS), TypeError, "codebook must be floating point, got int32"),
        (lambda: nearest_code(FLOATS, FLOATS[0]), ValueError, r"codebook must be \[codes, dim\].*\(3,\)"),
        (lambda: nearest_code(np.float32(1), FLOATS), ValueError, r"vectors \(\) and codebook \(5, 3\)"),
        (lambda: lookup(FLOATS, np.ones(2)), TypeError, "indices must be integers, got float"),
        (lambda: lookup(FLOATS[:0], np.zeros(0, int)), ValueError, r"at least one code.*\(0, 3\)"),
        (lambda: init_ema_codebook(FLOATS, count=0.0), ValueError, "count must be positive, got 0"),
        (
            lambda: ema_codebook_update(STATE, INTEGERS, INTEGERS[:, 0], decay=0.5),
            TypeError,
            "vectors must be floating",
        ),
        (lambda: codebook_from_ema(STATE, smoothing=-0.1), ValueError, "smoothing must not be negative, got -0.1"),
        (
            lambda: revive_dead_codes(jax.random.key(0), STATE, FLOATS, threshold=-1.0),
            ValueError,
            "threshold must not be negative, got -1",
        ),
        (
            lambda: revive_dead_codes(jax.random.key(0), STATE, FLOATS[:0], threshold=1.0),
            ValueError,
            r"vectors \(0, 3\) must be one or more",
        ),
        (lambda: code_counts(INTEGERS, 0), ValueError, "num_codes must be at least 1, got 0"),
        (lambda: perplexity(FLOATS[:, :0]), ValueError, r"at least one code, got shape \(5, 0\)"),
        (lambda: usage(np.float32(1)), ValueError, r"at least one code, got shape \(\)"),
        (lambda: usage(FLOATS, threshold=-1), ValueError, "threshold must not be negative, got -1"),
        (lambda: usage(FLOATS, threshold=FLOATS), ValueError, r"threshold must be one number.* \(5, 3\)"),
        (lambda: usage(1j * FLOATS), TypeError, "counts must be real, got complex64"),
        (lambda: perplexity(1j * FLOATS), TypeError, "counts must be real, got complex64"),
        (lambda: perplexity(None), TypeError, "counts must be an array or a number, got None"),
        (lambda: code_counts(FLOATS, 3), TypeError, "indices must be integers, got float32"),
        (lambda: code_counts(INTEGERS == 1, 3), TypeError, "indices must be integers, got bool"),
        (lambda: code_counts(INTEGERS, 2.5), TypeError, "num_codes must be an integer, got 2.5"),
        (lambda: nearest_code(FLOATS, FLOATS, chunk_size=1.5), TypeError, "chunk_size must be an integer, got 1.5"),
        (lambda: nearest_code(FLOATS[:, :0], FLOATS[:, :0]), ValueError, r"one dimension, got shape \(5, 0\)"),
        (lambda: init_ema_codebook(INTEGERS), TypeError, "codebook must be floating point, got int32"),
        (lambda: init_ema_codebook(FLOATS[0]), ValueError, r"codebook must be \[codes, dim\].* \(3,\)"),
        (lambda: init_ema_codebook(FLOATS[None]), ValueError, r"codebook must be \[codes, dim\].* \(1, 5, 3\)"),
        (lambda: init_ema_codebook(np.float32(1)), ValueError, r"codebook must be \[codes, dim\].* \(\)"),
        (lambda: init_ema_codebook(FLOATS[:, :0]), ValueError, r"at least one code.* \(5, 0\)"),
        (lambda: init_ema_codebook(FLOATS, count=np.nan), ValueError, "count must be positive, got nan"),
        (lambda: init_ema_codebook(FLOATS, count=FLOATS[0]), ValueError, r"count must be one number.* \(3,\)"),
        (
            lambda: ema_codebook_update(STATE, FLOATS, FLOATS[:, 0], decay=0.5),
            TypeError,
            "indices must be integers, got float32",
        ),
        (
            lambda: ema_codebook_update(STATE, FLOATS, INTEGERS[:, 0], decay=FLOATS[0]),
            ValueError,
            r"decay must be one number, got an array of shape \(3,\)",
        ),
        (
            lambda: ema_codebook_update(STATE._replace(counts=FLOATS[:2, 0]), FLOATS, INTEGERS[:, 0], decay=0.5),
            ValueError,
            r"state must have counts \[codes\] .* \(2,\) and \(4, 3\)",
        ),
        (lambda: codebook_from_ema(STATE._replace(counts=FLOATS)), ValueError, r"state .* \(5, 3\) and \(4, 3\)"),
        (lambda: codebook_from_ema(STATE, smoothing=np.nan), ValueError, "smoothing must not be negative, got nan"),
        (
            lambda: revive_dead_codes(jax.random.key(0), STATE, np.float32(1), threshold=1),
            ValueError,
            r"vectors \(\) must be one or more vectors",
        ),
    ],
)
@pytest.mark.usefixtures("as_users_call")
def test_bad_input_is_refused_without_the_checks_of_shapes_too(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_ema_refuses():
    state = init_ema_codebook(normals(0, 4, 3))
    with pytest.raises(ValueError, match=r"\(5, 3\).*\(4,\)"):
        ema_codebook_update(state, normals(1, 5, 3), np.zeros(4, np.int32), decay=0.9)
    with pytest.raises(ValueError, match=r"decay.*1\.5"):
        ema_codebook_update(state, normals(1, 5, 3), np.zeros(5, np.int32), decay=1.5)
    with pytest.raises(ValueError, match=r"\(5, 2\).*dim 3"):
        revive_dead_codes(jax.random.key(0), state, normals(1, 5, 2), threshold=1.0)
    with pytest.raises(ValueError, match="at least one code"):
        init_ema_codebook(np.ones((0, 3), np.float32))
