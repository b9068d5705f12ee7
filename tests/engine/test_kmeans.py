"""Two-level spherical k-means."""

import itertools
import sys
import tracemalloc

import numpy as np
import pytest
from strategies import Watched, topical, unit

from refcolbert import definition
from refcolbert.engine import kmeans
from refcolbert.errors import InvalidInput


@pytest.fixture(scope="module")
def vectors():
    """Token vectors of 120 documents: about 2,000 unit rows of dim 16."""
    return topical(np.random.default_rng(7), 120, 16).vectors


def objective(vectors, fine):
    """Sum of each vector's similarity to its nearest centroid."""
    return float((vectors.astype(np.float64) @ fine.T.astype(np.float64)).max(axis=1).sum())


@pytest.mark.parametrize("k", [1, 2, 7, 64, 300])
def test_fit_gives_unit_centroids_grouped_by_cell(vectors, k):
    """`fit` gives exactly k unit centroids, and the ranges of the cells cover them."""
    centroids = kmeans.fit(vectors, k, seed=0)
    assert centroids.fine.shape == (k, 16)
    assert np.abs(np.linalg.norm(centroids.fine, axis=1) - 1).max() < 1e-6
    assert (centroids.starts[0], centroids.starts[-1]) == (0, k)
    assert (np.diff(centroids.starts) > 0).all()


def test_the_seed_alone_decides(vectors):
    """The same seed gives the same bytes, another seed gives others (30)."""
    a, b, c = (kmeans.fit(vectors, 32, seed).fine.tobytes() for seed in (3, 3, 4))
    assert a == b
    assert a != c


def test_fit_beats_random_centroids(vectors):
    """Fitting raises the objective well above that of randomly chosen vectors."""
    random = vectors[np.random.default_rng(0).choice(len(vectors), 40, replace=False)]
    assert objective(vectors, kmeans.fit(vectors, 40, 0).fine) > objective(vectors, random)


def test_the_objective_never_falls_from_step_to_step(monkeypatch, vectors):
    """More iterations never make the clustering worse (30), where one coarse cell makes it plain k-means."""
    values = []
    for steps in range(6):
        monkeypatch.setattr(kmeans, "ITERATIONS", steps)
        values.append(objective(vectors, kmeans.fit(vectors, 2, seed=1).fine))
    assert all(later >= earlier - 1e-3 for earlier, later in itertools.pairwise(values))
    assert values[-1] > values[0]


def test_assign_with_every_cell_probed_is_nearest(vectors):
    """With all coarse cells compared, assignment equals the exact nearest centroid (25)."""
    centroids = kmeans.fit(vectors, 50, 0)
    expected = [definition.nearest(x, centroids.fine) for x in vectors[:60].tolist()]
    assert kmeans.assign(vectors[:60], centroids, probes=1000).tolist() == expected
    assert kmeans.assign_exact(vectors[:60], centroids.fine).tolist() == expected


def test_two_level_assignment_mostly_agrees_with_exact(vectors):
    """The default probes find the nearest centroid for at least 95 of 100 vectors."""
    centroids = kmeans.fit(vectors, 200, 0)
    agreement = (kmeans.assign(vectors, centroids) == kmeans.assign_exact(vectors, centroids.fine)).mean()
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
def test_impossible_counts_are_refused(vectors, k):
    """There must be between one centroid and as many as vectors."""
    with pytest.raises(InvalidInput):
        kmeans.fit(vectors[:60], k, 0)


@pytest.mark.parametrize(
    ("n_tokens", "expected"),
    [(1, 1), (2, 2), (10, 10), (256, 256), (15_876, 1024), (16_384, 2048), (704_870, 8192), (10**9, 2**16)],
)
def test_centroid_count_is_the_rule_of_plaid(n_tokens, expected):
    """A power of two near 16 sqrt(n), never more than n, and never more than a code of two bytes can tell apart."""
    assert kmeans.centroid_count(n_tokens) == expected


