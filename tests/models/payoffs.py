"""What both players of a game play for, in NumPy."""

import numpy as np
from scipy.special import log_expit

#: Losses of the discriminator, of logits of real and generated examples, and of the generator.
OBJECTIVES = {
    "non_saturating": (lambda r, f: -log_expit(r) - log_expit(-f), lambda f: -log_expit(f)),
    "minimax": (lambda r, f: -log_expit(r) - log_expit(-f), lambda f: log_expit(-f)),
    "hinge": (lambda r, f: np.maximum(0, 1 - r) + np.maximum(0, 1 + f), lambda f: -f),
    "least_squares": (lambda r, f: ((r - 1) ** 2 + f**2) / 2, lambda f: (f - 1) ** 2 / 2),
    "wasserstein": (lambda r, f: f - r, lambda f: -f),
}
