"""Two-phase search against brute force and against the definition."""

import itertools
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import topical, unit

from refcolbert import definition
from refcolbert.engine import codec, ivf
from refcolbert.engine.candidates import candidates_from_lists, prune, refine
from refcolbert.engine.centroid_interaction import NEAR, nearest_tokens, quantize_scores
from refcolbert.engine.maxsim import float32_error_bound, score
from refcolbert.engine.ragged import offsets_of
from refcolbert.engine.ranking import float32_scores, keep_possible_top_k, rank, reachable_scores
from refcolbert.engine.search import SearchOptions, search, search_many
from refcolbert.engine.segments import Segment, SegmentedIndex
from refcolbert.errors import InvalidInput

DIM, N_DOCS = 16, 150
RNG = np.random.default_rng(11)
DOCUMENTS = topical(RNG, N_DOCS, DIM)
CODEC = codec.fit(DOCUMENTS.vectors, 64, 4, seed=0)
NORM = float(np.linalg.norm(DOCUMENTS.vectors, axis=1).max())


def collection(cuts=(), *, raw=False, dead=()):
    """The documents as one collection of segments cut at the given numbers."""
    edges = [0, *sorted(set(cuts)), N_DOCS]
    segments = []
    for first, last in itertools.pairwise(edges):
        part = DOCUMENTS.take(np.arange(first, last))
        live = ~np.isin(np.arange(first, last), dead)
        encoded = None if raw else CODEC.encode(part.vectors)
        lists = None if encoded is None else ivf.build(encoded.codes, part.offsets)
        vectors = part.vectors if raw else None
        segments.append(Segment(np.arange(first, last), part.offsets, live, NORM, vectors, encoded, lists))
    return SegmentedIndex(DIM, None if raw else CODEC, tuple(segments))


WHOLE, RAW = collection(), collection(raw=True)
DECODED = WHOLE.vectors(np.arange(N_DOCS))
QUERIES = [unit(np.random.default_rng(s), 6, DIM) for s in range(8)]


def brute_force(q, documents, k, live=None):
    """(document, score) by the canonical score of every live document."""
    rows = range(N_DOCS) if live is None else np.flatnonzero(live).tolist()
    scores = [score(q, documents[i]) for i in rows]
    return [(rows[i], scores[i]) for i in definition.top_k(scores, k)]


def answer(result):
    """(document, score) of a result."""
    return list(zip(result.documents.tolist(), result.scores.tolist(), strict=True))


@pytest.mark.parametrize("q", QUERIES)
@pytest.mark.parametrize("k", [1, 7, N_DOCS, 1000])
def test_exact_and_exhaustive_searches_equal_brute_force(q, k):
    """exact=True, and probing all with nothing pruned, give brute force's documents, scores and order (28)."""
    assert answer(search(q, RAW, k)) == brute_force(q, DOCUMENTS, k)
    expected = brute_force(q, DECODED, k)
    assert answer(search(q, WHOLE, k, SearchOptions(exact=True))) == expected
    assert answer(search(q, WHOLE, k, SearchOptions(nprobe=64, candidates=N_DOCS))) == expected


CODES = [WHOLE.segments[0].encoded.codes[a:b].tolist() for a, b in itertools.pairwise(DOCUMENTS.offsets)]


@pytest.mark.parametrize("q", QUERIES[:4])
def test_two_phase_search_equals_definition(q):
    """Where nothing is pruned or refined, the candidates and their ranking are those of the plain loops."""
    decoded = [d.tolist() for d in DECODED]
    expected = definition.search(q, decoded, CODES, CODEC.centroids.tolist(), 75, 1, N_DOCS)
    found = answer(search(q, WHOLE, 75, SearchOptions(nprobe=1, candidates=N_DOCS - 1)))
    assert [i for i, _ in found] == [i for i, _ in expected]
    assert np.abs(np.array([s for _, s in found]) - [s for _, s in expected]).max() < 1e-9


