"""Disentanglement seen from a fixed set of codes and factors: MIG, DCI and SAP."""

from typing import NamedTuple

import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Float, Float64, Real

from jaxgen._checks import require_count
from jaxgen.metrics import _factors
from jaxgen.metrics._points import require_matrix


def mutual_information_gap(
    codes: Real[ArrayLike, "*shape_codes"],
    factors: Real[ArrayLike, "*shape_factors"],
    *,
    num_bins: int = 20,
) -> float:
    r"""Gap between the two latents that know most about a factor, averaged over factors.

    .. math::
        \frac1K \sum_k \frac{1}{H(v_k)} \left(I(z_{j_1}; v_k) - I(z_{j_2}; v_k)\right)

    j₁ and j₂ are the latents of largest and second largest mutual information with factor k. Codes are cut
    into bins of equal width over their range. From 0 to 1, the best: one latent, and no other, tells each
    factor. A finite sample adds about (bins − 1)(values − 1) / 2N nats to every mutual information.

    Args:
      codes: [examples, latents], two latents or more.
      factors: [examples, factors], the integer index of each factor's value.
      num_bins: bins of a code.

    Returns:
      A number in [0, 1].

    Raises:
      ValueError: if the examples differ in number, there are fewer than two latents, a factor is constant,
        a code is not finite, or `num_bins` is below 2.
      TypeError: if `factors` are not integers.

    Reference:
      Chen, Li, Grosse, Duvenaud, Isolating sources of disentanglement in variational autoencoders, 2018; with
      the histogram of Locatello and others, Challenging common assumptions, 2019.

    Example:
      >>> import numpy as np
      >>> factors = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
      >>> mutual_information_gap(factors.astype(float), factors)
      1.0
    """
    values, labels = _factors.paired(codes, factors, min_latents=2)
    num_bins = require_count("num_bins", num_bins, least=2)
    gaps = []
    for label in labels.T:
        information = np.array([_mutual_information(_bins(code, num_bins), label) for code in values.T])
        second, first = np.sort(information)[-2:]
        gaps.append((first - second) / _mutual_information(label, label))
    return float(np.mean(gaps))


def _bins(code: np.ndarray, num_bins: int) -> np.ndarray:
    """Index of the bin of equal width that each value falls in; the largest value belongs to the last bin."""
    inner_edges = np.linspace(code.min(), code.max(), num_bins + 1)[1:-1]
    return np.digitize(code, inner_edges)


def _mutual_information(a: np.ndarray, b: np.ndarray) -> float:
    """I(a; b) of two columns of indices, in nats; I(a; a) is the entropy."""
    joint = np.zeros((a.max() + 1, b.max() + 1))
    np.add.at(joint, (a, b), 1 / len(a))
    independent = joint.sum(axis=1, keepdims=True) * joint.sum(axis=0)
    seen = joint > 0
    return float(np.sum(joint[seen] * np.log(joint[seen] / independent[seen])))


class DCI(NamedTuple):
    """Disentanglement, completeness and informativeness, each best at 1."""

    disentanglement: float
    completeness: float
    informativeness: float


def dci(
    codes: Real[ArrayLike, "*shape_codes"],
    factors: Real[ArrayLike, "*shape_factors"],
    *,
    num_trees: int = 30,
    seed: int = 0,
) -> DCI:
    r"""Does each latent serve one factor, is each factor kept in one latent, and can it be read off at all?

    .. math::
        \text{D} = \sum_j \rho_j \left(1 - H_K(P_{j\cdot})\right), \qquad
        \text{C} = \frac1K \sum_k \left(1 - H_L(\tilde P_{\cdot k})\right)

    P and P̃ are the rows and columns of the latents × factors importances R, each made to sum to one; the
    entropy H is to the base of their length and ρ is a latent's share of all importance. R holds, for every
    factor, the importances of a random forest on half of the examples. Informativeness is its accuracy on the
    other half, averaged over factors.

    Args:
      codes: [examples, latents], two latents or more.
      factors: [examples, factors], two factors or more, the integer index of each factor's value.
      num_trees: trees of a forest.
      seed: of the split and the forests.

    Returns:
      `DCI(disentanglement, completeness, informativeness)`, each in [0, 1] with 1 the best.

    Raises:
      ValueError: if the examples differ in number, there are fewer than two latents or factors, a factor is
        constant, or a code is not finite.
      TypeError: if `factors` are not integers.

    Reference:
      Eastwood and Williams, A framework for the quantitative evaluation of disentangled representations,
      2018.

    Example:
      >>> import numpy as np
      >>> factors = np.array([[i % 2, i // 2 % 3] for i in range(120)])
      >>> dci(factors.astype(float), factors)
      DCI(disentanglement=1.0, completeness=1.0, informativeness=1.0)
    """
    from sklearn.ensemble import RandomForestClassifier

    num_trees, seed = require_count("num_trees", num_trees), require_count("seed", seed, least=0)
    values, labels = _factors.paired(codes, factors, min_latents=2)
    fit, held_out = _factors.split(len(values), seed)
    importances, accuracies = [], []
    for label in labels.T:
        # Every latent is offered at every node: a forest that draws latents must split on useless ones too.
        forest = RandomForestClassifier(num_trees, random_state=seed).set_params(max_features=None)
        forest.fit(values[fit], label[fit])
        importances.append(forest.feature_importances_)
        accuracies.append(np.mean(forest.predict(values[held_out]) == label[held_out]))
    return DCI(*disentanglement_completeness(np.stack(importances, axis=1)), float(np.mean(accuracies)))


