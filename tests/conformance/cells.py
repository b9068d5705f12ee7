"""Cases of search in stages: inverted lists, probed cells, candidates, ranking."""

from itertools import pairwise

import numpy as np
from hypothesis import strategies as st

from .oracle import definition
from .pairs import Pair, g, unit
from .registry import case
from .scoring import plain, refused

SEEDS = st.integers(0, 2**32 - 1)
CODES = st.lists(st.lists(st.integers(0, 6), min_size=1, max_size=5), min_size=1, max_size=8)


@case("26", "inverted_lists", codes=CODES)
def a_list_holds_the_documents_of_its_cell(impl, codes):
    """List c holds the documents with a token in cell c and no others, each once, ascending."""
    lists = [plain(documents) for documents in impl.inverted_lists(codes, 7)]
    assert lists == [[i for i, document in enumerate(codes) if c in document] for c in range(7)]


@case("27", "probe", seed=SEEDS, n=st.integers(1, 24), nprobe=st.integers(1, 26))
def the_probed_cells_are_those_of_the_definition(impl, seed, n, nprobe):
    """The best nprobe cells of each query token, the lower number among equals, on the grid."""
    rng = np.random.default_rng(seed)
    q, centroids = ((rng.integers(-2, 3, (m, 3)) / 8).astype(np.float32) for m in (3, n))
    assert set(plain(impl.probe(q, centroids, nprobe))) == definition.probe(q, centroids, nprobe)


@case("27", "probe", "candidates", "inverted_lists", equation="7.3", codes=CODES, seed=SEEDS)
def more_probes_never_lose_a_candidate(impl, codes, seed):
    """candidates(nprobe) is a subset of candidates(nprobe + 1). With every cell probed all documents are candidates."""
    rng = np.random.default_rng(seed)
    q, centroids = unit(rng, 2, 4), unit(rng, 7, 4)
    lists = impl.inverted_lists(codes, 7)
    by_nprobe = [plain(impl.candidates(lists, impl.probe(q, centroids, n))) for n in range(1, 8)]
    assert all(set(a) <= set(b) for a, b in pairwise(by_nprobe))
    assert by_nprobe[-1] == list(range(len(codes)))
    assert all(documents == sorted(set(documents)) for documents in by_nprobe)


@case("27", "candidates", "inverted_lists", codes=CODES, cells=st.sets(st.integers(0, 6)))
def candidates_are_the_union_of_the_lists(impl, codes, cells):
    """The candidates are the documents with a token in a probed cell and no others, ascending."""
    documents = plain(impl.candidates(impl.inverted_lists(codes, 7), cells))
    assert documents == [i for i, document in enumerate(codes) if cells & set(document)]


@case("27", "probe", nprobe=st.sampled_from([0, -1]))
def probing_nothing_is_refused(impl, nprobe):
    """An nprobe below 1 is an error."""
    refused(impl.probe, np.ones((1, 2), np.float32), np.ones((3, 2), np.float32), nprobe)