@pytest.mark.parametrize("q", QUERIES[:4])
def test_pruning_scores_are_centroid_maxsim_rounded(q):
    """The scores that pruning goes by are MaxSim with the centroids, each maximum off by less than one level."""
    similarities = q @ CODEC.centroids.T
    table, largest = quantize_scores(similarities.T), similarities.max()
    everyone = np.arange(N_DOCS)
    kept = prune(table, WHOLE, everyone, 30)
    exact = np.array([definition.maxsim(q, CODEC.centroids[c]) for c in CODES]) * 255 / largest
    threshold = np.sort(exact)[-30]
    assert len(kept) == 30
    assert exact[kept].min() >= threshold - 2 * len(q)
    cells = ivf.probe(similarities, 64)
    found, scores, _ = candidates_from_lists(table, WHOLE, cells, np.ones(N_DOCS, np.bool_))
    assert found.tolist() == everyone.tolist()
    clipped = [definition.maxsim(np.maximum(similarities.T[c], 0).T.tolist(), np.eye(len(c)).tolist()) for c in CODES]
    assert np.abs(scores - np.array(clipped) * 255 / largest).max() <= len(q)


@pytest.mark.parametrize("how", [{"exact": True}, {"nprobe": 2, "candidates": 20}])
def test_threads_change_nothing(how, monkeypatch):
    """One query shared by threads, many queries in threads and one after the other give the same answers."""
    monkeypatch.setattr("refcolbert.engine.ranking.CHUNK_TOKENS", 40)
    monkeypatch.setattr("refcolbert.engine.candidates.PRUNE_TOKENS", 90)
    monkeypatch.setattr("refcolbert.engine.candidates.REFINE_TOKENS", 70)
    monkeypatch.setattr("refcolbert.engine.codec.CENTROID_CHUNK", 20)
    split = collection((30, 77))
    expected = [answer(search(q, split, 7, SearchOptions(**how))) for q in QUERIES]
    assert [answer(search(q, split, 7, SearchOptions(threads=3, **how))) for q in QUERIES] == expected
    assert [answer(found) for found in search_many(QUERIES, split, 7, SearchOptions(threads=4, **how))] == expected
    assert [answer(found) for found in search_many(QUERIES, split, 7, SearchOptions(**how))] == expected
    with pytest.raises(InvalidInput, match="threads"):
        search(QUERIES[0], split, 7, SearchOptions(threads=0))


@given(st.integers(0, 2**32 - 1), st.integers(1, 30), st.integers(1, 6), st.integers(1, 40))
def test_every_answer_is_honest(seed, k, nprobe, candidates):
    """Scores are those of the stored vectors; hits are live, allowed, distinct, sorted and as many as can be (29)."""
    rng = np.random.default_rng(seed)
    q, allowed = unit(rng, int(rng.integers(1, 9)), DIM), rng.random(N_DOCS) < rng.random()
    dead = np.flatnonzero(rng.random(N_DOCS) < 0.2)
    found = search(q, collection(dead=dead), k, SearchOptions(nprobe=nprobe, candidates=candidates), allowed=allowed)
    eligible = allowed & ~np.isin(np.arange(N_DOCS), dead)
    assert len(found.documents) == min(k, eligible.sum())
    assert eligible[found.documents].all()
    assert len(set(found.documents.tolist())) == len(found.documents)
    assert found.scores.tolist() == [score(q, DECODED[i]) for i in found.documents]
    assert answer(found) == sorted(answer(found), key=lambda hit: (-hit[1], hit[0]))


@given(st.lists(st.integers(1, N_DOCS - 1), max_size=6), st.integers(0, 7))
def test_segments_do_not_change_the_answer(cuts, which):
    """However the documents are cut into segments, the answer is the same to the bit (31)."""
    q = QUERIES[which]
    for options in ({"exact": True}, {"nprobe": 2, "candidates": 12}):
        assert answer(search(q, collection(cuts), 9, SearchOptions(**options))) == answer(
            search(q, WHOLE, 9, SearchOptions(**options))
        )


@pytest.mark.parametrize("size", [1e-22, 1e17, 1e19, 1e20, 1e30])
def test_vectors_whose_products_float32_cannot_hold_are_ranked(size):
    """Raw vectors of any size are ranked by their true scores, as float64 gives them."""
    big, q = (DOCUMENTS.vectors * size).astype(np.float32), (QUERIES[0] * size).astype(np.float32)
    norm = float(np.linalg.norm(big.astype(np.float64), axis=1).max())
    segment = Segment(np.arange(N_DOCS), DOCUMENTS.offsets, np.ones(N_DOCS, np.bool_), norm, big, None, None)
    found = search(q, SegmentedIndex(DIM, None, (segment,)), 7)
    exact = [definition.maxsim(q, big[a:b]) for a, b in itertools.pairwise(DOCUMENTS.offsets)]
    assert found.documents.tolist() == definition.top_k(exact, 7)
    assert found.scores.tolist() == pytest.approx([exact[i] for i in found.documents], rel=1e-12)


