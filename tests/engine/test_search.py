"""Two-phase search against brute force and against the definition."""

import itertools
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import topical, unit

from refcolbert import definition
from refcolbert.engine import codec, ivf
from refcolbert.engine.candidates import candidates_from_lists, prune, refine
from refcolbert.engine.centroid_interaction import NEAR, nearest_tokens, quantize_scores, unit_of
from refcolbert.engine.maxsim import float32_error_bound, score
from refcolbert.engine.ragged import offsets_of
from refcolbert.engine.ranking import float32_scores, keep_possible_top_k, rank, reachable_scores
from refcolbert.engine.search import SearchOptions, search, search_many
from refcolbert.engine.segments import Segment, SegmentedIndex
from refcolbert.errors import InvalidInput

DIM, N_DOCS = 16, 150


@pytest.fixture(scope="module")
def documents():
    """150 documents of unit vectors."""
    return topical(np.random.default_rng(11), N_DOCS, DIM)


@pytest.fixture(scope="module")
def fitted(documents):
    """A codec of 64 centroids, fitted to the documents."""
    return codec.fit(documents.vectors, 64, 4, seed=0)


@pytest.fixture(scope="module")
def segmented(documents, fitted):
    """Returns the documents as an index of segments; some of them may be raw, some documents deleted."""
    encoded = fitted.encode(documents.vectors)
    norm = float(np.linalg.norm(documents.vectors, axis=1).max())

    def build(cuts=(), *, raw=(), dead=()):
        segments = []
        for number, (first, last) in enumerate(itertools.pairwise([0, *sorted(set(cuts)), N_DOCS])):
            positions, tokens = np.arange(first, last), slice(*documents.offsets[[first, last]])
            offsets = documents.offsets[first : last + 1] - tokens.start
            part = encoded.take(tokens)
            stored = (None, part, ivf.build(part.codes, offsets))
            if number in raw:
                stored = (documents.vectors[tokens], None, None)
            segments.append(Segment(positions, offsets, ~np.isin(positions, dead), norm, *stored))
        return SegmentedIndex(DIM, None if len(raw) == len(segments) else fitted, tuple(segments))

    return build


@pytest.fixture(scope="module")
def whole(segmented):
    """The documents in one segment of encoded vectors."""
    return segmented()


@pytest.fixture(scope="module")
def raw(segmented):
    """The documents in one segment of raw vectors."""
    return segmented(raw=[0])


@pytest.fixture(scope="module")
def decoded(whole):
    """The documents with their vectors as the index stores them."""
    return whole.vectors(np.arange(N_DOCS))


@pytest.fixture(scope="module")
def codes(documents, whole):
    """The cells of each document's tokens."""
    return [whole.segments[0].encoded.codes[a:b].tolist() for a, b in itertools.pairwise(documents.offsets)]


def query(seed):
    """A query of six unit vectors."""
    return unit(np.random.default_rng(seed), 6, DIM)


def centroid_scores(q, fitted):
    """The similarities [n_centroids, n_q] of a query with the centroids, as a search computes them."""
    return fitted.centroids @ q.T


def probed(q, codes, fitted, nprobe):
    """The documents with a token in a probed cell, and the number of their entries in the lists of these cells."""
    cells = set(ivf.probe(centroid_scores(q, fitted).T, nprobe).tolist())
    entries = [len(cells & set(document)) for document in codes]
    return np.flatnonzero(entries), sum(entries)


def brute_force(q, documents, k):
    """(document, score) of the k best documents by their canonical scores."""
    scores = [score(q, d) for d in documents]
    return [(i, scores[i]) for i in definition.top_k(scores, k)]


def answer(result):
    """(document, score) of a result."""
    return list(zip(result.documents.tolist(), result.scores.tolist(), strict=True))


def stages(result):
    """The stages of a result by name, in order."""
    return {stage.name: stage for stage in result.trace}


def counts(result):
    """Name and count of each stage."""
    return [(stage.name, stage.count) for stage in result.trace]


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("k", [1, 7, N_DOCS, 1000])
def test_exact_and_exhaustive_searches_equal_brute_force(documents, decoded, raw, whole, seed, k):
    """exact=True, and probing all with nothing pruned, give brute force's documents, scores and order (28)."""
    q = query(seed)
    assert answer(search(q, raw, k)) == brute_force(q, documents, k)
    expected = brute_force(q, decoded, k)
    assert answer(search(q, whole, k, SearchOptions(exact=True))) == expected
    assert answer(search(q, whole, k, SearchOptions(nprobe=64, candidates=N_DOCS))) == expected


