"""Exact MaxSim: S(q, d) = sum over i of max over j of q_i . d_j   (ColBERT, SIGIR 2020, equation 3).

`definition.maxsim` is the same in plain loops. Here all documents are scored by one float32 matrix product and one
segmented maximum. Such a score is rough. A float32 similarity is off by at most g(dim) |q_i| |d_j|, with
g(n) = n u / (1 - n u) and u = 2^-24 (`float32_error_bound`). Its last bits depend on the other rows of the matrix.

An order must not depend on those bits. The canonical similarity of two vectors is the float64 sum of their products,
halves added to halves (`pairwise_sum`). It has the same bits on every machine and is off by less than
2^-48 |q_i| |d_j|. A ranking takes every document that could be among the first k (`possible_top_k`). For each query
token, `canonical_scores` then multiplies in float64 those document tokens that could be its maximum. Order and ties are
defined on the canonical scores.

A worked example, two query tokens and a document of three tokens:

    q . d     d_0   d_1   d_2     max
    q_1       .9    .2    .1      .9
    q_2       .1    .3    .8      .8      S = 1.7
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from ..arrays import Array, Doubles, Floats, Ints
from ..checks import check_vectors
from .ragged import Ragged

__all__ = [
    "canonical_scores",
    "float32_error_bound",
    "kth_best",
    "maxsim",
    "pairwise_sum",
    "possible_top_k",
    "score",
    "scores",
    "similarities",
]


# (query token, document token) pairs multiplied in float64 at a time: 2 MiB at dim 128.
PAIRS = 1 << 11
# Similarities in memory at a time: 1 MiB of float32, which the cache of one core holds.
CHUNK = 1 << 18


def maxsim(query: ArrayLike, documents: ArrayLike | Ragged) -> float | Doubles:
    """Return MaxSim of one query with one document, a float, or with each document of a `Ragged`, float64 [n_docs].

    query      [n_q, dim]
    documents  one document [n_d, dim], or a `Ragged` of many

    Vectors are not normalized. Unit rows give cosines, and a score between -n_q and n_q. The score of one document is
    canonical. The scores of a `Ragged` are sums of float32 similarities. They are much faster, and differ from the
    canonical scores by at most the sum of `float32_error_bound` over the query tokens. Raises `InvalidInput` for empty
    arrays, NaN or infinity, and vectors of different dim.

    >>> round(maxsim([[1, 0], [0, 1]], [[0.9, 0.1], [0.2, 0.3], [0.1, 0.8]]), 6)
    1.7
    """
    if isinstance(documents, Ragged):
        q = check_vectors(query, "query", documents.dim if len(documents) else None)
        if len(documents):
            check_vectors(documents.vectors, "documents")
        return scores(q, documents)
    d = check_vectors(documents, "document")
    return score(check_vectors(query, "query", d.shape[1]), d)


def similarities(q: Floats, d: Floats) -> Doubles:  # [n_q, dim], [n_d, dim] -> [n_q, n_d]
    """Return the canonical similarities. The score of the document is the sum of the row maxima."""
    wide = d.astype(np.float64)  # [n_d, dim]
    return np.stack([pairwise_sum(q_i * wide) for q_i in q.astype(np.float64)])


def score(q: Floats, d: Floats) -> float:  # [n_q, dim], [n_d, dim] -> []
    """Return the canonical score of one document. Its bits depend on the two arrays alone."""
    with np.errstate(invalid="ignore", over="ignore"):
        rough = d @ q.T  # [n_d, n_q]
    largest_norm = float(np.linalg.norm(d.astype(np.float64), axis=1).max())
    error_bound = float32_error_bound(q, largest_norm)  # [n_q]
    starts = np.zeros(1, np.int64)  # [1] one document, which starts at row 0
    best = rough.max(axis=0, keepdims=True)  # [1, n_q]
    return float(canonical_scores(q, rough, starts, best, error_bound, lambda rows: d[rows])[0])


def canonical_scores(
    q: Floats,  # [n_q, dim]
    rough: Floats,  # [n_rows, n_q] float32 similarities with the rows of the documents, one document after the other
    starts: Ints,  # [n_docs] each document's first row
    best: Floats,  # [n_docs, n_q] the largest rough similarity of each document
    error_bound: Doubles,  # [n_q] the largest error of a rough similarity
    vectors: Callable[[Ints], Floats],  # [n] rows -> [n, dim]
) -> Doubles:
    """Return the canonical scores of the documents, [n_docs].

    For each document and query token, a row can hold the canonical maximum only if its rough similarity is within twice
    the error bound of the rough maximum. Only those rows are fetched with `vectors` and multiplied in float64.
    """
    counts = np.diff(starts, append=len(rough))  # [n_docs]
    # A maximum beyond float32 is infinity or NaN and says nothing, so every row could hold the true one.
    with np.errstate(invalid="ignore", over="ignore"):
        least = np.where(np.isfinite(best), best - 2 * error_bound, -np.inf).astype(np.float32)  # [n_docs, n_q]
    # `~(a < b)` instead of `a >= b` keeps similarities that are NaN: both comparisons are false for NaN.
    near = np.flatnonzero(~(rough < np.repeat(least, counts, axis=0)))  # [n_pairs]
    rows, tokens = np.divmod(near, len(q))  # [n_pairs] each
    places = (np.searchsorted(starts, rows, side="right") - 1) * len(q) + tokens  # [n_pairs] into `maxima`
    maxima = np.full(best.size, -np.inf)  # [n_docs * n_q]
    for first in range(0, len(rows), PAIRS):
        pairs = slice(first, first + PAIRS)
        # Two float32 numbers multiply exactly in float64; only the sum rounds.
        products = q[tokens[pairs]].astype(np.float64) * vectors(rows[pairs])  # [n, dim]
        np.maximum.at(maxima, places[pairs], pairwise_sum(products))
    totals: Doubles = pairwise_sum(maxima.reshape(best.shape))  # [n_docs]
    return totals


def pairwise_sum(terms: Array) -> Array:  # [n, width] -> [n]
    """Return the sum of each row: the upper half added to the lower half, element by element, until one is left.

    The terms are filled with zeros up to a power of two. NumPy's own sum may add a row in another order when there are
    more rows, or on another machine. This one does not.

    >>> pairwise_sum(np.array([[1.0, 2.0, 3.0]]))  # (1 + 3) + (2 + 0)
    array([6.])
    """
    width = 1 << (terms.shape[1] - 1).bit_length()
    if width > terms.shape[1]:
        terms = np.pad(terms, ((0, 0), (0, width - terms.shape[1])))
    while width > 1:
        width //= 2
        terms = terms[:, :width] + terms[:, width : 2 * width]
    return terms[:, 0]


def scores(q: Floats, documents: Ragged) -> Doubles:  # [n_q, dim], n_docs documents -> [n_docs]
    """Return float32 MaxSim of one query with every document, in chunks of whole documents."""
    out = np.empty(len(documents))  # [n_docs]
    first = 0
    for last in _cuts(documents.offsets, max(CHUNK // len(q), 1)):
        rows = slice(documents.offsets[first], documents.offsets[last])
        rough = documents.vectors[rows] @ q.T  # [n_rows, n_q]
        starts = documents.offsets[first:last] - rows.start  # [n_chunk_docs]
        maxima = np.maximum.reduceat(rough, starts, axis=0)  # [n_chunk_docs, n_q]
        out[first:last] = maxima.sum(axis=1, dtype=np.float64)
        first = last
    return out


def float32_error_bound(q: Floats, largest_norm: float) -> Doubles:
    """Return the largest error of a float32 similarity of each query token, [n_q], with vectors up to `largest_norm`.

    The bound is g(dim) |q_i| |d_j|, plus 2^-126 for each of the dim products: float32 may turn a smaller one into 0.
    The sum over query tokens bounds the error of a score. The bound also covers the far smaller errors of float64,
    because g(n) is a little larger than (1 + u)^n - 1, the worst case of n roundings.
    """
    dim = q.shape[1]
    norms = np.linalg.norm(q.astype(np.float64), axis=1)  # [n_q]
    bounds: Doubles = dim * 2.0**-24 / (1 - dim * 2.0**-24) * norms * largest_norm + dim * 2.0**-126
    return bounds


def possible_top_k(rough: Doubles, bound: float, k: int) -> Ints:
    """Return the indices, ascending, that can be among the first k if each score is off by at most `bound`: [n_near].

    >>> possible_top_k(np.array([2.00001, 2.0, 1.5]), 0.00002, 1)
    array([0, 1])
    """
    # The true k-th score is at least that of `kth_best` - bound, and a true score is at most rough + bound. `~(a < b)`
    # keeps NaN.
    return np.flatnonzero(~(rough < kth_best(rough, k) - 2 * bound))


def kth_best(rough: Doubles, k: int) -> float:
    """Return the k-th best of the finite scores, -inf if there are fewer: a lower bound of the true k-th, up to errors.

    A score that is infinite or NaN is one that float32 cannot hold. It may be anything.
    """
    finite = rough[np.isfinite(rough)]
    return float(np.partition(finite, -k)[-k]) if k <= len(finite) else -np.inf


def _cuts(offsets: Ints, rows: int) -> list[int]:
    """Return the ends of runs of whole documents of at most `rows` rows each, or of one longer document."""
    cuts, first = [], 0
    while first < len(offsets) - 1:
        last = int(np.searchsorted(offsets, offsets[first] + rows, side="right")) - 1
        first = max(last, first + 1)
        cuts.append(first)
    return cuts
