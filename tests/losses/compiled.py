"""The losses compiled whole: run op by op, a test compiles some twenty programs where one will do.

That they do the same op by op is tested in `test_given_numbers`.
"""

import inspect

import jax

from jaxgen import losses

_SHAPES = {"axis", "axis_name", "dataset_size", "num_dims", "num_levels"}
_CHOICES = {"critic", "estimator", "kernel", "per_example", "unbiased"}


def _compiled(function):
    return jax.jit(function, static_argnames=(_SHAPES | _CHOICES) & set(inspect.signature(function).parameters))


globals().update({name: _compiled(f) for name, f in inspect.getmembers(losses, inspect.isfunction)})
