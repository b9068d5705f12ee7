"""Search by words, and by words and vectors together.

A search by words ranks documents by BM25 (`bm25`). A hybrid search takes the best documents by MaxSim (`search`) and
the best documents by BM25, 2 k + 12 of each, and ranks all of them by

    fused score  =  MaxSim + WORD_WEIGHT * BM25 / sqrt(number of terms in the query, repetitions included)

Both scores are computed for every document of the pool. So a fused score depends on the query, the document and the
statistics of the collection alone. It does not depend on the other documents that were found, as fused ranks do, or
scores that are scaled to [0, 1]. BM25 adds up over the terms, and its spread over documents grows with the square root
of their number. MaxSim of a query that is filled up to a fixed number of tokens does not grow.

The form and the weight were chosen among several families by `tools.compare.fusion`, on seven collections.

A collection in several parts is searched by the same two steps. `pool_by` gives the pool of each part, for words that
were weighed for the whole collection. `rank_pool` ranks the joined pools. What is among the best 2 k + 12 of the
collection is among the best 2 k + 12 of its part, so nothing that the whole collection would find is missing.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..arrays import Bools, Doubles, Floats, Ints
from ..checks import check_count
from ..errors import InvalidInput
from .bm25 import QueryTerm, QueryWords, best_by_words, query_terms, word_scores
from .search import DEFAULTS, Result, SearchOptions, best_by_vectors
from .segments import SegmentedIndex
from .topk import top_k
from .trace import Stage, Trace

__all__ = [
    "POOL_EXTRA",
    "POOL_FACTOR",
    "WORD_WEIGHT",
    "Pool",
    "VectorsAndWords",
    "fuse",
    "join_pools",
    "pool_by",
    "rank_pool",
    "search_by",
]

# A query: its vectors [n_q, dim], or None; its words, or None.
VectorsAndWords = tuple[Floats | None, QueryWords | None]

WORD_WEIGHT = 0.7
# Documents that each of the two rankings contributes: POOL_FACTOR k + POOL_EXTRA. More change no answer that matters.
POOL_FACTOR, POOL_EXTRA = 2, 12


@dataclass(frozen=True, slots=True, eq=False)
class Pool:
    """The documents of one index that can be among the k best of a collection of which the index is a part."""

    documents: Ints  # [n] ascending numbers in the `SegmentedIndex`
    late: Doubles | None  # [n] canonical MaxSim; None for a search by words alone
    words: Doubles | None  # [n] BM25; None for a search by late interaction alone
    by_late: Bools  # [n] True if the document is among the best by MaxSim that the search found
    by_words: Bools  # [n] True if it is among the best by BM25
    trace: tuple[Stage, ...]


def search_by(
    query: VectorsAndWords,
    index: SegmentedIndex,
    k: int,
    options: SearchOptions = DEFAULTS,
    *,
    allowed: Bools | None = None,  # [n_docs] documents that may be returned; None: every live document
) -> Result:
    """Return the k best live and allowed documents for a query by its vectors, its words, or both, as it has them.

    Equal scores are ordered by position. A search by words alone returns no document without any of the words.
    """
    pool = pool_by(query, index, k, options, allowed=allowed)
    order, scores = rank_pool(pool, k, query[1], index.positions[pool.documents])
    late, words = (None if part is None else part[order] for part in (pool.late, pool.words))
    return Result(pool.documents[order], scores, pool.trace, late, words)


def pool_by(
    query: VectorsAndWords,
    index: SegmentedIndex,
    k: int,
    options: SearchOptions = DEFAULTS,
    *,
    allowed: Bools | None = None,  # [n_docs]
) -> Pool:
    """Return the documents of the index among which are the k best; see `search_by`. Raises `InvalidInput` for k."""
    q, words = query
    trace, eligible = Trace(), index.eligible(allowed)
    depth = check_count(k, "k") if q is None or words is None else POOL_FACTOR * check_count(k, "k") + POOL_EXTRA
    weighted: list[QueryTerm] = []
    best, scores = np.empty(0, np.int64), np.empty(0)  # by words
    if words is not None:
        with trace.stage("words") as stage:
            weighted = query_terms(words, index)
            best, scores = best_by_words(weighted, index, depth, eligible)
            stage.read, stage.count = sum(len(term.documents) for term in weighted), len(best)
    order, every = np.argsort(best), np.ones(len(best), np.bool_)
    if q is None:
        return Pool(best[order], None, scores[order], ~every, every, tuple(trace.stages))
    documents, late = best_by_vectors(q, index, depth, options, eligible, trace, best[order])
    by_late = np.arange(len(documents)) < depth
    order = np.argsort(documents)  # [n_pool]
    documents, late, by_late = documents[order], late[order], by_late[order]
    in_words = None if words is None else word_scores(weighted, index, documents)
    return Pool(documents, late, in_words, by_late, np.isin(documents, best), tuple(trace.stages))


def join_pools(pools: Sequence[Pool]) -> Pool:
    """Return the pools of the parts of a collection as one, in the order of the parts. `documents` number its rows."""
    late = [pool.late for pool in pools if pool.late is not None]
    words = [pool.words for pool in pools if pool.words is not None]
    by_late = np.concatenate([np.empty(0, np.bool_), *(pool.by_late for pool in pools)])
    return Pool(
        np.arange(len(by_late)),
        np.concatenate(late) if late else None,
        np.concatenate(words) if words else None,
        by_late,
        np.concatenate([np.empty(0, np.bool_), *(pool.by_words for pool in pools)]),
        (),
    )


def rank_pool(
    pool: Pool,
    k: int,
    words: QueryWords | None,
    positions: Ints,  # [n]
) -> tuple[Ints, Doubles]:
    """Return the rows of the k best documents of a pool, best first, and their scores: [n_hits] each.

    Equal scores are ordered by position.
    """

    def best(scores: Doubles, rows: Ints, k: int) -> Ints:
        return rows[top_k(scores[rows], k, positions[rows])]

    scores, rows = pool.late if pool.words is None else pool.words, np.arange(len(pool.documents))
    if pool.late is not None and pool.words is not None and words is not None:
        depth = POOL_FACTOR * k + POOL_EXTRA
        rows = np.union1d(
            best(pool.late, np.flatnonzero(pool.by_late), depth), best(pool.words, np.flatnonzero(pool.by_words), depth)
        )
        scores = fuse(pool.late, pool.words, words.n_terms)
    if scores is None:
        raise InvalidInput("expected a pool with scores by vectors or by words, found neither")
    order = best(scores, rows, k)
    return order, scores[order]


def fuse(late: Doubles, words: Doubles, n_terms: int) -> Doubles:
    """Return the fused scores of documents with these MaxSim and BM25 scores, for a query of `n_terms` terms: [n].

    >>> fuse(np.array([20.0, 21.0]), np.array([8.0, 0.0]), 4).round(2).tolist()
    [22.8, 21.0]
    """
    return late + WORD_WEIGHT / math.sqrt(max(n_terms, 1)) * words
