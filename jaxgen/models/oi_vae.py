"""oi-VAE: which latent drives which group of observed variables (Ainsworth, Foti, Lee and Fox, 2018)."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jaxtyping import PyTree

from jaxgen.losses import prox_group_lasso
from jaxgen.model import Batch, Model
from jaxgen.models.latents import gaussian_latent
from jaxgen.models.likelihood import LikelihoodName, ScaleName, make_likelihood
from jaxgen.models.parts import Parts
from jaxgen.models.vae import weighted_kl
from jaxgen.models.variational import variational
from jaxgen.nets import Activation, GroupedDecoder, vector_encoder

_PLAYER = "vae"


def oi_vae(
    *,
    shape: tuple[int, ...],
    groups: tuple[int, ...] = (),
    latents: int = 8,
    hidden: tuple[int, ...] = (64,),
    group_width: int = 8,
    group_hidden: tuple[int, ...] = (),
    activation: Activation = "relu",
    likelihood: LikelihoodName = "gaussian",
    scale: ScaleName = "per_dimension",
    fixed_scale: float = 1.0,
    beta: float = 1.0,
    sparsity: float = 3.0,
    step_ratio: float = 0.1,
    weight_decay: float = 0.001,
    importance_samples: int = 16,
) -> Model:
    """Output-interpretable VAE: a generator for each group of variables, which few latents reach.

    The loss is E_q[−log p(x|z)] + β KL(q(z|x) ‖ N(0, I)), in nats an example, and λ Σ ‖W_lg‖ over latents l and groups
    g. That term is not differentiated: after each gradient step of size η on W follows its proximal step, which makes
    whole columns exactly zero.

    Args:
      shape: Shape of one example, taken from the data.
      groups: Sizes of the groups, consecutive entries of the flattened example; empty makes each row a group.
      latents: Dimensions of z.
      hidden: Widths of the encoder's layers.
      group_width: Width of what the latents are mapped to for each group.
      group_hidden: Widths of further layers of each group's generator.
      activation: Activation between layers.
      likelihood: Distribution of the data given z.
      scale: Standard deviation of a Gaussian likelihood: fixed, one learned for all dimensions, one per dimension, or
        the maximum-likelihood one of each batch.
      fixed_scale: Standard deviation of a Gaussian likelihood where it is fixed, in units of the scaled data.
      beta: Weight of the KL term in training and model selection alike.
      sparsity: Weight λ of the group lasso. At the other defaults, on the 8 rows of the small digits, 3 empties a tenth
        of the links and costs nothing of the ELBO; 5 empties half of them and costs 5 nats.
      step_ratio: Step size η of W over the learning rate. W descends its plain gradient, since the proximal step needs
        to know η and a step of Adam has no one size. Where W moves as fast as the networks, the lasso empties it before
        they can use it: the authors use η = 1e-4, a ratio of 0.01 at their learning rate of 1e-2.
      weight_decay: Weight of ½‖θ‖² on the generators' other weights; without it their scale would cancel the lasso.
      importance_samples: Draws for the estimate of log p(x) in evaluation; 0 leaves it out.

    Returns:
      A model with one player, ``"vae"``.

    Raises:
      ValueError: for numbers out of range, or groups that do not cover the example.
    """
    sizes = check_groups(groups, shape)
    if any(width < 1 for width in group_hidden):
        raise ValueError(f"group_hidden must be widths of at least 1, got {group_hidden}")
    if group_width < 1 or sparsity < 0 or step_ratio <= 0 or weight_decay < 0:
        raise ValueError(
            f"group_width must be at least 1, step_ratio positive, sparsity and weight_decay not negative, "
            f"got {group_width}, {step_ratio}, {sparsity} and {weight_decay}"
        )
    latent = gaussian_latent(latents)
    parts = Parts(
        _PLAYER,
        latent=latent,
        encoder=vector_encoder("mlp", hidden, shape, outputs=latent.outputs, activation=activation),
        decoder=GroupedDecoder(sizes, group_width, group_hidden, shape, activation),
        observed=make_likelihood(likelihood, shape, scale=scale, fixed_scale=fixed_scale),
    )
    base = variational(parts, penalty=weighted_kl(beta), kl_weight=beta, importance_samples=importance_samples)
    assert base.summarize is not None
    summarize_of = base.summarize

    def evaluate(params: Any, statistics: PyTree, batch: Batch, key: Array) -> dict[str, Array]:
        """As for any VAE, and the norm of each latent's column in each group, the same for every example."""
        norms = group_norms(params)
        values = base.evaluate(params, statistics, batch, key)
        return values | {"group_norm": jnp.broadcast_to(norms, (len(batch["x"]), *norms.shape))}

    def summarize(means: dict[str, Any]) -> dict[str, Any]:
        norms = means["group_norm"]
        strongest = norms.max(axis=0) / np.maximum(norms.sum(axis=0), np.finfo(np.float32).tiny)
        return {
            **summarize_of(means),
            "links": np.sum(norms > 0),  # exact zeros are no links
            "dominance": np.mean(strongest),
        }

    def labels(params: PyTree) -> PyTree:
        def label(path: tuple[Any, ...], _: Array) -> str:
            return "rest" if path[0].key != "decoder" else "W" if path[-1].key == "W" else "generators"

        return jax.tree_util.tree_map_with_path(label, params)

    def optimizers(learning_rate: Any) -> dict[str, optax.GradientTransformation]:
        def step_size(count: Any) -> Any:
            rate: Any = learning_rate(count) if callable(learning_rate) else learning_rate
            return step_ratio * rate

        transforms: dict[Any, Any] = {
            "W": optax.chain(optax.sgd(step_size), proximal_group_lasso(sparsity, step_size)),
            "generators": optax.chain(optax.add_decayed_weights(weight_decay), optax.adam(learning_rate)),
            "rest": optax.adam(learning_rate),
        }
        return {_PLAYER: optax.partition(transforms, labels)}

    return base._replace(evaluate=evaluate, summarize=summarize, optimizers=optimizers)


