"""What an evaluated figure means: its unit, and how it was had."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxgen.models.game import PAYOFFS
from jaxgen.page import FigureRow

#: By the last part of a name: unit and note; what stands in braces is taken from the run.
MEANINGS: dict[str, tuple[str, str]] = {
    "log_px": ("nats", "log p(x), importance-weighted estimate with {importance_samples} samples"),
    "elbo": ("nats", "evidence lower bound on log p(x)"),
    "bits_per_dim": ("bits/dim", "of the data's own levels, from the bound on log p(x)"),
    "nll": ("nats", "−log p(x | code): the distortion"),
    "feature_nll": ("nats", "−log N(features of the reconstruction; those of the example, I)"),
    "kl": ("nats", "KL(q(z|x) ‖ p(z)): the rate, what the code costs"),
    "rate": ("nats", "what the code costs"),
    "code_bits": (
        "bits",
        "−log₂ p(codes), given the label where it is told: what they are compressed to by this prior",
    ),
    "distortion": ("nats", "−log p(x | code)"),
    "mutual_information": ("nats", "I(x; z), what the code tells of the example; at most log of their number"),
    "loss": ("nats", "the objective"),
    "active_units": ("latents", "that tell the decoder something: variance of the mean, or KL of a class, above 0.01"),
    "mmd": ("", "squared maximum mean discrepancy of the codes from the prior"),
    "links": ("links", "of a latent to a group of variables that are not exactly zero"),
    "dominance": ("share", "of a group's norms that its strongest latent has, mean over the groups"),
    "squared_error": ("units²", "of the reconstruction, summed over an example; a unit is 1 of the scaled data"),
    "commitment": (
        "units²",
        "squared distance of encodings to their codes, summed over an example; the loss has β/σ² times of it",
    ),
    "codebook": ("units²", "the same distance, by whose gradient the codes are learned; the loss has 1/σ² times of it"),
    "perplexity": ("codes", "exp entropy of the codes over the whole split; of several grids or stages their mean"),
    "usage": ("share", "of the codebook that the split uses"),
    "dead_codes": ("codes", "that the split never uses"),
    "modes": ("modes", "of {num_modes}, with one of 2500 samples within 3 σ"),
    "high_quality": ("share", "of 2500 samples within 3 σ of a mode; the data's own share is 0.989"),
    "reverse_kl": ("nats", "of the modes' histogram to uniform"),
    "precision": (
        "share",
        "of {num_compared} samples that lie as near to a test example as its third neighbour, by all its numbers",
    ),
    "recall": (
        "share",
        "of {num_compared} test examples that lie as near to a sample as its third neighbour, by all its numbers",
    ),
    "accuracy_real": ("share", "of real examples that the discriminator takes for real"),
    "accuracy_fake": ("share", "of generated examples that it takes for generated"),
    "accuracy_reconstructed": ("share", "of reconstructions that it takes for generated"),
    "value": ("", "of the game: minus the discriminator's loss"),
}

#: What the discriminator judges, and what is found in samples: of an averaged generator the latter alone.
_JUDGED = ("accuracy_real", "accuracy_fake", "accuracy_reconstructed", "value")
_SAMPLED = ("modes", "high_quality", "reverse_kl", "precision", "recall")

#: Figures that say again what another one says, where that is there with the same number.
SAID_TWICE = {"rate": "kl", "distortion": "nll", "loss": "nll"}

#: What shows that a loss is a log-likelihood's, and so in nats.
_IN_NATS = ("nll", "elbo", "log_px", "kl", "code_bits")
#: Objectives whose losses are logarithms of probabilities.
_LOGARITHMIC = ("minimax", "non_saturating")


def last_part(name: str) -> str:
    """The metric's own name: without its player, or the index of an entry of a vector."""
    return name.rsplit("/", 1)[-1]


def in_nats(names: Mapping[str, Any], run: Mapping[str, Any]) -> bool:
    """Whether the loss among these figures is one of log-likelihoods, or the players' losses are of probabilities."""
    game = run.get("objective") in _LOGARITHMIC and run.get("penalty", "none") == "none"
    return game or any(name in _IN_NATS for name in names)


def figure_rows(figures: Mapping[str, Any], run: Mapping[str, Any]) -> list[FigureRow]:
    """Figures as rows of a table, the known ones first, each said once; vectors are left to the pictures.

    Args:
      figures: a number each, or one for each replica.
      run: what the notes tell of it: the arguments of its model, ``chosen_by``, the figure that the best checkpoint
        minimizes, and ``num_modes`` of its data.
    """
    scalars = [name for name in figures if not last_part(name).isdigit() and not _said_twice(name, figures)]
    order = {name: position for position, name in enumerate(MEANINGS)}
    rows = []
    for name in sorted(scalars, key=lambda name: order.get(last_part(name), len(order))):
        values = np.atleast_1d(np.asarray(figures[name], np.float64))
        spread = float(values.std(ddof=1)) if len(values) > 1 else None
        unit, note = _meaning(name, figures, run)
        rows.append(FigureRow(name, float(values.mean()), spread, unit, note))
    return rows


def _said_twice(name: str, figures: Mapping[str, Any]) -> bool:
    other = SAID_TWICE.get(name)
    return other is not None and other in figures and np.array_equal(figures[name], figures[other])


def _meaning(name: str, figures: Mapping[str, Any], run: Mapping[str, Any]) -> tuple[str, str]:
    own, (unit, note) = name, MEANINGS.get(last_part(name), ("", ""))
    name = last_part(name)
    if own in ("rate", "elbo") and run.get("quantizer") not in (None, "gumbel"):
        note = f"{note}, of codes drawn uniformly"
    if own in ("prior/rate", "prior/elbo", "prior/bits_per_dim"):
        note = f"{note}, under the prior learned of the codes (of the replica that made them)"
    if name == "loss" and not in_nats(figures, run):
        unit = ""
    if name == "value" and run.get("objective") in _LOGARITHMIC:
        unit = "nats"
    if name == "value" and run.get("objective") == "wasserstein":
        note = f"{note}: the distance of both distributions that the critic finds"
    if (there := at_equilibrium(name, run)) is not None:
        note = f"{note}; {there[1]} at the equilibrium, and where it has learned nothing"
    if own == run.get("chosen_by"):
        note = f"{note}; the best checkpoint is that of the least"
    if name in _JUDGED and run.get("packing", 1) > 1:
        note = f"{note}; of packs of {{packing}} neighbours in the split"
    if name in _JUDGED + _SAMPLED and run.get("average"):
        note = f"{note}; {'against the last' if name in _JUDGED else 'of the averaged'} generator"
    return unit, note.format_map(_Missing(run))


def at_equilibrium(name: str, run: Mapping[str, Any]) -> tuple[float, str] | None:
    """Where the game ends whose generator makes just the data: the level of a term and its name, if it has one.

    >>> at_equilibrium("value", {"objective": "hinge"})
    (-2.0, '−2')
    """
    payoff = PAYOFFS.get(run.get("objective", ""))
    if payoff is None or name not in _JUDGED:
        return None
    if name != "value":
        return (0.5, "½") if payoff.settles else None
    level = payoff.equilibrium
    return level, "−log 4 = −1.386" if run["objective"] in _LOGARITHMIC else f"{level:g}".replace("-", "−")


class _Missing(dict):
    def __missing__(self, key: str) -> str:
        return "?"
