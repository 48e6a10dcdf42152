"""Disentanglement seen from groups of examples that share one factor: the β-VAE and FactorVAE scores."""

import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Real

from jaxgen._checks import as_non_negative_number, require_count
from jaxgen.metrics import _factors


def factor_vae_score(
    codes: Real[ArrayLike, "*shape_codes"],
    factors: Real[ArrayLike, "*shape_factors"],
    *,
    num_votes: int = 800,
    group_size: int = 64,
    threshold: float | int = 0.05,
    seed: int = 0,
) -> float:
    r"""Accuracy with which the latent that varies least in a group names the factor that the group shares.

    .. math::
        j^* = \arg\min_j \frac{\operatorname{Var}_{\text{group}}(z_j)}{\operatorname{Var}(z_j)}, \qquad
        \hat k(j) = \arg\max_k \#\{\text{votes } (j, k)\}

    A vote picks a factor k, an example, and a group with the same value of k. The majority of the first votes
    gives k̂; as many fresh votes score it. From chance, 1 / number of factors, to 1, the best; 0 where no
    latent is active.

    Args:
      codes: [examples, latents].
      factors: [examples, factors], the integer index of each factor's value.
      num_votes: votes that fit the majority, and again as many that score it.
      group_size: examples of a group, drawn with replacement.
      threshold: variance at or below which a latent counts as collapsed and is left out, in squared units of
        the codes.
      seed: of the draws.

    Returns:
      A number in [0, 1].

    Raises:
      ValueError: if the examples differ in number, a factor is constant or has a value with one example only,
        a code is not finite, `num_votes` is below 1, `group_size` below 2, or `threshold` negative.
      TypeError: if `factors` are not integers.

    Reference:
      Kim and Mnih, Disentangling by factorising, 2018, section 4.

    Example:
      >>> import numpy as np
      >>> factors = np.array([[i % 2, i // 2 % 2] for i in range(80)])
      >>> factor_vae_score(factors.astype(float), factors)
      1.0
    """
    values, labels = _factors.paired(codes, factors)
    num_votes, group_size, seed = _check_draws(labels, num_votes, group_size, seed)
    as_non_negative_number("threshold", threshold, np.float32)
    values = _factors.active(values, threshold)
    if values.shape[1] == 0:
        return 0.0
    groups = _Groups(labels, seed)
    table = np.zeros((values.shape[1], labels.shape[1]), dtype=int)
    fresh = np.zeros_like(table)
    for votes in (table, fresh):
        for _ in range(num_votes):
            shared, members = groups.draw(group_size)
            votes[values[members].var(axis=0).argmin(), shared] += 1
    predicted = table.argmax(axis=1)
    return float(fresh[np.arange(len(fresh)), predicted].sum() / num_votes)


