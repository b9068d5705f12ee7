"""The stages that choose which documents are ranked: cells, candidates, prune, refine (PLAID, section 4).

A worked example with nprobe 1: two query tokens q, three centroids c, and the cells of each document's tokens.

    q . c     c_0  c_1  c_2        document A  cells 0, 1        lists  0: A
    q_1       .9   .2   .1         document B  cells 1, 2               1: A, B, C
    q_2       .1   .3   .8         document C  cells 1, 1               2: B

    cells       the best cell of q_1 is 0, that of q_2 is 2: these two are kept
    candidates  the lists of 0 and 2 name A and B; C is not a candidate
                A by cell 0 alone:       .9 + .1 = 1.0      B by cell 2 alone:       .1 + .8 = .9
    prune       A by cells 0 and 1:      .9 + .3 = 1.2      B by cells 1 and 2:      .2 + .8 = 1.0
    refine      A and B by the stored vectors of their nearest tokens: A's in cells 0 and 1, B's in 1 and 2

Up to pruning, scores are sums of similarities rounded to 8 bits (`centroid_interaction`). PLAID scores every candidate
by the cells of all its tokens. Here every candidate is first scored by the entries of the probed lists alone, and only
the best go on to pruning, which reads the cells of all their tokens. Refining reads stored vectors, but only those of
the nearest tokens: about three in ten, with almost all the maxima. It begins with the documents that pruning scores
highest, and passes over those that can hardly reach the k best. `python -m tools.bench.stages` prints the amount that
each stage reads.
"""

from typing import NamedTuple

import numpy as np

from ..arrays import Array, Bools, Ints
from . import ivf
from .centroid_interaction import QuantizedScores, approximate_maxsim, nearest_tokens, quantize_scores, unit_of
from .codec import PreparedQuery
from .ragged import offsets_of
from .segments import Segment, SegmentedIndex
from .threads import MapChunks
from .topk import top_k
from .trace import Trace

__all__ = [
    "WIDER",
    "Candidates",
    "Pruned",
    "Refined",
    "candidates_from_lists",
    "generate_candidates",
    "prune",
    "refine",
    "widening",
]

# Pruning looks at PRUNE_FACTOR documents per document that it keeps, and at most at PRUNE_EXTRA more than it keeps.
PRUNE_FACTOR, PRUNE_EXTRA = 4, 1024
REFINE_FACTOR, REFINE_EXTRA = 2, 12  # refining keeps REFINE_FACTOR k + REFINE_EXTRA documents
WIDER = 4  # when too few documents were found, WIDER times as many cells are probed
PRUNE_TOKENS = 1 << 16  # tokens pruned at a time: 2 MiB of quantized scores for a query of 32 vectors
REFINE_TOKENS = 1 << 14  # tokens refined at a time; where a quarter of them is unpacked, that is 2 MiB at dim 128
ROUND = 128  # documents that are refined in the first round; each further round has twice as many
SPARSE = 16  # a round also has one in SPARSE of those that follow: many documents may differ from the first ones alike
SMALL_PAIRS = 1 << 32  # pairs of a document and a cell that fit into 32 bits
DEVIATIONS = 3  # standard deviations within which a document may still be among the k best


class Candidates(NamedTuple):
    """Documents with a token in one of the probed cells."""

    documents: Ints  # [n] ascending
    scores: Ints  # [n] quantized, by the probed cells alone
    n_entries: int  # of inverted lists that were read
    n_found: int  # documents in the probed cells; some of them may not be among `documents`


class Pruned(NamedTuple):
    """The documents that pruning keeps."""

    documents: Ints  # [n] ascending
    scores: Ints  # [n] quantized, by the cells of all tokens