@pytest.mark.parametrize(
    ("sizes", "k", "expected"),
    [([50, 30, 20], 10, [5, 3, 2]), ([1, 1, 8], 10, [1, 1, 8]), ([8, 5, 7], 7, [3, 2, 2]), ([3, 3, 3], 8, [3, 3, 2])],
)
def test_cells_get_centroids_by_size(sizes, k, expected):
    """Centroids go to cells by size, the rest to the largest remainders, first of equals, at most one per vector."""
    centroids = kmeans.fit(np.repeat(np.eye(3, dtype=np.float32), sizes, axis=0), k, seed=0)
    axes = centroids.coarse.argmax(axis=1).tolist()  # the axis of each cell
    assert sorted(axes) == [0, 1, 2]
    shares = np.diff(centroids.starts).tolist()
    assert shares == (expected if len(set(sizes)) == 1 else [expected[axis] for axis in axes])


@pytest.mark.parametrize("chunk", [1, 37, 400])
def test_chunks_change_nothing(monkeypatch, vectors, chunk):
    """Centroids and assignments are the same however many similarities are in memory at a time."""
    centroids = kmeans.fit(vectors, 50, 0)
    exact, near = kmeans.assign_exact(vectors, centroids.fine), kmeans.assign(vectors, centroids)
    monkeypatch.setattr(kmeans, "CHUNK", chunk)
    assert kmeans.assign_exact(vectors[:300], centroids.fine).tolist() == exact[:300].tolist()
    assert kmeans.assign(vectors[:300], centroids).tolist() == near[:300].tolist()
    assert np.allclose(kmeans.fit(vectors, 50, 0).fine, centroids.fine, atol=1e-4)


def test_centroids_are_the_normalized_sums_of_their_vectors(monkeypatch, vectors):
    """After one step from two of the vectors, each centroid is the direction of the sum of those nearest to it."""
    monkeypatch.setattr(kmeans, "ITERATIONS", 0)
    start = kmeans.fit(vectors, 2, 0).fine
    codes = definition.assign(vectors.tolist(), start.tolist())
    sums = np.stack([vectors[np.equal(codes, c)].sum(axis=0, dtype=np.float64) for c in (0, 1)])
    monkeypatch.setattr(kmeans, "ITERATIONS", 1)
    expected = sums / np.linalg.norm(sums, axis=1, keepdims=True)
    assert np.abs(kmeans.fit(vectors, 2, 0).fine - expected).max() < 1e-6


def test_probes_are_the_nearest_cells():
    """With one probe a vector gets the best centroid of its nearest coarse cell, with two the best of both."""
    fine = np.float32([[1, 0], [0.8, 0.6], [0, 1], [-0.6, 0.8]])
    centroids = kmeans.Centroids(fine, np.float32([[1, 0], [0, 1]]), np.array([0, 2, 4]))
    vectors = np.float32([[0.6, 0.8], [1, 0], [-1, 0.1], [0.65, 0.75]])
    one = [2 * int(x[1] > x[0]) + int((fine[2 * int(x[1] > x[0]) :][:2] @ x).argmax()) for x in vectors]
    assert kmeans.assign(vectors, centroids, probes=1).tolist() == one
    assert kmeans.assign(vectors, centroids, probes=2).tolist() == (vectors @ fine.T).argmax(axis=1).tolist()
    assert one != (vectors @ fine.T).argmax(axis=1).tolist()


def test_an_empty_cluster_moves_onto_the_worst_placed_vector(monkeypatch):
    """After one step, a centroid that lost all its vectors lies on the vector farthest from its own new centroid."""
    vectors = np.float32([[1, 0]] * 30 + [[0, 1]] * 40 + [[0, -1]])
    monkeypatch.setattr(kmeans, "ITERATIONS", 0)
    seed = next(seed for seed in range(99) if (kmeans.fit(vectors, 2, seed).fine == [1, 0]).all())
    monkeypatch.setattr(kmeans, "ITERATIONS", 1)
    assert np.allclose(kmeans.fit(vectors, 2, seed).fine, [[30 / 49.2, 39 / 49.2], [0, -1]], atol=1e-3)


