"""Embedded and synthetic data: scikit-learn's digits, a ring and a grid of Gaussians, stacks of digits.

A synthetic set is drawn once for a run, from the run's seed: the replicas of ``--seeds`` share it, as they share any
other set, and differ in initialization, order and noise alone.
"""

import numpy as np

from jaxgen.data.dataset import Dataset, Modes, make_dataset

NUM_TRAIN = 50_000
NUM_TEST = 10_000

# Beside seed and split: without it the words would be those that order the first two epochs, keyed by (seed, epoch).
_DOMAIN = 0x73796E74


def digits() -> Dataset:
    """scikit-learn's 1797 handwritten digits, 8×8, 17 levels: the first 1500 train, the last 297 test."""
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    images = np.asarray(pixels, np.uint8).reshape(-1, 8, 8, 1)
    labels = np.asarray(labels, np.int32)
    train = {"x": images[:1500], "label": labels[:1500]}
    test = {"x": images[1500:], "label": labels[1500:]}
    return make_dataset("digits", train, test, scale=16.0)


def ring(*, seed: int = 0) -> Dataset:
    """Eight Gaussians of standard deviation 0.01 on the unit circle, as in PacGAN's first table."""
    angles = 2 * np.pi * np.arange(8) / 8
    centers = np.stack([np.cos(angles), np.sin(angles)], axis=-1)
    return _mixture("ring", Modes(centers.astype(np.float32), 0.01), seed=seed)


def grid(*, seed: int = 0) -> Dataset:
    """Twenty-five Gaussians of standard deviation 0.05 on a grid of spacing 2, as in PacGAN's first table."""
    axis = np.arange(-4, 5, 2)
    centers = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(25, 2)
    return _mixture("grid", Modes(centers.astype(np.float32), 0.05), seed=seed)


def stacked(name: str, digits: Dataset, *, seed: int = 0) -> Dataset:
    """A digit in each of three channels, drawn independently: 1000 kinds, each as likely, as in PacGAN's second table.

    The label of an example is the number that its digits make, the first channel's the hundreds. Test examples are made
    of test digits alone.
    """
    splits = []
    for generator, size, split in zip(_generators(seed), (NUM_TRAIN, NUM_TEST), (digits.train, digits.test)):
        # A class first, then one of its digits: all kinds are then as likely, which the digits themselves are not.
        ranked = np.argsort(split["label"], kind="stable")
        counts = np.bincount(split["label"], minlength=10)
        shown = generator.integers(10, size=(size, 3))
        picked = ranked[(np.cumsum(counts) - counts)[shown] + generator.integers(counts[shown])]
        channels = [split["x"][picked[:, channel]] for channel in range(3)]
        label = shown @ np.array([100, 10, 1])
        splits.append({"x": np.concatenate(channels, axis=-1), "label": label.astype(np.int32)})
    train, test = splits
    return make_dataset(name, train, test, scale=digits.scale)


def _generators(seed: int) -> list[np.random.Generator]:
    """One for each split."""
    sequences = (np.random.SeedSequence([seed, stream, _DOMAIN]) for stream in range(2))
    return [np.random.Generator(np.random.Philox(sequence)) for sequence in sequences]


def _mixture(name: str, modes: Modes, *, seed: int) -> Dataset:
    """Equal weights; the label of an example is the mode that it was drawn from."""
    splits = []
    for generator, num_examples in zip(_generators(seed), (NUM_TRAIN, NUM_TEST)):
        label = generator.integers(len(modes.centers), size=num_examples, dtype=np.int32)
        noise = generator.standard_normal((num_examples, modes.centers.shape[-1]), dtype=np.float32)
        splits.append({"x": modes.centers[label] + np.float32(modes.scale) * noise, "label": label})
    train, test = splits
    return make_dataset(name, train, test, scale=1.0, modes=modes)