def beta_vae_score(
    codes: Real[ArrayLike, "*shape_codes"],
    factors: Real[ArrayLike, "*shape_factors"],
    *,
    num_votes: int = 800,
    group_size: int = 64,
    threshold: float | int = 0.05,
    seed: int = 0,
) -> float:
    r"""Accuracy of a linear classifier that names the factor which pairs of examples share.

    .. math::
        \bar z = \frac1L \sum_{l=1}^L |z_{l,1} - z_{l,2}|, \qquad \hat k = \text{linear classifier}(\bar z)

    The two examples of each of the L pairs have the same value of factor k, which every pair draws anew; the
    other factors vary. Codes and their mean differences are scaled to unit variance. The first points fit a
    logistic regression; as many fresh ones score it. From chance, 1 / number of factors, to 1, the best; 0
    where no latent is active. It asks for less than the other scores: codes that mix factors unequally, or
    keep one factor in several latents, reach 1 too.

    Args:
      codes: [examples, latents].
      factors: [examples, factors], two factors or more, the integer index of each factor's value.
      num_votes: points z̄ that fit the classifier, and again as many that score it.
      group_size: the pairs L behind a point.
      threshold: variance at or below which a latent counts as collapsed and is left out, in squared units of
        the codes.
      seed: of the draws.

    Returns:
      A number in [0, 1].

    Raises:
      ValueError: if the examples differ in number, a factor is constant or has a value with one example only,
        there is one factor only, a code is not finite, `num_votes` is so small that a factor is never drawn for
        the fit, `group_size` is below 2, or `threshold` negative.
      TypeError: if `factors` are not integers.

    Reference:
      Higgins and others, β-VAE: learning basic visual concepts with a constrained variational framework,
      2017, section 3.

    Example:
      >>> import numpy as np
      >>> factors = np.array([[i % 2, i // 2 % 2] for i in range(80)])
      >>> beta_vae_score(factors.astype(float), factors)
      1.0
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    values, labels = _factors.paired(codes, factors)
    num_votes, group_size, seed = _check_draws(labels, num_votes, group_size, seed)
    as_non_negative_number("threshold", threshold, np.float32)
    if labels.shape[1] < 2:
        raise ValueError(f"factors must have at least 2 columns, got shape {labels.shape}")
    values = _factors.active(values, threshold)
    if values.shape[1] == 0:
        return 0.0
    groups = _Groups(labels, seed)
    differences, targets = [], []
    for _ in range(2 * num_votes):
        shared, first, second = groups.draw_pairs(group_size)
        differences.append(np.abs(values[first] - values[second]).mean(axis=0))
        targets.append(shared)
    undrawn = set(range(labels.shape[1])) - set(targets[:num_votes])
    if undrawn:
        raise ValueError(
            f"num_votes must be large enough that every factor is drawn to fit the classifier, got {num_votes} without "
            f"factor {min(undrawn)}; the default is 800"
        )
    classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    classifier.fit(differences[:num_votes], targets[:num_votes])
    return float(np.mean(classifier.predict(differences[num_votes:]) == targets[num_votes:]))


class _Groups:
    """Random groups of examples that share the value of a random factor."""

    def __init__(self, labels: np.ndarray, seed: int):
        self.labels = labels
        self.generator = np.random.default_rng(seed)
        # The examples of a factor sorted by its value: those of one value are a slice.
        self.order = np.argsort(labels, axis=0, kind="stable")
        self.counts = [np.bincount(column) for column in labels.T]
        self.starts = [np.cumsum(counts) - counts for counts in self.counts]

    def draw(self, size: int) -> tuple[int, np.ndarray]:
        """A factor, and `size` examples that share its value with one random example."""
        shared, leader = self._factor(), self._examples(1)
        return shared, self._partners(shared, np.repeat(leader, size))

    def draw_pairs(self, size: int) -> tuple[int, np.ndarray, np.ndarray]:
        """A factor, and `size` pairs of examples; the value may differ between pairs, not within one."""
        shared, first = self._factor(), self._examples(size)
        return shared, first, self._partners(shared, first)

    def _factor(self) -> int:
        return int(self.generator.integers(self.labels.shape[1]))

    def _examples(self, size: int) -> np.ndarray:
        return self.generator.integers(len(self.labels), size=size)

    def _partners(self, shared: int, examples: np.ndarray) -> np.ndarray:
        """For each example, a random one with the same value of the shared factor."""
        values = self.labels[examples, shared]
        offsets = self.generator.integers(self.counts[shared][values])
        return self.order[self.starts[shared][values] + offsets, shared]


def _check_draws(labels: np.ndarray, num_votes: int, group_size: int, seed: int) -> tuple[int, int, int]:
    """The three counts in range, and no value so rare that its group is one example repeated."""
    counts = (
        require_count("num_votes", num_votes),
        require_count("group_size", group_size, least=2),
        require_count("seed", seed, least=0),
    )
    rare = [k for k, column in enumerate(labels.T) if np.bincount(column).min() < 2]
    if rare:
        raise ValueError(
            f"factors must show each value at least twice, got a value with one example in column {rare[0]}; "
            "pass more examples or merge values"
        )
    return counts
