"""Two-level spherical k-means."""

import itertools

import numpy as np
import pytest
from strategies import topical, unit

from refcolbert import definition, kmeans
from refcolbert.errors import InvalidInput

RNG = np.random.default_rng(7)
VECTORS = topical(RNG, 120, 16).vectors


def objective(vectors, fine):
    """Sum of each vector's similarity to its nearest centroid."""
    return float((vectors.astype(np.float64) @ fine.T.astype(np.float64)).max(axis=1).sum())


@pytest.mark.parametrize("k", [1, 2, 7, 64, 300])
def test_fit_gives_unit_centroids_grouped_by_cell(k):
    """There are exactly k unit centroids and the cells' ranges cover them."""
    centroids = kmeans.fit(VECTORS, k, seed=0)
    assert centroids.fine.shape == (k, 16)
    assert np.abs(np.linalg.norm(centroids.fine, axis=1) - 1).max() < 1e-6
    assert centroids.starts[0] == 0
    assert centroids.starts[-1] == k
    assert (np.diff(centroids.starts) > 0).all()


def test_same_seed_same_bytes_other_seed_other():
    """The seed decides, nothing else (30)."""
    a, b, c = (kmeans.fit(VECTORS, 32, seed).fine.tobytes() for seed in (3, 3, 4))
    assert a == b
    assert a != c


def test_fit_beats_random_centroids():
    """Fitting raises the objective well above that of randomly chosen vectors."""
    rng = np.random.default_rng(0)
    random = VECTORS[rng.choice(len(VECTORS), 40, replace=False)]
    assert objective(VECTORS, kmeans.fit(VECTORS, 40, 0).fine) > objective(VECTORS, random)


def test_objective_never_falls_from_step_to_step(monkeypatch):
    """More iterations never make the clustering worse (30): checked on plain k-means, one level."""
    values = []
    for steps in range(6):
        monkeypatch.setattr(kmeans, "ITERATIONS", steps)
        fine = kmeans._lloyd(VECTORS, 12, np.random.default_rng(1))
        values.append(objective(VECTORS, fine))
    assert all(later >= earlier - 1e-3 for earlier, later in itertools.pairwise(values))
    assert values[-1] > values[0]


def test_assign_with_every_cell_probed_is_nearest():
    """With all coarse cells compared, assignment equals the exact nearest centroid (25)."""
    centroids = kmeans.fit(VECTORS, 50, 0)
    expected = [definition.nearest(x, centroids.fine) for x in VECTORS[:60].tolist()]
    assert kmeans.assign(VECTORS[:60], centroids, probes=1000).tolist() == expected
    assert kmeans.assign_exact(VECTORS[:60], centroids.fine).tolist() == expected


def test_two_level_assignment_mostly_agrees_with_exact():
    """The default probes find the nearest centroid for at least 95 of 100 vectors."""
    centroids = kmeans.fit(VECTORS, 200, 0)
    agreement = (kmeans.assign(VECTORS, centroids) == kmeans.assign_exact(VECTORS, centroids.fine)).mean()
    assert agreement >= 0.95


def test_equal_similarities_go_to_the_lower_centroid():
    """Ties are broken by number, also across cells."""
    fine = np.array([[1, 0], [0, 1], [1, 0], [0, 1]], np.float32)
    centroids = kmeans.Centroids(fine, fine[:2], np.array([0, 2, 4]))
    assert kmeans.assign(np.array([[1, 0], [0, 1]], np.float32), centroids, probes=2).tolist() == [0, 1]


def test_identical_vectors_can_be_clustered():
    """Duplicates leave clusters empty without an error or a NaN."""
    vectors = np.repeat(unit(np.random.default_rng(0), 3, 8), 20, axis=0)
    centroids = kmeans.fit(vectors, 30, 0)
    assert np.isfinite(centroids.fine).all()
    assert objective(vectors, centroids.fine) == pytest.approx(60, abs=1e-4)


@pytest.mark.parametrize("k", [0, 61])
def test_impossible_counts_are_refused(k):
    """There must be between one centroid and as many as vectors."""
    with pytest.raises(InvalidInput):
        kmeans.fit(VECTORS[:60], k, 0)


@pytest.mark.parametrize(("n_tokens", "expected"), [(1, 1), (10, 10), (256, 256), (704_870, 8192), (1_860_000, 16384)])
def test_centroid_count_is_the_rule_of_plaid(n_tokens, expected):
    """A power of two near 16 sqrt(n), never more than n."""
    assert kmeans.centroid_count(n_tokens) == expected
