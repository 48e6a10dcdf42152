"""Arguments that are refused change nothing indeed; where they change something they are not refused."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import models
from jaxgen.errors import UserError
from jaxgen.unused import check_used

#: A model, its other arguments, the one that changes nothing beside them, and what would make it change something.
CASES = [
    ("vae", {}, {"scale": "shared"}, {"likelihood": "gaussian"}),
    ("vae", {"likelihood": "gaussian", "scale": "shared"}, {"fixed_scale": 0.3}, {"scale": "fixed"}),
    ("vae", {"beta": 0.0}, {"kl_warmup": 10}, {"beta": 0.5}),
    ("vae", {"beta": 0.0}, {"free_nats": 0.5}, {"beta": 0.5}),
    ("vae", {"hidden": ()}, {"activation": "tanh"}, {"hidden": (3,)}),
    ("discrete_vae", {"estimator": "reinforce"}, {"temperature": 2.0}, {"estimator": "straight_through"}),
    ("discrete_vae", {"final_temperature": 1.0}, {"anneal": 5}, {"final_temperature": 0.5}),
    ("stacked_autoencoder", {}, {"level": 0.5}, {"corruption": "gaussian"}),
    ("stacked_autoencoder", {"pretrain": 0}, {"corruption": "gaussian"}, {"pretrain": 10}),
]


def check(name, arguments):
    defaults = {p.name: p.default for p in inspect.signature(getattr(models, name)).parameters.values()}
    check_used({**defaults, **arguments}, defaults)


def learned(name, arguments):
    """Loss and gradient after four updates."""
    model = getattr(models, name)(shape=(4,), **{"hidden": (3,), "latents": 2, **arguments})
    batch = {"x": jnp.asarray(np.random.default_rng(0).uniform(size=(6, 4)), jnp.float32), "position": jnp.arange(6)}
    [(player, loss)] = model.losses.items()

    @jax.jit
    def run(batch):
        params, statistics = model.init(jax.random.key(0), batch)
        statistics = jax.tree.map(lambda a: a + 4 if jnp.issubdtype(a.dtype, jnp.integer) else a, statistics)

        def value(own):
            return loss({player: own}, statistics, batch, jax.random.key(1), True)[0]

        return jax.value_and_grad(value)(params[player])

    return run(batch)


@pytest.mark.parametrize(("name", "others", "given", "needed"), CASES)
def test_what_is_refused_changes_nothing(name, others, given, needed):
    [(argument, value)] = given.items()
    flag = f"--{argument.replace('_', '-')} {value} would change nothing here: it takes .*; leave it out"
    with pytest.raises(UserError, match=flag):
        check(name, {**others, **given})
    check(name, {**others, **given, **needed})
    check(name, others)
    with_it, without = learned(name, {**others, **given}), learned(name, others)
    jax.tree.map(np.testing.assert_array_equal, with_it, without)
