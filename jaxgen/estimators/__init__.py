"""Gradients through random and discrete choices, as pure functions of a key and arrays.

No function here needs a batch axis: `jax.vmap` over keys gives every example its own. Noise is drawn in
float32 or better. Samples and codes have the type of the inputs; surrogates, baselines and moments are sums, and
float32 where the inputs have half precision.

A temperature that anneals is an argument here and a schedule elsewhere, such as `optax.exponential_decay`. A
learned baseline is a network of the input alone, never of the sample: pass its output to `reinforce`, which
stops the gradient into it, and fit it by its own term, `jnp.square(baseline -
jax.lax.stop_gradient(reward))`.
"""

from jaxgen.estimators.gaussian import reparameterize
from jaxgen.estimators.gumbel import gumbel_argmax, gumbel_softmax
from jaxgen.estimators.quantized import rotation_trick, straight_through
from jaxgen.estimators.score_function import leave_one_out_baseline, reinforce, vimco
from jaxgen.estimators.signal import SignalMoments, init_signal_moments, signal_scale, update_signal_moments

__all__ = [
    # reparameterization
    "reparameterize",
    # Gumbel noise
    "gumbel_argmax",
    "gumbel_softmax",
    # quantizers
    "straight_through",
    "rotation_trick",
    # score function
    "reinforce",
    "leave_one_out_baseline",
    "vimco",
    # learning signal
    "SignalMoments",
    "init_signal_moments",
    "update_signal_moments",
    "signal_scale",
]
