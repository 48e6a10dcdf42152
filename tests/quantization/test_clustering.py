"""k-means against scikit-learn and the recorded inertias of the digits."""

import itertools

import jax
import numpy as np
import pytest
import scipy.stats
import sklearn.cluster
from sklearn.datasets import load_digits

from jaxgen.quantization import kmeans
from jaxgen.quantization.clustering import _seeds

# Compiled whole: run op by op, a test compiles some twenty programs where one will do.
seeds_of = jax.jit(jax.vmap(_seeds, in_axes=(0, None, None)), static_argnums=2)


def blobs(seed, dtype=np.float64):
    rng = np.random.default_rng(seed)
    return (rng.normal(0, 4, (8, 3))[rng.integers(0, 8, 400)] + rng.normal(size=(400, 3))).astype(dtype)


@pytest.mark.parametrize("shift", [0.0, 1e4])
def test_lloyd_is_scikit_learns_from_the_same_start(x64, shift):
    points = blobs(0) + shift
    ours = kmeans(jax.random.key(0), points, 12, init=points[:12])
    theirs = sklearn.cluster.KMeans(12, init=points[:12], n_init=1, max_iter=300, tol=0).fit(points)
    np.testing.assert_array_equal(ours.assignments, theirs.labels_)
    np.testing.assert_allclose(ours.centroids, theirs.cluster_centers_, rtol=1e-10)
    np.testing.assert_allclose(ours.inertia, theirs.inertia_, rtol=1e-9)


@pytest.mark.parametrize(("standardized", "best"), [(False, 1165127.5), (True, 69405.0)])
def test_inertia_of_the_digits(standardized, best):
    digits = load_digits().data.astype(np.float32)
    if standardized:
        deviation = digits.std(0)
        digits = (digits - digits.mean(0)) / np.where(deviation > 0, deviation, 1)
    inertia = float(kmeans(jax.random.key(0), digits, 10, num_restarts=30).inertia)
    assert best * (1 - 1e-5) <= inertia <= best * 1.005


def test_restarts_keep_the_best_of_the_starts():
    points = blobs(1, np.float32)
    center, key = points.mean(0), jax.random.key(5)
    centered = points - center
    starts = seeds_of(jax.random.split(key, 6), centered, 8) + center
    singles = [float(kmeans(key, points, 8, init=start).inertia) for start in starts]
    assert float(kmeans(key, points, 8, num_restarts=6).inertia) == pytest.approx(min(singles), rel=1e-5)
    assert max(singles) > min(singles) * 1.001


def test_result_is_consistent_with_its_definition():
    points = blobs(2, np.float32)
    result = kmeans(jax.random.key(0), points, 10)
    distances = np.sum((points[:, None].astype(np.float64) - np.asarray(result.centroids)) ** 2, axis=-1)
    np.testing.assert_array_equal(result.assignments, distances.argmin(1))
    np.testing.assert_allclose(result.inertia, distances.min(1).sum(), rtol=1e-5)
    means = [points[np.asarray(result.assignments) == k].mean(0) for k in range(10)]
    np.testing.assert_allclose(result.centroids, means, rtol=1e-4, atol=1e-5)
    assert 1 < int(result.num_iterations) < 300


def test_every_cluster_is_used_even_from_a_start_that_leaves_some_empty():
    points = blobs(3, np.float32)
    start = np.concatenate([points[:2], np.full((4, 3), 1e3, np.float32)])
    result = kmeans(jax.random.key(0), points, 6, init=start)
    assert np.all(np.bincount(result.assignments, minlength=6) > 0)
    fewer = kmeans(jax.random.key(0), points, 2, num_restarts=10)
    assert float(result.inertia) < float(fewer.inertia)


def test_empty_clusters_move_to_the_farthest_points_in_turn():
    points = np.append(np.arange(10.0), [100.0, -60.0]).astype(np.float32)[:, None]
    start = np.array([[4.0], [1e4], [2e4]], np.float32)
    for clusters, expected in ((2, [100.0]), (3, [100.0, -60.0])):
        result = kmeans(jax.random.key(0), points, clusters, init=start[:clusters], max_iterations=1)
        np.testing.assert_allclose(result.centroids[:, 0], [points.mean(), *expected], rtol=1e-5)


def test_as_many_clusters_as_points_leave_no_error():
    points = np.random.default_rng(0).permutation(20).astype(np.float32)[:, None] ** 2
    result = kmeans(jax.random.key(0), points, 20)
    assert float(result.inertia) == 0
    np.testing.assert_allclose(np.sort(np.asarray(result.centroids)[:, 0]), np.arange(20.0) ** 2, atol=1e-4)


