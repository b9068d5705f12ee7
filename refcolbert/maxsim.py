"""Exact MaxSim: S(q, d) = sum over i of max over j of q_i . d_j   (ColBERT, SIGIR 2020, equation 3).

`definition.maxsim` is the same in plain loops. Here all documents are scored by one matrix product and one segmented
maximum. Scores are sums of float64 over float32 similarities: against exact arithmetic, each is off by at most
n_q * g(dim) * max|q_i| * max|d_j|, with g(n) = n u / (1 - n u) and u = 2^-24 (`score_bound`).

A document scored inside a large matrix product and alone can differ in the last bits, so an order must not hang on
these scores. A ranking takes the `contenders`, whatever could be among the first k, and rescores them one document at
a time with `score`, whose bits depend on the two arrays alone. Order and ties are defined on that.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .ragged import Ragged, check_vectors

__all__ = ["contenders", "maxsim", "score", "score_bound", "scores"]

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]

BLAS_SPLITS_ABOVE = 1 << 18  # multiplications below which OpenBLAS keeps a product in one thread
CHUNK = 1 << 22  # similarities held at once: 16 MiB of float32, which stays in the last-level cache


def maxsim(query: ArrayLike, documents: ArrayLike | Ragged) -> float | Doubles:
    """MaxSim of one query [n_q, dim] with one document [n_d, dim] -> float, or with a `Ragged` -> float64 [n_docs].

    Vectors are used as they are: unit rows give cosines, S in [-n_q, n_q]. One document is scored by `score`, a Ragged
    by `scores`; the two agree within `score_bound`. Raises `InvalidInput` for empty, non-finite or misfit arrays.
    """
    if isinstance(documents, Ragged):
        q = check_vectors(query, "query", documents.dim if len(documents) else None)
        if len(documents):
            check_vectors(documents.vectors, "documents")
        return scores(q, documents)
    d = check_vectors(documents, "document")
    return score(check_vectors(query, "query", d.shape[1]), d)


def score(q: Floats, d: Floats) -> float:  # [n_q, dim], [n_d, dim] -> []
    """The canonical score of one document: float64 throughout, so exact to 2^-53 of float32 inputs.

    Its products are small enough that no BLAS splits them among threads: the bits do not depend on a thread count, and
    a busy second core does not make it wait.
    """
    q64 = q.astype(np.float64)  # [n_q, dim]
    rows = max(BLAS_SPLITS_ABOVE // q.size, 1)
    best = np.full(len(q), -np.inf)  # [n_q]
    for first in range(0, len(d), rows):
        block = d[first : first + rows].astype(np.float64)  # [n_rows, dim]
        np.maximum(best, (q64 @ block.T).max(axis=1), out=best)
    return float(best.sum())


def scores(q: Floats, documents: Ragged) -> Doubles:  # [n_q, dim], n_docs documents -> [n_docs]
    """MaxSim of one query with every document, in chunks of whole documents."""
    out = np.empty(len(documents))  # [n_docs]
    first = 0
    for last in _cuts(documents.offsets, max(CHUNK // len(q), 1)):
        rows = slice(documents.offsets[first], documents.offsets[last])
        similarities = documents.vectors[rows] @ q.T  # [n_rows, n_q]
        starts = documents.offsets[first:last] - rows.start  # [n_chunk_docs]
        per_token = np.maximum.reduceat(similarities, starts, axis=0)  # [n_chunk_docs, n_q]
        out[first:last] = per_token.sum(axis=1, dtype=np.float64)
        first = last
    return out


def score_bound(q: Floats, dim: int, largest_norm: float) -> float:
    """How far apart `scores` and `score` can be: n_q g(dim) max|q_i| max|d_j|; float64 sums are in its slack."""
    unit = dim * 2.0**-24
    return len(q) * unit / (1 - unit) * float(np.linalg.norm(q.astype(np.float64), axis=1).max()) * largest_norm


def contenders(rough: Doubles, k: int, bound: float) -> NDArray[np.int64]:
    """Indices, ascending, that can be among the first k when each score may be off by `bound`: [n_near]."""
    if k >= len(rough):
        return np.arange(len(rough))
    kth = np.partition(rough, len(rough) - k)[len(rough) - k]
    return np.flatnonzero(rough >= kth - 2 * bound)


def _cuts(offsets: NDArray[np.int64], rows: int) -> list[int]:
    """Ends of runs of whole documents that hold at most `rows` rows each, or one document if that alone is longer."""
    cuts, first = [], 0
    while first < len(offsets) - 1:
        last = int(np.searchsorted(offsets, offsets[first] + rows, side="right")) - 1
        first = max(last, first + 1)
        cuts.append(first)
    return cuts