def test_a_cluster_that_cancels_out_stays_where_it_was():
    """Vectors whose sum is zero leave their centroid alone."""
    vectors = np.float32([[0, 1], [0, -1], [0, 1], [0, -1]])
    assert np.abs(kmeans.fit(vectors, 1, 0).fine).tolist() == [[0.0, 1.0]]


def test_a_sample_finds_the_coarse_centroids(monkeypatch):
    """Coarse centroids are fitted to about COARSE_POINTS vectors each, evenly spaced, fine ones to all."""
    vectors = np.tile(np.float32([[1, 0, 0], [0, 0, 1], [0, 0, 1], [0, 1, 0], [0, 0, 1], [0, 0, 1]]), (10, 1))
    assert kmeans.fit(vectors, 4, 0).coarse[:, 2].max() > 0
    monkeypatch.setattr(kmeans, "COARSE_POINTS", 10)  # times 2 coarse centroids: one in 3 of the 60 vectors
    centroids = kmeans.fit(vectors, 4, 0)
    assert (len(centroids.coarse), centroids.coarse[:, 2].tolist()) == (2, [0, 0])
    assert objective(vectors, centroids.fine) == pytest.approx(60)


@pytest.mark.parametrize("probes", [1, 2, 7, 300, 600])
def test_only_the_nearest_cells_are_compared(probes):
    """Of many cells, the `probes` nearest give the candidates and the best of those is the answer, as by full sorts."""
    rng = np.random.default_rng(4)
    coarse, fine, vectors = unit(rng, 600, 6), unit(rng, 1200, 6), unit(rng, 40, 6)  # fine ones lie anywhere
    expected = []
    for x in vectors:
        cells = np.argsort(-(coarse @ x), kind="stable")[:probes]
        numbers = np.sort(np.concatenate([np.arange(2 * c, 2 * c + 2) for c in cells]))
        expected.append(int(numbers[(fine[numbers] @ x).argmax()]))
    centroids = kmeans.Centroids(fine, coarse, np.arange(0, 1201, 2))
    assert kmeans.assign(vectors, centroids, probes).tolist() == expected


def test_a_cell_without_a_share_is_left_out():
    """A coarse cell too small for a fine centroid of its own does not appear."""
    vectors = np.concatenate([np.tile(np.float32([[1, 0]]), (999, 1)), np.float32([[0, 1]])])
    centroids = kmeans.fit(vectors, 4, 0)
    assert (len(centroids.coarse), centroids.starts.tolist()) == (1, [0, 4])
    assert kmeans.assign(vectors, centroids).shape == (1000,)


