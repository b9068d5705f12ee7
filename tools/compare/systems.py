"""The systems: each takes a text and k, and ranks documents of one collection.

An answer's documents are numbers, best first; its times are milliseconds of encoding the query and of everything after
that; its FLOPs are those of `flops`. What an answer costs besides matrix products (postings, sorting, hops in a graph)
is in the times alone.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refcolbert.engine import ivf
from refcolbert.engine.candidates import PRUNE_FACTOR, candidates_from_lists, prune
from refcolbert.engine.centroid_interaction import quantize_scores
from refcolbert.engine.maxsim import Floats
from refcolbert.engine.ranking import keep_possible_top_k, rank
from refcolbert.engine.search import CANDIDATES, NPROBE, SearchOptions, search
from refcolbert.engine.segments import SegmentedIndex
from refcolbert.engine.topk import top_k
from refcolbert_export.mining.teachers import K1, B
from tools.compare.parts import GRAPH, RAW, Parts

__all__ = ["DEPTH", "SYSTEMS", "Answer", "Ask", "System"]

DEPTH = 1000
RRF = 60  # Cormack, Clarke and Büttcher, SIGIR 2009
STATES = "token vectors of all documents"


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """Documents, best first."""

    documents: NDArray[np.int64]  # [n]
    scores: NDArray[np.floating]  # [n] never rising
    encode: float  # milliseconds
    search: float  # milliseconds
    flops: int


Ask = Callable[[str, int], Answer]


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """A row of the table."""

    name: str
    group: str
    before: str  # what is computed before the query is known
    models: tuple[str, ...] = ()  # whose hashes its cells depend on
    make: Callable[[Parts], Ask]
    size: Callable[[Parts], float]  # bytes that its index takes, texts apart
    by_k: bool = False  # whether asking for fewer documents is another, faster search
    settings: Mapping[str, Any] = field(default_factory=dict)
    sample: str = "all"  # which queries it is asked: all, cross, deep


def _now() -> float:
    return time.perf_counter() * 1e3


# ---- BM25 and the bi-encoder


def _bm25(parts: Parts) -> Ask:
    index = parts.bm25

    def ask(text: str, k: int) -> Answer:
        start = _now()
        scores = index.scores(text)  # [n_docs]
        best = top_k(scores, k)
        best = best[scores[best] > 0]
        return Answer(best, scores[best], 0.0, _now() - start, 0)

    return ask


def _encode(parts: Parts, text: str) -> tuple[Floats, float, int]:
    """A query as the bi-encoder sees it: [dim], milliseconds, FLOPs."""
    start = _now()
    (q,) = parts.models.sentences.encode([text])
    took = _now() - start
    return q, took, parts.models.costs["sentences"].flops(parts.models.sentences.lengths([text]))


def _flat(parts: Parts) -> Ask:
    rows = parts.rows  # [n_docs, dim]

    def ask(text: str, k: int) -> Answer:
        q, encode, flops = _encode(parts, text)
        start = _now()
        scores = rows @ q  # [n_docs]
        best = top_k(scores, k)
        return Answer(best, scores[best], encode, _now() - start, flops + 2 * rows.size)

    return ask


def _graph(parts: Parts) -> Ask:
    graph = parts.graph

    def ask(text: str, k: int) -> Answer:
        q, encode, flops = _encode(parts, text)
        start = _now()
        found = graph.search(q, min(k, len(graph)), threads=1)
        scores = 1 - np.asarray(found.distances)  # [n] the metric is 1 - inner product
        best = top_k(scores, k, np.asarray(found.keys, np.int64))
        took = _now() - start
        hops = 2 * len(q) * int(found.computed_distances)
        return Answer(np.asarray(found.keys, np.int64)[best], scores[best], encode, took, flops + hops)

    return ask


# ---- ColBERT


def _tokens(parts: Parts, text: str) -> tuple[Floats, float, int]:
    """A query as ColBERT sees it: [n_q, dim], milliseconds, FLOPs."""
    encoder = parts.models.encoder
    start = _now()
    (q,) = encoder.encode_queries([text])
    took = _now() - start
    return q, took, parts.models.costs["encoder"].flops([len(encoder.tokenizer.queries([text])[0].ids)])


def _maxsim_flops(q: Floats, n_vectors: float) -> int:
    """Of the products of a query [n_q, dim] with so many vectors."""
    return round(2 * q.size * n_vectors)


def _colbert(nbits: int | str, exact: bool) -> Callable[[Parts], Ask]:
    def make(parts: Parts) -> Ask:
        index = parts.index(nbits).segmented

        def ask(text: str, k: int) -> Answer:
            q, encode, flops = _tokens(parts, text)
            start = _now()
            found = search(q, index, k, SearchOptions(exact=exact))
            took = _now() - start
            flops += _maxsim_flops(q, sum(s.read for s in found.trace if s.name in ("centroids", "refine", "rank")))
            return Answer(found.documents, found.scores, encode, took, flops)

        return ask

    return make


def _two_phase(parts: Parts) -> Ask:
    """The candidates of a coded index, ranked by the raw vectors of another."""
    coded, raw = parts.index(4).segmented, parts.index(RAW).segmented
    mean = float(raw.lengths.mean())

    def ask(text: str, k: int) -> Answer:
        q, encode, flops = _tokens(parts, text)
        start = _now()
        chosen, n_centroids = _candidates(q, coded, max(k, CANDIDATES))
        documents, scores = rank(q, None, raw, keep_possible_top_k(q, None, raw, chosen, k), k)
        took = _now() - start
        return Answer(documents, scores, encode, took, flops + _maxsim_flops(q, n_centroids + len(chosen) * mean))

    return ask


def _candidates(q: Floats, coded: SegmentedIndex, keep: int) -> tuple[NDArray[np.int64], int]:
    """Documents [n <= keep], ascending, that centroids alone choose for a query [n_q, dim]; and how many these are."""
    if coded.codec is None:
        return np.flatnonzero(coded.live), 0
    similarities = coded.codec.centroids @ q.T  # [n_centroids, n_q]
    table = quantize_scores(similarities)
    found, scores, _ = candidates_from_lists(table, coded, ivf.probe(similarities.T, NPROBE), coded.live)
    best = found[top_k(scores, PRUNE_FACTOR * keep)]
    return prune(table, coded, np.sort(best), keep), len(similarities)


# ---- reranking and fusion


def _reranked(first: Answer, scores: NDArray[np.floating], encode: float, search: float, flops: int) -> Answer:
    """The first len(scores) of an answer in the order of `scores`, the rest behind them as it was."""
    n = len(scores)
    order = top_k(scores, max(n, 1))
    behind = (scores.min() if n else 0.0) - 1 - np.arange(len(first.documents) - n)
    return Answer(
        np.concatenate([first.documents[:n][order], first.documents[n:]]),
        np.concatenate([scores[order], behind]),
        first.encode + encode,
        first.search + search,
        first.flops + flops,
    )


def _colbert_reranks(depth: int) -> Callable[[Parts], Ask]:
    def make(parts: Parts) -> Ask:
        first, index = _bm25(parts), parts.index(4).segmented
        mean = float(index.lengths.mean())

        def ask(text: str, k: int) -> Answer:
            found = first(text, max(k, depth))
            q, encode, flops = _tokens(parts, text)
            start = _now()
            chosen = found.documents[:depth]
            allowed = np.zeros(len(index.live), np.bool_)  # [n_docs]
            allowed[chosen] = True
            ranked = search(q, index, depth, SearchOptions(exact=True), allowed=allowed) if len(chosen) else None
            scores = np.empty(0) if ranked is None else ranked.scores[np.argsort(ranked.documents)]
            place = np.argsort(np.argsort(chosen))  # of each candidate among them ascending
            took = _now() - start
            n_centroids = len(index.codec.centroids) if index.codec else 0
            flops += _maxsim_flops(q, n_centroids + len(chosen) * mean)
            return _reranked(found, scores[place], encode, took, flops)

        return ask

    return make


def _cross_reranks(depth: int) -> Callable[[Parts], Ask]:
    def make(parts: Parts) -> Ask:
        first, cross = _bm25(parts), parts.models.cross
        if cross is None:
            raise ValueError("a cross-encoder is asked for and none was loaded")

        def ask(text: str, k: int) -> Answer:
            found = first(text, max(k, depth))
            pairs = [(text, parts.texts[i]) for i in found.documents[:depth]]
            start = _now()
            scores = cross.scorer.score_pairs(pairs)  # [n_pairs]
            took = _now() - start
            flops = cross.cost.flops(len(pair.ids) for pair in cross.scorer.tokenizer.pairs(pairs))
            return _reranked(found, scores, 0.0, took, flops)

        return ask

    return make


def fuse(first: Answer, second: Answer, k: int) -> Answer:
    """Reciprocal rank fusion: sum over both of 1 / (60 + rank); equal sums by document number."""
    start = _now()
    documents = np.union1d(first.documents, second.documents)  # [n] ascending
    scores = np.zeros(len(documents))
    for answer in (first, second):
        scores[np.searchsorted(documents, answer.documents)] += 1 / (RRF + 1 + np.arange(len(answer.documents)))
    best = top_k(scores, k)
    encode, search = first.encode + second.encode, first.search + second.search
    return Answer(documents[best], scores[best], encode, search + _now() - start, first.flops + second.flops)


def _fused(one: Callable[[Parts], Ask], other: Callable[[Parts], Ask]) -> Callable[[Parts], Ask]:
    def make(parts: Parts) -> Ask:
        first, second = one(parts), other(parts)
        return lambda text, k: fuse(first(text, DEPTH), second(text, DEPTH), k)

    return make


# ---- sizes


def _bm25_bytes(parts: Parts) -> float:
    return float(sum(array.nbytes for array in parts.bm25._index.scores.values() if isinstance(array, np.ndarray)))


def _index_bytes(nbits: int | str) -> Callable[[Parts], float]:
    return lambda parts: float(parts.index_bytes(nbits))


def _two_phase_bytes(parts: Parts) -> float:
    unread = ("texts", "residuals", "scales", "spreads")
    return float(parts.index_bytes(RAW) + parts.index_bytes(4, unread))


def _row_bytes(parts: Parts) -> float:
    return float(parts.rows.nbytes)


def _text_bytes(parts: Parts) -> float:
    return float(sum(len(text.encode()) for text in parts.texts))


def _sum(*sizes: Callable[[Parts], float]) -> Callable[[Parts], float]:
    return lambda parts: sum(size(parts) for size in sizes)


_FIRST = "inverted index of words"
_WORDS = {"k1": K1, "b": B}
_SEARCHED = {"nprobe": NPROBE, "candidates": CANDIDATES}
_FUSED = {"rrf": RRF, "fused": DEPTH}


def _late(name: str, nbits: int | str, exact: bool) -> System:
    return System(
        name=name,
        group="late interaction",
        before=STATES if exact else f"{STATES}, centroids, inverted lists",
        models=("encoder",),
        make=_colbert(nbits, exact),
        size=_index_bytes(nbits),
        by_k=True,
        settings={"nbits": nbits, "exact": exact} | ({} if exact else _SEARCHED),
    )


_FOUR = _colbert(4, False)

SYSTEMS: tuple[System, ...] = (
    System(name="bm25", group="sparse", before=_FIRST, make=_bm25, size=_bm25_bytes, settings=_WORDS),
    System(
        name="bi-encoder-flat",
        group="single vector",
        before="one vector a document",
        models=("sentences",),
        make=_flat,
        size=_row_bytes,
    ),
    System(
        name="bi-encoder-ann",
        group="single vector",
        before="one vector a document and a graph of neighbours",
        models=("sentences",),
        make=_graph,
        size=lambda parts: float(parts.graph.serialized_length),
        by_k=True,
        settings=GRAPH,
    ),
    _late("colbert-raw-exact", RAW, True),
    System(
        name="colbert-raw-two-phase",
        group="late interaction",
        before=f"{STATES}, centroids, inverted lists",
        models=("encoder",),
        make=_two_phase,
        size=_two_phase_bytes,
        by_k=True,
        settings=_SEARCHED,
    ),
    _late("colbert-1-bit", 1, False),
    _late("colbert-2-bits", 2, False),
    _late("colbert-4-bits", 4, False),
    *(
        System(
            name=f"colbert-reranks-bm25-{depth}",
            group="late interaction",
            before=f"{_FIRST}; {STATES}",
            models=("encoder",),
            make=_colbert_reranks(depth),
            size=_sum(_bm25_bytes, _index_bytes(4)),
            settings={**_WORDS, "depth": depth, "nbits": 4},
        )
        for depth in (100, 1000)
    ),
    System(
        name="hybrid-bm25-bi-encoder",
        group="hybrid",
        before=f"{_FIRST}; one vector a document",
        models=("sentences",),
        make=_fused(_bm25, _flat),
        size=_sum(_bm25_bytes, _row_bytes),
        settings={**_WORDS, **_FUSED},
    ),
    System(
        name="hybrid-bm25-colbert",
        group="hybrid",
        before=f"{_FIRST}; {STATES}",
        models=("encoder",),
        make=_fused(_bm25, _FOUR),
        size=_sum(_bm25_bytes, _index_bytes(4)),
        settings={**_WORDS, **_SEARCHED, **_FUSED, "nbits": 4},
    ),
    System(
        name="hybrid-bi-encoder-colbert",
        group="hybrid",
        before=f"one vector a document; {STATES}",
        models=("sentences", "encoder"),
        make=_fused(_flat, _FOUR),
        size=_sum(_row_bytes, _index_bytes(4)),
        settings={**_SEARCHED, **_FUSED, "nbits": 4},
    ),
    *(
        System(
            name=f"cross-encoder-reranks-bm25-{depth}",
            group="full interaction",
            before=f"{_FIRST}; of the scores nothing",
            models=("cross",),
            make=_cross_reranks(depth),
            size=_sum(_bm25_bytes, _text_bytes),
            settings={**_WORDS, "depth": depth},
            sample=sample,
        )
        for depth, sample in ((100, "cross"), (1000, "deep"))
    ),
)