def test_equal_documents_are_ordered_by_position():
    """Ties go to the lower position, also among documents of different batches."""
    d = unit(np.random.default_rng(0), 5, DIM)
    positions = np.array([3, 8, 11, 40])
    many = Segment(positions, offsets_of([5] * 4), np.ones(4, np.bool_), 1.0, np.concatenate([d] * 4), None, None)
    found = search(d[:2], SegmentedIndex(DIM, None, (many,)), 3)
    assert found.documents.tolist() == [0, 1, 2]
    assert len(set(found.scores.tolist())) == 1


@pytest.mark.parametrize("q", QUERIES[:3])
def test_more_probes_find_more_candidates(q):
    """Candidates grow with nprobe until they are all documents (27)."""
    trace = [
        {stage.name: stage.count for stage in search(q, WHOLE, 1, SearchOptions(nprobe=n, candidates=1)).trace}
        for n in (1, 4, 16, 64)
    ]
    counts = [stages["candidates"] for stages in trace]
    assert counts == sorted(counts)
    assert counts[-1] == N_DOCS


def test_k_beyond_the_candidates_widens_the_probe():
    """Asking for more documents than the probed cells hold still returns as many as there are."""
    found = search(QUERIES[0], WHOLE, 140, SearchOptions(nprobe=1, candidates=1))
    assert len(found.documents) == 140


def test_nothing_eligible_gives_an_empty_answer():
    """A filter that matches nothing and an index of deleted documents return nothing, not everything."""
    nobody = np.zeros(N_DOCS, np.bool_)
    assert len(search(QUERIES[0], WHOLE, 3, allowed=nobody).documents) == 0
    assert len(search(QUERIES[0], collection(dead=range(N_DOCS)), 3).documents) == 0
    assert len(search(QUERIES[0], SegmentedIndex(DIM, None, ()), 3, SearchOptions(exact=True)).documents) == 0


@pytest.mark.parametrize("options", [{"nprobe": 0}, {"candidates": 0}, {"nprobe": 1.5}, {"nprobe": True}])
@pytest.mark.parametrize("exact", [True, False])
def test_bad_parameters_are_refused(options, exact):
    """nprobe and candidates must be at least 1, also where they would not be used."""
    with pytest.raises(InvalidInput):
        search(QUERIES[0], WHOLE, 3, SearchOptions(exact=exact, **options))


def test_recall_at_defaults(monkeypatch):
    """With few candidates the two phases still find nearly what the exact scan finds."""
    hits = 0
    for q in QUERIES:
        exact = set(search(q, WHOLE, 10, SearchOptions(exact=True)).documents.tolist())
        hits += len(exact & set(search(q, WHOLE, 10, SearchOptions(candidates=40)).documents.tolist()))
    assert hits >= 0.9 * 10 * len(QUERIES)


def stages(result):
    """Name and count of each stage."""
    return [(stage.name, stage.count) for stage in result.trace]


def test_the_trace_counts_what_went_into_and_came_out_of_each_stage(monkeypatch):
    """Stages are named in order with their counts and milliseconds, and skipped where everything is ranked."""
    q = QUERIES[0]
    found = search(q, WHOLE, 3, SearchOptions(nprobe=2, candidates=5))
    cells = ivf.probe(q @ CODEC.centroids.T, 2)
    rows = [i for i, codes in enumerate(CODES) if set(codes) & set(cells.tolist())]
    assert stages(found) == [
        ("centroids", 64),
        ("cells", len(cells)),
        ("candidates", len(rows)),
        ("prune", 5),
        ("refine", 5),
        ("rank", 5),
    ]
    assert stages(search(q, WHOLE, 3, SearchOptions(nprobe=2, candidates=40)))[3:] == [
        ("prune", 40),
        ("refine", 18),
        ("rank", 18),
    ]
    assert stages(search(q, RAW, 3)) == [("rank", N_DOCS)]
    assert stages(search(q, WHOLE, 3, SearchOptions(exact=True))) == [("centroids", 64), ("rank", N_DOCS)]
    assert stages(search(q, WHOLE, 3, SearchOptions(candidates=N_DOCS))) == stages(search(q, WHOLE, 3))
    assert [name for name, _ in stages(search(q, WHOLE, 3, SearchOptions(candidates=N_DOCS - 1)))][1] == "cells"
    moments = iter([1.0, 3.5])
    more = search(q, WHOLE, 3, SearchOptions(nprobe=2, candidates=40)).trace
    n_entries = sum(len(set(codes) & set(cells.tolist())) for codes in CODES)
    assert [stage.read for stage in more[:3]] == [64, 64, n_entries]
    assert more[3].read == DOCUMENTS.lengths[rows].sum()  # all that were found are fewer than pruning looks at
    assert 0 < more[4].read < more[3].read
    assert 0 < more[5].read < more[3].read
    assert found.trace[4].read == 0  # nothing to refine
    assert search(q, WHOLE, 3, SearchOptions(exact=True)).trace[1].read == DOCUMENTS.offsets[-1]
    monkeypatch.setattr("refcolbert.engine.trace.time.perf_counter", lambda: next(moments))
    assert search(q, RAW, 3).trace[0].milliseconds == 2500.0