@pytest.mark.parametrize(("chunk", "rows"), [(20, 4), (1, 1)])
def test_assigning_compares_as_many_vectors_at_a_time_as_allowed(monkeypatch, vectors, chunk, rows):
    """Assignment takes as many vectors at a time as CHUNK similarities call for, one at least."""
    monkeypatch.setattr(kmeans, "CHUNK", chunk)
    fine = vectors[:5]
    centroids = kmeans.Centroids(fine, fine[:1], np.array([0, 5]))
    for assign in (lambda x: kmeans.assign_exact(x, fine), lambda x: kmeans.assign(x, centroids, probes=1)):
        watched = Watched.of(vectors[:10])
        assign(watched)
        assert watched.taken == [rows] * (10 // rows) + [10 % rows] * (10 % rows > 0)


def test_fitting_needs_little_memory(monkeypatch):
    """Fitting never has a matrix of all vectors by all coarse centroids in memory."""
    monkeypatch.setattr(kmeans, "CHUNK", 1 << 14)
    vectors = unit(np.random.default_rng(0), 16_000, 2)
    tracemalloc.start()
    kmeans.fit(vectors, 4096, 0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16_000 * 64 * 4 / 2


def mirrored(rng, n, dim):
    """[n, dim] unit rows, every second one the row before it with its halves exchanged."""
    one = unit(rng, n // 2, dim)
    return np.stack([one, np.roll(one, dim // 2, axis=1)], axis=1).reshape(n, dim)


def between(rng, n, dim):
    """[n, dim] unit rows of two equal halves: a row and its mirror image are equally near, whatever they are."""
    half = unit(rng, n, dim // 2)
    return np.concatenate([half, half], axis=1) / np.sqrt(np.float32(2))


@pytest.mark.parametrize("dim", [16, 96, 128])
@pytest.mark.parametrize("tied", ["fine", "coarse", "across cells"])
def test_equally_near_centroids_do_not_depend_on_the_batch(dim, tied):
    """Where the order of a float32 sum alone tells centroids or cells apart, the batch changes no assignment (51)."""
    rng = np.random.default_rng(5)
    fine, coarse = mirrored(rng, 24, dim), unit(rng, 6, dim)
    if tied == "coarse":
        fine, coarse = unit(rng, 24, dim), mirrored(rng, 6, dim)
    elif tied == "across cells":
        fine = np.concatenate([fine[::2], fine[1::2]])
    centroids = kmeans.Centroids(fine, coarse, np.arange(0, 25, 4))
    vectors = between(rng, 300, dim)
    for probes in (3, 6):
        together = kmeans.assign(vectors, centroids, probes)
        for n in (1, 2, 7, 65):
            parts = [kmeans.assign(vectors[i : i + n], centroids, probes) for i in range(0, 300, n)]
            assert np.concatenate(parts).tolist() == together.tolist()


@pytest.mark.parametrize("probes", [1, 3, 6])
def test_equally_near_centroids_are_the_best_of_the_nearest_cells(probes):
    """A vector between two centroids gets one of them, and never one of a cell that is not probed."""
    rng = np.random.default_rng(7)
    fine, coarse, starts = mirrored(rng, 24, 16), unit(rng, 6, 16), np.array([0, 2, 6, 10, 16, 20, 24])
    vectors = between(rng, 200, 16)
    codes = kmeans.assign(vectors, kmeans.Centroids(fine, coarse, starts), probes)
    similarities = vectors.astype(np.float64) @ fine.T  # [n, n_fine]
    cells = np.argsort(-(vectors @ coarse.T), axis=1)[:, :probes]  # [n, probes]
    probed = (np.repeat(np.arange(6), np.diff(starts)) == cells[:, :, None]).any(axis=1)  # [n, n_fine]
    best = np.where(probed, similarities, -np.inf).max(axis=1)
    assert probed[np.arange(200), codes].all()
    assert similarities[np.arange(200), codes] == pytest.approx(best, abs=1e-12)


def test_float64_decides_where_float32_cannot():
    """Of centroids that differ in the last bit of some components, the nearest by the definition is found."""
    rng = np.random.default_rng(8)
    fine = np.repeat(unit(rng, 1, 96), 8, axis=0)
    for row in fine[1:]:
        places = rng.integers(0, 96, 9)
        row[places] = np.nextafter(row[places], np.float32(1))
    vectors = unit(rng, 60, 96)
    expected = definition.assign(vectors.tolist(), fine.tolist())
    centroids = kmeans.Centroids(fine, fine[:2], np.array([0, 3, 8]))
    assert kmeans.assign(vectors, centroids).tolist() == expected


def test_random_vectors_are_assigned_by_matrix_products():
    """Assigning vectors without near ties makes fewer function calls than there are vectors."""
    rng = np.random.default_rng(6)
    vectors, centroids = unit(rng, 2000, 64), kmeans.Centroids(unit(rng, 24, 64), unit(rng, 6, 64), np.arange(0, 25, 4))
    calls = []
    sys.setprofile(lambda frame, event, argument: calls.append(event))
    kmeans.assign(vectors, centroids)
    sys.setprofile(None)
    assert 0 < len(calls) < len(vectors)
