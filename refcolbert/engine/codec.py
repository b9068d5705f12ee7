"""Residual compression: a token vector is its nearest centroid plus an n-bit residual (ColBERTv2, section 3.3).

    code     = argmax over c of x . c;   residual  r = x / |x| - centroid[code]
    spread   s = the power of 2^(1/32) next to |r|
    buckets  b_k = floor(r_k / (s step_k) + L / 2), kept within 0 .. L - 1,   L = 2^nbits
    decoded  y = centroid[code] + s step * (b - (L - 1) / 2);   x' = scale * y   with  scale = |x| / |y| (at most 65504)

so a decoded vector keeps the norm of the original, and search divides by nothing. The steps follow how much of a
residual each component carries, by a factor that makes the squared error of a sample least. ColBERTv2 cuts all
components of all tokens at the same quantiles; steps that follow the component and the token lose much less, and leave
a similarity that is linear in the bucket numbers, so that search need not decode (`PreparedQuery`).

What is kept of a token: code; the buckets, packed; scale; spread as a number n, s = 2^(1/2 - n/32), 0 <= n < 256.

Packing. Component k's bucket takes bits k * nbits to (k + 1) * nbits of the row, counted from the low bit of the first
byte; a row is ceil(dim * nbits / 8) bytes and unused high bits are 0.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..arrays import Bytes, Floats
from ..errors import InvalidInput
from . import kmeans
from .maxsim import pairwise_sum
from .threads import MapChunks

__all__ = ["NBITS", "Codec", "Encoded", "PreparedQuery", "fit", "join", "pack", "row_bytes", "unpack"]


NBITS = (1, 2, 4, 8)
CHUNK = 1 << 13  # vectors encoded at once: 4 MiB at dim 128
CENTROIDS = 1 << 14  # compared with a query at once; fewer are not worth sharing among threads
LARGEST = 65504.0  # of float16: scales are stored in it
LARGEST_QUERY = 1e30  # norm: times that of a document and its rounding it still fits float32
POINTS_PER_CENTROID = 64  # vectors that k-means looks at, for each centroid,
SAMPLE = 1 << 20  # but no more than these in all
RESIDUAL_SAMPLE = 1 << 14  # vectors whose residuals fix the steps
REACHES = np.geomspace(0.8, 8, 32)  # half the width of all buckets, in standard deviations, that `fit` tries
SPREADS = np.exp2(0.5 - np.arange(256) / 32).astype(np.float32)  # [256] descending; |r|^2 <= 2 for the nearest centroid
BETWEEN = np.exp2(0.5 - (np.arange(254, -1, -1) + 0.5) / 32).astype(np.float32)  # [255] ascending, where they part


@dataclass(frozen=True, slots=True, eq=False)
class Encoded:
    """Token vectors as they are stored; row i of each array is token i."""

    codes: NDArray[np.uint16]  # [n_tokens]
    residuals: Bytes  # [n_tokens, row_bytes] packed
    scales: NDArray[np.float16]  # [n_tokens]
    spreads: Bytes  # [n_tokens] numbers into SPREADS

    def __len__(self) -> int:
        return len(self.codes)

    def take(self, tokens: NDArray[np.int64] | slice) -> "Encoded":
        """The listed tokens; a slice is a view."""
        if isinstance(tokens, slice):
            return Encoded(self.codes[tokens], self.residuals[tokens], self.scales[tokens], self.spreads[tokens])
        residuals = np.take(self.residuals, tokens, axis=0)  # several times as fast as an index on rows
        return Encoded(self.codes[tokens], residuals, self.scales[tokens], self.spreads[tokens])


@dataclass(frozen=True, eq=False)
class Codec:
    """Fitted centroids and steps. Immutable: every vector of an index is encoded by the same one."""

    centroids: Floats  # [n_centroids, dim] unit rows, grouped by coarse cell
    coarse: Floats  # [n_coarse, dim] unit rows
    starts: NDArray[np.int64]  # [n_coarse + 1] fine centroids of each cell
    steps: Floats  # [dim] width of a bucket, for a residual of norm 1
    nbits: int

    @property
    def dim(self) -> int:
        """Columns of a vector."""
        return int(self.centroids.shape[1])

    @property
    def middle(self) -> float:
        """The bucket number that stands for a residual of 0, between two buckets."""
        return int(2**self.nbits - 1) / 2

    def encode(self, vectors: Floats) -> Encoded:
        """[n, dim] -> n encoded tokens, each on its own: not dependent on what else is in the batch.

        Raises `InvalidInput` for a norm that float16 cannot hold.
        """
        return join([self._encode_chunk(vectors[i : i + CHUNK]) for i in range(0, len(vectors), CHUNK)])

    def decode(self, encoded: Encoded) -> Floats:
        """n encoded tokens -> [n, dim] float32."""
        buckets = unpack(encoded.residuals, self.dim, self.nbits)  # [n, dim]
        vectors = self._sum(encoded.codes, buckets, SPREADS[encoded.spreads])
        vectors *= encoded.scales.astype(np.float32)[:, None]
        return vectors

    def prepare(self, q: Floats, map_chunks: MapChunks = map) -> "PreparedQuery":  # [n_q, dim]
        """A query made ready to be compared with encoded tokens; `each` is map, or that of a pool of threads.

        Raises `InvalidInput` for a norm whose similarities float32 cannot hold.
        """
        largest = float(np.linalg.norm(q.astype(np.float64), axis=1).max())
        if largest > LARGEST_QUERY:
            raise InvalidInput(
                f"a query vector has norm {largest:.4g}; expected at most 1e30 beside compressed vectors: scale it down"
            )
        return PreparedQuery(self, q, map_chunks)

    @cached_property
    def _cells(self) -> kmeans.Centroids:
        return kmeans.Centroids(self.centroids, self.coarse, self.starts)

    def _encode_chunk(self, vectors: Floats) -> Encoded:
        units, norms = _normalize(vectors)  # [n, dim], [n]
        if norms.max(initial=0) > LARGEST / 2:
            raise InvalidInput(f"a vector has norm {norms.max():.4g}; the index stores norms up to {LARGEST / 2:.0f}")
        codes = kmeans.assign(units, self._cells)  # [n]
        residuals = units - self.centroids[codes]  # [n, dim]
        spreads = _spread_numbers(_norms(residuals))  # [n]
        buckets = _buckets(residuals, self.steps, SPREADS[spreads], self.nbits)  # [n, dim]
        lengths = _norms(self._sum(codes, buckets, SPREADS[spreads]))  # [n]
        least = norms / LARGEST  # [n] a residual may nearly cancel its centroid, and the scale must fit float16
        scales = np.divide(norms, np.maximum(lengths, least), out=np.zeros_like(norms), where=lengths > 0)
        return Encoded(codes.astype(np.uint16), pack(buckets, self.nbits), scales.astype(np.float16), spreads)

    def _sum(self, codes: NDArray[Any], buckets: Bytes, spreads: Floats) -> Floats:
        """[n], [n, dim], [n] -> [n, dim] centroids and residuals."""
        vectors = buckets.astype(np.float32)
        vectors -= np.float32(self.middle)
        vectors *= self.steps
        vectors *= spreads[:, None]
        vectors += np.take(self.centroids, codes, axis=0)
        return vectors


class PreparedQuery:
    """A query q [n_q, dim] beside a codec: its similarities with encoded tokens, without decoding them.

        q . x' = scale * (q . centroid[code] + s * sum over k of q_k step_k (b_k - middle))

    The products with all centroids are computed once, and search uses them to choose its candidates; what is left for
    each token is a product with its bucket numbers.
    """

    def __init__(self, codec: Codec, q: Floats, map_chunks: MapChunks = map) -> None:
        self.centroids: Floats = np.empty((len(codec.centroids), len(q)), np.float32)  # [n_centroids, n_q]

        def compare(first: int) -> None:
            some = slice(first, first + CENTROIDS)
            np.matmul(codec.centroids[some], q.T, out=self.centroids[some])

        list(map_chunks(compare, range(0, len(codec.centroids), CENTROIDS)))
        self._nbits, weighted = codec.nbits, q * codec.steps  # [n_q, dim]
        per_byte = 8 // codec.nbits
        padded = np.zeros((len(q), row_bytes(codec.dim, codec.nbits) * per_byte), np.float32)
        padded[:, : codec.dim] = weighted
        planes = np.concatenate([padded[:, i::per_byte] for i in range(per_byte)], axis=1)  # as `_unpack_planes`
        self._planes = np.ascontiguousarray(planes.T)  # [8 / nbits * row_bytes, n_q]
        self._shift: Floats = weighted.sum(axis=1) * np.float32(codec.middle)  # [n_q]
        # Every rounding is relative to a term of at most |q| s (L - 1) |step| or |q|; `error_bound` applies the scales.
        self._terms: float = 1 + 2 * float(SPREADS[0]) * (2**codec.nbits - 1) * float(np.linalg.norm(codec.steps))
        self._unit = (codec.dim + 8) * 2.0**-24
        self._norms = np.linalg.norm(q.astype(np.float64), axis=1)  # [n_q]

    def similarities(self, encoded: Encoded) -> Floats:
        """[n, n_q] with n encoded tokens: tokens first, which is how BLAS multiplies a tall matrix fastest."""
        out: Floats = _unpack_planes(encoded.residuals, self._nbits) @ self._planes
        out -= self._shift
        out *= SPREADS[encoded.spreads][:, None]
        out += np.take(self.centroids, encoded.codes, axis=0)
        out *= encoded.scales.astype(np.float32)[:, None]
        return out

    def error_bound(self, largest_scale: float) -> NDArray[np.float64]:
        """[n_q] how far one of `similarities` can be from that with the decoded vector."""
        each: NDArray[np.float64] = self._unit / (1 - self._unit) * self._norms * self._terms
        return each * largest_scale


def join(parts: Sequence[Encoded]) -> Encoded:
    """The tokens of several pieces, one after the other."""
    return Encoded(*(np.concatenate([getattr(p, name) for p in parts]) for name in Encoded.__slots__))


def fit(vectors: Floats, n_centroids: int, nbits: int, seed: int) -> Codec:
    """Fit a codec to a sample of token vectors [n, dim]; zero vectors are left out.

    There are `n_centroids`, or one for each vector if those are fewer. Same input, seed and BLAS threads give the same
    bytes.
    Raises `InvalidInput` for another nbits than 1, 2, 4, 8 or when nothing but zero vectors is given.
    """
    if nbits not in NBITS:
        raise InvalidInput(f"nbits must be one of {NBITS}, found {nbits!r}")
    units, norms = np.empty_like(vectors), np.empty(len(vectors), np.float32)  # [n, dim], [n]
    for first in range(0, len(vectors), CHUNK):
        part = slice(first, first + CHUNK)
        units[part], norms[part] = _normalize(vectors[part])
    if not norms.all():
        units = units[norms > 0]
    if not len(units):
        raise InvalidInput("a codec cannot be fitted: there is no vector other than zero")
    n_centroids = min(n_centroids, len(units))
    rng = np.random.default_rng([seed, 1])
    centroids = kmeans.fit(_sample(units, min(POINTS_PER_CENTROID * n_centroids, SAMPLE), rng), n_centroids, seed)
    sample = _sample(units, RESIDUAL_SAMPLE, rng)  # [n_sample, dim]
    steps = _fit_steps(sample - centroids.fine[kmeans.assign(sample, centroids)], nbits)
    return Codec(centroids.fine, centroids.coarse, centroids.starts, steps, nbits)


def _fit_steps(residuals: Floats, nbits: int) -> Floats:
    """[n, dim] -> [dim] the steps, of those that `REACHES` gives, that bring residuals back with the least error."""
    spreads = SPREADS[_spread_numbers(_norms(residuals))]  # [n]
    deviations = np.sqrt(np.mean(np.square(residuals / spreads[:, None]), axis=0, dtype=np.float64))  # [dim]
    best, least = np.zeros(residuals.shape[1], np.float32), np.inf
    for reach in REACHES:
        steps = (deviations * (2 * reach / 2**nbits)).astype(np.float32)  # [dim]
        found = _buckets(residuals, steps, spreads, nbits) - np.float32((2**nbits - 1) / 2)  # [n, dim]
        error = float(np.square(found * steps * spreads[:, None] - residuals).sum(dtype=np.float64))
        if error < least:
            best, least = steps, error
    return best


def row_bytes(dim: int, nbits: int) -> int:
    """Bytes of one token's packed residual."""
    return -(-dim * nbits // 8)


def pack(buckets: Bytes, nbits: int) -> Bytes:
    """[n, dim] bucket numbers below 2^nbits -> [n, row_bytes] bytes."""
    n, dim = buckets.shape
    per_byte = 8 // nbits
    padded = np.zeros((n, row_bytes(dim, nbits) * per_byte), np.uint8)
    padded[:, :dim] = buckets
    packed = np.zeros((n, row_bytes(dim, nbits)), np.uint8)
    for place in range(per_byte):
        packed |= padded[:, place::per_byte] << np.uint8(place * nbits)
    return packed


def unpack(packed: Bytes, dim: int, nbits: int) -> Bytes:
    """[n, row_bytes] bytes -> [n, dim] bucket numbers: the inverse of `pack`."""
    buckets = np.empty((len(packed), packed.shape[1] * 8 // nbits), np.uint8)
    for place in range(8 // nbits):
        buckets[:, place :: 8 // nbits] = (packed >> np.uint8(place * nbits)) & np.uint8(2**nbits - 1)
    return buckets[:, :dim]


def _unpack_planes(packed: Bytes, nbits: int) -> Floats:
    """[n, row_bytes] bytes -> [n, 8 / nbits * row_bytes] buckets: first those in the low bits of each byte, and so on.

    Whole rows are shifted and masked at once; to put the components side by side takes several times as long.
    """
    n, width = packed.shape
    buckets = np.empty((n, 8 // nbits, width), np.float32)
    for plane in range(8 // nbits):
        buckets[:, plane] = (packed >> np.uint8(plane * nbits)) & np.uint8(2**nbits - 1)
    return buckets.reshape(n, -1)


def _buckets(residuals: Floats, steps: Floats, spreads: Floats, nbits: int) -> Bytes:
    """[n, dim], [dim], [n] -> [n, dim] bucket numbers; a component whose step is 0 goes to the middle."""
    inverse = np.divide(1, steps, out=np.zeros_like(steps), where=steps > 0)  # [dim]
    numbers = residuals * inverse
    numbers *= (1 / spreads)[:, None]
    numbers += np.float32(2 ** (nbits - 1))
    np.clip(numbers, 0, 2**nbits - 1, out=numbers)  # and truncation is floor
    return numbers.astype(np.uint8)


def _spread_numbers(norms: Floats) -> Bytes:
    """[n] residual norms -> [n] numbers of the nearest spreads, on the scale of logarithms."""
    return (255 - np.searchsorted(BETWEEN, norms)).astype(np.uint8)


def _normalize(vectors: Floats) -> tuple[Floats, Floats]:
    """Unit rows (zero rows stay zero) and the norms."""
    norms = _norms(vectors)  # [n]
    units: Floats = np.divide(vectors, np.where(norms > 0, norms, 1)[:, None], dtype=np.float32)
    return units, norms


def _norms(vectors: Floats) -> Floats:
    """[n, dim] -> [n]; a vector is encoded to the same bits whatever else is in its batch."""
    norms: Floats = np.sqrt(pairwise_sum(np.square(vectors)))
    return norms


def _sample(vectors: Floats, size: int, rng: np.random.Generator) -> Floats:
    if size >= len(vectors):
        return vectors
    return vectors[np.sort(rng.choice(len(vectors), size, replace=False))]