def test_threads_are_started_only_for_several_chunks(monkeypatch):
    """One thread is the caller's own; more are started when asked for, and used when there are several chunks."""
    started, shared = [], []

    class Pool(ThreadPoolExecutor):
        def __init__(self, workers) -> None:
            started.append(workers)
            super().__init__(workers)

        def map(self, function, chunks):
            shared.append(len(chunks))
            return super().map(function, chunks)

    monkeypatch.setattr("refcolbert.engine.threads.ThreadPoolExecutor", Pool)
    search(QUERIES[0], WHOLE, 3)
    search_many(QUERIES[:2], WHOLE, 3)
    assert started == []
    search(QUERIES[0], WHOLE, 3, SearchOptions(threads=2, candidates=20))
    assert (started, shared) == ([2], [])  # a search of one chunk is the caller's own
    search_many(QUERIES[:2], WHOLE, 3, SearchOptions(threads=3))
    assert (started, shared) == ([2, 3], [2])
    monkeypatch.setattr("refcolbert.engine.candidates.REFINE_TOKENS", 40)
    search(QUERIES[0], WHOLE, 3, SearchOptions(threads=2, candidates=20))
    assert len(shared) == 2  # refining
    monkeypatch.setattr("refcolbert.engine.ranking.CHUNK_TOKENS", 40)
    monkeypatch.setattr("refcolbert.engine.codec.CENTROID_CHUNK", 20)
    search(QUERIES[0], WHOLE, 3, SearchOptions(threads=2, exact=True))
    assert len(shared) == 4  # centroids and the exact scan


def test_levels_are_255ths_of_the_largest():
    """Similarities are cut down to steps of largest / 255, what is negative to 0, also where all of it is."""
    table = quantize_scores(np.float32([[0.5, 0.25], [-1, 0.125]]))
    assert table.tolist() == [[255, 127], [0, 63]]
    assert table.dtype == np.uint8
    assert quantize_scores(np.float32([[-1, -2]])).tolist() == [[0, 0]]
    assert quantize_scores(np.zeros((1, 2), np.float32)).tolist() == [[0, 0]]


def test_probing_widens_with_a_filter_and_until_there_are_k(monkeypatch):
    """A filter that leaves one in n probes n times as many cells, and too few candidates four times as many again."""
    asked, probe = [], ivf.probe
    monkeypatch.setattr(ivf, "probe", lambda scores, nprobe: asked.append(nprobe) or probe(scores, nprobe))
    allowed = np.arange(N_DOCS) % 4 == 0
    search(QUERIES[0], WHOLE, 1, SearchOptions(nprobe=3, candidates=2), allowed=allowed)
    assert asked == [12]
    asked.clear()
    search(QUERIES[0], WHOLE, N_DOCS - 1, SearchOptions(nprobe=1, candidates=1))
    assert asked[:3] == [1, 4, 16]
    asked.clear()
    table = quantize_scores((QUERIES[0] @ CODEC.centroids.T).T)
    enough = len(
        candidates_from_lists(table, WHOLE, probe(QUERIES[0] @ CODEC.centroids.T, 2), np.ones(N_DOCS, np.bool_))[0]
    )
    search(QUERIES[0], WHOLE, enough, SearchOptions(nprobe=2, candidates=1))
    assert asked == [2]  # just as many as are asked for
    asked.clear()
    search(QUERIES[0], WHOLE, 1, SearchOptions(candidates=2))
    assert asked == [16]


