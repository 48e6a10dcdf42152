"""Losses of the two players of an adversarial game, from logits, per example, each to be minimized.

Logits are [batch] or [batch, *patches]; patches are summed, so divide by their number for a mean over them.
Nothing here takes a sigmoid of a logit before a logarithm: gradients stay alive at any confidence.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Float, Num

from jaxgen._checks import as_array, as_non_negative_number, as_wide_float
from jaxgen.losses._terms import as_pair, as_predictions, sum_per_example


def minimax_discriminator_loss(
    real_logits: Num[ArrayLike, "batch *dims"], fake_logits: Num[ArrayLike, "..."]
) -> Float[Array, " batch"]:
    r"""Discriminator's loss of the original game, for the minimax and the non-saturating generator alike.

    .. math::
        -\log D(x) - \log(1 - D(G(z)))

    At the best discriminator of a fixed generator its mean is log 4 − 2 JSD(data ‖ generator).

    Args:
        real_logits: [batch, *dims], of data.
        fake_logits: [batch, *dims], of as many generated examples.

    Returns:
        [batch], nats.

    Raises:
        ValueError: shapes do not match.
        TypeError: logits are not floating point.

    Reference:
        Goodfellow et al., Generative Adversarial Nets, 2014.

    Example:
        >>> import jax.numpy as jnp
        >>> minimax_discriminator_loss(jnp.zeros(2), jnp.zeros(2)).round(4)
        Array([1.3863, 1.3863], dtype=float32)
    """
    real, fake = as_pair("real_logits", real_logits, "fake_logits", fake_logits)
    return sum_per_example(jax.nn.softplus(-real) + jax.nn.softplus(fake))


def minimax_generator_loss(fake_logits: Num[ArrayLike, "batch *dims"]) -> Float[Array, " batch"]:
    r"""Generator's loss of the original game; its gradient fades where the discriminator wins.

    .. math::
        \log(1 - D(G(z)))

    Args:
        fake_logits: [batch, *dims], of generated examples.

    Returns:
        [batch], nats, never positive.

    Raises:
        ValueError: there is no batch axis.
        TypeError: logits are not floating point.

    Reference:
        Goodfellow et al., Generative Adversarial Nets, 2014, equation 1.

    Example:
        >>> import jax.numpy as jnp
        >>> minimax_generator_loss(jnp.array([0.0, 2.0])).round(4)
        Array([-0.6931, -2.1269], dtype=float32)
    """
    return sum_per_example(-jax.nn.softplus(as_predictions("fake_logits", fake_logits)))


def non_saturating_generator_loss(fake_logits: Num[ArrayLike, "batch *dims"]) -> Float[Array, " batch"]:
    r"""Generator's loss whose gradient is largest where the discriminator wins.

    .. math::
        -\log D(G(z))

    Args:
        fake_logits: [batch, *dims], of generated examples.

    Returns:
        [batch], nats, never negative.

    Raises:
        ValueError: there is no batch axis.
        TypeError: logits are not floating point.

    Reference:
        Goodfellow et al., Generative Adversarial Nets, 2014, section 3.

    Example:
        >>> import jax.numpy as jnp
        >>> non_saturating_generator_loss(jnp.array([0.0, 2.0])).round(4)
        Array([0.6931, 0.1269], dtype=float32)
    """
    return sum_per_example(jax.nn.softplus(-as_predictions("fake_logits", fake_logits)))


def hinge_discriminator_loss(
    real_logits: Num[ArrayLike, "batch *dims"], fake_logits: Num[ArrayLike, "..."]
) -> Float[Array, " batch"]:
    r"""Hinge loss of the discriminator: logits beyond the margin cost nothing.

    .. math::
        \max(0, 1 - D(x)) + \max(0, 1 + D(G(z)))

    Args:
        real_logits: [batch, *dims], of data.
        fake_logits: [batch, *dims], of as many generated examples.

    Returns:
        [batch], in units of the logits.

    Raises:
        ValueError: shapes do not match.
        TypeError: logits are not floating point.

    Reference:
        Lim and Ye, Geometric GAN, 2017; Miyato et al., Spectral Normalization, 2018.

    Example:
        >>> import jax.numpy as jnp
        >>> hinge_discriminator_loss(jnp.array([0.25, 2.0]), jnp.array([0.5, -3.0]))
        Array([2.25, 0.  ], dtype=float32)
    """
    real, fake = as_pair("real_logits", real_logits, "fake_logits", fake_logits)
    return sum_per_example(jax.nn.relu(1 - real) + jax.nn.relu(1 + fake))


def hinge_generator_loss(fake_logits: Num[ArrayLike, "batch *dims"]) -> Float[Array, " batch"]:
    r"""Generator's loss against the hinge discriminator.

    .. math::
        -D(G(z))

    Args:
        fake_logits: [batch, *dims], of generated examples.

    Returns:
        [batch], in units of the logits.

    Raises:
        ValueError: there is no batch axis.
        TypeError: logits are not floating point.

    Reference:
        Lim and Ye, Geometric GAN, 2017.

    Example:
        >>> import jax.numpy as jnp
        >>> hinge_generator_loss(jnp.array([0.5, -3.0]))
        Array([-0.5,  3. ], dtype=float32)
    """
    return sum_per_example(-as_predictions("fake_logits", fake_logits))


def least_squares_discriminator_loss(
    real_logits: Num[ArrayLike, "batch *dims"], fake_logits: Num[ArrayLike, "..."]
) -> Float[Array, " batch"]:
    r"""Least-squares loss of the discriminator, whose output is a score and not a logit.

    .. math::
        \tfrac{1}{2}(D(x) - 1)^2 + \tfrac{1}{2} D(G(z))^2

    Args:
        real_logits: [batch, *dims], scores of data.
        fake_logits: [batch, *dims], scores of as many generated examples.

    Returns:
        [batch], in squared units of the score.

    Raises:
        ValueError: shapes do not match.
        TypeError: logits are not floating point.

    Reference:
        Mao et al., Least Squares Generative Adversarial Networks, 2017, equation 9.

    Example:
        >>> import jax.numpy as jnp
        >>> least_squares_discriminator_loss(jnp.array([0.0]), jnp.array([2.0]))
        Array([2.5], dtype=float32)
    """
    real, fake = as_pair("real_logits", real_logits, "fake_logits", fake_logits)
    return sum_per_example(0.5 * jnp.square(real - 1) + 0.5 * jnp.square(fake))


def least_squares_generator_loss(fake_logits: Num[ArrayLike, "batch *dims"]) -> Float[Array, " batch"]:
    r"""Generator's loss against the least-squares discriminator.

    .. math::
        \tfrac{1}{2}(D(G(z)) - 1)^2

    Args:
        fake_logits: [batch, *dims], scores of generated examples.

    Returns:
        [batch], in squared units of the score.

    Raises:
        ValueError: there is no batch axis.
        TypeError: logits are not floating point.

    Reference:
        Mao et al., Least Squares Generative Adversarial Networks, 2017, equation 9.

    Example:
        >>> import jax.numpy as jnp
        >>> least_squares_generator_loss(jnp.array([0.0, 4.0]))
        Array([0.5, 4.5], dtype=float32)
    """
    return sum_per_example(0.5 * jnp.square(as_predictions("fake_logits", fake_logits) - 1))


def wasserstein_discriminator_loss(
    real_logits: Num[ArrayLike, "batch *dims"], fake_logits: Num[ArrayLike, "..."]
) -> Float[Array, " batch"]:
    r"""Critic's loss: minus the estimate of the Wasserstein-1 distance, for a critic of slope at most one.

    .. math::
        D(G(z)) - D(x)

    Args:
        real_logits: [batch, *dims], scores of data.
        fake_logits: [batch, *dims], scores of as many generated examples.

    Returns:
        [batch], in units of the critic.

    Raises:
        ValueError: shapes do not match.
        TypeError: logits are not floating point.

    Reference:
        Arjovsky, Chintala and Bottou, Wasserstein GAN, 2017.

    Example:
        >>> import jax.numpy as jnp
        >>> wasserstein_discriminator_loss(jnp.array([3.0]), jnp.array([1.0]))
        Array([-2.], dtype=float32)
    """
    real, fake = as_pair("real_logits", real_logits, "fake_logits", fake_logits)
    return sum_per_example(fake - real)


def wasserstein_generator_loss(fake_logits: Num[ArrayLike, "batch *dims"]) -> Float[Array, " batch"]:
    r"""Generator's loss against the Wasserstein critic.

    .. math::
        -D(G(z))

    Args:
        fake_logits: [batch, *dims], scores of generated examples.

    Returns:
        [batch], in units of the critic.

    Raises:
        ValueError: there is no batch axis.
        TypeError: logits are not floating point.

    Reference:
        Arjovsky, Chintala and Bottou, Wasserstein GAN, 2017.

    Example:
        >>> import jax.numpy as jnp
        >>> wasserstein_generator_loss(jnp.array([3.0]))
        Array([-3.], dtype=float32)
    """
    return sum_per_example(-as_predictions("fake_logits", fake_logits))


def _squared_slope(critic: Callable[[Array], Array], points: Array) -> Array:
    """[batch], ‖∂ critic(x)_b / ∂x_b‖², right where an example's logits depend on that example alone."""
    logits, pullback = jax.vjp(critic, points)
    shape = as_wide_float("the critic's output", logits).shape
    if shape[:1] != points.shape[:1]:
        raise ValueError(f"critic must map a batch to [batch] logits, got {points.shape} to {shape}")
    (slope,) = pullback(jnp.ones_like(logits))
    return sum_per_example(jnp.square(as_wide_float("slope", slope)))


