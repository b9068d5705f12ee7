"""The ranking: exact MaxSim with the stored vectors, and the order that decides the answer.

Float32 similarities come from a matrix product, or from the codec without decoding. They are fast, but their last bits
depend on what else was multiplied in the same call, so no order may depend on them. They only decide which documents
can be among the first k. Those get canonical scores (`maxsim.canonical_scores`), and the canonical scores decide the
order.

A worked example with k = 1. Three documents have float32 scores 2.00001, 2.00000 and 1.5, and a float32 score can be
off by .00002. The third document cannot be the best: at most it has 1.50002, and the first one has at least 1.99999.
The other two could each be the best, so only their canonical scores are computed. If these are 2.000004 and 2.000006,
the second document wins.
"""

from dataclasses import dataclass

import numpy as np

from ..arrays import Doubles, Floats, Ints
from .codec import PreparedQuery
from .maxsim import canonical_scores, float32_error_bound, kth_best, possible_top_k
from .ragged import offsets_of, rows_of
from .segments import Segment, SegmentedIndex
from .threads import MapChunks, multiply
from .topk import top_k

__all__ = ["CHUNK_TOKENS", "float32_scores", "keep_possible_top_k", "rank", "reachable_scores"]

# Document tokens compared at a time: 2 MiB unpacked at dim 128. Larger arrays are given back to the system after each
# chunk by some allocators, and every page of the next one is a page fault.
CHUNK_TOKENS = 1 << 12


def rank(
    q: Floats,  # [n_q, dim]
    prepared: PreparedQuery | None,  # the same query for encoded vectors; None where all vectors are raw
    index: SegmentedIndex,
    documents: Ints,  # [n] ascending
    k: int,
    kth_score_at_least: float = -np.inf,
) -> tuple[Ints, Doubles]:
    """Return the k best of `documents` by canonical MaxSim, best first, and their scores: [min(k, n)] each.

    `kth_score_at_least` is a lower bound of the k-th best score; documents that cannot reach it are left out early.
    Equal scores are ordered by position.
    """
    reaching, scores = reachable_scores(q, prepared, index, documents, kth_score_at_least, k)
    order = top_k(scores, k, index.positions[reaching])
    return reaching[order], scores[order]


def keep_possible_top_k(
    q: Floats,
    prepared: PreparedQuery | None,
    index: SegmentedIndex,
    documents: Ints,  # [n] ascending
    k: int,
    map_chunks: MapChunks = map,
) -> Ints:
    """Return the documents that can be among the k best, ascending, after a scan in float32 that threads share."""
    scores, error_bound = float32_scores(q, prepared, index, documents, map_chunks)
    return documents[possible_top_k(scores, error_bound, k)]


def float32_scores(
    q: Floats,
    prepared: PreparedQuery | None,
    index: SegmentedIndex,
    documents: Ints,  # [n] ascending
    map_chunks: MapChunks = map,
) -> tuple[Doubles, float]:
    """Return MaxSim with each document by float32 similarities, [n], and the bound of its error."""

    def score_chunk(chunk: Ints) -> list[tuple[Doubles, float]]:
        compared = (_compare(q, prepared, segment, rows) for segment, rows in index.parts(chunk))
        return [(part.scores(), float(part.error_bound.sum())) for part in compared]

    chunks = map_chunks(score_chunk, index.chunks(documents, CHUNK_TOKENS))
    parts = [part for chunk in chunks for part in chunk]
    return np.concatenate([np.empty(0), *(s for s, _ in parts)]), max((bound for _, bound in parts), default=0.0)


def reachable_scores(
    q: Floats,
    prepared: PreparedQuery | None,
    index: SegmentedIndex,
    documents: Ints,  # [n] ascending
    least: float = -np.inf,
    k: int | None = None,
) -> tuple[Ints, Doubles]:
    """Return the documents that can score `least` or more, ascending, and their canonical MaxSim.

    With k, documents that cannot be among the k best may be missing too.
    """
    reaching, canonical = [np.empty(0, np.int64)], [np.empty(0)]
    for chunk in index.chunks(documents, CHUNK_TOKENS):
        first = 0  # place in the chunk of the part's first document
        for segment, rows in index.parts(chunk):
            compared = _compare(q, prepared, segment, rows)
            scores, error_bound = compared.scores(), float(compared.error_bound.sum())  # [n_rows], []
            if k is not None:
                least = max(least, kth_best(scores, k) - error_bound)
            # `~(a < b)` instead of `a >= b`: a score that is NaN could be anything, so it stays.
            near = np.flatnonzero(~(scores < least - error_bound))  # [n_near]
            reaching.append(chunk[first + near])
            canonical.append(compared.canonical(q, near, index))
            first += len(rows)
    return np.concatenate(reaching), np.concatenate(canonical)


@dataclass(frozen=True, slots=True, eq=False)
class _Compared:
    """Float32 similarities of a query with the tokens of some documents of one segment."""

    segment: Segment
    tokens: Ints | slice  # [n_tokens] rows of the segment's token arrays, one document after the other
    offsets: Ints  # [n_docs + 1] where each document's tokens begin in `tokens`
    similarities: Floats  # [n_tokens, n_q]
    maxima: Floats  # [n_docs, n_q]
    error_bound: Doubles  # [n_q] the largest error of a similarity

    @np.errstate(invalid="ignore")
    def scores(self) -> Doubles:
        """[n_docs] MaxSim."""
        scores: Doubles = self.maxima.sum(axis=1, dtype=np.float64)
        return scores

    def canonical(self, q: Floats, documents: Ints, index: SegmentedIndex) -> Doubles:
        """[n] canonical scores of these documents. They are numbered among the compared documents."""
        own = rows_of(self.offsets, documents)  # [n_own] their rows of `similarities`
        starts = offsets_of(np.diff(self.offsets)[documents])[:-1]  # [n] where each begins in `own`
        rows = own + self.tokens.start if isinstance(self.tokens, slice) else self.tokens[own]  # [n_own]
        return canonical_scores(
            q,
            self.similarities[own],
            starts,
            self.maxima[documents],
            self.error_bound,
            lambda chosen: self.segment.decode(rows[chosen], index.codec),
        )


# Products beyond float32 become infinity or NaN here. They count as unknown, and canonical scores settle them.
@np.errstate(over="ignore", invalid="ignore")
def _compare(q: Floats, prepared: PreparedQuery | None, segment: Segment, rows: Ints) -> _Compared:
    """Compare a query with all tokens of the documents in these rows (ascending)."""
    tokens = segment.tokens(rows)
    offsets = offsets_of(segment.lengths(rows))  # [n_rows + 1]
    if prepared is not None and segment.encoded is not None:
        encoded = segment.encoded.take(tokens)
        similarities, bound = prepared.similarities(encoded), prepared.error_bound(float(encoded.scales.max()))
    else:
        similarities = multiply(segment.decode(tokens, None), np.ascontiguousarray(q.T))
        bound = float32_error_bound(q, segment.largest_norm)
    maxima = np.maximum.reduceat(similarities, offsets[:-1], axis=0)  # [n_rows, n_q]
    return _Compared(segment, tokens, offsets, similarities, maxima, bound)
