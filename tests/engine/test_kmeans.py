"""Two-level spherical k-means."""

import itertools

import numpy as np
import pytest
from strategies import Watched, topical, unit

from refcolbert import definition
from refcolbert.engine import kmeans
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


def test_shares_are_by_size_with_largest_remainders():
    """Centroids go to cells by size, the rest to the largest remainders, first of equals, at most one a vector."""
    assert kmeans._shares(np.array([50, 30, 20]), 10).tolist() == [5, 3, 2]
    assert kmeans._shares(np.array([3, 3, 3]), 5).tolist() == [2, 2, 1]
    assert kmeans._shares(np.array([1, 9]), 5).tolist() == [1, 4]
    assert kmeans._shares(np.array([1, 1, 8]), 10).tolist() == [1, 1, 8]
    assert kmeans._shares(np.array([0, 6, 1]), 3).tolist() == [0, 3, 0]


@pytest.mark.parametrize("chunk", [1, 37, 400])
def test_chunks_change_nothing(monkeypatch, chunk):
    """Assignments and sums are the same however many similarities are held at once, at least one row of them."""
    centroids = kmeans.fit(VECTORS, 50, 0)
    exact, near = kmeans.assign_exact(VECTORS, centroids.fine), kmeans.assign(VECTORS, centroids)
    sums = kmeans._cluster_sums(VECTORS, exact, 50)
    monkeypatch.setattr(kmeans, "CHUNK", chunk)
    assert kmeans.assign_exact(VECTORS[:300], centroids.fine).tolist() == exact[:300].tolist()
    assert kmeans.assign(VECTORS[:300], centroids).tolist() == near[:300].tolist()
    assert np.allclose(kmeans._cluster_sums(VECTORS, exact, 50), sums, atol=1e-4)


def test_sums_are_of_each_cluster():
    """Row c is the sum of the vectors with code c, zero for an empty cluster."""
    codes = np.random.default_rng(0).integers(0, 4, len(VECTORS))
    found = kmeans._cluster_sums(VECTORS, codes, 6)
    expected = [VECTORS[codes == c].astype(np.float64).sum(axis=0) for c in range(6)]
    assert np.abs(found - expected).max() <= 1e-3
    assert (found[4:] == 0).all()


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
    """After one step, a centroid that lost all its vectors lies on the vector farthest from its own centroid."""
    monkeypatch.setattr(kmeans, "ITERATIONS", 1)
    vectors = np.float32([[1, 0], [1, 0], [1, 0], [0.8, 0.6], [0.6, 0.8], [0, 1]])

    class Drawn:
        def choice(self, n, k, replace):
            assert (n, k, replace) == (6, 3, False)
            return np.array([2, 0, 3])

    found = kmeans._lloyd(vectors, 3, Drawn())
    middle = vectors[3:].sum(axis=0)
    assert np.allclose(found, [[1, 0], [0, 1], middle / np.linalg.norm(middle)], atol=1e-6)


def test_a_cluster_that_cancels_out_stays_where_it_was(monkeypatch):
    """Vectors whose sum is zero leave their centroid alone."""
    monkeypatch.setattr(kmeans, "ITERATIONS", 2)
    vectors = np.float32([[0, 1], [0, -1], [0, 1], [0, -1]])
    found = kmeans._lloyd(vectors, 1, np.random.default_rng(0))
    assert np.abs(found).tolist() == [[0.0, 1.0]]


