"""Exact MaxSim: S(q, d) = sum over i of max over j of q_i . d_j   (ColBERT, SIGIR 2020, equation 3).

`definition.maxsim` is the same in plain loops. Here all documents are scored by one matrix product and one segmented
maximum. Scores are sums of float64 over float32 similarities: against exact arithmetic, each is off by at most
n_q * g(dim) * max|q_i| * max|d_j|, with g(n) = n u / (1 - n u) and u = 2^-24 (`score_bound`).

A document scored inside a large matrix product and alone can differ in the last bits, so an order must not hang on
these scores: `best` rescores whatever could be among the first k, one document at a time, with `score`, whose bits
depend on the two arrays alone. Order and ties are defined on that.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .errors import InvalidInput
from .ragged import Ragged, check_vectors
from .topk import top_k

__all__ = ["best", "maxsim", "score", "score_bound", "scores"]

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]

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
    """The canonical score of one document: float64 throughout, so exact to 2^-53 of float32 inputs."""
    return float((q.astype(np.float64) @ d.astype(np.float64).T).max(axis=1).sum())


def scores(q: Floats, documents: Ragged) -> Doubles:  # [n_q, dim], n_docs documents -> [n_docs]
    """MaxSim of one query with every document, in chunks of whole documents."""
    out = np.empty(len(documents))  # [n_docs]
    first = 0
    for last in _cuts(documents.offsets, max(CHUNK // len(q), 1)):
        rows = slice(documents.offsets[first], documents.offsets[last])
        similarities = q @ documents.vectors[rows].T  # [n_q, n_rows]
        starts = documents.offsets[first:last] - rows.start  # [n_chunk_docs]
        per_token = np.maximum.reduceat(similarities, starts, axis=1)  # [n_q, n_chunk_docs]
        out[first:last] = per_token.sum(axis=0, dtype=np.float64)
        first = last
    return out


def score_bound(q: Floats, documents: Ragged) -> float:
    """How far `scores` can be from `score`: twice the forward error of a float32 product, over all query tokens."""
    if not len(documents):
        return 0.0
    norms = [float(np.sqrt(np.einsum("nd,nd->n", a, a, dtype=np.float64).max())) for a in (q, documents.vectors)]
    unit = documents.dim * 2.0**-24
    return 2 * len(q) * unit / (1 - unit) * norms[0] * norms[1]


def best(q: Floats, documents: Ragged, positions: NDArray[np.int64], k: int) -> tuple[NDArray[np.int64], Doubles]:
    """The k best: indices [min(k, n_docs)] and canonical scores, by score descending, then position ascending.

    The answer does not depend on how the documents were batched or chunked, nor on BLAS threads.
    """
    if len(positions) != len(documents):
        raise InvalidInput(f"expected one position for each of {len(documents)} documents, found {len(positions)}")
    rough = scores(q, documents)  # [n_docs]
    near = np.arange(len(rough))
    if k < len(rough):
        kth = np.partition(rough, len(rough) - k)[len(rough) - k]
        near = np.flatnonzero(rough >= kth - score_bound(q, documents))
    exact = np.array([score(q, documents[i]) for i in near])  # [n_near]
    order = top_k(exact, k, positions[near])
    return near[order], exact[order]


def _cuts(offsets: NDArray[np.int64], rows: int) -> list[int]:
    """Ends of runs of whole documents that hold at most `rows` rows each, or one document if that alone is longer."""
    cuts, first = [], 0
    while first < len(offsets) - 1:
        last = int(np.searchsorted(offsets, offsets[first] + rows, side="right")) - 1
        first = max(last, first + 1)
        cuts.append(first)
    return cuts
