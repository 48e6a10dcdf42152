"""What differs between runs of the same seeds, pair by pair."""

import numpy as np
from figures import Figure


def interval(differences: np.ndarray) -> tuple[float, float]:
    """The 95% confidence interval of the mean of normal draws whose variance is not known."""
    from scipy.stats import t

    count = len(differences)
    half = t.ppf(0.975, count - 1) * differences.std(ddof=1) / count**0.5
    return float(differences.mean() - half), float(differences.mean() + half)


def ratio(of: str, before: np.ndarray, after: np.ndarray) -> list[Figure]:
    """Whether a positive quantity becomes less: the geometric mean of its ratio over the pairs, and its interval."""
    logs, own = np.log(after / before), "own measurement"
    mean, low, high = (float(np.exp(end)) for end in (logs.mean(), *interval(logs)))
    return [
        Figure(f"{of}: ratio", [mean], "", None, own),
        Figure(f"{of}: ratio, lower end of 95%", [low], "", None, own),
        Figure(f"{of}: ratio, upper end of 95%", [high], "", 1.0, "own gate: less", 0.0, "below"),
    ]
