"""Two-phase late-interaction search: choose candidates by centroids, rank them by exact MaxSim (PLAID, CIKM 2022).

Each stage is a function; `search` strings them together and keeps a trace of what each one did. With q_i the query
tokens, c the centroids, code_j the cell of document token j and x_j its stored vector:

    centroids   q_i . c for every centroid
    cells       the nprobe best cells of each query token
    candidates  documents with a token in a probed cell, by sum over i of max over its probed cells of q_i . c
    prune       the best of these, by sum over i of max over all j of q_i . c[code_j]
    refine      the best of these, by sum over i of max over the nearest j of q_i . x_j
    rank        the best of these, by sum over i of max over all j of q_i . x_j: exact MaxSim

Everything before the ranking only chooses which documents are ranked. Up to pruning it goes by similarities rounded to
8 bits: a byte table [n_centroids, n_q] stays in the cache, and one row holds what all query tokens think of a cell.
The candidate stage reads the inverted lists alone, some twenty times less than all tokens of its documents, so that
pruning meets few. Refining reads what is stored of the nearest tokens only, those in the cell that some query token
likes best of all in the document, or nearly so: about a quarter of them, which hold almost all the maxima.

Every returned score is the canonical MaxSim of the query with the vectors that the index holds, and the order among
those ranked is the one total order of `topk`. A collection with no codec, one that holds no more documents than would
be ranked anyway, and `exact=True` skip the choosing.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..arrays import Bools, Doubles, Floats, Ints
from ..checks import check_count
from . import ivf
from .centroid_interaction import QuantizedScores, approximate_maxsim, nearest_tokens, quantize_scores
from .codec import Each, Encoded, PreparedQuery
from .maxsim import canonical_scores, float32_error_bound, possible_top_k
from .ragged import offsets_of, rows_of
from .segments import Segment, SegmentedIndex
from .topk import top_k

__all__ = [
    "Result",
    "Stage",
    "find",
    "prune",
    "rank",
    "refine",
    "rough_scores",
    "search",
    "search_many",
    "true_scores",
]


NPROBE = 16
CANDIDATES = 1024  # documents that pruning leaves
PRUNED = 4  # documents that pruning looks at, for each one that it leaves
RANKED, SPARE = 2, 12  # documents ranked exactly: so many for each of the k, and so many more
CHUNK_TOKENS = 1 << 13  # ranked at once: 4 MiB unpacked at dim 128
PRUNE_TOKENS = 1 << 16  # pruned at once: 32 bytes each for a query of 32 vectors
REFINE_TOKENS = 1 << 15  # refined at once: a quarter of them is unpacked, as many as are ranked at once

Scores = Callable[[Segment, Encoded, Ints], NDArray[Any]]  # of rows of a segment: [n_rows]


@dataclass(slots=True)
class Stage:
    """One stage of one search: how many things it read, how many came out of it, and how long it took."""

    name: str
    read: int = 0  # centroids, cells, entries of lists, tokens; when refining, those that are nearest
    count: int = 0
    milliseconds: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """Documents of a collection, best first."""

    documents: Ints  # [n_hits]
    scores: Doubles  # [n_hits]
    trace: tuple[Stage, ...]


@dataclass(slots=True)
class _Trace:
    stages: list[Stage] = field(default_factory=list)

    @contextmanager
    def stage(self, name: str) -> Iterator[Stage]:
        """Time a stage, which says itself what it read and what came out."""
        stage = Stage(name)
        start = time.perf_counter()
        yield stage
        stage.milliseconds = (time.perf_counter() - start) * 1e3
        self.stages.append(stage)


def search(
    q: Floats,  # [n_q, dim]
    collection: SegmentedIndex,
    k: int,
    *,
    allowed: Bools | None = None,  # [n_docs] documents that may be returned; None: all that are live
    nprobe: int | None = None,
    candidates: int | None = None,
    exact: bool = False,
    threads: int = 1,
) -> Result:
    """The k best live and allowed documents, fewer only when there are no more.

    `nprobe` cells are probed for each query token, and centroids leave `candidates` documents (never fewer than k), of
    which 2 k + 12 are ranked; both are widened as far as it takes to find k. `exact=True` ranks every allowed document.
    `threads` share the products with centroids and vectors; the answer does not depend on their number.
    Raises `InvalidInput` for k, nprobe, candidates or threads below 1.
    """
    k = check_count(k, "k")
    nprobe = check_count(NPROBE if nprobe is None else nprobe, "nprobe")
    keep = max(check_count(CANDIDATES if candidates is None else candidates, "candidates"), k)
    trace, asked = _Trace(), None
    eligible = collection.live if allowed is None else collection.live & allowed  # [n_docs]
    with ThreadPoolExecutor(threads) if check_count(threads, "threads") > 1 else nullcontext() as pool:

        def each(work: Callable[[Any], Any], chunks: Iterable[Any]) -> Iterator[Any]:
            several = list(chunks)  # one alone is not worth waking a thread
            return pool.map(work, several) if pool and len(several) > 1 else map(work, several)

        if collection.codec is not None:
            with trace.stage("centroids") as stage:
                asked = collection.codec.prepare(q, each)
                stage.read = stage.count = len(asked.centroids)
        floor = None
        if exact or asked is None or eligible.sum() <= keep:
            chosen = np.flatnonzero(eligible)
        else:
            chosen, table = _choose(asked, collection, eligible, k, nprobe, keep, trace)
            with trace.stage("refine") as stage:
                chosen, floor, stage.read = refine(asked, table, collection, chosen, k, each)
                stage.count = len(chosen)
        with trace.stage("rank") as stage:
            documents, hit_scores = rank(q, asked, collection, chosen, k, floor, each)
            stage.read, stage.count = int(collection.lengths[chosen].sum()), len(chosen)
    return Result(documents, hit_scores, tuple(trace.stages))


def search_many(
    queries: Sequence[Floats], collection: SegmentedIndex, k: int, *, threads: int = 1, **how: Any
) -> list[Result]:
    """`search` for each of the queries, `threads` of them at a time; `how` are the other options of `search`."""

    def one(q: Floats) -> Result:
        return search(q, collection, k, **how)

    if check_count(threads, "threads") == 1:
        return [one(q) for q in queries]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(one, queries))


def _choose(
    asked: PreparedQuery, collection: SegmentedIndex, eligible: Bools, k: int, nprobe: int, keep: int, trace: _Trace
) -> tuple[Ints, QuantizedScores]:
    """The documents that centroids choose, ascending: at least k, or all that are eligible. And `quantize_scores`."""
    with trace.stage("cells") as stage:
        table = quantize_scores(asked.centroids)  # [n_centroids, n_q]
        n_eligible = int(eligible.sum())
        # A filter that leaves one document in ten leaves one candidate in ten: probe as much more.
        nprobe *= -(-len(eligible) // n_eligible)
        cells = ivf.probe(asked.centroids.T, nprobe)
        stage.read, stage.count = len(table), len(cells)
    with trace.stage("candidates") as stage:
        found, scores, stage.read = find(table, collection, cells, eligible)
        while len(found) < min(k, n_eligible):
            nprobe *= 4
            found, scores, stage.read = find(table, collection, ivf.probe(asked.centroids.T, nprobe), eligible)
        stage.count = len(found)
    with trace.stage("prune") as stage:
        met = np.sort(found[top_k(scores, PRUNED * keep)]) if len(found) > PRUNED * keep else found
        chosen = prune(table, collection, met, keep)
        stage.read = int(collection.lengths[met].sum()) if len(met) > keep else 0
        stage.count = len(chosen)
    return chosen, table


def find(table: QuantizedScores, collection: SegmentedIndex, cells: Ints, eligible: Bools) -> tuple[Ints, Ints, int]:
    """Eligible documents with a token in one of `cells`, ascending; what those cells say of them; entries read."""
    documents, scores, n_entries = [np.empty(0, np.int64)], [np.empty(0, np.int64)], 0
    for segment, start in zip(collection.segments, collection.starts, strict=False):
        if segment.lists is not None:
            rows, entries = ivf.entries(segment.lists, cells)  # [n_entries] each: document, cell
            n_entries += len(rows)
            mine = eligible[start : start + len(segment)][rows]  # [n_entries]
            pairs = np.sort(rows[mine].astype(np.uint64) << np.uint64(32) | entries[mine])  # by document
            if len(pairs):
                found = (pairs >> np.uint64(32)).astype(np.int64)
                starts = np.flatnonzero(np.diff(found, prepend=-1))  # [n_found]
                counts = np.diff(starts, append=len(pairs))  # [n_found]
                documents.append(found[starts] + start)
                scores.append(approximate_maxsim(table, pairs.astype(np.uint32), starts, counts))
    return np.concatenate(documents), np.concatenate(scores), n_entries


def prune(table: QuantizedScores, collection: SegmentedIndex, documents: Ints, keep: int) -> Ints:
    """The `keep` documents of highest MaxSim between query and centroids, ascending by number.

    In one thread: its steps are too short to share, and wait for the interpreter more than they gain.
    """

    def scores(s: Segment, encoded: Encoded, rows: Ints) -> NDArray[Any]:
        return approximate_maxsim(table, encoded.codes, s.offsets[rows], s.lengths(rows))

    if len(documents) <= keep:
        return documents
    found = _scored(scores, collection, documents, PRUNE_TOKENS, map)
    return np.sort(documents[top_k(found, keep)])


def refine(
    asked: PreparedQuery, table: QuantizedScores, collection: SegmentedIndex, documents: Ints, k: int, each: Each = map
) -> tuple[Ints, float, int]:
    """The documents of highest MaxSim between query and nearest tokens, ascending: enough of them to find k in.

    With them what the k-th best document's score is at least, as no token that is left out can lower it, and how many
    tokens are nearest.
    """
    read: list[tuple[int, float]] = []  # tokens, and how far their scores can be off

    def scores(s: Segment, encoded: Encoded, rows: Ints) -> NDArray[Any]:
        tokens = nearest_tokens(table, encoded.codes, s.offsets[rows], s.lengths(rows))
        near = encoded.take(tokens)
        read.append((len(near), float(asked.error_bound(float(near.scales.max())).sum())))
        firsts = np.searchsorted(tokens, s.offsets[rows])  # [n_rows] each document has a nearest token
        return _sums(asked.similarities(near), firsts)

    keep = RANKED * k + SPARE
    if len(documents) <= keep:
        return documents, -np.inf, 0
    found = _scored(scores, collection, documents, REFINE_TOKENS, each)
    best = top_k(found, keep)
    floor = float(found[best[k - 1]]) - max(bound for _, bound in read)
    return np.sort(documents[best]), floor, sum(n for n, _ in read)


def _scored(scores: Scores, collection: SegmentedIndex, documents: Ints, size: int, each: Each) -> NDArray[Any]:
    """[n] scores of the documents (ascending numbers), of which about `size` tokens are looked at at once."""

    def of_chunk(chunk: Ints) -> NDArray[Any]:
        parts = [scores(s, s.encoded, rows) for s, rows in collection.parts(chunk) if s.encoded is not None]
        return np.concatenate(parts)

    return np.concatenate(list(each(of_chunk, _chunks(collection, documents, size))))


def rank(
    q: Floats,
    asked: PreparedQuery | None,
    collection: SegmentedIndex,
    documents: Ints,
    k: int,
    floor: float | None = None,
    each: Each = map,
) -> tuple[Ints, Doubles]:
    """The k best of `documents` (ascending numbers) by canonical MaxSim: their numbers and scores.

    `floor`, where it is known, is what the k-th best score is at least; few documents are then looked at once, many
    without it are scored roughly first.
    """
    if floor is None:
        rough, bound = rough_scores(q, asked, collection, documents, each)
        documents, floor = documents[possible_top_k(rough, bound, k)], -np.inf
    documents, exact = true_scores(q, asked, collection, documents, floor)
    order = top_k(exact, k, collection.positions[documents])
    return documents[order], exact[order]


def rough_scores(
    q: Floats, asked: PreparedQuery | None, collection: SegmentedIndex, documents: Ints, each: Each = map
) -> tuple[Doubles, float]:
    """MaxSim with each of `documents` (ascending numbers), [n], and how far one of them can be from the canonical."""

    def of_chunk(chunk: Ints) -> list[tuple[Doubles, float]]:
        return [of_part(segment, rows) for segment, rows in collection.parts(chunk)]

    def of_part(s: Segment, rows: Ints) -> tuple[Doubles, float]:
        similarities, slack = _similarities(q, asked, s, s.tokens(rows))
        return _sums(similarities, _starts(s, rows)), float(slack.sum())

    parts = [part for found in each(of_chunk, _chunks(collection, documents, CHUNK_TOKENS)) for part in found]
    return np.concatenate([np.empty(0), *(scores for scores, _ in parts)]), max((b for _, b in parts), default=0.0)


def true_scores(
    q: Floats, asked: PreparedQuery | None, collection: SegmentedIndex, documents: Ints, floor: float = -np.inf
) -> tuple[Ints, Doubles]:
    """Those of `documents` (ascending numbers) that can score `floor` or more, and their canonical MaxSim: [n] each."""

    def of_part(s: Segment, rows: Ints) -> tuple[Ints, Doubles]:
        tokens = rows_of(s.offsets, rows)  # [n_tokens]
        similarities, slack = _similarities(q, asked, s, tokens)
        offsets = np.append(_starts(s, rows), len(tokens))  # [n_rows + 1]
        near = np.flatnonzero(~(_sums(similarities, offsets[:-1]) < floor - slack.sum()))  # [n_near]
        mine = rows_of(offsets, near)  # their tokens among these
        starts = offsets_of(offsets[near + 1] - offsets[near])[:-1]  # [n_near]
        held = tokens[mine]
        return near, canonical_scores(
            q, similarities[mine], starts, slack, lambda some: s.decode(held[some], collection.codec)
        )

    kept, found = [np.empty(0, np.int64)], [np.empty(0)]
    for chunk in _chunks(collection, documents, CHUNK_TOKENS):
        first = 0
        for s, rows in collection.parts(chunk):
            near, scores = of_part(s, rows)
            kept.append(chunk[first + near])
            found.append(scores)
            first += len(rows)
    return np.concatenate(kept), np.concatenate(found)


@np.errstate(over="ignore", invalid="ignore")  # what float32 cannot hold could be anything, and is settled
def _similarities(q: Floats, asked: PreparedQuery | None, s: Segment, tokens: Ints | slice) -> tuple[Floats, Doubles]:
    """[n, n_q] with the tokens of a segment, and how far one of them can be from the true one, [n_q]."""
    if asked is not None and s.encoded is not None:
        encoded = s.encoded.take(tokens)
        return asked.similarities(encoded), asked.error_bound(float(encoded.scales.max()))
    return s.decode(tokens, None) @ q.T, float32_error_bound(q, s.largest_norm)


@np.errstate(invalid="ignore")
def _sums(similarities: Floats, starts: Ints) -> Doubles:
    """[n_tokens, n_q] similarities, [n_docs] where documents begin -> [n_docs] MaxSim."""
    sums: Doubles = np.maximum.reduceat(similarities, starts, axis=0).sum(axis=1, dtype=np.float64)
    return sums


def _starts(s: Segment, rows: Ints) -> Ints:
    """[n_rows] where each document begins among the tokens of all of them."""
    return offsets_of(s.lengths(rows))[:-1]


def _chunks(collection: SegmentedIndex, documents: Ints, size: int) -> Iterator[Ints]:
    """Runs of documents of about `size` tokens, so that a scan holds little at a time."""
    ends = np.cumsum(collection.lengths[documents])  # [n]
    first = 0
    while first < len(documents):
        reach = size + (int(ends[first - 1]) if first else 0)
        last = max(int(np.searchsorted(ends, reach, side="right")), first + 1)
        yield documents[first:last]
        first = last
