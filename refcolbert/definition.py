"""ColBERT as written down: plain loops over Python floats (IEEE float64), one function under each equation.

This is the specification and the oracle of the tests. Nothing imports it but tests and documents, it imports nothing of
the package, and nothing in it is fast. A vector is a sequence of numbers, a matrix a sequence of rows.

Sources: ColBERT (Khattab and Zaharia, SIGIR 2020), ColBERTv2 (Santhanam et al., NAACL 2022), PLAID (Santhanam et al.,
CIKM 2022).
"""

import math
from collections.abc import Collection, Sequence

import numpy as np

__all__ = [
    "bucket",
    "candidates",
    "decode",
    "document_ids",
    "dot",
    "encode",
    "inverted_lists",
    "kept",
    "maxsim",
    "nearest",
    "pack",
    "probe",
    "query_ids",
    "search",
    "top_k",
    "unpack",
]

Vector = Sequence[float]
Matrix = Sequence[Vector]


# ---- encoding (ColBERT, section 3.2), on token ids


def query_ids(
    body: Sequence[int], prefix: Sequence[int], suffix: Sequence[int], length: int, expansion: int | None
) -> list[int]:
    """E_q = Encoder([CLS] [Q] q_0 ... q_l [SEP] [MASK] ... [MASK]), `length` tokens in all.

    The text is cut, never its frame; without an expansion id the query ends at its suffix.
    """
    ids = list(prefix) + list(body)[: length - len(prefix) - len(suffix)] + list(suffix)
    while expansion is not None and len(ids) < length:
        ids.append(expansion)
    return ids


def document_ids(body: Sequence[int], prefix: Sequence[int], suffix: Sequence[int], length: int) -> list[int]:
    """E_d = Filter(Encoder([CLS] [D] d_0 ... d_n [SEP])), at natural length up to `length`; `kept` is the Filter."""
    return list(prefix) + list(body)[: length - len(prefix) - len(suffix)] + list(suffix)


def kept(ids: Sequence[int], skiplist: Collection[int]) -> list[bool]:
    """Filter: which of a document's rows count. Punctuation does not."""
    return [token not in skiplist for token in ids]


# ---- scoring (ColBERT, section 3.3, equation 3)


def dot(x: Vector, y: Vector) -> float:
    """x . y = sum over k of x_k y_k."""
    total = 0.0
    for a, b in zip(x, y, strict=True):
        total += float(a) * float(b)
    return total


def maxsim(q: Matrix, d: Matrix) -> float:
    """S(q, d) = sum over i of max over j of q_i . d_j."""
    score = 0.0
    for q_i in q:
        best = -math.inf
        for d_j in d:
            best = max(best, dot(q_i, d_j))
        score += best
    return score


def top_k(scores: Vector, k: int, positions: Sequence[int] | None = None) -> list[int]:
    """The first k by score descending, then position ascending."""
    order = range(len(scores)) if positions is None else positions
    return sorted(range(len(scores)), key=lambda i: (-scores[i], order[i]))[:k]


# ---- residual compression (ColBERTv2, section 3.3)


def nearest(x: Vector, centroids: Matrix) -> int:
    """argmax over c of x . centroid_c, the lowest c among equals."""
    return max(range(len(centroids)), key=lambda c: (dot(x, centroids[c]), -c))


def bucket(value: float, cutoffs: Vector) -> int:
    """b(r) = how many cutoffs lie below r."""
    return sum(1 for cutoff in cutoffs if cutoff < value)


def encode(x: Vector, centroids: Matrix, cutoffs: Vector, weights: Vector) -> tuple[int, list[int], float]:
    """x -> (code, buckets, scale): nearest centroid, bucketed residual of x / |x|, and |x| over the decoded norm.

    The scale is stored as a float16.
    """
    norm = math.sqrt(dot(x, x))
    unit = [v / norm if norm > 0 else 0.0 for v in x]
    code = nearest(unit, centroids)
    buckets = [bucket(v - c, cutoffs) for v, c in zip(unit, centroids[code], strict=True)]
    y = [c + weights[b] for c, b in zip(centroids[code], buckets, strict=True)]
    length = math.sqrt(dot(y, y))
    return code, buckets, float(np.float16(norm / length)) if length > 0 else 0.0


def decode(code: int, buckets: Sequence[int], scale: float, centroids: Matrix, weights: Vector) -> list[float]:
    """x' = scale * (centroid + weights of the buckets)."""
    return [scale * (c + weights[b]) for c, b in zip(centroids[code], buckets, strict=True)]


def pack(buckets: Sequence[int], nbits: int) -> bytes:
    """Component k takes bits k * nbits ... of the row, counted from the low bit of the first byte."""
    row = sum(b << (k * nbits) for k, b in enumerate(buckets))
    return row.to_bytes(-(-len(buckets) * nbits // 8), "little")


def unpack(packed: bytes, dim: int, nbits: int) -> list[int]:
    """The inverse of `pack`."""
    row = int.from_bytes(packed, "little")
    return [(row >> (k * nbits)) % 2**nbits for k in range(dim)]


# ---- two-phase retrieval (ColBERT, section 3.6; PLAID, section 4)


def inverted_lists(codes: Sequence[Sequence[int]], n_centroids: int) -> list[list[int]]:
    """For each centroid the documents with a token in its cell, ascending; `codes` has one sequence a document."""
    return [[i for i, document in enumerate(codes) if c in document] for c in range(n_centroids)]


def probe(q: Matrix, centroids: Matrix, nprobe: int) -> set[int]:
    """The cells that are among the `nprobe` nearest of some query token, the lower number first among equals."""
    return {c for q_i in q for c in top_k([dot(q_i, centroid) for centroid in centroids], nprobe)}


def candidates(lists: Sequence[Sequence[int]], cells: Collection[int]) -> list[int]:
    """The documents in the lists of the probed cells, ascending."""
    return sorted({document for cell in cells for document in lists[cell]})


def search(
    q: Matrix,
    documents: Sequence[Matrix],  # decoded
    codes: Sequence[Sequence[int]],
    centroids: Matrix,
    k: int,
    nprobe: int,
    keep: int,
) -> list[tuple[int, float]]:
    """Probe, gather candidates, keep the best `keep` by centroids alone, rank those by MaxSim: (document, score)."""
    found = candidates(inverted_lists(codes, len(centroids)), probe(q, centroids, nprobe))
    approximate = [maxsim(q, [centroids[c] for c in codes[i]]) for i in found]
    chosen = sorted(found[i] for i in top_k(approximate, keep))
    scores = [maxsim(q, documents[i]) for i in chosen]
    return [(chosen[i], scores[i]) for i in top_k(scores, k)]