def test_a_sample_finds_the_coarse_centroids(monkeypatch):
    """Coarse centroids are fitted to about COARSE_POINTS vectors each, evenly spaced, fine ones to all."""
    seen, lloyd = [], kmeans._lloyd
    monkeypatch.setattr(kmeans, "_lloyd", lambda v, k, rng: seen.append((len(v), k)) or lloyd(v, k, rng))
    monkeypatch.setattr(kmeans, "COARSE_POINTS", 10)
    kmeans.fit(VECTORS, 49, 0)
    step = len(VECTORS) // 70
    assert seen[0] == (-(-len(VECTORS) // step), 7)
    assert sum(n for n, _ in seen[1:]) == len(VECTORS)
    assert sum(k for _, k in seen[1:]) == 49
    seen.clear()
    kmeans.fit(VECTORS[:20], 16, 0)
    assert seen[0] == (20, 4)
    seen.clear()
    assert len(kmeans.fit(VECTORS, 1, 0)) == 1
    assert seen[0][1] == 1


def test_centroid_counts_are_limited(monkeypatch):
    """Never more than MAX_CENTROIDS, which fits a code of two bytes."""
    assert kmeans.MAX_CENTROIDS == 2**16
    assert kmeans.centroid_count(10**9) == 2**16
    assert kmeans.centroid_count(2) == 2
    assert [kmeans.centroid_count(n) for n in (15_876, 16_384, 16_385)] == [1024, 2048, 2048]


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
def test_as_many_similarities_are_held_at_once_as_allowed(monkeypatch, chunk, rows):
    """Assignment and sums take as many vectors at once as CHUNK similarities call for, one at least."""
    monkeypatch.setattr(kmeans, "CHUNK", chunk)
    fine = VECTORS[:5]
    centroids = kmeans.Centroids(fine, fine[:1], np.array([0, 5]))
    calls = (
        lambda v: kmeans.assign_exact(v, fine),
        lambda v: kmeans._cluster_sums(v, np.zeros(10, np.int64), 5),
        lambda v: kmeans.assign(v, centroids, probes=1),
    )
    for call in calls:
        vectors = Watched.of(VECTORS[:10])
        call(vectors)
        assert vectors.taken == [rows] * (10 // rows) + [10 % rows] * (10 % rows > 0)


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


def test_few_vectors_are_assigned_alone(monkeypatch):
    """Only those that are equally near to two, to rounding: of vectors at random next to none, of tied ones all."""
    alone, one = [], kmeans._assign_one
    monkeypatch.setattr(kmeans, "_assign_one", lambda x, *rest: alone.append(x) or one(x, *rest))
    rng = np.random.default_rng(6)
    centroids = kmeans.Centroids(unit(rng, 24, 64), unit(rng, 6, 64), np.arange(0, 25, 4))
    kmeans.assign(unit(rng, 2000, 64), centroids)
    many = kmeans.Centroids(unit(rng, 1200, 64), unit(rng, 600, 64), np.arange(0, 1201, 2))
    kmeans.assign(unit(rng, 500, 64), many)
    assert len(alone) < 20
    alone.clear()
    kmeans.assign(between(rng, 50, 64), kmeans.Centroids(mirrored(rng, 24, 64), centroids.coarse, centroids.starts))
    assert len(alone) == 50


@pytest.mark.parametrize("probes", [1, 3, 6])
def test_one_vector_is_assigned_as_many_are(probes):
    """What is assigned alone gets the best centroid of its best cells, as all others do."""
    rng = np.random.default_rng(7)
    centroids = kmeans.Centroids(unit(rng, 24, 16), unit(rng, 6, 16), np.array([0, 1, 5, 9, 16, 20, 24]))
    vectors = unit(rng, 200, 16)
    together = kmeans.assign(vectors, centroids, probes).tolist()
    assert [kmeans._assign_one(x, centroids, probes) for x in vectors] == together


def test_slack_is_twice_the_rounding_of_a_product():
    """Of dim products and sums, and four roundings more, on either side."""
    assert kmeans._float32_margin(128) == pytest.approx(2 * 132 * 2.0**-24, rel=1e-12)


def test_products_are_exact_to_float64():
    """A product of float32 numbers has room in float64, so a sum is off by its own roundings alone."""
    rng = np.random.default_rng(8)
    x, rows = unit(rng, 1, 96)[0], unit(rng, 5, 96)
    expected = [definition.dot(x, row) for row in rows]
    assert kmeans._products(x, rows) == pytest.approx(expected, rel=0, abs=1e-15)