def test_candidates_beyond_what_pruning_looks_at_are_cut(monkeypatch):
    """Pruning sees PRUNED times as many documents as are ranked, the best by what the probed cells say of them."""
    seen = []
    pruned = lambda t, c, documents, *more: seen.append(documents) or documents  # noqa: E731
    monkeypatch.setattr("refcolbert.engine.candidates.prune", pruned)
    q = QUERIES[1]
    search(q, WHOLE, 2, SearchOptions(nprobe=8, candidates=5))
    table = quantize_scores((q @ CODEC.centroids.T).T)
    found, scores, _ = candidates_from_lists(
        table, WHOLE, ivf.probe(q @ CODEC.centroids.T, 8), np.ones(N_DOCS, np.bool_)
    )
    assert len(found) > 20
    assert seen[0].tolist() == sorted(found[definition.top_k(scores.tolist(), 20)].tolist())
    search(q, WHOLE, 2, SearchOptions(nprobe=8, candidates=len(found) // 4 + 1))
    assert seen[1].tolist() == found.tolist()


@pytest.mark.parametrize("cuts", [(), (40, 90)])
def test_find_sums_the_probed_cells_of_each_document(cuts):
    """Of each eligible document with a token in a probed cell, the levels of its best such cell, summed."""
    q = QUERIES[2]
    table, cells = quantize_scores((q @ CODEC.centroids.T).T), np.array([3, 10, 40])
    eligible = np.arange(N_DOCS) % 3 > 0
    found, scores, _ = candidates_from_lists(table, collection(cuts), cells, eligible)
    rows = {i: [c for c in codes if c in cells] for i, codes in enumerate(CODES) if eligible[i]}
    rows = {i: held for i, held in rows.items() if held}
    assert found.tolist() == list(rows)
    assert scores.tolist() == [int(table[held].astype(int).max(axis=0).sum()) for held in rows.values()]
    raw = SegmentedIndex(DIM, CODEC, (*collection((70,)).segments[:1], *collection((70,), raw=True).segments[1:]))
    assert candidates_from_lists(table, raw, cells, eligible)[0].tolist() == [
        i for i in rows if i < 70
    ]  # lists alone are looked at
    nothing, none, _ = candidates_from_lists(table, collection(cuts), cells, np.zeros(N_DOCS, np.bool_))
    assert (nothing.tolist(), none.tolist()) == ([], [])


def test_prune_keeps_the_best_and_all_where_few():
    """The best `keep` by centroid MaxSim, ascending; no work where there are no more than that."""
    table = quantize_scores((QUERIES[3] @ CODEC.centroids.T).T)
    exact = [int(table[codes].astype(int).max(axis=0).sum()) for codes in CODES]
    everyone = np.arange(N_DOCS)
    assert prune(table, WHOLE, everyone, 30).tolist() == sorted(definition.top_k(exact, 30))
    assert prune(table, WHOLE, everyone, N_DOCS) is everyone


@pytest.mark.parametrize("q", QUERIES[:3])
def test_the_nearest_tokens_are_within_some_levels_of_the_best(q):
    """A token is one of them when for some query token its level is at most NEAR below its document's best."""
    table, offsets = quantize_scores((q @ CODEC.centroids.T).T).astype(int), DOCUMENTS.offsets
    for some in (np.arange(N_DOCS), np.array([3, 4, 90])):
        expected = []
        for i in some:
            levels = table[CODES[i]]  # [n_tokens, n_q]
            expected += (offsets[i] + np.flatnonzero((levels >= levels.max(axis=0) - NEAR).any(axis=1))).tolist()
        found = nearest_tokens(
            table.astype(np.uint8), WHOLE.segments[0].encoded.codes, offsets[some], DOCUMENTS.lengths[some]
        )
        assert found.tolist() == expected
    assert len(expected) < DOCUMENTS.lengths[some].sum()
    nothing = nearest_tokens(
        np.zeros_like(table, np.uint8), WHOLE.segments[0].encoded.codes, offsets[:-1], DOCUMENTS.lengths
    )
    assert nothing.tolist() == list(range(offsets[-1]))  # a query that is far from everything


@pytest.mark.parametrize("cuts", [(), (40, 90)])
def test_refining_keeps_the_best_by_their_nearest_tokens(cuts):
    """The best 2 k + 12 by MaxSim with the nearest tokens as they are stored, ascending; no work where few."""
    q, everyone = QUERIES[3], np.arange(N_DOCS)
    asked, table = CODEC.prepare(q), quantize_scores((q @ CODEC.centroids.T).T)
    near = nearest_tokens(table, WHOLE.segments[0].encoded.codes, DOCUMENTS.offsets[:-1], DOCUMENTS.lengths)
    held = [near[(near >= a) & (near < b)] for a, b in itertools.pairwise(DOCUMENTS.offsets)]
    exact = [definition.maxsim(q, DECODED.vectors[rows]) for rows in held]
    kept, floor, n_nearest = refine(asked, table, collection(cuts), everyone, 9)
    assert kept.tolist() == sorted(definition.top_k(exact, 30))
    assert n_nearest == len(near)
    ninth = sorted(exact)[-9]
    assert ninth - 1e-2 < floor < ninth  # lower by what rounding can do
    few, floor, nothing = refine(asked, table, collection(cuts), everyone, N_DOCS)
    assert few is everyone
    assert (floor, nothing) == (-np.inf, 0)


@pytest.mark.parametrize("cuts", [(), (40, 90)])
def test_documents_that_cannot_reach_the_bound_get_no_canonical_score(cuts):
    """Canonical scores are computed only where float32 leaves the bound in reach; the k best are the same."""
    q, everyone = QUERIES[5], np.arange(N_DOCS)
    prepared, index = CODEC.prepare(q), collection(cuts)
    exact = np.array([score(q, d) for d in DECODED])
    seventh = np.sort(exact)[-7]
    documents, scores = reachable_scores(q, prepared, index, everyone, seventh)
    assert scores.tolist() == exact[documents].tolist()
    assert 7 <= len(documents) < 12
    assert documents.tolist() == np.flatnonzero(exact >= exact[documents].min()).tolist()
    documents, scores = reachable_scores(q, prepared, index, everyone)
    assert (documents.tolist(), scores.tolist()) == (everyone.tolist(), exact.tolist())
    possible = keep_possible_top_k(q, prepared, index, everyone, 7)
    assert 7 <= len(possible) < 12
    for chosen, bound in ((everyone, -np.inf), (everyone, seventh), (possible, -np.inf)):
        documents, scores = rank(q, prepared, index, chosen, 7, bound)
        assert documents.tolist() == definition.top_k(exact.tolist(), 7)
        assert scores.tolist() == exact[documents].tolist()


def test_chunks_are_runs_of_about_so_many_tokens():
    """Chunks hold as many whole documents as fit, or one that is longer, and lose none."""
    lengths = DOCUMENTS.lengths
    for size in (1, 40, 100, 10_000):
        parts = [part.tolist() for part in WHOLE.chunks(np.arange(N_DOCS), size)]
        assert list(itertools.chain(*parts)) == list(range(N_DOCS))
        assert all(lengths[part].sum() <= size or len(part) == 1 for part in parts)
        assert all(lengths[a].sum() + lengths[b[0]] > size for a, b in itertools.pairwise(parts))


def test_rough_scores_are_within_their_bound_and_it_is_no_larger_than_needed():
    """The bound is the raw segments' derived one, or what the codec says of the largest scale."""
    q, everyone = QUERIES[4], np.arange(N_DOCS)
    rough, bound = float32_scores(q, None, RAW, everyone)
    assert bound == float32_error_bound(q, NORM).sum()
    assert np.abs(rough - [score(q, d) for d in DOCUMENTS]).max() <= bound
    asked = CODEC.prepare(q)
    rough, bound = float32_scores(q, asked, WHOLE, everyone)
    assert bound == asked.error_bound(float(WHOLE.segments[0].encoded.scales.max())).sum()
    assert np.abs(rough - [score(q, d) for d in DECODED]).max() <= bound
    mixed = SegmentedIndex(DIM, CODEC, (collection((70,)).segments[0], collection((70,), raw=True).segments[1]))
    rough, _ = float32_scores(q, asked, mixed, everyone)
    expected = [score(q, d) for d in [*list(DECODED)[:70], *list(DOCUMENTS)[70:]]]
    assert np.abs(rough - expected).max() <= 1e-3
    assert float32_scores(q, asked, WHOLE, everyone[:0])[1] == 0.0