def collection(seed, exact):
    """A query, documents, their codes and centroids: on the grid with many ties, or of unit vectors."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 4, int(rng.integers(1, 12)))
    if exact:
        q, centroids = ((rng.integers(-1, 2, (n, 2)) / 8).astype(np.float32) for n in (2, 5))
        documents = [(rng.integers(-1, 2, (n, 2)) / 8).astype(np.float32) for n in lengths]
    else:
        q, centroids, documents = unit(rng, 3, 16), unit(rng, 5, 16), [unit(rng, n, 16) for n in lengths]
    return q, documents, [definition.assign(d, centroids) for d in documents], centroids


@case("28", "search", equation="8.4", seed=SEEDS, k=st.integers(1, 14), exact=st.booleans())
def probing_everything_is_a_full_scan(impl, seed, k, exact):
    """If every cell is probed and nothing is pruned, the answer is the first k of all documents with their scores."""
    q, documents, codes, centroids = collection(seed, exact)
    hits = impl.search(q, documents, codes, centroids, k, len(centroids), len(documents))
    scores = definition.scores(q, documents)
    assert [int(i) for i, _ in hits] == definition.top_k(scores, k)
    pair = Pair(q, np.concatenate(documents), q, seed, exact)
    pair.same([score for _, score in hits], [scores[int(i)] for i, _ in hits])


@case(
    "29",
    "search",
    equation="2.6",
    seed=SEEDS,
    k=st.integers(1, 6),
    nprobe=st.integers(1, 5),
    keep=st.integers(1, 12),
    exact=st.booleans(),
)
def every_returned_score_is_true(impl, seed, k, nprobe, keep, exact):
    """At most k documents come back, each once, in the one total order, with the score S(q, d)."""
    q, documents, codes, centroids = collection(seed, exact)
    hits = [(int(i), float(s)) for i, s in impl.search(q, documents, codes, centroids, k, nprobe, max(keep, k))]
    assert len({i for i, _ in hits}) == len(hits) <= k
    pair = Pair(q, np.concatenate(documents), q, seed, exact)
    pair.same([s for _, s in hits], [definition.maxsim(q, documents[i]) for i, _ in hits])
    slack = 0 if exact else 2 * len(q) * g(32)
    assert all(a[1] >= b[1] - slack for a, b in pairwise(hits))
    assert all(a[0] < b[0] for a, b in pairwise(hits) if a[1] == b[1])


@case("48", "search", equation="3.1", seed=SEEDS, heavy=True)
def close_scores_come_in_their_exact_order(impl, seed):
    """Documents that differ in the last bits of some numbers come in the order of their float64 scores."""
    rng = np.random.default_rng(seed)
    q, d, documents = unit(rng, 8, 64), unit(rng, 5, 64), []
    for _ in range(10):
        documents.append(d.copy())
        for place in rng.integers(0, d.size, 20):
            documents[-1].flat[place] = np.nextafter(d.flat[place], np.float32(rng.choice([-2, 2])))
    hits = impl.search(q, documents, [[0] * 5] * 10, unit(rng, 1, 64), 10, 1, 10)
    exact, order = definition.scores(q, documents), [int(i) for i, _ in hits]
    assert sorted(order) == list(range(10))
    assert all(exact[a] >= exact[b] - 2.0**-45 for a, b in pairwise(order))


@case("49", "search", equation="2.9", seed=SEEDS, heavy=True)
def a_score_has_the_same_bits_in_any_company(impl, seed):
    """The score of a document has the bits that it has when the document is searched alone."""
    rng = np.random.default_rng(seed)
    q, centroids = unit(rng, 8, 48), unit(rng, 3, 48)
    documents = [unit(rng, int(n), 48) for n in rng.integers(3, 20, 8)]
    codes = [definition.assign(d, centroids) for d in documents]
    together = {int(i): float(s) for i, s in impl.search(q, documents, codes, centroids, 8, 3, 8)}
    alone = [impl.search(q, [d], [c], centroids, 1, 3, 1)[0][1] for d, c in zip(documents, codes, strict=True)]
    assert [together[i] for i in range(8)] == [float(s) for s in alone]


@case("29", "held", equation="8.4", heavy=True, seed=SEEDS, k=st.integers(1, 30), negative=st.booleans())
def an_index_scores_what_it_holds(impl, seed, k, negative):
    """Without pruning min(k, n) documents come back, each once, best first, scored by the vectors that are held."""
    rng = np.random.default_rng(seed)
    documents = [unit(rng, int(n), 16) for n in rng.integers(3, 9, 24)]
    q = unit(rng, 4, 16)
    if negative:
        q, documents = np.abs(q), [-np.abs(d) for d in documents]
    hits, vectors = impl.held(documents, q, k)
    numbers, scores = [int(i) for i, _ in hits], [float(s) for _, s in hits]
    expected = [definition.maxsim(q, vectors[i]) for i in numbers]
    assert len(set(numbers)) == len(numbers) == min(k, len(documents))
    rounding = len(q) * 2.0**-10  # float16 vectors, float16 products: two roundings per product of unit vectors
    assert np.abs(np.array(scores) - expected).max() <= rounding, "these are scores of other vectors than those held"
    assert scores == sorted(scores, reverse=True)


@case("23", "held", equation="6.9", heavy=True, seed=SEEDS)
def an_index_holds_what_it_was_given(impl, seed):
    """Held unit rows have norm 1 to float16, and a mean squared error below 0.5; that of random unit rows is 2."""
    rng = np.random.default_rng(seed)
    documents = [unit(rng, int(n), 16) for n in rng.integers(3, 9, 24)]
    _, vectors = impl.held(documents, unit(rng, 4, 16), 1)
    for d, kept in zip(documents, vectors, strict=True):
        assert np.shape(kept) == d.shape
        assert np.abs(np.linalg.norm(np.asarray(kept, np.float64), axis=1) - 1).max() <= 2.0**-10
        assert np.square(np.asarray(kept, np.float64) - d).sum(axis=1).mean() < 0.5