def generate_candidates(
    prepared: PreparedQuery,
    index: SegmentedIndex,
    eligible: Bools,  # [n_docs]
    k: int,
    nprobe: int,
    keep: int,
    trace: Trace,
    *,
    widen: bool = True,
) -> tuple[Pruned, QuantizedScores]:
    """Return the `keep` documents that centroids choose, and the quantized scores of all centroids.

    With `widen`, probing is widened until there are k candidates, or all eligible documents. At least one document must
    be eligible.
    """
    with trace.stage("cells") as stage:
        quantized = quantize_scores(prepared.centroids)  # [n_centroids, n_q]
        n_eligible = int(eligible.sum())
        nprobe *= widening(len(eligible), n_eligible) if widen else 1
        cells = ivf.probe(prepared.centroids.T, nprobe)
        stage.read, stage.count = len(quantized), len(cells)
    with trace.stage("candidates") as stage:
        most = min(PRUNE_FACTOR * keep, keep + PRUNE_EXTRA)
        found = candidates_from_lists(quantized, index, cells, eligible, most)
        while widen and found.n_found < min(k, n_eligible):
            nprobe *= WIDER
            cells = ivf.probe(prepared.centroids.T, nprobe)
            found = candidates_from_lists(quantized, index, cells, eligible, most)
        stage.read, stage.count = found.n_entries, found.n_found
    with trace.stage("prune") as stage:
        documents = found.documents
        if len(documents) > most:
            documents = np.sort(documents[top_k(found.scores, most)])
        pruned = prune(quantized, index, documents, keep)
        stage.read, stage.count = int(index.lengths[documents].sum()), len(pruned.documents)
    return pruned, quantized


