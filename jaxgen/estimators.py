"""Gradients through random and discrete choices, as pure functions of a key and arrays.

No function here needs a batch axis: `jax.vmap` over keys gives every example its own. Noise is drawn in
float32 or better; results have the type of the inputs.

A temperature that anneals is an argument here and a schedule elsewhere, such as `optax.exponential_decay`. A
learned baseline is a network of the input alone, never of the sample: pass its output to `reinforce`, which
stops the gradient into it, and fit it by its own term, `jnp.square(baseline -
jax.lax.stop_gradient(reward))`.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike
from jaxtyping import Float, Int, Num

from jaxgen.losses._checks import as_float, require_broadcastable, require_positive, require_same_shape
from jaxgen.losses.bounds import importance_weighted_bound


def reparameterize(key: Array, mean: Num[ArrayLike, "*shape"], logvar: Num[ArrayLike, "..."]) -> Float[Array, "*shape"]:
    r"""A Gaussian sample through which gradients flow.

    .. math::
        \mu + e^{\frac{1}{2}\log\sigma^2}\,\varepsilon, \qquad \varepsilon \sim \mathcal{N}(0, I)

    Args:
        key: a key, used once.
        mean: μ, of any shape.
        logvar: log σ², shaped as `mean`.

    Returns:
        A sample shaped as `mean`.

    Raises:
        ValueError: shapes do not match.
        TypeError: an argument is not floating point.

    Reference:
        Kingma and Welling, Auto-Encoding Variational Bayes, 2014; Rezende, Mohamed and Wierstra, 2014.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> reparameterize(jax.random.key(0), jnp.array([1.0, 2.0]), jnp.full(2, -60.0))
        Array([1., 2.], dtype=float32)
    """
    dtype = jnp.result_type(mean, logvar)
    mean, logvar = as_float("mean", mean), as_float("logvar", logvar)
    require_same_shape("mean", mean, "logvar", logvar)
    noise = jax.random.normal(key, mean.shape, jnp.promote_types(mean.dtype, logvar.dtype))
    return (mean + jnp.exp(logvar / 2) * noise).astype(dtype)


def _classes(logits: ArrayLike) -> Array:
    values = as_float("logits", logits)
    if values.ndim < 1 or values.shape[-1] < 1:
        raise ValueError(f"logits must have classes on the last axis, got shape {values.shape}")
    return values


def _gumbel(key: Array, logits: Array) -> Array:
    """Standard Gumbel noise; "high" resolves the upper tail, so that classes rarer than 1e-7 can win."""
    return jax.random.gumbel(key, logits.shape, logits.dtype, mode="high")


def gumbel_argmax(key: Array, logits: Num[ArrayLike, "*shape classes"]) -> Int[Array, "*shape"]:
    r"""An exact categorical sample over the last axis.

    .. math::
        \arg\max_k\ (\eta_k + g_k), \qquad g_k = -\log(-\log u_k)

    Args:
        key: a key, used once.
        logits: [..., classes], unnormalized log-probabilities; −∞ excludes a class.

    Returns:
        [...], integers in [0, classes).

    Raises:
        ValueError: there is no class.
        TypeError: `logits` is not floating point.

    Reference:
        Maddison, Tarlow and Minka, A* Sampling, 2014.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> gumbel_argmax(jax.random.key(0), jnp.array([[0.0, 1e4], [1e4, 0.0]]))
        Array([1, 0], dtype=int32)
    """
    logits = _classes(logits)
    return jnp.argmax(logits + _gumbel(key, logits), axis=-1)


def gumbel_softmax(
    key: Array,
    logits: Num[ArrayLike, "*shape"],
    *,
    temperature: Num[ArrayLike, ""] = 1.0,
    hard: bool = False,
) -> Float[Array, "*shape"]:
    r"""A relaxed one-hot sample over the last axis, through which gradients flow.

    .. math::
        \mathrm{softmax}\left(\frac{\eta + g}{\tau}\right), \qquad g_k = -\log(-\log u_k)

    As τ → 0 the bias of its gradient vanishes and the variance grows. A bound evaluated with a relaxed sample
    is none: evaluate with `gumbel_argmax`. The same key gives `gumbel_argmax` the same winner.

    Args:
        key: a key, used once.
        logits: [..., classes], unnormalized log-probabilities. A Bernoulli variable has the two logits (0,
            η).
        temperature: τ, positive; it may come from a schedule.
        hard: exactly one-hot in the forward pass, with the gradient of the relaxed sample.

    Returns:
        [..., classes], not negative, with sum one.

    Raises:
        ValueError: there is no class, or a `temperature` known at trace time is not positive.
        TypeError: `logits` is not floating point.

    Reference:
        Jang, Gu and Poole, Categorical Reparameterization with Gumbel-Softmax, 2017; Maddison, Mnih and Teh,
        2017.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> gumbel_softmax(jax.random.key(0), jnp.array([0.0, 50.0]), temperature=0.5, hard=True)
        Array([0., 1.], dtype=float32)
    """
    dtype = jnp.result_type(logits)
    logits = _classes(logits)
    require_positive("temperature", temperature)
    temperature = jnp.asarray(temperature, logits.dtype)
    relaxed = jax.nn.softmax((logits + _gumbel(key, logits)) / temperature, axis=-1)
    if hard:
        winner = jax.nn.one_hot(jnp.argmax(relaxed, axis=-1), logits.shape[-1], dtype=logits.dtype)
        relaxed = straight_through(relaxed, winner)
    return relaxed.astype(dtype)


def straight_through(encodings: Num[ArrayLike, "*shape"], codes: Num[ArrayLike, "..."]) -> Float[Array, "*shape"]:
    r"""The codes in the forward pass, exactly; the identity to the encodings in the backward pass.

    .. math::
        \mathrm{sg}(e) + (z - \mathrm{sg}(z))

    The common form z + sg(e − z) rounds the code where ‖z‖ ≫ ‖e‖. No gradient reaches the codes: learn them
    by `jaxgen.losses.codebook_loss` or by running averages.

    Args:
        encodings: z, of any shape.
        codes: e, shaped as `encodings`.

    Returns:
        The codes.

    Raises:
        ValueError: shapes do not match.
        TypeError: an argument is not floating point.

    Reference:
        Bengio, Léonard and Courville, Estimating or Propagating Gradients Through Stochastic Neurons, 2013.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> jax.grad(lambda z: (straight_through(z, jnp.round(z)) ** 2).sum())(jnp.array([0.7, 2.2]))
        Array([2., 4.], dtype=float32)
    """
    dtype = jnp.result_type(encodings, codes)
    encodings, codes = as_float("encodings", encodings), as_float("codes", codes)
    require_same_shape("encodings", encodings, "codes", codes)
    return (lax.stop_gradient(codes) + (encodings - lax.stop_gradient(encodings))).astype(dtype)


def rotation_trick(encodings: Num[ArrayLike, "*shape dim"], codes: Num[ArrayLike, "..."]) -> Float[Array, "*shape dim"]:
    r"""The codes in the forward pass; in the backward pass the rotation and scaling that take z to e.

    .. math::
        e = \frac{\|e\|}{\|z\|} R\, z, \qquad
        R = I - 2\,\hat s \hat s^\top + 2\,\hat e \hat z^\top, \quad
        \hat s = \frac{\hat z + \hat e}{\|\hat z + \hat e\|}

    R and the ratio of norms are constants to the gradient, so that the angle between a gradient and the code
    is kept between it and the encoding. Where no rotation is defined (a zero vector, or opposite directions)
    the gradient is that of `straight_through`.

    Args:
        encodings: z, [..., dim], vectors on the last axis.
        codes: e, shaped as `encodings`; no gradient reaches them.

    Returns:
        The codes.

    Raises:
        ValueError: shapes do not match, or there is no axis.
        TypeError: an argument is not floating point.

    Reference:
        Fifty et al., Restructuring Vector Quantization with the Rotation Trick, 2024.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> z, e = jnp.array([1.0, 0.0]), jnp.array([0.0, 2.0])
        >>> jax.jacobian(rotation_trick)(z, e)
        Array([[ 0., -2.],
               [ 2.,  0.]], dtype=float32)
    """
    dtype = jnp.result_type(encodings, codes)
    z, e = as_float("encodings", encodings), as_float("codes", codes)
    require_same_shape("encodings", z, "codes", e)
    if z.ndim < 1:
        raise ValueError("encodings must have vectors on the last axis, got a scalar")
    start, end = lax.stop_gradient(z), lax.stop_gradient(e)
    start_norm = jnp.linalg.norm(start, axis=-1, keepdims=True)
    end_norm = jnp.linalg.norm(end, axis=-1, keepdims=True)
    nonzero = (start_norm > 0) & (end_norm > 0)
    start_unit = start / jnp.where(nonzero, start_norm, 1)
    end_unit = end / jnp.where(nonzero, end_norm, 1)
    bisector = start_unit + end_unit
    size = jnp.sum(jnp.square(bisector), axis=-1, keepdims=True)
    defined = nonzero & (size > 10 * jnp.finfo(size.dtype).eps)

    along_bisector = jnp.sum(bisector * z, axis=-1, keepdims=True) / jnp.where(defined, size, 1)
    along_start = jnp.sum(start_unit * z, axis=-1, keepdims=True)
    rotated = z - 2 * bisector * along_bisector + 2 * end_unit * along_start
    scaled = rotated * (end_norm / jnp.where(nonzero, start_norm, 1))
    return straight_through(jnp.where(defined, scaled, z), e).astype(dtype)


def reinforce(
    log_prob: Num[ArrayLike, "*shape"],
    reward: Num[ArrayLike, "..."],
    *,
    baseline: Num[ArrayLike, "..."] = 0.0,
    scale: Num[ArrayLike, "..."] = 1.0,
) -> Float[Array, "*shape"]:
    r"""Score-function surrogate: the value is the reward, the gradient is unbiased for its expectation.

    .. math::
        \frac{r - b}{s}\,\nabla\log q(h) + \nabla r

    The second term is the reward's own gradient, such as that of the decoder; stop it in `reward` where it is
    not wanted. The sign is the reward's: minimize a loss, maximize a bound.

    Args:
        log_prob: log q(h), of any shape, of samples drawn without a gradient.
        reward: r, shaped as `log_prob`, of the same samples.
        baseline: b, broadcasting to `reward`; it must not depend on the sample it is subtracted for: a
            constant, a network of the input alone, or `leave_one_out_baseline`. It gets no gradient.
        scale: s, positive, broadcasting to `reward`, such as `signal_scale`; 1 keeps the gradient unbiased.

    Returns:
        `reward`, in value.

    Raises:
        ValueError: shapes do not match, or a `scale` known at trace time is not positive.
        TypeError: `log_prob` or `reward` is not floating point.

    Reference:
        Williams, Simple Statistical Gradient-Following Algorithms, 1992; Mnih and Gregor, 2014.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> jax.grad(lambda logit: reinforce(jax.nn.log_sigmoid(logit), 3.0, baseline=1.0))(0.0)
        Array(1., dtype=float32, weak_type=True)
    """
    log_prob, reward = as_float("log_prob", log_prob), as_float("reward", reward)
    require_same_shape("log_prob", log_prob, "reward", reward)
    require_positive("scale", scale)
    baseline, scale = jnp.asarray(baseline), jnp.asarray(scale)
    require_broadcastable("baseline", baseline, "reward", reward.shape)
    require_broadcastable("scale", scale, "reward", reward.shape)
    signal = lax.stop_gradient((reward - baseline) / scale)
    return reward + signal * (log_prob - lax.stop_gradient(log_prob))


def _num_samples(name: str, values: Array, axis: int) -> int:
    """The size of the sample axis, of which leaving one out must leave something."""
    if not -values.ndim <= axis < values.ndim:
        raise ValueError(f"axis {axis} is not an axis of {name}, whose shape is {values.shape}")
    if values.shape[axis] < 2:
        raise ValueError(f"{name} needs 2 samples or more on axis {axis}, got shape {values.shape}")
    return values.shape[axis]


def leave_one_out_baseline(rewards: Num[ArrayLike, "*shape"], *, axis: int = 0) -> Float[Array, "*shape"]:
    r"""The mean of the other samples: a baseline that depends on no sample it is subtracted for.

    .. math::
        b_k = \frac{1}{K - 1}\sum_{j \ne k} r_j

    Args:
        rewards: of any shape, K independent samples on `axis`.
        axis: the axis of the samples.

    Returns:
        Shaped as `rewards`.

    Raises:
        ValueError: `axis` does not exist, or holds fewer than two samples.
        TypeError: `rewards` is not floating point.

    Reference:
        Kool, van Hoof and Welling, Buy 4 REINFORCE Samples, Get a Baseline for Free!, 2019.

    Example:
        >>> import jax.numpy as jnp
        >>> leave_one_out_baseline(jnp.array([1.0, 2.0, 6.0]))
        Array([4. , 3.5, 1.5], dtype=float32)
    """
    rewards = as_float("rewards", rewards)
    num_samples = _num_samples("rewards", rewards, axis)
    return (jnp.sum(rewards, axis=axis, keepdims=True) - rewards) / (num_samples - 1)


def vimco(
    log_prob: Num[ArrayLike, "*shape"], log_weights: Num[ArrayLike, "..."], *, axis: int = 0
) -> Float[Array, "..."]:
    r"""Surrogate of the importance-weighted bound for discrete latents: its value, with an unbiased gradient.

    .. math::
        \sum_k \left(\hat L - \hat L_{-k}\right)\nabla\log q(h_k) + \nabla\hat L, \qquad
        \hat L = \log\frac{1}{K}\sum_j w_j

    In the baseline L₋ₖ the weight of sample k is replaced by the geometric mean of the other weights. Needs
    memory for K² weights.

    Args:
        log_prob: log q(h_k|x), K samples on `axis`, such as [samples, batch].
        log_weights: log p(x, h_k) − log q(h_k|x), nats, shaped as `log_prob`, differentiable in both models.
        axis: the axis of the samples.

    Returns:
        The bound, without `axis`, nats, to be maximized.

    Raises:
        ValueError: shapes do not match, `axis` does not exist, or it holds fewer than two samples.
        TypeError: an argument is not floating point.

    Reference:
        Mnih and Rezende, Variational Inference for Monte Carlo Objectives, 2016.

    Example:
        >>> import jax.numpy as jnp
        >>> vimco(jnp.log(jnp.array([0.5, 0.5])), jnp.log(jnp.array([1.0, 3.0]))).round(4)
        Array(0.6931, dtype=float32)
    """
    log_prob, log_weights = as_float("log_prob", log_prob), as_float("log_weights", log_weights)
    require_same_shape("log_prob", log_prob, "log_weights", log_weights)
    num_samples = _num_samples("log_weights", log_weights, axis)
    log_prob, log_weights = jnp.moveaxis(log_prob, axis, 0), jnp.moveaxis(log_weights, axis, 0)
    bound = importance_weighted_bound(log_weights)

    left_out = jnp.eye(num_samples, dtype=bool).reshape((num_samples, num_samples) + (1,) * bound.ndim)
    geometric_mean = leave_one_out_baseline(log_weights)
    replaced = jnp.where(left_out, geometric_mean[:, None], log_weights[None])
    signal = lax.stop_gradient(bound - importance_weighted_bound(replaced, axis=1))
    return bound + jnp.sum(signal * (log_prob - lax.stop_gradient(log_prob)), axis=0)


class SignalMoments(NamedTuple):
    """Running mean and variance of a learning signal, both scalars."""

    mean: Array
    variance: Array


def init_signal_moments() -> SignalMoments:
    r"""Moments before any batch: the first signals are neither centred nor scaled.

    .. math::
        m = 0, \qquad v = 0

    Returns:
        Mean and variance, two scalars.

    Example:
        >>> init_signal_moments()
        SignalMoments(mean=Array(0., dtype=float32), variance=Array(0., dtype=float32))
    """
    return SignalMoments(jnp.zeros(()), jnp.zeros(()))


def update_signal_moments(
    moments: SignalMoments,
    signals: Num[ArrayLike, "..."],
    *,
    decay: float = 0.8,
    axis_name: str | None = None,
) -> SignalMoments:
    r"""Running moments of the learning signal after a batch.

    .. math::
        m \leftarrow \gamma m + (1 - \gamma)\,\bar r, \qquad
        v \leftarrow \gamma v + (1 - \gamma)\,\frac{1}{n}\sum_i (r_i - \bar r)^2

    Use the moments of *earlier* batches as baseline and scale of this one, then update: a baseline that has
    seen its own sample biases the gradient.

    Args:
        moments: the moments so far.
        signals: of any shape, rewards minus any learned baseline.
        decay: γ in [0, 1).
        axis_name: the mapped axis over whose devices the batch is spread; None outside a map.

    Returns:
        The moments, without a gradient.

    Raises:
        ValueError: `decay` is outside [0, 1), or there is no signal.
        TypeError: `signals` is not floating point.

    Reference:
        Mnih and Gregor, Neural Variational Inference and Learning in Belief Networks, 2014, algorithm 1.

    Example:
        >>> import jax.numpy as jnp
        >>> update_signal_moments(init_signal_moments(), jnp.array([1.0, 3.0]), decay=0.5)
        SignalMoments(mean=Array(1., dtype=float32), variance=Array(0.5, dtype=float32))
    """
    if not 0 <= decay < 1:
        raise ValueError(f"decay must be in [0, 1), got {decay}")
    signals = lax.stop_gradient(as_float("signals", signals))
    if signals.size < 1:
        raise ValueError(f"signals must not be empty, got shape {signals.shape}")
    mean = jnp.mean(signals)
    if axis_name is not None:
        mean = lax.pmean(mean, axis_name)
    variance = jnp.mean(jnp.square(signals - mean))
    if axis_name is not None:
        variance = lax.pmean(variance, axis_name)
    return SignalMoments(decay * moments.mean + (1 - decay) * mean, decay * moments.variance + (1 - decay) * variance)


def signal_scale(moments: SignalMoments) -> Float[Array, ""]:
    r"""What `reinforce` divides the learning signal by; small signals are not blown up.

    .. math::
        \max(1, \sqrt{v})

    Args:
        moments: running moments of earlier batches.

    Returns:
        A scalar, at least one.

    Reference:
        Mnih and Gregor, Neural Variational Inference and Learning in Belief Networks, 2014, algorithm 1.

    Example:
        >>> import jax.numpy as jnp
        >>> signal_scale(SignalMoments(jnp.zeros(()), jnp.array(9.0))).item()
        3.0
    """
    return jnp.sqrt(jnp.maximum(moments.variance, 1))
