"""What the networks over grids of codes have in common: order, normalization, a law to learn and to draw from."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax

BITS = np.array(list(itertools.product([0, 1], repeat=9)), np.int32).reshape(512, 3, 3)


def random_parameters(network, grid, *, seed=0, scale=0.5, **told):
    """Parameters of float64 about which nothing is special."""
    rng = np.random.default_rng(seed)
    shapes = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, *grid), jnp.int32), **told)
    return jax.tree.map(lambda s: jnp.asarray(rng.normal(scale=scale, size=s.shape)), shapes)


def influence(network, params, grid, features):
    """[output, input]: the largest derivative of a place's logits in the vector of another, both row by row."""
    # Several points: at one of them the units that a place is seen through may all be off.
    points = jnp.asarray(np.random.default_rng(1).normal(size=(4, 1, *grid, features)))
    jacobian = jax.vmap(jax.jacrev(lambda v: network.apply(params, v, None, method="from_vectors")))
    length = grid[0] * grid[1]
    return np.abs(np.asarray(jax.jit(jacobian)(points))).max(axis=(0, 4, 8)).reshape(length, length)


def log_probabilities(logits, codes):
    """log p of each grid, [batch]."""
    chosen = jnp.take_along_axis(jax.nn.log_softmax(logits), jnp.asarray(codes)[..., None], axis=-1)
    return np.asarray(chosen.sum(axis=(1, 2, 3)))


def law(n, *, seed):
    """Grids 3 × 3 of bits: the first column is fair, every other bit is the exclusive or of the bits to its left and
    above it, flipped one time in ten (0 where there is none above)."""
    rng = np.random.default_rng(seed)
    codes = np.zeros((n, 3, 3), np.int32)
    for i, j in itertools.product(range(3), range(3)):
        above = codes[:, i - 1, j] if i else 0
        codes[:, i, j] = (codes[:, i, j - 1] ^ above ^ (rng.random(n) < 0.1)) if j else rng.integers(0, 2, n)
    return codes


#: Nats of a grid under its own law: three fair bits and six flips.
ENTROPY = 3 * np.log(2) - 6 * (0.1 * np.log(0.1) + 0.9 * np.log(0.9))


def learned(network, *, steps, rate):
    """−log p in nats a grid on grids that were not trained on."""
    train, test = law(4096, seed=0), law(4096, seed=1)
    optimizer = optax.adam(optax.cosine_decay_schedule(rate, steps))
    params = network.init(jax.random.key(0), jnp.zeros((1, 3, 3), jnp.int32))

    def nll(params, codes):
        return optax.softmax_cross_entropy_with_integer_labels(network.apply(params, codes), codes).sum(axis=(1, 2))

    # No scan over the steps: XLA's convolutions on a CPU are slow inside a loop.
    @jax.jit
    def step(params, state, codes):
        updates, state = optimizer.update(jax.grad(lambda p: nll(p, codes).mean())(params), state)
        return optax.apply_updates(params, updates), state

    state = optimizer.init(params)
    for index in range(steps):
        start = index % 32 * 128
        params, state = step(params, state, train[start : start + 128])
    return float(jax.jit(nll)(params, test).mean())


def assert_frequencies(draws, probabilities):
    """Draws [n, 2, 2] of bits occur as often as the probabilities [16] of their grids say, within five deviations."""
    n = len(draws)
    index = np.asarray(draws).reshape(n, 4) @ [8, 4, 2, 1]
    share = np.bincount(index, minlength=16) / n
    assert np.all(np.abs(share - probabilities) < 5 * np.sqrt(probabilities * (1 - probabilities) / n))


SMALL_BITS = np.array(list(itertools.product([0, 1], repeat=4)), np.int32).reshape(16, 2, 2)