@pytest.mark.parametrize("options", [{"exact": True}, {"nprobe": 2, "candidates": 20}])
def test_threads_change_nothing(monkeypatch, segmented, options):
    """One query shared by threads, many queries in threads and one after the other give the same answers."""
    monkeypatch.setattr("refcolbert.engine.ranking.CHUNK_TOKENS", 40)
    monkeypatch.setattr("refcolbert.engine.candidates.PRUNE_TOKENS", 90)
    monkeypatch.setattr("refcolbert.engine.candidates.REFINE_TOKENS", 70)
    monkeypatch.setattr("refcolbert.engine.codec.CENTROID_CHUNK", 20)
    index, queries = segmented((30, 77)), [query(seed) for seed in range(8)]
    expected = [answer(search(q, index, 7, SearchOptions(**options))) for q in queries]
    assert [answer(search(q, index, 7, SearchOptions(threads=3, **options))) for q in queries] == expected
    for threads in (1, 4):
        results = search_many(queries, index, 7, SearchOptions(threads=threads, **options))
        assert [answer(result) for result in results] == expected


@given(st.integers(0, 2**32 - 1), st.integers(1, 30), st.integers(1, 6), st.integers(1, 40))
def test_every_answer_is_honest(segmented, decoded, seed, k, nprobe, candidates):
    """Scores are those of the stored vectors; hits are live, allowed, distinct, sorted and as many as can be (29)."""
    rng = np.random.default_rng(seed)
    q, allowed = unit(rng, int(rng.integers(1, 9)), DIM), rng.random(N_DOCS) < rng.random()
    dead = np.flatnonzero(rng.random(N_DOCS) < 0.2)
    result = search(q, segmented(dead=dead), k, SearchOptions(nprobe=nprobe, candidates=candidates), allowed=allowed)
    eligible = allowed & ~np.isin(np.arange(N_DOCS), dead)
    assert len(result.documents) == min(k, eligible.sum())
    assert eligible[result.documents].all()
    assert len(set(result.documents.tolist())) == len(result.documents)
    assert result.scores.tolist() == [score(q, decoded[i]) for i in result.documents]
    assert answer(result) == sorted(answer(result), key=lambda hit: (-hit[1], hit[0]))


@given(st.lists(st.integers(1, N_DOCS - 1), max_size=6), st.integers(0, 7))
def test_segments_do_not_change_the_answer(segmented, whole, cuts, seed):
    """However the documents are cut into segments, the answer is the same to the bit (31)."""
    for options in (SearchOptions(exact=True), SearchOptions(nprobe=2, candidates=12)):
        expected = answer(search(query(seed), whole, 9, options))
        assert answer(search(query(seed), segmented(cuts), 9, options)) == expected


@pytest.mark.parametrize("size", [1e-22, 1e17, 1e19, 1e20, 1e30])
def test_vectors_whose_products_float32_cannot_hold_are_ranked(documents, size):
    """Raw vectors of any size are ranked by their true scores, as float64 gives them."""
    vectors, q = ((v * size).astype(np.float32) for v in (documents.vectors, query(0)))
    norm = float(np.linalg.norm(vectors.astype(np.float64), axis=1).max())
    segment = Segment(np.arange(N_DOCS), documents.offsets, np.ones(N_DOCS, np.bool_), norm, vectors, None, None)
    result = search(q, SegmentedIndex(DIM, None, (segment,)), 7)
    exact = [definition.maxsim(q, vectors[a:b]) for a, b in itertools.pairwise(documents.offsets)]
    assert result.documents.tolist() == definition.top_k(exact, 7)
    assert result.scores.tolist() == pytest.approx([exact[i] for i in result.documents], rel=1e-12)