def gradient_penalty(
    critic: Callable[[Array], Array],
    real: Num[ArrayLike, "batch *dims"],
    fake: Num[ArrayLike, "..."],
    key: Array,
    *,
    target: Num[ArrayLike, ""] = 1.0,
) -> Float[Array, " batch"]:
    r"""Penalty on a critic's slope between data and generated examples.

    .. math::
        \left(\|\nabla_{\hat x} D(\hat x)\|_2 - c\right)^2, \qquad
        \hat x = u x + (1 - u) G(z),\ u \sim U(0, 1)

    Added to the critic's loss with a weight of about 10. Batch normalization in the critic mixes examples and
    makes the slope meaningless. Stop the gradient through `fake` where the generator is not the one that
    learns.

    Args:
        critic: maps a batch to [batch] logits; parameters are closed over.
        real: [batch, *dims], data.
        fake: [batch, *dims], generated examples.
        key: a key for one u per example.
        target: c, the slope wanted.

    Returns:
        [batch], in squared units of the critic over those of the data.

    Raises:
        ValueError: shapes do not match, or `critic` does not return one leading entry an example.
        TypeError: `real` or `fake` is not floating point.

    Reference:
        Gulrajani et al., Improved Training of Wasserstein GANs, 2017.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> critic = lambda x: 3.0 * x[:, 0] + 4.0 * x[:, 1]
        >>> gradient_penalty(critic, jnp.ones((1, 2)), jnp.zeros((1, 2)), jax.random.key(0))
        Array([16.], dtype=float32)
    """
    real_values, fake_values = as_pair("real", real, "fake", fake)
    share = jax.random.uniform(key, real_values.shape[:1], real_values.dtype)
    share = share.reshape(share.shape + (1,) * (real_values.ndim - 1))
    points = share * real_values + (1 - share) * fake_values
    target = as_non_negative_number("target", target, points.dtype)
    # The critic sees the points in the data's own type, which may be half of it.
    squares = _squared_slope(critic, points.astype(jnp.result_type(as_array("real", real), as_array("fake", fake))))
    # The norm has no derivative at a flat critic; zero stands in for it, not NaN.
    flat = squares == 0
    norms = jnp.where(flat, 0, jnp.sqrt(jnp.where(flat, 1, squares)))
    return jnp.square(norms - target)


def r1_penalty(critic: Callable[[Array], Array], real: Num[ArrayLike, "batch *dims"]) -> Float[Array, " batch"]:
    r"""Squared slope of the discriminator at the data.

    .. math::
        \|\nabla_x D(x)\|_2^2

    Added to the discriminator's loss with weight γ/2: the half is not included here. Batch normalization in
    the discriminator mixes examples and makes the slope meaningless.

    Args:
        critic: maps a batch to [batch] logits; parameters are closed over.
        real: [batch, *dims], data.

    Returns:
        [batch], in squared units of the logits over those of the data.

    Raises:
        ValueError: `real` has no batch axis, or `critic` does not return one leading entry an example.
        TypeError: `real` is not floating point.

    Reference:
        Mescheder, Geiger and Nowozin, Which Training Methods for GANs do actually Converge?, 2018.

    Example:
        >>> import jax.numpy as jnp
        >>> r1_penalty(lambda x: 3.0 * x[:, 0] + 4.0 * x[:, 1], jnp.ones((2, 2)))
        Array([25., 25.], dtype=float32)
    """
    as_predictions("real", real)
    return _squared_slope(critic, as_array("real", real))