def widening(n_docs: int, n_eligible: int) -> int:
    """Return how many times more cells are probed because of documents that may not be returned.

    A filter that leaves one document in ten leaves one candidate in ten, so ten times as many cells are probed. The
    ratio is rounded to the nearest integer: a single deleted document must not double the work of every search.

    >>> widening(1000, 100), widening(1000, 999)
    (10, 1)
    """
    n_eligible = max(n_eligible, 1)
    return max((2 * n_docs + n_eligible) // (2 * n_eligible), 1)


def candidates_from_lists(
    quantized: QuantizedScores,  # [n_centroids, n_q]
    index: SegmentedIndex,
    cells: Ints,  # [n_cells] ascending
    eligible: Bools,  # [n_docs]
    most: int,
) -> Candidates:
    """Return the eligible documents with a token in one of `cells` that can be among the `most` best, and others."""
    documents, scores, n_entries, n_found = [np.empty(0, np.int64)], [np.empty(0, np.int64)], 0, 0
    probed = quantized[cells]  # [n_cells, n_q] few rows, which stay in the processor's smallest cache
    alone = probed.sum(axis=1, dtype=np.int64)  # [n_cells] what a document scores that has only this cell
    bits = len(cells).bit_length()
    # Not strict: `starts` has one number more than there are segments.
    for segment, start in zip(index.segments, index.starts, strict=False):
        if segment.lists is None:
            continue
        rows, cell_of = ivf.entries(segment.lists, cells)  # [n_entries] each
        n_entries += len(rows)
        # Lists come cell after cell, and scoring needs the cells of one document side by side. Document and cell in one
        # integer need one plain sort, where two keys would need an indirect one. Small integers are sorted faster.
        kind = np.uint32 if len(segment) << bits <= SMALL_PAIRS else np.uint64
        pairs: Array = rows.astype(kind)  # [n_entries]
        pairs = pairs << bits | cell_of.astype(kind)
        here = eligible[start : start + len(segment)]  # [n_rows]
        if not here.all():
            pairs = pairs[here[rows]]
        pairs.sort()  # [n_kept]
        if len(pairs):
            row_of = pairs >> bits  # [n_kept] ascending
            cell_of = (pairs & ((1 << bits) - 1)).astype(np.uint32, copy=False)
            # Where a document begins, and where the last one ends. [n_found + 1]
            bounds = np.concatenate([[0], np.flatnonzero(row_of[1:] != row_of[:-1]) + 1, [len(pairs)]])
            firsts, counts = bounds[:-1], np.diff(bounds)  # [n_found] each
            n_found += len(firsts)
            if len(firsts) > most:
                # A sum of maxima is at most the sum of what the cells score alone, and at least their mean.
                upper = np.diff(offsets_of(alone.take(cell_of)).take(bounds))  # [n_found]
                reaching = np.flatnonzero(upper >= np.partition(upper / counts, -most)[-most])
                firsts, counts = firsts.take(reaching), counts.take(reaching)
            documents.append(row_of[firsts].astype(np.int64) + start)
            scores.append(approximate_maxsim(probed, cell_of, firsts, counts))
    return Candidates(np.concatenate(documents), np.concatenate(scores), n_entries, n_found)


def prune(quantized: QuantizedScores, index: SegmentedIndex, documents: Ints, keep: int) -> Pruned:
    """Return the `keep` documents of highest MaxSim between query and centroids.

    One thread alone: the steps are so short that threads would spend more time waiting for the interpreter.
    """
    parts = [
        approximate_maxsim(quantized, segment.coded().codes, segment.offsets[rows], segment.lengths(rows))
        for chunk in index.chunks(documents, PRUNE_TOKENS)
        for segment, rows in index.parts(chunk)
    ]
    scores = np.concatenate([np.empty(0, np.int64), *parts])
    best = np.sort(top_k(scores, keep))
    return Pruned(documents[best], scores[best])


class Refined(NamedTuple):
    """The documents that refining keeps."""

    documents: Ints  # [n_kept] ascending
    kth_score_at_least: float  # a lower bound of the k-th best canonical score among them; -inf if unknown
    n_nearest: int  # tokens whose vectors were read


def refine(
    prepared: PreparedQuery,
    quantized: QuantizedScores,
    index: SegmentedIndex,
    pruned: Pruned,
    k: int,
    map_chunks: MapChunks = map,
) -> Refined:
    """Return the documents of highest MaxSim between query and nearest tokens: REFINE_FACTOR k + REFINE_EXTRA of them.

    Documents are scored in rounds, the best by their centroids first, with a few of those that follow. The documents
    scored so far tell how far scores are from those by centroids. Where a document is expected below the k-th best
    score so far, and DEVIATIONS times the standard deviation would not lift it there, it is passed over.

    MaxSim with some tokens of a document is at most MaxSim with all of them. So the k-th best score found here, less
    its error bound, is a lower bound of the k-th best exact score. The ranking skips documents that cannot reach it.
    """
    keep = REFINE_FACTOR * k + REFINE_EXTRA
    if len(pruned.documents) <= keep:
        return Refined(pruned.documents, -np.inf, 0)

    def score_chunk(chunk: Ints) -> list[tuple[Array, float, int]]:
        return [_score_nearest(prepared, quantized, segment, rows) for segment, rows in index.parts(chunk)]

    by_centroids = pruned.scores * unit_of(prepared.centroids)  # [n]
    left = top_k(by_centroids, len(by_centroids))  # places in `pruned`, best first
    scored, refined = np.empty(0, np.int64), np.empty(0)  # [n_scored] each: places in `pruned`, and scores
    bound, n_nearest, size = 0.0, 0, max(ROUND, keep)
    while len(left):
        now = np.arange(len(left)) < size  # [n_left]
        now[size::SPARSE] = True
        places, left = np.sort(left[now]), left[~now]
        chunks = map_chunks(score_chunk, index.chunks(pruned.documents[places], REFINE_TOKENS))
        scores, bounds, counts = zip(*(part for chunk in chunks for part in chunk), strict=True)
        scored, refined = np.concatenate([scored, places]), np.concatenate([refined, *scores])
        bound, n_nearest, size = max(bound, *bounds), n_nearest + sum(counts), 2 * size
        kth = np.partition(refined, -k)[-k]
        beyond = refined - by_centroids[scored]  # [n_scored]
        left = left[by_centroids[left] + beyond.mean() + DEVIATIONS * beyond.std() >= kth]
    best = scored[top_k(refined, keep, scored)]
    return Refined(np.sort(pruned.documents[best]), float(kth) - bound, n_nearest)


def _score_nearest(
    prepared: PreparedQuery, quantized: QuantizedScores, segment: Segment, rows: Ints
) -> tuple[Array, float, int]:
    """Return MaxSim with the nearest tokens of each document, [n_rows]; its error bound; the number of these tokens."""
    encoded = segment.coded()
    tokens = nearest_tokens(quantized, encoded.codes, segment.offsets[rows], segment.lengths(rows))  # [n_nearest]
    nearest = encoded.take(tokens)
    firsts = np.searchsorted(tokens, segment.offsets[rows])  # [n_rows]; every document has a nearest token
    maxima = np.maximum.reduceat(prepared.similarities(nearest), firsts, axis=0)  # [n_rows, n_q]
    bound = float(prepared.error_bound(float(nearest.scales.max())).sum())
    return maxima.sum(axis=1, dtype=np.float64), bound, len(tokens)
