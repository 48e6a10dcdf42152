"""Variational autoencoders with categorical latents (Jang, Gu and Poole, 2017; Maddison, Mnih and Teh, 2017)."""

import math
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Float, Int, PyTree

from jaxgen.estimators import gumbel_argmax, gumbel_softmax, leave_one_out_baseline, reinforce
from jaxgen.model import Batch, Codes, Model, over_devices
from jaxgen.models.latents import Draws, Latent
from jaxgen.models.likelihood import LikelihoodName, ScaleName, make_likelihood
from jaxgen.models.parts import Parts
from jaxgen.models.vae import weighted_kl
from jaxgen.models.variational import ACTIVE, variational
from jaxgen.nets import Activation, Network, vector_decoder, vector_encoder

Estimator = Literal["gumbel_softmax", "straight_through", "reinforce", "reinforce_constant", "reinforce_leave_one_out"]

_BASELINE_DECAY = 0.9


def discrete_vae(
    *,
    shape: tuple[int, ...],
    latents: int = 20,
    classes: int = 10,
    network: Network = "mlp",
    hidden: tuple[int, ...] = (256,),
    activation: Activation = "relu",
    likelihood: LikelihoodName = "bernoulli",
    scale: ScaleName = "fixed",
    fixed_scale: float = 1.0,
    estimator: Estimator = "gumbel_softmax",
    temperature: float = 1.0,
    final_temperature: float = 0.5,
    anneal: int = 10000,
    beta: float = 1.0,
    kl_warmup: int = 0,
    samples: int = 1,
    importance_samples: int = 16,
) -> Model:
    """Discrete VAE: categorical latents, learned through a relaxation or the score function.

    The loss is E_q[−log p(x|z)] + β KL(q(z|x) ‖ uniform), in nats an example. While the relaxation is trained through
    it is no bound; evaluation draws exact one-hot samples and is one.

    Args:
      shape: Shape of one example, taken from the data.
      latents: Number of categorical latents.
      classes: Classes of each; 2 makes them bits.
      network: Kind of encoder and decoder; conv and resnet need images.
      hidden: Widths of the encoder's layers (mlp) or channels of its stages, each halving the image; the decoder
        mirrors them.
      activation: Activation between layers.
      likelihood: Distribution of the data given z. Bernoulli needs values in [0, 1], best 0 or 1.
      scale: Standard deviation of a Gaussian likelihood: fixed, one learned for all dimensions, one per dimension, or
        the maximum-likelihood one of each batch.
      fixed_scale: Standard deviation of a Gaussian likelihood where it is fixed, in units of the scaled data.
      estimator: How the encoder gets its gradient: relaxed samples, one-hot samples with the relaxed gradient, or the
        score function with no baseline, a running mean, or the mean of the other samples (which needs two or more).
      temperature: Of the relaxation in the first update.
      final_temperature: Of the relaxation once it is annealed.
      anneal: Updates over which the temperature falls, by the same factor each.
      beta: Weight of the KL term in training and model selection alike.
      kl_warmup: Updates over which the weight of the KL term rises from 0 to beta.
      samples: Draws of z for each example in the training objective.
      importance_samples: Draws for the estimate of log p(x) in evaluation; 0 leaves it out.

    Returns:
      A model with one player, ``"vae"``.

    Raises:
      ValueError: for numbers out of range, or an image network on data that are not images.
    """
    if not (temperature > 0 and final_temperature > 0 and anneal >= 1):
        raise ValueError(
            f"temperature and final_temperature must be positive and anneal at least 1, "
            f"got {temperature}, {final_temperature} and {anneal}"
        )

    def temperature_at(updates: Array) -> Array:
        share = jnp.minimum(1.0, updates / anneal)
        return temperature * (final_temperature / temperature) ** share

    weighted = weighted_kl(beta, kl_warmup=kl_warmup)

    def penalty(kl: Array, z: Array, batch: Batch, key: Array, updates: Array, train: bool):
        value, terms = weighted(kl, z, batch, key, updates, train)
        return value, terms | ({} if estimator.startswith("reinforce") else {"temperature": temperature_at(updates)})

    latent = categorical_latent(latents, classes, estimator=estimator, temperature_at=temperature_at, samples=samples)
    parts = Parts(
        "vae",
        latent=latent,
        encoder=vector_encoder(network, hidden, shape, outputs=latent.outputs, activation=activation),
        decoder=vector_decoder(network, hidden, shape, activation=activation),
        observed=make_likelihood(likelihood, shape, scale=scale, fixed_scale=fixed_scale),
    )
    base = variational(
        parts,
        penalty=penalty,
        kl_weight=beta,
        samples=samples,
        importance_samples=importance_samples,
    )
    assert base.encode is not None
    assert base.decode is not None
    one_hot_of, decode_of = base.encode, base.decode

    def summarize(means: dict[str, Any]) -> dict[str, Any]:
        kept = {name: value for name, value in means.items() if name not in ("mean_1", "mean_2")}
        # A latent is active where it tells the decoder something: its rate is not that of the prior.
        return {**kept, "rate": kept["kl"], "distortion": kept["nll"], "active_units": np.sum(kept["kl_dim"] > ACTIVE)}

    def encode(params: Any, statistics: Any, x: ArrayLike) -> Int[Array, "batch latents"]:
        return one_hot_of(params, statistics, x).reshape(-1, latents, classes).argmax(axis=-1)

    def decode(params: Any, statistics: Any, index: Int[ArrayLike, "batch latents"]) -> Array:
        one_hot = jax.nn.one_hot(jnp.asarray(index), classes)
        return decode_of(params, statistics, one_hot.reshape(len(one_hot), -1))

    codes = Codes(classes, shared=False)
    return base._replace(summarize=summarize, encode=encode, decode=decode, latents=None, codes=codes)


