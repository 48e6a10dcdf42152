"""Arguments of a model that would change nothing beside the others: refused, so that nobody looks for their effect.

A rule goes by the names of arguments, over all models alike: what has another meaning in a factory needs another name.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from jaxgen.errors import UserError


class _Rule(NamedTuple):
    """Where arguments have an effect.

    Attributes:
      names: the arguments.
      asked: what decides it; a model that lacks one of these is under no such rule.
      used: whether they have one, from the values of ``asked``.
      where: the same in words.
    """

    names: tuple[str, ...]
    asked: tuple[str, ...]
    used: Callable[..., bool]
    where: str


_RULES = (
    _Rule(("scale",), ("likelihood",), lambda likelihood: likelihood == "gaussian", "--likelihood gaussian"),
    _Rule(
        ("fixed_scale",),
        ("likelihood", "scale"),
        lambda likelihood, scale: (likelihood, scale) == ("gaussian", "fixed"),
        "--likelihood gaussian --scale fixed",
    ),
    _Rule(("kl_warmup", "free_nats"), ("beta",), lambda beta: beta != 0, "a --beta other than 0"),
    _Rule(
        ("temperature", "final_temperature", "anneal"),
        ("estimator",),
        lambda estimator: not estimator.startswith("reinforce"),
        "--estimator gumbel_softmax or straight_through",
    ),
    _Rule(
        ("anneal",),
        ("temperature", "final_temperature"),
        lambda first, last: first != last,
        "a --final-temperature that is not the --temperature",
    ),
    _Rule(
        ("num_codes", "code_dim"),
        ("quantizer",),
        lambda quantizer: quantizer != "finite_scalar",
        "a --quantizer other than finite_scalar",
    ),
    _Rule(("levels",), ("quantizer",), lambda quantizer: quantizer == "finite_scalar", "--quantizer finite_scalar"),
    _Rule(("stages",), ("quantizer",), lambda quantizer: quantizer == "residual", "--quantizer residual"),
    _Rule(("temperature",), ("quantizer",), lambda quantizer: quantizer == "gumbel", "--quantizer gumbel"),
    _Rule(
        ("commitment", "decay", "revival"),
        ("quantizer",),
        lambda quantizer: quantizer not in ("finite_scalar", "gumbel"),
        "--quantizer ema, gradient, rotation or residual",
    ),
    _Rule(("kernel",), ("network", "grids"), lambda network, _: network == "pixelcnn", "--network pixelcnn"),
    _Rule(("heads",), ("network",), lambda network: network == "transformer", "--network transformer"),
    _Rule(("penalty_weight",), ("penalty",), lambda penalty: penalty != "none", "--penalty gradient or r1"),
    _Rule(("level",), ("corruption",), lambda corruption: corruption != "none", "a --corruption other than none"),
    _Rule(("corruption", "level"), ("pretrain",), lambda pretrain: pretrain > 0, "a --pretrain above 0"),
    _Rule(
        ("activation",),
        ("network", "hidden"),
        lambda network, hidden: network != "mlp" or len(hidden) > 0,
        "at least one layer in --hidden",
    ),
)


def without_effect(arguments: Mapping[str, Any]) -> set[str]:
    """Names of the arguments of a factory that change nothing beside the others."""
    rules = [rule for rule in _RULES if all(name in arguments for name in rule.asked)]
    idle = [rule.names for rule in rules if not rule.used(*(arguments[asked] for asked in rule.asked))]
    return {name for names in idle for name in names}


def check_used(arguments: Mapping[str, Any], defaults: Mapping[str, Any]) -> None:
    """Refuses an argument that differs from its default where it changes nothing.

    Args:
      arguments: all those of a factory.
      defaults: theirs.

    Raises:
      UserError: naming the argument, its value, and where it has an effect.

    >>> check_used({"likelihood": "bernoulli", "scale": "shared"}, {"scale": "fixed"})
    Traceback (most recent call last):
    jaxgen.errors.UserError: --scale shared would change nothing here: it takes --likelihood gaussian; leave it out
    """
    for rule in _RULES:
        if not all(name in arguments for name in rule.asked):
            continue
        for name in rule.names:
            changed = name in arguments and arguments[name] != defaults[name]
            if changed and not rule.used(*(arguments[asked] for asked in rule.asked)):
                flag = f"--{name.replace('_', '-')} {arguments[name]}"
                raise UserError(f"{flag} would change nothing here: it takes {rule.where}; leave it out")