def test_float32_far_from_the_origin_keeps_the_inertia_of_tight_clusters():
    # Thirds of 1/512 lie between the floats at 4096.
    points = 4096 + np.repeat([0.0, 1.0, 2.0], 3)[:, None] + np.tile([0.0, 0.0, 1 / 512], 3)[:, None]
    result = kmeans(jax.random.key(0), points.astype(np.float32), 3, init=points[::3].astype(np.float32))
    np.testing.assert_allclose(result.inertia, 2 / 512**2, rtol=1e-4)


def test_repeated_points_do_not_loop_for_ever():
    result = kmeans(jax.random.key(0), np.repeat([[1.0], [5.0]], 5, axis=0), 4)
    assert float(result.inertia) == 0
    assert int(result.num_iterations) < 300


def test_seeds_prefer_far_points():
    # Two far groups and two seeds: seeds drawn uniformly would miss a group half of the time.
    points = np.concatenate([np.zeros((500, 1)), np.full((5, 1), 100.0)]).astype(np.float32)
    points += np.random.default_rng(0).normal(0, 0.1, points.shape).astype(np.float32)
    seeds = np.asarray(seeds_of(jax.random.split(jax.random.key(0), 50), points, 2))
    assert np.all(np.sum(seeds > 50, axis=1) == 1)


def test_seeds_follow_greedy_k_means_plus_plus_by_enumeration(x64):
    """The best of two candidates drawn with weights D²: on five points every outcome can be enumerated."""
    points = np.array([0.0, 1.0, 3.0, 4.5, 9.0])
    squares = (points[:, None] - points) ** 2
    expected = np.zeros((5, 5))
    for first in range(5):
        weights = squares[first] / squares[first].sum()
        left = np.minimum(squares[first], squares).sum(axis=1)
        for one, other in itertools.product(range(5), repeat=2):
            expected[first, min((one, other), key=lambda c: left[c])] += weights[one] * weights[other] / 5
    keys = jax.random.split(jax.random.key(0), 20_000)
    seeds = np.asarray(seeds_of(keys, points[:, None], 2))[..., 0]
    found = np.zeros((5, 5))
    np.add.at(found, tuple(np.searchsorted(points, seeds).T), 1)
    possible = expected > 0
    assert np.all(found[~possible] == 0)
    assert scipy.stats.chisquare(found[possible], expected[possible] * 20_000).pvalue > 1e-3


def test_later_seeds_see_all_seeds_before():
    # Three tight groups: the third seed must leave the group of the first one alone too.
    points = np.concatenate([np.full((10, 1), c) for c in (0.0, 50.0, 51.0)]).astype(np.float32)
    seeds = seeds_of(jax.random.split(jax.random.key(0), 30), points, 3)
    np.testing.assert_array_equal(np.sort(np.asarray(seeds)[..., 0], axis=1), np.tile([0.0, 50.0, 51.0], (30, 1)))


@pytest.mark.parametrize(
    ("points", "arguments", "error", "message"),
    [
        (np.ones((3, 2)), {"num_clusters": 4}, ValueError, r"\(3, 2\) are fewer.*4"),
        (np.ones((3, 2)), {"num_clusters": 0}, ValueError, r"num_clusters.*0"),
        (np.ones(3), {"num_clusters": 1}, ValueError, r"\(3,\)"),
        (np.array([[np.nan], [1.0]]), {"num_clusters": 1}, ValueError, r"finite.*1 of 2"),
        (np.ones((3, 2)), {"num_clusters": 2, "num_restarts": 0}, ValueError, r"num_restarts.*0"),
        (np.ones((3, 2)), {"num_clusters": 2, "max_iterations": 0}, ValueError, r"max_iterations.*0"),
        (np.ones((3, 2), int), {"num_clusters": 2}, TypeError, r"points must be floating point, got int"),
        (np.ones((3, 2)), {"num_clusters": 2, "init": np.full((2, 2), np.inf)}, ValueError, r"init must be finite"),
        (np.ones((3, 2)), {"num_clusters": 2, "init": np.ones((2, 3))}, ValueError, r"\(2, 3\).*\(2, 2\)"),
    ],
)
@pytest.mark.usefixtures("as_users_call")
def test_kmeans_refuses(points, arguments, error, message):
    with pytest.raises(error, match=message):
        kmeans(jax.random.key(0), points, **arguments)
