"""The exact likelihood, summed over all states of the latents, with logits that no probability could hold."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from discrete_vae import BITS, exact_log_likelihood

from jaxgen.models import discrete_vae


def test_the_exact_likelihood_keeps_every_logit():
    arguments = {"shape": (5,), "latents": BITS, "classes": 2, "hidden": (), "likelihood": "bernoulli"}
    model = discrete_vae(**arguments)
    batch = {"x": jnp.zeros((1, 5)), "position": jnp.arange(1)}
    params, statistics = jax.jit(model.init)(jax.random.key(0), batch)
    params["vae"]["decoder"] = jax.tree.map(lambda a: 30 * a, params["vae"]["decoder"])
    bias = np.array([-60.0, 60.0, 0.0, -20.0, 20.0])
    params["vae"]["decoder"]["params"]["Dense_0"]["bias"] = jnp.asarray(bias, jnp.float32)
    bits = np.random.default_rng(0).integers(2, size=(7, 5))
    run = SimpleNamespace(model=model, params=params, statistics=statistics, config={"arguments": arguments})
    kernel = np.asarray(params["vae"]["decoder"]["params"]["Dense_0"]["kernel"], np.float64)
    of_examples = []
    for x in bits:
        log_px_z = []
        for state in range(2**BITS):
            rows = [2 * bit + (state >> bit & 1) for bit in range(BITS)]
            logits = kernel[rows].sum(axis=0) + bias
            log_px_z.append(-np.logaddexp(0, np.where(x, -logits, logits)).sum())
        of_examples.append(np.logaddexp.reduce(log_px_z) - BITS * np.log(2))
    assert exact_log_likelihood(run, bits) == pytest.approx(np.mean(of_examples), rel=1e-6)
