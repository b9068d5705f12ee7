"""Two-phase late-interaction search: choose candidates by centroids, rank them by exact MaxSim (PLAID, CIKM 2022).

Each stage is a function; `search` strings them together and keeps a trace of what each one did. With q_i the query
tokens, c the centroids, code_j the cell of document token j and x_j its stored vector:

    cells       q_i . c for every centroid, and the nprobe best cells of each query token
    candidates  documents with a token in a probed cell, by sum over i of max over its probed cells of q_i . c
    prune       the best of these, by sum over i of max over all j of q_i . c[code_j]
    rank        the best of these, by sum over i of max over j of q_i . x_j: exact MaxSim

Everything before the ranking only chooses which documents are ranked, on similarities rounded to 8 bits: a byte table
[n_centroids, n_q] stays in the cache, and one row holds what all query tokens think of a cell. The candidate stage
reads the inverted lists alone, some twenty times less than all tokens of its documents, so that pruning meets few.

Every returned score is the canonical MaxSim of the query with the vectors that the index holds, and the order among
those ranked is the one total order of `topk`. A collection with no codec, one that holds no more documents than would
be ranked anyway, and `exact=True` skip the choosing.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import ivf
from .codec import Asked, Codec, Encoded
from .errors import InvalidInput
from .maxsim import contenders, score, score_bound
from .ragged import Ragged, offsets_of, rows_of
from .topk import check_k, top_k

__all__ = [
    "Collection",
    "Result",
    "Segment",
    "Stage",
    "find",
    "prune",
    "rank",
    "rough_scores",
    "round_to_levels",
    "search",
]

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Levels = NDArray[np.uint8]

NPROBE = 16
CANDIDATES = 512  # documents ranked exactly
PRUNED = 4  # documents that pruning looks at, for each one that is ranked
LEVELS = 255  # of a similarity while choosing
CHUNK_TOKENS = 1 << 11  # decoded at once: 1 MiB at dim 128, which stays in the second-level cache


@dataclass(frozen=True, slots=True, eq=False)
class Segment:
    """Documents that were written together: raw vectors, or encoded ones with their inverted lists."""

    positions: Ints  # [n_docs] ascending; a document's place in the one total order
    offsets: Ints  # [n_docs + 1] into the token arrays
    live: Bools  # [n_docs] False once deleted
    largest_norm: float  # of its vectors
    raw: NDArray[Any] | None  # [n_tokens, dim] float16 or float32
    encoded: Encoded | None  # or this
    lists: ivf.InvertedLists | None  # with this

    def __len__(self) -> int:
        return len(self.positions)

    def tokens(self, rows: Ints) -> Ints | slice:
        """Where the tokens of these documents (ascending rows) are: a slice, which copies nothing, for neighbours."""
        if len(rows) and rows[-1] - rows[0] + 1 == len(rows):
            return slice(int(self.offsets[rows[0]]), int(self.offsets[rows[-1] + 1]))
        return rows_of(self.offsets, rows)

    def decode(self, tokens: Ints | slice, codec: Codec | None) -> Floats:
        """[n] token rows -> [n, dim] their vectors."""
        if self.raw is not None:
            return np.asarray(self.raw[tokens], dtype=np.float32)
        if self.encoded is None or codec is None:
            raise InvalidInput("a segment must hold raw vectors, or encoded ones with a codec")
        return codec.decode(self.encoded.take(tokens))


@dataclass(frozen=True, eq=False)
class Collection:
    """What is searched: segments in order, and the codec they share (None while vectors are raw).

    Documents are numbered through the segments: the rows of the first one, then those of the second, ...
    """

    dim: int
    codec: Codec | None
    segments: tuple[Segment, ...]

    @cached_property
    def starts(self) -> Ints:
        """[n_segments + 1] number of each segment's first document."""
        return offsets_of([len(s) for s in self.segments])

    @cached_property
    def positions(self) -> Ints:
        """[n_docs] in the one total order."""
        return np.concatenate([np.empty(0, np.int64), *(s.positions for s in self.segments)])

    @cached_property
    def live(self) -> Bools:
        """[n_docs] False once deleted."""
        return np.concatenate([np.empty(0, np.bool_), *(s.live for s in self.segments)])

    @cached_property
    def lengths(self) -> Ints:
        """[n_docs] token vectors of each document."""
        return np.concatenate([np.empty(0, np.int64), *(np.diff(s.offsets) for s in self.segments)])

    @cached_property
    def largest_norm(self) -> float:
        """Of all vectors."""
        return max((s.largest_norm for s in self.segments), default=0.0)

    def parts(self, documents: Ints) -> Iterator[tuple[Segment, Ints]]:
        """Ascending document numbers -> each segment that holds some, and their rows in it."""
        bounds = np.searchsorted(documents, self.starts)
        for i, segment in enumerate(self.segments):
            if bounds[i] < bounds[i + 1]:
                yield segment, documents[bounds[i] : bounds[i + 1]] - self.starts[i]

    def vectors(self, documents: Ints) -> Ragged:
        """The vectors of the listed documents (ascending numbers), decoded."""
        arrays = [s.decode(s.tokens(rows), self.codec) for s, rows in self.parts(documents)]
        if not arrays:
            return Ragged(np.empty((0, self.dim), np.float32), np.zeros(1, np.int64))
        return Ragged(np.concatenate(arrays) if len(arrays) > 1 else arrays[0], offsets_of(self.lengths[documents]))


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage of one search: how many things came out of it, and how long it took."""

    name: str
    count: int
    milliseconds: float


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
    def stage(self, name: str) -> Iterator[list[int]]:
        """Time a stage; what it appends to the list is its count."""
        count: list[int] = []
        start = time.perf_counter()
        yield count
        self.stages.append(Stage(name, count[-1], (time.perf_counter() - start) * 1e3))


def search(
    q: Floats,  # [n_q, dim]
    collection: Collection,
    k: int,
    *,
    allowed: Bools | None = None,  # [n_docs] documents that may be returned; None: all that are live
    nprobe: int | None = None,
    candidates: int | None = None,
    exact: bool = False,
) -> Result:
    """The k best live and allowed documents, fewer only when there are no more.

    `nprobe` cells are probed for each query token and at most `candidates` documents (never fewer than k) are ranked;
    both are widened as far as it takes to find k. `exact=True` ranks every allowed document.
    Raises `InvalidInput` for k, nprobe or candidates below 1.
    """
    k = check_k(k)
    nprobe = NPROBE if nprobe is None else nprobe
    keep = max(check_k(candidates) if candidates is not None else CANDIDATES, k)
    if isinstance(nprobe, bool) or not isinstance(nprobe, int | np.integer) or nprobe < 1:
        raise InvalidInput(f"nprobe must be an integer >= 1, found {nprobe!r}")
    trace = _Trace()
    eligible = collection.live if allowed is None else collection.live & allowed  # [n_docs]
    asked = collection.codec.ask(q) if collection.codec else None
    if exact or asked is None or eligible.sum() <= keep:
        chosen = np.flatnonzero(eligible)
    else:
        chosen = _choose(asked, collection, eligible, k, int(nprobe), keep, trace)
    with trace.stage("rank") as count:
        documents, hit_scores = rank(q, asked, collection, chosen, k)
        count.append(len(chosen))
    return Result(documents, hit_scores, tuple(trace.stages))


def _choose(
    asked: Asked, collection: Collection, eligible: Bools, k: int, nprobe: int, keep: int, trace: _Trace
) -> Ints:
    """The documents to rank, ascending: at least k of them, or all that are eligible."""
    with trace.stage("cells") as count:
        table = round_to_levels(asked.centroids)  # [n_centroids, n_q]
        n_eligible = int(eligible.sum())
        # A filter that leaves one document in ten leaves one candidate in ten: probe as much more.
        nprobe *= -(-len(eligible) // n_eligible)
        cells = ivf.probe(asked.centroids.T, nprobe)
        count.append(len(cells))
    with trace.stage("candidates") as count:
        found, scores = find(table, collection, cells, eligible)
        while len(found) < min(k, n_eligible):
            nprobe *= 4
            found, scores = find(table, collection, ivf.probe(asked.centroids.T, nprobe), eligible)
        count.append(len(found))
    with trace.stage("prune") as count:
        chosen = found[top_k(scores, PRUNED * keep)] if len(found) > PRUNED * keep else found
        chosen = prune(table, collection, np.sort(chosen), keep)
        count.append(len(chosen))
    return chosen


def round_to_levels(similarities: Floats) -> Levels:
    """[n_centroids, n_q] similarities in steps of largest / 255; what is negative counts as 0."""
    largest = max(float(similarities.max()), 1e-30)
    return (np.maximum(similarities, 0) * np.float32(LEVELS / largest)).astype(np.uint8)


def find(table: Levels, collection: Collection, cells: Ints, eligible: Bools) -> tuple[Ints, Ints]:
    """Eligible documents with a token in one of `cells`, ascending, and what those cells alone say of them."""
    documents, scores = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for segment, start in zip(collection.segments, collection.starts, strict=False):
        if segment.lists is not None:
            rows, entries = ivf.entries(segment.lists, cells)  # [n_entries] each: document, cell
            mine = eligible[start : start + len(segment)][rows]  # [n_entries]
            pairs = np.sort(rows[mine].astype(np.uint64) << np.uint64(32) | entries[mine])  # by document
            if len(pairs):
                found = (pairs >> np.uint64(32)).astype(np.int64)
                starts = np.flatnonzero(np.diff(found, prepend=-1))  # [n_found]
                documents.append(found[starts] + start)
                scores.append(_sum_of_maxima(table, pairs.astype(np.uint32), starts))
    return np.concatenate(documents), np.concatenate(scores)


def prune(table: Levels, collection: Collection, documents: Ints, keep: int) -> Ints:
    """The `keep` documents of highest MaxSim between query and centroids, ascending by number."""
    if len(documents) <= keep:
        return documents
    scores = [
        _sum_of_maxima(table, s.encoded.codes[s.tokens(rows)], offsets_of(np.diff(s.offsets)[rows])[:-1])
        for s, rows in collection.parts(documents)
        if s.encoded is not None
    ]
    return np.sort(documents[top_k(np.concatenate(scores), keep)])


def _sum_of_maxima(table: Levels, cells: NDArray[Any], starts: Ints) -> Ints:
    """Cells [n] cut into documents at `starts` [n_docs] -> [n_docs] the levels of MaxSim with those centroids."""
    levels = np.take(table, cells, axis=0)  # [n, n_q]
    sums: Ints = np.maximum.reduceat(levels, starts, axis=0).sum(axis=1, dtype=np.int64)
    return sums


def rank(q: Floats, asked: Asked | None, collection: Collection, documents: Ints, k: int) -> tuple[Ints, Doubles]:
    """The k best of `documents` (ascending numbers) by canonical MaxSim: their numbers and scores."""
    rough, bound = rough_scores(q, asked, collection, documents)
    near = documents[contenders(rough, k, bound)]
    vectors = collection.vectors(near)
    exact = np.array([score(q, vectors[i]) for i in range(len(near))])  # [n_near]
    order = top_k(exact, k, collection.positions[near])
    return near[order], exact[order]


def rough_scores(q: Floats, asked: Asked | None, collection: Collection, documents: Ints) -> tuple[Doubles, float]:
    """MaxSim with each of `documents` (ascending numbers), [n], and how far one of them can be from the canonical."""
    found, bound = [np.empty(0)], 0.0
    for chunk in _chunks(collection, documents):
        for segment, rows in collection.parts(chunk):
            tokens, starts = segment.tokens(rows), offsets_of(np.diff(segment.offsets)[rows])[:-1]
            if asked is not None and segment.encoded is not None:
                encoded = segment.encoded.take(tokens)
                similarities = asked.similarities(encoded)  # [n, n_q]
                bound = max(bound, asked.bound(float(encoded.scales.max())))
            else:
                similarities = segment.decode(tokens, None) @ q.T  # [n, n_q]
                bound = max(bound, score_bound(q, collection.dim, segment.largest_norm))
            found.append(np.maximum.reduceat(similarities, starts, axis=0).sum(axis=1, dtype=np.float64))
    return np.concatenate(found), bound


def _chunks(collection: Collection, documents: Ints) -> Iterator[Ints]:
    """Runs of documents of about CHUNK_TOKENS tokens, so that a scan holds little at a time."""
    ends = np.cumsum(collection.lengths[documents])  # [n]
    first = 0
    while first < len(documents):
        reach = CHUNK_TOKENS + (int(ends[first - 1]) if first else 0)
        last = max(int(np.searchsorted(ends, reach, side="right")), first + 1)
        yield documents[first:last]
        first = last
