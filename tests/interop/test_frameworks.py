"""One step of training in other people's frameworks: the functions are used as they are imported."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxgen.estimators import gumbel_softmax, reparameterize, straight_through
from jaxgen.losses import (
    bernoulli_nll,
    codebook_loss,
    commitment_loss,
    gaussian_nll,
    kl_categorical_uniform,
    kl_diagonal_gaussian,
    negative_elbo,
)

X = (np.random.default_rng(7).uniform(size=(8, 6)) < 0.5).astype(np.float32)


def test_a_flax_nnx_vae_learns():
    class Vae(nnx.Module):
        def __init__(self, rngs):
            self.encoder = nnx.Linear(6, 4, rngs=rngs)
            self.decoder = nnx.Linear(2, 6, rngs=rngs)

        def __call__(self, x, key):
            mean, logvar = jnp.split(self.encoder(x), 2, axis=-1)
            return self.decoder(reparameterize(key, mean, logvar)), mean, logvar

    @nnx.jit
    def step(model, key):
        def objective(model):
            logits, mean, logvar = model(X, key)
            return negative_elbo(bernoulli_nll(logits, X), kl_diagonal_gaussian(mean, logvar)).mean()

        value, gradients = nnx.value_and_grad(objective)(model)
        nnx.update(model, jax.tree.map(lambda p, g: p - 0.1 * g, nnx.state(model, nnx.Param), gradients))
        return value

    model = Vae(nnx.Rngs(0))
    values = [float(step(model, jax.random.key(i))) for i in range(60)]
    # The best that ignores the input is log 2 for each of six fair pixels; it starts above and comes near.
    assert values[0] > 6 * np.log(2) + 0.2
    assert np.mean(values[-10:]) < 6 * np.log(2) + 0.1


def test_an_equinox_discrete_vae_learns():
    keys = jax.random.split(jax.random.key(0), 2)
    encoder, decoder = eqx.nn.Linear(6, 8, key=keys[0]), eqx.nn.Linear(8, 6, key=keys[1])

    @eqx.filter_value_and_grad
    def objective(modules, key):
        encoder, decoder = modules
        logits = jax.vmap(encoder)(X).reshape(-1, 2, 4)
        latents = gumbel_softmax(key, logits, temperature=0.5, hard=True)
        reconstruction = jax.vmap(decoder)(latents.reshape(-1, 8))
        return negative_elbo(bernoulli_nll(reconstruction, X), kl_categorical_uniform(logits)).mean()

    @eqx.filter_jit
    def step(modules, key):
        value, gradients = objective(modules, key)
        return eqx.apply_updates(modules, jax.tree.map(lambda g: -0.2 * g, gradients)), value

    modules, values = (encoder, decoder), []
    for i in range(60):
        modules, value = step(modules, jax.random.key(i))
        values.append(float(value))
    assert np.mean(values[-10:]) < np.mean(values[:5]) - 0.2
    assert np.mean(values[-10:]) < 6 * np.log(2) + 0.1


def vq_objective(params, x):
    z = x @ params["encoder"]
    nearest = jnp.argmin(((z[:, None] - params["codebook"]) ** 2).sum(axis=-1), axis=-1)
    codes = params["codebook"][nearest]
    mean = straight_through(z, codes) @ params["decoder"]
    return (gaussian_nll(mean, x) + codebook_loss(z, codes) + 0.25 * commitment_loss(z, codes)).mean()


def test_bare_jax_gives_one_gradient_by_jit_vmap_and_pmap():
    rng = np.random.default_rng(8)
    params = {
        name: rng.normal(size=shape).astype(np.float32)
        for name, shape in {"encoder": (6, 2), "codebook": (4, 2), "decoder": (2, 6)}.items()
    }
    gradient = jax.grad(vq_objective)
    whole = jax.jit(gradient)(params, X)
    per_example = jax.jit(jax.vmap(gradient, in_axes=(None, 0)))(params, X[:, None])
    spread = jax.pmap(lambda p, x: jax.lax.pmean(gradient(p, x), "d"), axis_name="d", in_axes=(None, 0))(
        params, X.reshape(4, 2, 6)
    )
    for name, value in whole.items():
        assert np.abs(value).max() > 0
        np.testing.assert_allclose(per_example[name].mean(axis=0), value, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(spread[name][3], value, rtol=1e-4, atol=1e-5)