def test_equal_documents_are_ordered_by_position():
    """Ties go to the lower position, also among documents of different batches."""
    d = unit(np.random.default_rng(0), 5, DIM)
    positions = np.array([3, 8, 11, 40])
    four = Segment(positions, offsets_of([5] * 4), np.ones(4, np.bool_), 1.0, np.concatenate([d] * 4), None, None)
    result = search(d[:2], SegmentedIndex(DIM, None, (four,)), 3)
    assert result.documents.tolist() == [0, 1, 2]
    assert len(set(result.scores.tolist())) == 1


@pytest.mark.parametrize("seed", range(3))
def test_more_probes_find_more_candidates(whole, seed):
    """Candidates grow with nprobe until they are all documents (27)."""
    options = [SearchOptions(nprobe=n, candidates=1) for n in (1, 4, 16, 64)]
    n_candidates = [stages(search(query(seed), whole, 1, o))["candidates"].count for o in options]
    assert n_candidates == sorted(n_candidates)
    assert n_candidates[-1] == N_DOCS


def test_nothing_eligible_gives_an_empty_answer(segmented, whole):
    """A filter that matches nothing, an index of deleted documents and an empty index return nothing."""
    nobody = np.zeros(N_DOCS, np.bool_)
    assert len(search(query(0), whole, 3, allowed=nobody).documents) == 0
    assert len(search(query(0), segmented(dead=range(N_DOCS)), 3).documents) == 0
    assert len(search(query(0), SegmentedIndex(DIM, None, ()), 3, SearchOptions(exact=True)).documents) == 0


@pytest.mark.parametrize(
    "options", [{"nprobe": 0}, {"candidates": 0}, {"nprobe": 1.5}, {"nprobe": True}, {"threads": 0}]
)
@pytest.mark.parametrize("exact", [True, False])
def test_bad_options_are_refused(options, exact):
    """nprobe, candidates and threads must be integers of at least 1, also where they would not be used."""
    with pytest.raises(InvalidInput, match=next(iter(options))):
        SearchOptions(exact=exact, **options)


def test_recall_with_few_candidates(whole):
    """With few candidates the two phases still find nearly what the exact scan finds."""
    hits = 0
    for q in map(query, range(8)):
        exact = search(q, whole, 10, SearchOptions(exact=True)).documents
        hits += len(set(exact.tolist()) & set(search(q, whole, 10, SearchOptions(candidates=40)).documents.tolist()))
    assert hits >= 0.9 * 10 * 8


def test_the_trace_counts_the_documents_that_each_stage_leaves(whole, raw, codes, fitted):
    """Stages are named in order with their counts, and skipped where everything is ranked."""
    q = query(0)
    n_cells = len(ivf.probe(centroid_scores(q, fitted).T, 2))
    chosen = [("centroids", 64), ("cells", n_cells), ("candidates", len(probed(q, codes, fitted, 2)[0]))]
    few, more = (SearchOptions(nprobe=2, candidates=n) for n in (5, 40))
    assert counts(search(q, whole, 3, few)) == [*chosen, ("prune", 5), ("refine", 5), ("rank", 5)]
    assert counts(search(q, whole, 3, more)) == [*chosen, ("prune", 40), ("refine", 18), ("rank", 18)]
    assert counts(search(q, raw, 3)) == [("rank", N_DOCS)]
    for options in (SearchOptions(exact=True), SearchOptions(candidates=N_DOCS), SearchOptions()):
        assert counts(search(q, whole, 3, options)) == [("centroids", 64), ("rank", N_DOCS)]
    assert "cells" in stages(search(q, whole, 3, SearchOptions(candidates=N_DOCS - 1)))


def test_the_trace_counts_what_each_stage_reads(documents, whole, codes, fitted):
    """Centroids, entries of lists, or tokens; no tokens where refining has nothing to leave out."""
    q = query(0)
    candidates, n_entries = probed(q, codes, fitted, 2)
    read = [stage.read for stage in search(q, whole, 3, SearchOptions(nprobe=2, candidates=40)).trace]
    assert read[:3] == [64, 64, n_entries]
    assert read[3] == documents.lengths[candidates].sum()  # pruning could look at more
    assert 0 < read[4] < read[3]
    assert 0 < read[5] < read[3]
    assert stages(search(q, whole, 3, SearchOptions(nprobe=2, candidates=5)))["refine"].read == 0
    assert stages(search(q, whole, 3, SearchOptions(exact=True)))["rank"].read == documents.offsets[-1]