def group_norms(params: Any) -> Array:
    """‖W_lg‖, [latents, groups]: 0 where latent l does not reach group g."""
    return jnp.linalg.norm(params[_PLAYER]["decoder"]["params"]["W"], axis=-1)


def proximal_group_lasso(weight: float, step_size: Any) -> optax.GradientTransformation:
    """The last link of a chain: W ← prox of η·weight·Σ‖W_lg‖ at W + updates, with the η that was really used.

    Args:
      weight: λ, in nats.
      step_size: ``count -> η``, the schedule of the gradient step before.
    """

    def init(params: PyTree) -> PyTree:
        return jnp.zeros((), jnp.int32)

    def update(updates: PyTree, state: Any, params: PyTree = None) -> tuple[PyTree, PyTree]:
        if params is None:
            raise ValueError("params must be given to update: the proximal step is taken at params + updates, got None")

        def one(update: Array, value: Array) -> Array:
            # W + (prox − W) is exactly zero where prox is.
            return prox_group_lasso(value + update, weight * step_size(state), axis=-1) - value

        return jax.tree.map(one, updates, params), state + 1

    return optax.GradientTransformation(init, update)


def check_groups(groups: tuple[int, ...], shape: tuple[int, ...]) -> tuple[int, ...]:
    """Sizes of the groups, one for each row of the example where none are given.

    Raises:
      ValueError: for a group that covers nothing, or groups that do not add up to the example.
    """
    dims = math.prod(shape)
    if not groups:
        return (dims // shape[0],) * shape[0]
    if any(size < 1 for size in groups) or sum(groups) != dims:
        raise ValueError(
            f"groups must have at least one entry each and {dims} together, got {groups} with {sum(groups)}: "
            f"give the sizes of consecutive groups"
        )
    return tuple(groups)
