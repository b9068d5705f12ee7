"""Exact MaxSim: S(q, d) = sum over i of max over j of q_i . d_j   (ColBERT, SIGIR 2020, equation 3).

`definition.maxsim` is the same in plain loops. Here all documents are scored by one matrix product and one segmented
maximum. Such scores are rough: a product of float32 is off by at most g(dim) |q_i| |d_j| against exact arithmetic, with
g(n) = n u / (1 - n u) and u = 2^-24 (`float32_error_bound`), and its last bits depend on what else is in the matrix.

An order must not depend on that. The canonical similarity of two vectors is the float64 sum of their products, halves
added to halves (`pairwise_sum`): off by less than 2^-48 of |q_i| |d_j|, and the same bits on every machine. A ranking
takes the `possible_top_k`, every document that could be among the first k. `canonical_scores` then multiplies again,
for each of their query tokens, the document tokens that could be its best. Order and ties are defined on the canonical
scores.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..arrays import Doubles, Floats
from ..checks import check_vectors
from .ragged import Ragged

__all__ = [
    "canonical_scores",
    "float32_error_bound",
    "maxsim",
    "pairwise_sum",
    "possible_top_k",
    "score",
    "scores",
    "similarities",
]


PAIRS = 1 << 12  # of a query token and a document token multiplied again at once: 4 MiB at dim 128
CHUNK = 1 << 22  # similarities held at once: 16 MiB of float32, which stays in the last-level cache


def maxsim(query: ArrayLike, documents: ArrayLike | Ragged) -> float | Doubles:
    """MaxSim of one query [n_q, dim] with one document [n_d, dim] -> float, or with a `Ragged` -> float64 [n_docs].

    Vectors are used as they are: unit rows give cosines, S in [-n_q, n_q]. One document is scored by `score`, a Ragged
    by `scores`; the two agree within the sum of `float32_error_bound`.
    Raises `InvalidInput` for empty, non-finite or misfit arrays.
    """
    if isinstance(documents, Ragged):
        q = check_vectors(query, "query", documents.dim if len(documents) else None)
        if len(documents):
            check_vectors(documents.vectors, "documents")
        return scores(q, documents)
    d = check_vectors(documents, "document")
    return score(check_vectors(query, "query", d.shape[1]), d)


def similarities(q: Floats, d: Floats) -> Doubles:  # [n_q, dim], [n_d, dim] -> [n_q, n_d]
    """The canonical similarities: `score` is the sum of their maxima, which finds them sooner."""
    wide = d.astype(np.float64)  # [n_d, dim]
    return np.stack([pairwise_sum(q_i * wide) for q_i in q.astype(np.float64)])


def score(q: Floats, d: Floats) -> float:  # [n_q, dim], [n_d, dim] -> []
    """The canonical score of one document: exact to 2^-48 of norms, and its bits depend on the two arrays alone."""
    with np.errstate(invalid="ignore", over="ignore"):
        rough = d @ q.T  # [n_d, n_q]
    norm = float(np.linalg.norm(d.astype(np.float64), axis=1).max())
    return float(
        canonical_scores(q, rough, np.zeros(1, np.int64), float32_error_bound(q, norm), lambda rows: d[rows])[0]
    )


def canonical_scores(
    q: Floats,  # [n_q, dim]
    rough: Floats,  # [n_rows, n_q] similarities with the rows of some documents
    starts: NDArray[np.int64],  # [n_docs] where the rows of each begin
    slack: Doubles,  # [n_q] how far a rough similarity can be off
    vectors: Callable[[NDArray[np.int64]], Floats],  # [n] rows -> [n, dim]
) -> Doubles:
    """The canonical scores of the documents: [n_docs]."""
    counts = np.diff(starts, append=len(rough))  # [n_docs]
    best = np.maximum.reduceat(rough, starts, axis=0)  # [n_docs, n_q]
    with np.errstate(invalid="ignore", over="ignore"):  # where float32 is too small, every token could be the best
        least = np.where(np.isfinite(best), best - 2 * slack, -np.inf).astype(np.float32)  # [n_docs, n_q]
    near = np.flatnonzero(~(rough < np.repeat(least, counts, axis=0)))  # [n_pairs] what is no number could be anything
    rows, tokens = np.divmod(near, len(q))  # [n_pairs] each
    places = (np.searchsorted(starts, rows, side="right") - 1) * len(q) + tokens  # [n_pairs] into `found`
    found = np.full(best.size, -np.inf)  # [n_docs * n_q]
    for first in range(0, len(rows), PAIRS):
        some = slice(first, first + PAIRS)
        products = q[tokens[some]].astype(np.float64) * vectors(rows[some])  # [n, dim] exact
        np.maximum.at(found, places[some], pairwise_sum(products))
    totals: Doubles = pairwise_sum(found.reshape(best.shape))  # [n_docs]
    return totals


def pairwise_sum(terms: NDArray[Any]) -> NDArray[Any]:  # [n, width] -> [n]
    """Sums of rows: the upper half added to the lower one, element by element, until one is left.

    A library's sum may add a row in another order when there are more rows, or on another machine; this does not.
    """
    width = 1 << (terms.shape[1] - 1).bit_length()
    if width > terms.shape[1]:
        terms = np.pad(terms, ((0, 0), (0, width - terms.shape[1])))
    while width > 1:
        width //= 2
        terms = terms[:, :width] + terms[:, width : 2 * width]
    return terms[:, 0]


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


def float32_error_bound(q: Floats, largest_norm: float) -> Doubles:
    """[n_q] how far a float32 similarity of each query token with a vector of at most that norm can be off.

    g(dim) |q_i| |d_j|, and what products lose that are too small for float32. The sum is how far a score can be off;
    the roundings of float64 lie within the second order that g(n) leaves out of (1 + u)^n - 1.
    """
    dim = q.shape[1]
    norms = np.linalg.norm(q.astype(np.float64), axis=1)  # [n_q]
    found: Doubles = dim * 2.0**-24 / (1 - dim * 2.0**-24) * norms * largest_norm + dim * 2.0**-126
    return found


def possible_top_k(rough: Doubles, bound: float, k: int) -> NDArray[np.int64]:
    """Indices, ascending, that can be among the first k when each score may be off by `bound`: [n_near]."""
    if k >= len(rough):
        return np.arange(len(rough))
    kth = np.partition(rough, len(rough) - k)[len(rough) - k]
    return np.flatnonzero(~(rough < kth - 2 * bound))  # what is no number could be anything


def _cuts(offsets: NDArray[np.int64], rows: int) -> list[int]:
    """Ends of runs of whole documents that hold at most `rows` rows each, or one document if that alone is longer."""
    cuts, first = [], 0
    while first < len(offsets) - 1:
        last = int(np.searchsorted(offsets, offsets[first] + rows, side="right")) - 1
        first = max(last, first + 1)
        cuts.append(first)
    return cuts
