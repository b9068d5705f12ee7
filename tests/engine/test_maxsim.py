"""MaxSim against its definition, and the algebra it must obey (numbers as in docs/conformance-results.md)."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import Watched, grid, grid_case, unit_case

from refcolbert import Ragged, definition, maxsim
from refcolbert.engine.maxsim import (
    canonical_scores,
    float32_error_bound,
    pairwise_sum,
    possible_top_k,
    score,
    scores,
    similarities,
)
from refcolbert.errors import InvalidInput


def bound(q, documents):
    """The derived tolerance g(dim) sum|q_i| max|d_j|."""
    return float(float32_error_bound(q, float(np.linalg.norm(documents.vectors, axis=1).max())).sum())


@given(grid_case())
def test_equals_definition_exactly_on_grid(case):
    """`score` and `scores` equal the triple loop bit for bit when float32 is exact."""
    q, documents = case
    expected = [definition.maxsim(q, d) for d in documents]
    assert [score(q, d) for d in documents] == expected
    assert scores(q, documents).tolist() == expected


@given(unit_case())
def test_equals_definition_within_derived_bound(case):
    """On unit vectors the batched form is within its bound and the canonical one within float64 rounding (14)."""
    q, documents = case
    expected = np.array([definition.maxsim(q, d) for d in documents])
    assert np.abs(scores(q, documents) - expected).max() <= bound(q, documents)
    assert np.abs(np.array([score(q, d) for d in documents]) - expected).max() <= len(q) * documents.dim * 2.0**-52


@given(grid_case(docs=1), st.data())
def test_algebra_on_grid(case, data):
    """Order, duplication, union, additivity and scaling behave as max and sum do (1-6, 10)."""
    q, documents = case
    d = documents[0]
    s = score(q, d)
    rows = data.draw(st.permutations(range(len(d))), label="permutation of d")
    query_rows = data.draw(st.permutations(range(len(q))), label="permutation of q")
    assert score(q, d[rows]) == s
    assert score(q[query_rows], d) == s
    assert score(q, np.concatenate([d, d[rows[:1]]])) == s
    more = data.draw(grid(2, d.shape[1]), label="more tokens")
    both = np.concatenate([d, more])
    assert score(q, both) >= s
    per_token = [max(score(q_i[None], d), score(q_i[None], more)) for q_i in q]
    assert score(q, both) == sum(per_token)
    assert score(np.concatenate([q, more]), d) == s + score(more, d)
    assert score(4 * q, d) == 4 * s
    assert (
        abs(s) <= np.linalg.norm(q.astype(float), axis=1).sum() * np.linalg.norm(d.astype(float), axis=1).max() + 1e-9
    )


@given(unit_case(docs=1), st.integers(0, 2**32 - 1))
def test_rotation_and_lipschitz(case, seed):
    """Rotating both sides changes nothing, moving document tokens changes no more than their distance (11, 13)."""
    q, documents = case
    d, rng = documents[0], np.random.default_rng(seed)
    rotation, _ = np.linalg.qr(rng.standard_normal((documents.dim, documents.dim)))
    rotated = score((q @ rotation).astype(np.float32), (d @ rotation).astype(np.float32))
    assert abs(rotated - score(q, d)) <= 4 * bound(q, documents) + len(q) * 2.0**-22
    moved = d + rng.standard_normal(d.shape).astype(np.float32) * 0.1
    farthest = np.linalg.norm((moved - d).astype(float), axis=1).max()
    total = np.linalg.norm(q.astype(float), axis=1).sum()
    assert abs(score(q, moved) - score(q, d)) <= total * farthest + 1e-9


@pytest.mark.parametrize(
    ("q", "d", "expected"),
    [
        (np.eye(5, 8), np.eye(8), 5.0),  # a document that holds every query token scores n_q (8)
        ([[1.0, 0.0]], [[-1.0, 0.0], [-0.5, 0.0]], -0.5),  # negative similarities are not clipped at 0
        ([[1.0, 0.0], [0.0, 0.0]], [[-1.0, 0.0]], -1.0),  # a zero row of the query adds 0 (15)
    ],
)
def test_small_scores_are_exact(q, d, expected):
    """A score that can be worked out by hand is exactly that."""
    assert maxsim(q, d) == expected


@given(grid_case())
def test_batch_composition_does_not_matter(case):
    """A document scores the same in any batch and order (12)."""
    q, documents = case
    alone = [scores(q, Ragged.from_list([d]))[0] for d in documents]
    backwards = documents.take(np.arange(len(documents))[::-1])
    assert scores(q, documents).tolist() == alone
    assert scores(q, backwards).tolist() == alone[::-1]


@pytest.mark.parametrize(
    ("chunk", "rows"),
    [(1, [1, 7, 2, 9, 1]), (6, [1, 7, 2, 9, 1]), (24, [8, 2, 9, 1]), (30, [10, 10]), (1000, [20])],
)
def test_chunks_are_of_whole_documents_and_change_nothing(monkeypatch, chunk, rows):
    """`scores` has at most CHUNK similarities in memory, or one longer document, and gives what one chunk gives."""
    rng = np.random.default_rng(0)
    documents = Ragged.from_list([rng.integers(-8, 9, (n, 4)) / 8 for n in (1, 7, 2, 9, 1)])
    q = (rng.integers(-8, 9, (3, 4)) / 8).astype(np.float32)
    whole = scores(q, documents)
    monkeypatch.setattr("refcolbert.engine.maxsim.CHUNK", chunk)
    watched = Watched.of(documents.vectors)
    assert scores(q, Ragged(watched, documents.offsets)).tolist() == whole.tolist()
    assert watched.taken == rows


@given(unit_case(), st.integers(1, 8))
def test_the_possible_top_k_hold_the_true_best(case, k):
    """Documents among the first k by canonical score are among the possible ones by float32 score."""
    q, documents = case
    best = definition.top_k([score(q, d) for d in documents], k)
    assert set(best) <= set(possible_top_k(scores(q, documents), bound(q, documents), k))


def canonical(q, rough, starts, bounds, vectors):
    """Canonical scores, given rough similarities with the rows of several documents."""
    return canonical_scores(q, rough, starts, np.maximum.reduceat(rough, starts, axis=0), bounds, vectors)


def test_canonical_bits_do_not_depend_on_place_or_company():
    """A document has the same score to the bit wherever its rows are in memory, and between any others."""
    rng = np.random.default_rng(0)
    q, d = (rng.standard_normal((n, 128)).astype(np.float32) for n in (32, 300))
    expected = score(q, d)
    for shift in range(1, 17):
        buffer = np.empty(d.size + shift, np.float32)
        buffer[shift:] = d.ravel()
        assert score(q, buffer[shift:].reshape(d.shape)) == expected
    for n in (1, 5, 40):
        others = rng.standard_normal((n, 128)).astype(np.float32)
        rows = np.concatenate([others, d, others[:1]])
        starts, norm = np.array([0, n, n + len(d)]), float(np.linalg.norm(rows, axis=1).max())
        assert canonical(q, rows @ q.T, starts, float32_error_bound(q, norm), rows.__getitem__)[1] == expected


@given(unit_case())
def test_a_score_is_the_sum_of_the_largest_similarities(case):
    """`score` has the bits of the sum, though it multiplies only possible maxima; a similarity is q . d."""
    q, documents = case
    for d in documents:
        canonical = similarities(q, d)
        assert score(q, d) == pairwise_sum(canonical.max(axis=1)[None])[0]
        exact = [[math.fsum(a * b for a, b in zip(x, y, strict=True)) for y in d.tolist()] for x in q.tolist()]
        assert np.abs(canonical - exact).max() <= documents.dim * 2.0**-53


@pytest.mark.parametrize("pairs", [1, 3, 1000])
def test_canonical_scores_do_not_depend_on_the_float32_ones(monkeypatch, pairs):
    """Float32 similarities that are off by their error bound, and many that are equal, change no bit of the scores."""
    monkeypatch.setattr("refcolbert.engine.maxsim.PAIRS", pairs)
    rng = np.random.default_rng(1)
    q, rows = (rng.standard_normal((n, 6)).astype(np.float32) for n in (4, 20))
    rows[3:8] = rows[2]
    rows[12] = np.nextafter(rows[11], np.float32(9))
    starts, off = np.array([0, 8, 9]), np.array([0.5, 0.25, 0.125, 1.0])
    expected = [score(q, rows[a:b]) for a, b in ((0, 8), (8, 9), (9, 20))]
    for _ in range(20):
        rough = (rows @ q.T + rng.uniform(-0.99, 0.99, (20, 4)) * off).astype(np.float32)
        assert canonical(q, rough, starts, off, rows.__getitem__).tolist() == expected


def test_canonical_scores_read_only_possible_maxima():
    """Of most documents only some token vectors are fetched, of each at least one."""
    rng = np.random.default_rng(1)
    q, rows = (rng.standard_normal((n, 6)).astype(np.float32) for n in (4, 20))
    fetched = set()
    bounds = float32_error_bound(q, 9.0)
    canonical(q, rows @ q.T, np.array([0, 8, 9]), bounds, lambda n: fetched.update(n.tolist()) or rows[n])
    assert {8} < fetched < set(range(20))


@pytest.mark.parametrize("size", [1e-38, 1e-25, 1e18, 1e38])
def test_scores_that_float32_cannot_hold_are_right(size):
    """Products that are too large or too small for float32 get their canonical score in float64 as any other."""
    rng = np.random.default_rng(2)
    q, d = ((rng.uniform(-1, 1, (n, 8)) * size).astype(np.float32) for n in (3, 9))
    expected = definition.maxsim(q, d)
    assert score(q, d) == pytest.approx(expected, rel=1e-13)
    assert abs(expected) < 1e-45 or abs(expected) > 1e30


def test_rows_are_added_by_halves():
    """The upper half is added to the lower one until one is left; elements missing to a power of two count as 0."""
    terms = np.array([[2.0**-53, 1.0, 2.0**-53], [3.0, 4.0, 5.0]])
    assert pairwise_sum(terms).tolist() == [1.0 + 2.0**-52, 12.0]  # one after the other, the small terms would be lost
    assert pairwise_sum(terms[:, :1]).tolist() == [2.0**-53, 3.0]
    assert pairwise_sum(terms.astype(np.float32)).dtype == np.float32


@pytest.mark.parametrize(
    ("q", "d"),
    [
        (np.empty((0, 4)), np.ones((1, 4))),
        (np.ones((1, 4)), np.empty((0, 4))),
        (np.ones((1, 4)), np.ones((1, 5))),
        (np.ones(4), np.ones((1, 4))),
        (np.full((1, 4), np.nan), np.ones((1, 4))),
        (np.ones((1, 4)), np.full((1, 4), np.inf)),
        (np.full((1, 4), 1e300), np.ones((1, 4))),
        (np.array([["a"]]), np.ones((1, 1))),
        (np.ones((1, 2), complex), np.ones((1, 2))),
        ([[1.0], [2.0, 3.0]], np.ones((1, 1))),
    ],
)
def test_bad_input_is_refused(q, d):
    """Empty, non-finite and non-numeric arrays and arrays of different dim are InvalidInput (15, 16)."""
    with pytest.raises(InvalidInput):
        maxsim(q, d)


def test_bad_documents_are_refused():
    """A Ragged of another dim, or with NaN in it, is InvalidInput."""
    q = np.ones((1, 4))
    with pytest.raises(InvalidInput, match="dim 3"):
        maxsim(q, Ragged.from_list([np.ones((2, 3))]))
    with pytest.raises(InvalidInput, match="NaN"):
        maxsim(q, Ragged(np.full((2, 4), np.nan, np.float32), np.array([0, 2])))


def test_public_function_takes_arrays_and_ragged():
    """One document gives a float, a Ragged an array of float64, an empty Ragged an empty one."""
    q = np.eye(3)
    assert isinstance(maxsim(q, np.eye(3)), float)
    many = maxsim(q, Ragged.from_list([np.eye(3), np.eye(3)[:1]]))
    assert many.dtype == np.float64
    assert many.tolist() == [3.0, 1.0]
    assert maxsim(q, Ragged.from_list([])).shape == (0,)


def test_the_error_bound_is_the_derived_one():
    """It is g(dim) |q_i| max|d_j| with g(n) = n u / (1 - n u), to float64 rounding, plus 2^-126 per product."""
    q = np.array([[3, 4, 0], [0, 1, 0]], np.float32)
    u = 2.0**-24
    assert float32_error_bound(q, 7.0).tolist() == pytest.approx(
        [(3 * u / (1 - 3 * u)) * n * 7 for n in (5, 1)], rel=1e-12
    )
    assert float32_error_bound(0 * q, 7.0).tolist() == [3 * 2.0**-126] * 2


def test_the_possible_top_k_reach_two_bounds_below_the_kth():
    """Scores at most two bounds below the k-th are kept, all of them where k is as large as their number."""
    rough = np.array([5.0, 2.6, 4.0, 3.0, 1.0])
    assert possible_top_k(rough, 0.5, 2).tolist() == [0, 2, 3]
    assert possible_top_k(rough, 0.25, 2).tolist() == [0, 2]
    assert possible_top_k(rough, 0.0, 4).tolist() == [0, 1, 2, 3]
    lost = np.array([1.0, np.nan, 0.0, np.inf])  # a score beyond float32 could be the best, or the worst
    assert possible_top_k(lost, 0.0, 1).tolist() == [0, 1, 3]
    assert possible_top_k(lost, np.inf, 1).tolist() == possible_top_k(lost, 0.0, 3).tolist() == [0, 1, 2, 3]
    for k in (5, 6):
        assert possible_top_k(rough, 0.0, k).tolist() == [0, 1, 2, 3, 4]