def disentanglement_completeness(importances: Float[ArrayLike, "*shape"]) -> tuple[float, float]:
    r"""The D and C of DCI from any matrix of importances.

    .. math::
        \text{D} = \sum_j \rho_j \left(1 - H_K(P_{j\cdot})\right), \qquad
        \text{C} = \frac1K \sum_k \left(1 - H_L(\tilde P_{\cdot k})\right)

    P and P̃ are the rows and columns of the importances, each made to sum to one, H is the entropy to the base
    of their length, and ρ a latent's share of all importance.

    Args:
      importances: [latents, factors], not negative, two of each or more.

    Returns:
      Disentanglement and completeness, in [0, 1].

    Raises:
      ValueError: if `importances` is no such matrix, has a negative entry, or is zero throughout.

    Reference:
      Eastwood and Williams, 2018.

    Example:
      >>> import numpy as np
      >>> disentanglement_completeness(np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]]))
      (1.0, 0.684...)
    """
    require_matrix("importances", importances, min_rows=2)
    table: Float64[np.ndarray, "latents factors"] = np.asarray(importances, dtype=np.float64)
    if table.shape[1] < 2:
        raise ValueError(f"importances must have at least 2 factors, got shape {table.shape}")
    if not (table.min() >= 0 and np.isfinite(table).all() and table.sum() > 0):
        raise ValueError(
            "importances must be finite, not negative and not all zero, "
            f"got values from {table.min():g} to {table.max():g}"
        )
    shares = table.sum(axis=1) / table.sum()
    disentanglement = np.sum(shares * (1 - _relative_entropies(table)))
    return float(disentanglement), float(np.mean(1 - _relative_entropies(table.T)))


def _relative_entropies(rows: np.ndarray) -> np.ndarray:
    """Entropy of each row in units of its largest possible value; a row of zeros tells nothing and gets 1."""
    totals = rows.sum(axis=1, keepdims=True)
    shares = np.where(totals > 0, rows / np.where(totals > 0, totals, 1), 1 / rows.shape[1])
    logs = np.log(np.where(shares > 0, shares, 1))
    return -np.sum(shares * logs, axis=1) / np.log(rows.shape[1])


def sap(codes: Real[ArrayLike, "*shape_codes"], factors: Real[ArrayLike, "*shape_factors"], *, seed: int = 0) -> float:
    r"""Separated attribute predictability: gap between the two latents that alone predict a factor best.

    .. math::
        \frac1K \sum_k \left(S_{j_1 k} - S_{j_2 k}\right)

    S holds balanced accuracies (the mean recall over the factor's values) of thresholds on one latent, as
    many as the factor has values less one. They are fitted on half of the examples and scored on the other.
    From 0 to 1 − 1/values, the best: chance is 1/values even for a latent that knows nothing.

    Args:
      codes: [examples, latents], two latents or more.
      factors: [examples, factors], the integer index of each factor's value.
      seed: of the split.

    Returns:
      A number in [0, 1).

    Raises:
      ValueError: if the examples differ in number, there are fewer than two latents, a factor is constant, or
        a code is not finite.
      TypeError: if `factors` are not integers.

    Reference:
      Kumar, Sattigeri, Balakrishnan, Variational inference of disentangled latent concepts from unlabeled
      observations, 2018; later code bases put a linear support vector machine in place of the thresholds.

    Example:
      >>> import numpy as np
      >>> factors = np.array([[i % 2, i // 2 % 2] for i in range(800)])
      >>> round(sap(factors.astype(float), factors), 1)
      0.5
    """
    from sklearn.tree import DecisionTreeClassifier

    seed = require_count("seed", seed, least=0)
    values, labels = _factors.paired(codes, factors, min_latents=2)
    fit, held_out = _factors.split(len(values), seed)
    gaps = []
    for label in labels.T:
        scores = []
        for code in values.T[:, :, None]:
            tree = DecisionTreeClassifier(max_leaf_nodes=label.max() + 1, class_weight="balanced", random_state=seed)
            predictions = tree.fit(code[fit], label[fit]).predict(code[held_out])
            scores.append(_balanced_accuracy(predictions, label[held_out]))
        second, first = np.sort(scores)[-2:]
        gaps.append(first - second)
    return float(np.mean(gaps))


def _balanced_accuracy(predictions: np.ndarray, labels: np.ndarray) -> float:
    """Mean over the values present of the share of their examples that are predicted right."""
    return float(np.mean([np.mean(predictions[labels == value] == value) for value in np.unique(labels)]))
