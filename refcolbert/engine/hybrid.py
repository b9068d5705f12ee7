"""Search by words, and by words and vectors together.

A search by words ranks documents by BM25 (`bm25`). A hybrid search takes the best POOL documents by MaxSim (`search`)
and the best POOL by BM25, computes both scores of each of them, and ranks them by the fused score.
"""

from collections.abc import Sequence

import numpy as np

from ..arrays import Bools, Doubles, Floats
from ..checks import check_count
from .bm25 import QueryTerm, best_by_words, query_terms, word_scores
from .search import DEFAULTS, Result, SearchOptions, best_by_vectors, search
from .segments import SegmentedIndex
from .topk import top_k
from .trace import Trace

__all__ = ["POOL", "VectorsAndTerms", "fuse", "search_by", "search_hybrid", "search_words"]

# A query: its vectors [n_q, dim], or None; its terms, repetitions included, or None.
VectorsAndTerms = tuple[Floats | None, Sequence[bytes] | None]

POOL = 100  # documents that each of the two rankings contributes, never fewer than k


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
    k, trace, eligible = check_count(k, "k"), Trace(), index.eligible(allowed)
    depth = max(k, POOL)
    with trace.stage("words") as stage:
        weighted = query_terms(terms, index)
        by_words, _ = best_by_words(weighted, index, depth, eligible)
        stage.read, stage.count = sum(len(term.documents) for term in weighted), len(by_words)
    pool, late = best_by_vectors(q, index, depth, options, eligible, trace, np.sort(by_words))
    ascending = np.argsort(pool)  # [n_pool]
    pool, late = pool[ascending], late[ascending]
    words = word_scores(weighted, index, pool)
    scores = fuse(late, words, len(q), weighted)
    order = top_k(scores, k, index.positions[pool])
    return Result(pool[order], scores[order], tuple(trace.stages), late[order], words[order])


def fuse(late: Doubles, words: Doubles, n_q: int, terms: Sequence[QueryTerm]) -> Doubles:
    """Return the fused scores of documents: [n].

    late   [n] MaxSim with the n_q query vectors
    words  [n] BM25 with the query's terms
    """
    bound = sum(term.weight for term in terms) or 1.0
    scores: Doubles = 0.7 * late / n_q + 0.3 * words / bound
    return scores
