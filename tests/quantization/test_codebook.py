import numpy as np

from jaxgen.quantization import nearest_code


def test_nearest_code_is_brute_force():
    rng = np.random.default_rng(0)
    z, e = rng.normal(size=(100, 5)).astype(np.float32), rng.normal(size=(200, 5)).astype(np.float32)
    expected = ((z[:, None] - e[None]) ** 2).sum(-1).argmin(1)
    assert np.array_equal(nearest_code(z, e), expected)
