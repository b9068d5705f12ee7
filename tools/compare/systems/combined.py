"""Two systems together: BM25's documents reranked by ColBERT or a cross-encoder, and two rankings fused."""

from collections.abc import Callable

import numpy as np

from refcolbert.engine.search import SearchOptions, search
from tools.compare.parts import Parts
from tools.compare.systems.answers import DEPTH, Answer, fuse, now, rerank
from tools.compare.systems.late import encode, maxsim_flops
from tools.compare.systems.single import bm25

__all__ = ["colbert_reranks", "cross_encoder_reranks", "hybrid"]


def colbert_reranks(parts: Parts, text: str, k: int, *, depth: int) -> Answer:
    """BM25's first `depth` documents sorted by MaxSim, the rest behind them."""
    index = parts.index(4).segmented
    mean = float(index.lengths.mean())
    first = bm25(parts, text, max(k, depth))
    q, encoding, flops = encode(parts, text)
    start = now()
    candidates = first.documents[:depth]
    allowed = np.zeros(len(index.live), np.bool_)  # [n_docs]
    allowed[candidates] = True
    ranked = search(q, index, depth, SearchOptions(exact=True), allowed=allowed) if len(candidates) else None
    by_number = np.empty(0) if ranked is None else ranked.scores[np.argsort(ranked.documents)]
    scores = by_number[np.argsort(np.argsort(candidates))]  # in the order of `candidates`
    took = now() - start
    n_centroids = len(index.codec.centroids) if index.codec else 0
    return rerank(first, scores, encoding, took, flops + maxsim_flops(q, n_centroids + len(candidates) * mean))


def cross_encoder_reranks(parts: Parts, text: str, k: int, *, depth: int) -> Answer:
    """BM25's first `depth` documents sorted by the cross-encoder, the rest behind them."""
    cross = parts.models.cross
    if cross is None:
        raise ValueError("expected a cross-encoder, found none; load one into `Models.cross`")
    first = bm25(parts, text, max(k, depth))
    pairs = [(text, parts.texts[i]) for i in first.documents[:depth]]
    start = now()
    scores = cross.scorer.score_pairs(pairs)  # [n_pairs]
    took = now() - start
    return rerank(
        first, scores, 0.0, took, cross.cost.flops(len(pair.ids) for pair in cross.scorer.tokenizer.pairs(pairs))
    )


def hybrid(
    parts: Parts,
    text: str,
    k: int,
    *,
    first: Callable[[Parts, str, int], Answer],
    second: Callable[[Parts, str, int], Answer],
) -> Answer:
    """The rankings of two systems, fused by reciprocal ranks."""
    return fuse(first(parts, text, DEPTH), second(parts, text, DEPTH), k)