def test_the_trace_has_milliseconds(monkeypatch, raw):
    """A stage's time is that between its beginning and its end."""
    moments = iter([1.0, 3.5])
    monkeypatch.setattr("time.perf_counter", lambda: next(moments))
    assert search(query(0), raw, 3).trace[0].milliseconds == 2500.0


@pytest.mark.parametrize(
    ("setting", "options"),
    [
        ("candidates.REFINE_TOKENS", {"candidates": 20}),
        ("ranking.CHUNK_TOKENS", {"exact": True}),
        ("codec.CENTROID_CHUNK", {"exact": True}),
    ],
)
def test_threads_are_started_only_for_several_chunks(monkeypatch, whole, setting, options):
    """One query starts threads when more than one is allowed and a stage has several chunks."""
    started, start = [], threading.Thread.start
    monkeypatch.setattr(threading.Thread, "start", lambda thread: started.append(thread) or start(thread))
    search(query(0), whole, 3, SearchOptions(threads=2, **options))
    assert started == []
    monkeypatch.setattr(f"refcolbert.engine.{setting}", 40)
    search(query(0), whole, 3, SearchOptions(**options))
    assert started == []
    search(query(0), whole, 3, SearchOptions(threads=2, **options))
    assert started


def test_many_queries_share_threads(monkeypatch, whole):
    """`search_many` starts threads when more than one is allowed."""
    started, start = [], threading.Thread.start
    monkeypatch.setattr(threading.Thread, "start", lambda thread: started.append(thread) or start(thread))
    search_many([query(0), query(1)], whole, 3)
    assert started == []
    search_many([query(0), query(1)], whole, 3, SearchOptions(threads=3))
    assert 1 <= len(started) <= 3


def test_quantized_scores_are_255ths_of_the_largest():
    """Similarities are cut down to steps of largest / 255; negative ones become 0, also where all are negative."""
    quantized = quantize_scores(np.float32([[0.5, 0.25], [-1, 0.125]]))
    assert quantized.tolist() == [[255, 127], [0, 63]]
    assert quantized.dtype == np.uint8
    assert quantize_scores(np.float32([[-1, -2]])).tolist() == [[0, 0]]
    assert quantize_scores(np.zeros((1, 2), np.float32)).tolist() == [[0, 0]]


def test_a_filter_widens_the_probe(whole, fitted):
    """A filter that leaves one document in n probes n times as many cells; without one, nprobe is 16."""
    scores, quarter = centroid_scores(query(0), fitted).T, np.arange(N_DOCS) % 4 == 0
    result = search(query(0), whole, 1, SearchOptions(nprobe=3, candidates=2), allowed=quarter)
    assert stages(result)["cells"].count == len(ivf.probe(scores, 12))
    assert stages(search(query(0), whole, 1, SearchOptions(candidates=2)))["cells"].count == len(ivf.probe(scores, 16))


