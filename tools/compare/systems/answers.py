"""A system's answer to one query, and the two ways to combine answers: reranking and reciprocal rank fusion."""

import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from refcolbert.engine.topk import top_k

__all__ = ["DEPTH", "RRF", "Answer", "fuse", "now", "rerank"]

DEPTH = 1000  # documents of a ranking, from which recall is computed
RRF = 60  # Cormack, Clarke and Büttcher, SIGIR 2009


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """Numbers of documents, best first. FLOPs are matrix products alone: no postings, no sorting, no hops."""

    documents: NDArray[np.int64]  # [n]
    scores: NDArray[np.floating]  # [n] never rising
    encode: float  # milliseconds of encoding the query
    search: float  # milliseconds of everything after that
    flops: int


def now() -> float:
    """The clock in milliseconds."""
    return time.perf_counter() * 1e3


def rerank(first: Answer, scores: NDArray[np.floating], encode: float, search: float, flops: int) -> Answer:
    """The first len(scores) documents of an answer by their new scores, then the rest in its old order."""
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


def fuse(first: Answer, second: Answer, k: int) -> Answer:
    """Reciprocal rank fusion: sum over both answers of 1 / (60 + rank); equal sums by document number."""
    start = now()
    documents = np.union1d(first.documents, second.documents)  # [n] ascending
    scores = np.zeros(len(documents))
    for answer in (first, second):
        scores[np.searchsorted(documents, answer.documents)] += 1 / (RRF + 1 + np.arange(len(answer.documents)))
    best = top_k(scores, k)
    encode, search = first.encode + second.encode, first.search + second.search
    return Answer(documents[best], scores[best], encode, search + now() - start, first.flops + second.flops)