def categorical_latent(
    latents: int, classes: int, *, estimator: Estimator, temperature_at: Any, samples: int = 1
) -> Latent:
    """z as ``latents`` one-hot vectors of ``classes`` entries, side by side, with a uniform prior.

    Raises:
      ValueError: for numbers out of range, an unknown estimator, or one sample where others are the baseline.
    """
    if latents < 1 or classes < 2:
        raise ValueError(f"latents must be at least 1 and classes at least 2, got {latents} and {classes}")
    if estimator not in Estimator.__args__:
        raise ValueError(f"estimator must be one of {', '.join(Estimator.__args__)}, got {estimator!r}")
    if estimator == "reinforce_leave_one_out" and samples < 2:
        raise ValueError(f"the mean of the other samples needs samples of at least 2, got {samples}")
    score, width = estimator.startswith("reinforce"), latents * classes

    def draw(keys: Array, q: Array, p: PyTree, count: int, updates: Array | None = None) -> Draws:
        def one(key: Array, logits: Float[Array, "latents classes"]) -> Array:
            many = jnp.broadcast_to(logits, (count, latents, classes))
            if updates is None or score:
                return jax.nn.one_hot(gumbel_argmax(key, many), classes)
            hard = estimator == "straight_through"
            return gumbel_softmax(key, many, temperature=temperature_at(updates), hard=hard)

        z = jax.vmap(one, out_axes=1)(keys, q)
        log_prob = (z * q).sum(axis=(-2, -1))
        flat = z.reshape(count, len(q), width)
        return Draws(flat, -latents * math.log(classes) - log_prob, log_prob if score else None)

    def kl(q: Array, p: PyTree) -> Float[Array, "batch latents"]:
        return (jnp.exp(q) * (q + math.log(classes))).sum(axis=-1)

    def credit(draws: Draws, nll: Array, statistics: Any) -> tuple[Array, Any]:
        if draws.log_prob is None:
            return nll, statistics
        if estimator == "reinforce_leave_one_out":
            return reinforce(draws.log_prob, nll, baseline=leave_one_out_baseline(nll)), statistics
        if estimator == "reinforce":
            return reinforce(draws.log_prob, nll), statistics
        # The mean of the updates before this one: it depends on no sample that it is subtracted for.
        mean = over_devices(jax.lax.pmean, jax.lax.stop_gradient(nll.mean()))
        updates = statistics["updates"]
        decay = jnp.minimum(_BASELINE_DECAY, updates / (updates + 1))
        running = {"mean": decay * statistics["mean"] + (1 - decay) * mean, "updates": updates + 1}
        return reinforce(draws.log_prob, nll, baseline=statistics["mean"]), running

    def sample(key: Array, p: PyTree, n: int) -> Array:
        return jax.nn.one_hot(jax.random.randint(key, (n, latents), 0, classes), classes).reshape(n, width)

    return Latent(
        outputs=(latents, classes),
        shape=(width,),
        posterior=lambda outputs: jax.nn.log_softmax(outputs, axis=-1),
        standard=(),
        draw=draw,
        kl=kl,
        code=lambda q: jax.nn.one_hot(q.argmax(axis=-1), classes).reshape(len(q), width),
        sample=sample,
        init=lambda: {"mean": jnp.zeros(()), "updates": jnp.zeros(())} if estimator == "reinforce_constant" else {},
        credit=credit,
    )
