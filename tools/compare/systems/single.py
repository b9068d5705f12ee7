"""One score per document from one comparison: BM25, and the bi-encoder with a full scan or a graph."""

import numpy as np

from refcolbert.arrays import Floats
from refcolbert.engine.topk import top_k
from tools.compare.parts import Parts
from tools.compare.systems.answers import Answer, now

__all__ = ["bi_encoder_flat", "bi_encoder_graph", "bm25"]


def bm25(parts: Parts, text: str, k: int) -> Answer:
    """The k documents with the highest BM25; documents that share no word with the query are left out."""
    index = parts.bm25
    start = now()
    scores = index.scores(text)  # [n_docs]
    best = top_k(scores, k)
    best = best[scores[best] > 0]
    return Answer(best, scores[best], 0.0, now() - start, 0)


def bi_encoder_flat(parts: Parts, text: str, k: int) -> Answer:
    """The k documents whose vectors have the largest inner product with the query's."""
    rows = parts.rows  # [n_docs, dim]
    q, encode, flops = _encode(parts, text)
    start = now()
    scores = rows @ q  # [n_docs]
    best = top_k(scores, k)
    return Answer(best, scores[best], encode, now() - start, flops + 2 * rows.size)


def bi_encoder_graph(parts: Parts, text: str, k: int) -> Answer:
    """The same, approximately, by a walk through a graph of neighbours."""
    graph = parts.graph
    q, encode, flops = _encode(parts, text)
    start = now()
    matches = graph.search(q, min(k, len(graph)), threads=1)
    documents = np.asarray(matches.keys, np.int64)  # [n]
    scores = 1 - np.asarray(matches.distances)  # [n] the metric is 1 - inner product
    best = top_k(scores, k, documents)
    took = now() - start
    hops = 2 * len(q) * int(matches.computed_distances)
    return Answer(documents[best], scores[best], encode, took, flops + hops)


def _encode(parts: Parts, text: str) -> tuple[Floats, float, int]:
    """The bi-encoder's vector of a query [dim], milliseconds, FLOPs."""
    sentences = parts.models.sentences
    start = now()
    (q,) = sentences.encode([text])
    took = now() - start
    return q, took, parts.models.costs["sentences"].flops(sentences.lengths([text]))
