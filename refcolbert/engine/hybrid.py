"""Search by words, and by words and vectors together.

A search by words ranks documents by BM25 (`bm25`). A hybrid search takes the best documents by MaxSim (`search`) and
the best documents by BM25, 2 k + 12 of each, and ranks all of them by

    fused score  =  MaxSim + WORD_WEIGHT * BM25 / sqrt(number of terms in the query, repetitions included)

Both scores are computed for every document of the pool. So a fused score depends on the query, the document and the
statistics of the collection alone. It does not depend on the other documents that were found, as fused ranks do, or
scores that are scaled to [0, 1]. BM25 adds up over the terms, and its spread over documents grows with the square root
of their number. MaxSim of a query that is filled up to a fixed number of tokens does not grow.

The form and the weight were chosen among several families by `tools.compare.fusion`, on seven collections.
"""

import math
from collections.abc import Sequence

import numpy as np

from ..arrays import Bools, Doubles, Floats
from ..checks import check_count
from .bm25 import best_by_words, query_terms, word_scores
from .search import DEFAULTS, Result, SearchOptions, best_by_vectors, search
from .segments import SegmentedIndex
from .topk import top_k
from .trace import Trace

__all__ = [
    "POOL_EXTRA",
    "POOL_FACTOR",
    "WORD_WEIGHT",
    "VectorsAndTerms",
    "fuse",
    "search_by",
    "search_hybrid",
    "search_words",
]

# A query: its vectors [n_q, dim], or None; its terms, repetitions included, or None.
VectorsAndTerms = tuple[Floats | None, Sequence[bytes] | None]

WORD_WEIGHT = 0.7
# Documents that each of the two rankings contributes: POOL_FACTOR k + POOL_EXTRA. More change no answer that matters.
POOL_FACTOR, POOL_EXTRA = 2, 12


def search_words(
    terms: Sequence[bytes],  # of the query, repetitions included
    index: SegmentedIndex,
    k: int,
    *,
    allowed: Bools | None = None,  # [n_docs]
) -> Result:
    """Return the k best live and allowed documents by BM25. A document without any of the terms is not returned."""
    trace = Trace()
    with trace.stage("words") as stage:
        weighted = query_terms(terms, index)
        documents, scores = best_by_words(weighted, index, check_count(k, "k"), index.eligible(allowed))
        stage.read, stage.count = sum(len(term.documents) for term in weighted), len(documents)
    return Result(documents, scores, tuple(trace.stages), words=scores)


def search_by(
    query: VectorsAndTerms,
    index: SegmentedIndex,
    k: int,
    options: SearchOptions = DEFAULTS,
    *,
    allowed: Bools | None = None,  # [n_docs]
) -> Result:
    """Return the k best documents for a query by its vectors, by its terms, or by both, as the query has them."""
    q, terms = query
    if q is not None and terms is not None:
        return search_hybrid(q, terms, index, k, options, allowed=allowed)
    if q is not None:
        return search(q, index, k, options, allowed=allowed)
    return search_words(terms or (), index, k, allowed=allowed)


def search_hybrid(
    q: Floats,  # [n_q, dim]
    terms: Sequence[bytes],  # of the same query
    index: SegmentedIndex,
    k: int,
    options: SearchOptions = DEFAULTS,
    *,
    allowed: Bools | None = None,  # [n_docs]
) -> Result:
    """Return the k best live and allowed documents by the fused score (`fuse`), equal scores by position."""
    depth = POOL_FACTOR * check_count(k, "k") + POOL_EXTRA
    trace, eligible = Trace(), index.eligible(allowed)
    with trace.stage("words") as stage:
        weighted = query_terms(terms, index)
        by_words, _ = best_by_words(weighted, index, depth, eligible)
        stage.read, stage.count = sum(len(term.documents) for term in weighted), len(by_words)
    pool, late = best_by_vectors(q, index, depth, options, eligible, trace, np.sort(by_words))
    ascending = np.argsort(pool)  # [n_pool]
    pool, late = pool[ascending], late[ascending]
    words = word_scores(weighted, index, pool)
    scores = fuse(late, words, len(terms))
    order = top_k(scores, k, index.positions[pool])
    return Result(pool[order], scores[order], tuple(trace.stages), late[order], words[order])


def fuse(late: Doubles, words: Doubles, n_terms: int) -> Doubles:
    """Return the fused scores of documents with these MaxSim and BM25 scores, for a query of `n_terms` terms: [n].

    >>> fuse(np.array([20.0, 21.0]), np.array([8.0, 0.0]), 4).round(2).tolist()
    [22.8, 21.0]
    """
    return late + WORD_WEIGHT / math.sqrt(max(n_terms, 1)) * words