def test_too_few_candidates_widen_the_probe(whole, codes, fitted):
    """Four times as many cells are probed until there are k candidates; k as many as there are is enough."""
    q = query(0)
    enough = len(probed(q, codes, fitted, 2)[0])
    for k, nprobe, last in ((145, 1, 16), (enough, 2, 2), (enough + 1, 2, 8)):
        candidates, n_entries = probed(q, codes, fitted, last)
        assert last == nprobe or len(probed(q, codes, fitted, last // 4)[0]) < k <= len(candidates)
        result = search(q, whole, k, SearchOptions(nprobe=nprobe, candidates=1))
        assert len(result.documents) == k
        assert stages(result)["candidates"].read == n_entries


def test_pruning_looks_at_the_best_candidates(monkeypatch, documents, whole, codes, fitted):
    """Four times as many as are kept, at most some more than these, the best by their probed cells; all where fewer."""
    q = query(1)
    quantized, cells = quantize_scores(centroid_scores(q, fitted)), ivf.probe(centroid_scores(q, fitted).T, 8)
    candidates, scores, *_ = candidates_from_lists(quantized, whole, cells, whole.live, N_DOCS)
    assert len(candidates) > 20
    for keep, most in ((5, 20), (len(candidates) // 4 + 1, N_DOCS), (9, 19)):
        if most == 19:
            monkeypatch.setattr("refcolbert.engine.candidates.PRUNE_EXTRA", 10)
        best = candidates[definition.top_k(scores.tolist(), most)]
        result = search(q, whole, 2, SearchOptions(nprobe=8, candidates=keep))
        assert stages(result)["prune"].read == documents.lengths[best].sum()


@pytest.mark.parametrize("cuts", [(), (40, 90)])
@pytest.mark.parametrize("small", [1 << 32, 0])
def test_candidates_are_scored_by_their_probed_cells(monkeypatch, segmented, codes, fitted, cuts, small):
    """Each eligible document with a token in a probed cell gets the sum of its best quantized scores in such cells.

    So it is also where documents and cells do not fit into 32 bits.
    """
    monkeypatch.setattr("refcolbert.engine.candidates.SMALL_PAIRS", small)
    quantized, cells = quantize_scores(centroid_scores(query(2), fitted)), np.array([3, 10, 40])
    eligible = np.arange(N_DOCS) % 3 > 0
    in_cells = {i: np.intersect1d(document, cells) for i, document in enumerate(codes) if eligible[i]}
    in_cells = {i: document for i, document in in_cells.items() if len(document)}
    documents, scores, *_ = candidates_from_lists(quantized, segmented(cuts), cells, eligible, N_DOCS)
    assert documents.tolist() == list(in_cells)
    assert scores.tolist() == [int(quantized[c].astype(int).max(axis=0).sum()) for c in in_cells.values()]
    half_raw = segmented((70,), raw=[1])  # raw documents are in no list
    found = candidates_from_lists(quantized, half_raw, cells, eligible, N_DOCS)
    assert found.documents.tolist() == [i for i in in_cells if i < 70]
    documents, scores, *_ = candidates_from_lists(quantized, segmented(cuts), cells, np.zeros(N_DOCS, np.bool_), N_DOCS)
    assert (documents.tolist(), scores.tolist()) == ([], [])


@pytest.mark.parametrize("cuts", [(), (40, 90)])
def test_only_candidates_that_cannot_be_among_the_best_are_left_out(segmented, fitted, cuts):
    """With a limit, fewer candidates come out; its best ones and their scores are those without a limit."""
    quantized = quantize_scores(centroid_scores(query(2), fitted))
    index, cells, left_out = segmented(cuts), np.arange(0, len(quantized), 5), 0
    everything = candidates_from_lists(quantized, index, cells, index.live, N_DOCS)
    for most in (1, 5, 30):
        found = candidates_from_lists(quantized, index, cells, index.live, most)
        best, same = definition.top_k(everything.scores, most), definition.top_k(found.scores, most)
        assert found.documents[same].tolist() == everything.documents[best].tolist()
        assert found.scores[same].tolist() == everything.scores[best].tolist()
        assert found.n_found == everything.n_found == len(everything.documents)
        left_out += len(everything.documents) - len(found.documents)
    assert left_out > 0


def test_cells_without_an_allowed_document_give_no_candidates(whole, codes, fitted):
    """Where probing must not be widened, as in a part of a collection, an answer may be empty."""
    quantized, cells = (
        quantize_scores(centroid_scores(query(2), fitted)),
        ivf.probe(centroid_scores(query(2), fitted).T, 1),
    )
    far = np.array([not set(cells.tolist()) & set(document) for document in codes])
    options = SearchOptions(nprobe=1, candidates=1, widen=False)
    assert far.sum() > 1
    assert candidates_from_lists(quantized, whole, cells, far, N_DOCS).n_found == 0
    assert search(query(2), whole, 1, options, allowed=far).documents.tolist() == []


def test_pruning_keeps_the_best_and_all_where_few(whole, codes, fitted):
    """The best `keep` by centroid MaxSim, ascending, with their scores; all where there are no more than that."""
    quantized = quantize_scores(centroid_scores(query(3), fitted))
    exact = [int(quantized[document].astype(int).max(axis=0).sum()) for document in codes]
    everyone = np.arange(N_DOCS)
    for keep in (30, N_DOCS, N_DOCS + 1):
        pruned = prune(quantized, whole, everyone, keep)
        assert pruned.documents.tolist() == sorted(definition.top_k(exact, keep))
        assert pruned.scores.tolist() == [exact[i] for i in pruned.documents]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("rows", [range(N_DOCS), [3, 4, 90]])
def test_the_nearest_tokens_are_close_to_the_best_of_their_document(documents, whole, codes, fitted, seed, rows):
    """A token is one of them when for some query token it scores at most NEAR below its document's best."""
    quantized, rows = quantize_scores(centroid_scores(query(seed), fitted)), np.array(rows)
    starts, lengths = documents.offsets[rows], documents.lengths[rows]
    expected = []
    for i, start in zip(rows, starts, strict=True):
        scores = quantized[codes[i]].astype(int)  # [n_tokens, n_q]
        expected += (start + np.flatnonzero((scores >= scores.max(axis=0) - NEAR).any(axis=1))).tolist()
    cells = whole.segments[0].encoded.codes
    assert nearest_tokens(quantized, cells, starts, lengths).tolist() == expected
    assert len(expected) < lengths.sum()
    far = nearest_tokens(np.zeros_like(quantized), cells, starts, lengths)  # the query is far from every centroid
    assert len(far) == lengths.sum()


@pytest.fixture
def refinable(documents, decoded, whole, fitted):
    """A query, quantized scores, all documents as pruned, each one's nearest tokens, and MaxSim with these."""
    q = query(3)
    quantized = quantize_scores(centroid_scores(q, fitted))
    nearest = nearest_tokens(quantized, whole.segments[0].encoded.codes, documents.offsets[:-1], documents.lengths)
    of_documents = np.split(nearest, np.searchsorted(nearest, documents.offsets[1:-1]))
    exact = [definition.maxsim(q, decoded.vectors[tokens]) for tokens in of_documents]
    return q, quantized, prune(quantized, whole, np.arange(N_DOCS), N_DOCS), of_documents, exact


@pytest.mark.parametrize("cuts", [(), (40, 90)])
def test_refining_keeps_the_best_by_their_nearest_tokens(monkeypatch, refinable, segmented, fitted, cuts):
    """The best 2 k + 12 by MaxSim with the nearest tokens as they are stored, ascending; no work where few."""
    q, quantized, pruned, nearest, exact = refinable
    monkeypatch.setattr("refcolbert.engine.candidates.ROUND", N_DOCS)
    refined = refine(fitted.prepare(q), quantized, segmented(cuts), pruned, 9)
    assert refined.documents.tolist() == sorted(definition.top_k(exact, 30))
    assert refined.n_nearest == sum(map(len, nearest))
    ninth = sorted(exact)[-9]
    assert ninth - 1e-2 < refined.kth_score_at_least < ninth  # lower by what rounding can do
    refined = refine(fitted.prepare(q), quantized, segmented(cuts), pruned, N_DOCS)
    assert refined.documents is pruned.documents
    assert (refined.kth_score_at_least, refined.n_nearest) == (-np.inf, 0)


@pytest.mark.parametrize("cuts", [(), (40, 90)])
def test_refining_passes_over_documents_that_are_out_of_reach(monkeypatch, refinable, segmented, fitted, cuts):
    """After a round of 20 documents and a few more, only those in reach by equation 7.8 are scored; the best stay."""
    q, quantized, pruned, nearest, exact = refinable
    monkeypatch.setattr("refcolbert.engine.candidates.ROUND", 20)
    by_centroids = (pruned.scores * unit_of(centroid_scores(q, fitted))).tolist()
    left, scored, size = definition.top_k(by_centroids, N_DOCS), [], 20
    while left:
        scored += [*left[:size], *left[size::16]]
        left, size = [i for i in left if i not in scored], 2 * size
        pairs = [(by_centroids[i], exact[i]) for i in scored]
        left = [left[place] for place in definition.in_reach([by_centroids[i] for i in left], pairs, 4)]
    refined = refine(fitted.prepare(q), quantized, segmented(cuts), pruned, 4)
    assert refined.n_nearest == sum(len(nearest[i]) for i in scored)
    assert 20 < len(scored) < N_DOCS
    assert set(definition.top_k(exact, 4)) < set(refined.documents.tolist()) < set(scored)


@pytest.mark.parametrize("cuts", [(), (40, 90)])
def test_documents_that_cannot_reach_the_bound_get_no_canonical_score(decoded, segmented, fitted, cuts):
    """Canonical scores are computed only where float32 leaves the bound in reach; the k best are the same."""
    q, everyone = query(5), np.arange(N_DOCS)
    prepared, index = fitted.prepare(q), segmented(cuts)
    exact = np.array([score(q, d) for d in decoded])
    seventh = np.sort(exact)[-7]
    reaching, scores = reachable_scores(q, prepared, index, everyone, seventh)
    assert scores.tolist() == exact[reaching].tolist()
    assert 7 <= len(reaching) < 12
    assert reaching.tolist() == np.flatnonzero(exact >= exact[reaching].min()).tolist()
    reaching, scores = reachable_scores(q, prepared, index, everyone)
    assert (reaching.tolist(), scores.tolist()) == (everyone.tolist(), exact.tolist())
    reaching, scores = reachable_scores(q, prepared, index, everyone, k=7)
    assert scores.tolist() == exact[reaching].tolist()
    assert set(definition.top_k(exact.tolist(), 7)) <= set(reaching.tolist())
    assert len(reaching) < 12 * len(index.segments)
    possible = keep_possible_top_k(q, prepared, index, everyone, 7)
    assert 7 <= len(possible) < 12
    for chosen, bound in ((everyone, -np.inf), (everyone, seventh), (possible, -np.inf)):
        hits, scores = rank(q, prepared, index, chosen, 7, bound)
        assert hits.tolist() == definition.top_k(exact.tolist(), 7)
        assert scores.tolist() == exact[hits].tolist()


def test_a_score_that_float32_cannot_hold_hides_no_other():
    """A document whose float32 score is NaN, and in truth the worst, does not displace the second best."""
    q = np.zeros((1, DIM), np.float32)
    q[0, :3] = 1e20, 1e20, 1e19
    rows = np.zeros((5, DIM), np.float32)
    rows[0, :3] = 9e18, -9e18, -9e18  # infinity minus infinity in float32
    rows[1:, 2] = 9e18, 7e18, 5e18, 3e18
    segment = Segment(np.arange(5), offsets_of([1] * 5), np.ones(5, np.bool_), 2e19, rows, None, None)
    index = SegmentedIndex(DIM, None, (segment,))
    assert search(q, index, 2).documents.tolist() == [1, 2]
    assert rank(q, None, index, np.arange(5), 2)[0].tolist() == [1, 2]


@pytest.mark.parametrize("size", [1, 40, 100, 10_000])
def test_chunks_are_as_many_documents_as_fit(documents, whole, size):
    """Chunks hold as many whole documents as fit, or one that is longer, and lose none."""
    lengths = documents.lengths
    chunks = [chunk.tolist() for chunk in whole.chunks(np.arange(N_DOCS), size)]
    assert list(itertools.chain(*chunks)) == list(range(N_DOCS))
    assert all(lengths[chunk].sum() <= size or len(chunk) == 1 for chunk in chunks)
    assert all(lengths[a].sum() + lengths[b[0]] > size for a, b in itertools.pairwise(chunks))


def test_float32_scores_are_within_their_bound(documents, decoded, segmented, whole, raw, fitted):
    """The bound is no larger than needed: the one derived for raw vectors, or the codec's for the largest scale."""
    q, everyone = query(4), np.arange(N_DOCS)
    rough, bound = float32_scores(q, None, raw, everyone)
    assert bound == float32_error_bound(q, raw.segments[0].largest_norm).sum()
    assert np.abs(rough - [score(q, d) for d in documents]).max() <= bound
    prepared = fitted.prepare(q)
    rough, bound = float32_scores(q, prepared, whole, everyone)
    assert bound == prepared.error_bound(float(whole.segments[0].encoded.scales.max())).sum()
    assert np.abs(rough - [score(q, d) for d in decoded]).max() <= bound
    rough, _ = float32_scores(q, prepared, segmented((70,), raw=[1]), everyone)
    assert np.abs(rough - [score(q, d) for d in [*list(decoded)[:70], *list(documents)[70:]]]).max() <= 1e-3
    assert float32_scores(q, prepared, whole, everyone[:0])[1] == 0.0
