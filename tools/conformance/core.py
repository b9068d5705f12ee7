"""The vectorized core behind the functions that tests/conformance/README.md lists."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any
from unittest import mock

import numpy as np
from numpy.typing import ArrayLike

from refcolbert import maxsim as maxsim
from refcolbert.arguments import ReadyQuery
from refcolbert.arrays import Floats
from refcolbert.checks import check_vectors
from refcolbert.engine import bm25, codec, hybrid, ivf, pooling
from refcolbert.engine import kmeans as _kmeans
from refcolbert.engine import terms as _terms
from refcolbert.engine.maxsim import scores as _scores
from refcolbert.engine.ragged import Ragged, offsets_of
from refcolbert.engine.segments import Segment, SegmentedIndex
from refcolbert.engine.topk import top_k as top_k
from refcolbert.explanation import explanation

from .core_index import Encoder as _Encoder
from .core_index import Index as Index
from .core_index import best_of_groups as best_of_groups
from .core_index import held as held
from .core_index import search as search

Encoder = _Encoder()


def maxsim_masked(q: ArrayLike, d: ArrayLike, mask: Sequence[bool]) -> float:
    """A row that does not count is not there."""
    return float(maxsim(q, np.asarray(d)[np.asarray(mask)]))


def scores(q: ArrayLike, documents: Sequence[ArrayLike]) -> list[float]:
    """All documents in one product."""
    found: list[float] = _scores(check_vectors(q, "query"), Ragged.from_list(documents)).tolist()
    return found


def matches(q: ArrayLike, d: ArrayLike) -> list[tuple[int, float]]:
    """As a hit explains them."""
    query, document = check_vectors(q, "query"), check_vectors(d, "document")
    sides = [explanation.LabelledVectors(vectors, [""] * len(vectors)) for vectors in (query, document)]
    return [(match.document_row, match.similarity) for match in explanation.explain(*sides).matches]


def pool(d: ArrayLike, factor: int) -> Floats:
    """One document."""
    return pooling.pool_documents(Ragged.from_list([d]), factor)[0]


def _codec(centroids: ArrayLike, steps: ArrayLike, nbits: int) -> codec.Codec:
    """A codec with these centroids in one coarse cell."""
    fine = np.asarray(centroids, np.float32)
    return codec.Codec(fine, fine[:1], offsets_of([len(fine)]), np.asarray(steps, np.float32), nbits)


def fit(vectors: Floats, n_centroids: int, nbits: int, seed: int) -> tuple[Floats, Floats]:
    """Centroids and steps."""
    fitted = codec.fit(vectors, n_centroids, nbits, seed)
    return fitted.centroids, fitted.steps


def encode(x: Floats, centroids: ArrayLike, steps: ArrayLike, nbits: int) -> tuple[int, list[int], float, int]:
    """Code, buckets, scale, spread number."""
    return encode_many(np.asarray(x, np.float32)[None], centroids, steps, nbits)[0]


def _stored(codes: Sequence[int], buckets: Any, scales: Sequence[float], numbers: Any, nbits: int) -> codec.Encoded:
    """n tokens as the core keeps them."""
    packed = codec.pack(np.array(buckets, np.uint8), nbits)
    return codec.Encoded(np.array(codes, np.uint16), packed, np.array(scales, np.float16), np.array(numbers, np.uint8))


def encode_many(
    vectors: Floats, centroids: ArrayLike, steps: ArrayLike, nbits: int
) -> list[tuple[int, list[int], float, int]]:
    """Code, buckets, scale, spread number of each row."""
    held = _codec(centroids, steps, nbits).encode(vectors)
    buckets = codec.unpack(held.residuals, vectors.shape[1], nbits)
    parts = (held.codes, buckets, held.scales, held.spreads)
    return list(zip(*(part.tolist() for part in parts), strict=True))


def similarities(
    q: Floats, codes: Any, buckets: Any, scales: Any, numbers: Any, centroids: ArrayLike, steps: ArrayLike, nbits: int
) -> Floats:
    """[n, n_q] without decoding."""
    return _codec(centroids, steps, nbits).prepare(q).similarities(_stored(codes, buckets, scales, numbers, nbits))


def decode(
    code: int, buckets: Sequence[int], scale: float, number: int, centroids: ArrayLike, steps: ArrayLike, nbits: int
) -> Floats:
    """[dim] the vector."""
    found: Floats = _codec(centroids, steps, nbits).decode(_stored([code], [buckets], [scale], [number], nbits))[0]
    return found


def pack(buckets: Sequence[int], nbits: int) -> bytes:
    """One row."""
    return codec.pack(np.array([buckets], np.uint8), nbits).tobytes()


def unpack(packed: bytes, dim: int, nbits: int) -> list[int]:
    """One row."""
    found: list[int] = codec.unpack(np.frombuffer(packed, np.uint8)[None], dim, nbits)[0].tolist()
    return found


def bucket(value: float, step: float, nbits: int) -> int:
    """Of a residual whose spread is 1."""
    row, width, one = np.array([[value]], np.float32), np.array([step], np.float32), np.ones(1, np.float32)
    return int(codec._buckets(row, width, one, nbits)[0, 0])


def weight(number: int, step: float, nbits: int) -> float:
    """The middle of a bucket, as decoding gives it."""
    zero = np.zeros((1, 1), np.float32)
    return float(decode(0, [number], 1.0, 16, zero, [step], nbits)[0])  # spread number 16 is 2^0


def assign(vectors: ArrayLike, centroids: ArrayLike) -> list[int]:
    """The nearest centroids."""
    found: list[int] = _kmeans.assign_exact(np.asarray(vectors, np.float32), np.asarray(centroids, np.float32)).tolist()
    return found


def kmeans(vectors: Floats, n_centroids: int, iterations: int, seed: int) -> Floats:
    """One level of it."""
    with mock.patch.object(_kmeans, "ITERATIONS", iterations):
        return _kmeans._lloyd(vectors, n_centroids, np.random.default_rng(seed))


def inverted_lists(codes: Sequence[Sequence[int]], n_centroids: int) -> list[list[int]]:
    """One list a cell."""
    built = ivf.build(np.concatenate([np.array(c, np.uint16) for c in codes]), offsets_of([len(c) for c in codes]))
    cells = [np.array([c]) for c in range(n_centroids)]
    return [ivf.candidates(built, cell).tolist() for cell in cells]


def candidates(lists: Sequence[Sequence[int]], cells: Iterable[int]) -> list[int]:
    """From the lists of the probed cells."""
    documents = np.concatenate([np.array(documents, np.uint32) for documents in lists])
    held = ivf.InvertedLists(np.arange(len(lists), dtype=np.uint32), offsets_of([len(d) for d in lists]), documents)
    found: list[int] = ivf.candidates(held, np.array(sorted(cells), np.int64)).tolist()
    return found


def probe(q: Floats, centroids: Floats, nprobe: int) -> list[int]:
    """Of all query tokens."""
    found: list[int] = ivf.probe(q @ centroids.T, nprobe).tolist()
    return found


def word_scores(query: Sequence[str], documents: Sequence[Sequence[str]]) -> list[float]:
    """Of every document of one segment."""
    n, raw = len(documents), np.ones((len(documents), 1), np.float32)
    entries = [(term.encode(), i, count) for i, terms in enumerate(documents) for term, count in Counter(terms).items()]
    lists, live = _terms.build(sorted(entries), n), np.ones(n, np.bool_)
    segment = Segment(np.arange(n), offsets_of([1] * n), live, 1.0, raw, None, None, lists)
    index = SegmentedIndex(1, None, (segment,))
    weighted = bm25.query_terms(bm25.weigh([term.encode() for term in query], index), index)
    found: list[float] = bm25.word_scores(weighted, index, np.arange(n)).tolist()
    return found


def similarity(score: float, q: Floats) -> float:
    """As a hit has it."""
    return score / ReadyQuery("", q, words=None).n_vectors


def fuse(late: ArrayLike, words: ArrayLike, n_terms: int) -> list[float]:
    """Of a query with so many terms."""
    found: list[float] = hybrid.fuse(np.asarray(late), np.asarray(words), n_terms).tolist()
    return found
