"""Residual compression: a token vector is its nearest centroid plus an n-bit residual (ColBERTv2, section 3.3).

    code     = argmax over c of x . c;   residual  r = x / |x| - centroid[code]
    spread   s = the power of 2^(1/32) nearest to |r|
    buckets  b_k = floor(r_k / (s step_k) + L / 2), kept within 0 .. L - 1,   L = 2^nbits
    decoded  y = centroid[code] + s step * (b - (L - 1) / 2);   x' = scale * y   with  scale = |x| / |y| (at most 65504)

So a decoded vector has the norm of the original, and a search need not normalize it. ColBERTv2 cuts all components of
all tokens at the same quantiles. Here the width of a bucket depends on the component (`steps`) and on the token
(`spread`). That loses less (docs/decisions/003 has the measurement). It also makes a similarity linear in the bucket
numbers, so a search need not decode (`PreparedQuery`). `kmeans.assign` finds the code among the centroids of a few
coarse cells, which may lack the nearest one.

A worked example with nbits 2 (L = 4), dim 2, steps (1, 1), and an x of norm 2 whose unit vector is (.8, .6):

    centroid   (1, 0)      residual (-.2, .6), of norm .63
    spread     2^(1/2 - 37/32) = .634
    buckets    floor(-.2 / .634 + 2) = 1,  floor(.6 / .634 + 2) = 2
    decoded    (1, 0) + .634 (1 - 1.5, 2 - 1.5) = (.683, .317), of norm .753
    scale      2 / .753 = 2.66,  so x' = (1.81, .84) where x = (1.6, 1.2)

Stored per token: the code, the packed buckets, the scale, and the number n of the spread s = 2^(1/2 - n/32),
0 <= n < 256. Decoding rounds s and each operation to float32, in this order: (b - (L - 1) / 2) * step * s + centroid,
then * scale.

Packing. Component k's bucket takes bits k * nbits to (k + 1) * nbits of the row, counted from the low bit of the first
byte. A row has ceil(dim * nbits / 8) bytes, and unused high bits are 0. With nbits 2, the buckets 1, 2, 3, 0 are the
byte 0b00_11_10_01.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ..arrays import Array, Bytes, Doubles, Floats
from ..errors import InvalidInput
from . import kmeans
from .maxsim import pairwise_sum
from .threads import MapChunks, multiply

__all__ = ["NBITS", "Codec", "Encoded", "PreparedQuery", "fit", "join", "pack", "row_bytes", "unpack"]


NBITS = (1, 2, 4, 8)
CHUNK = 1 << 13  # vectors encoded at a time: 4 MiB at dim 128
CENTROID_CHUNK = 1 << 14  # centroids compared with a query at a time; fewer are not worth sharing among threads
LARGEST_SCALE = 65504.0  # the largest float16
LARGEST_QUERY_NORM = 1e30  # times the norm of a document vector and its rounding, this still fits float32
POINTS_PER_CENTROID = 64  # vectors per centroid that k-means is fitted to
SAMPLE = 1 << 20  # the most vectors that k-means is fitted to
RESIDUAL_SAMPLE = 1 << 14  # vectors whose residuals determine the steps
# Half the width of all buckets together, in standard deviations of a component: `fit` tries each.
HALF_WIDTHS = np.geomspace(0.8, 8, 32)
# [256] descending. A centroid at a right angle leaves |r| = 2^(1/2). A farther one is nearest only to a vector unlike
# all that the codec was fitted to; its residual gets the first spread, and large components are clipped.
SPREADS = np.exp2(0.5 - np.arange(256) / 32).astype(np.float32)
# [255] ascending: the borders between neighbouring spreads, half way between them on the scale of logarithms.
SPREAD_BORDERS = np.exp2(0.5 - (np.arange(254, -1, -1) + 0.5) / 32).astype(np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class Encoded:
    """Token vectors as they are stored; row i of each array belongs to token i."""

    codes: NDArray[np.uint16]  # [n_tokens]
    residuals: Bytes  # [n_tokens, row_bytes] packed
    scales: NDArray[np.float16]  # [n_tokens]
    spreads: Bytes  # [n_tokens] indices into SPREADS

    def __len__(self) -> int:
        return len(self.codes)

    def take(self, tokens: NDArray[np.int64] | slice) -> "Encoded":
        """Return the listed tokens; a slice gives views."""
        if isinstance(tokens, slice):
            return Encoded(self.codes[tokens], self.residuals[tokens], self.scales[tokens], self.spreads[tokens])
        # `np.take` is several times as fast here as self.residuals[tokens].
        residuals = np.take(self.residuals, tokens, axis=0)
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
        """The bucket number of a residual of 0: half way between the two middle buckets."""
        return int(2**self.nbits - 1) / 2

    def encode(self, vectors: Floats) -> Encoded:
        """Return the vectors [n, dim] encoded. A token's bytes do not depend on the other tokens of the batch.

        Raises `InvalidInput` for a norm that float16 cannot hold.
        """
        return join([self._encode_chunk(vectors[i : i + CHUNK]) for i in range(0, len(vectors), CHUNK)])

    def decode(self, encoded: Encoded) -> Floats:
        """Return the vectors of n encoded tokens, [n, dim]."""
        buckets = unpack(encoded.residuals, self.dim, self.nbits)  # [n, dim]
        vectors = self._sum(encoded.codes, buckets, SPREADS[encoded.spreads])
        vectors *= encoded.scales.astype(np.float32)[:, None]
        return vectors

    def prepare(self, q: Floats, map_chunks: MapChunks = map) -> "PreparedQuery":  # [n_q, dim]
        """Return a query ready to be compared with encoded tokens.

        `map_chunks` shares the products with all centroids among threads (`threads.mapping`).
        Raises `InvalidInput` for a norm whose similarities float32 cannot hold.
        """
        largest = float(np.linalg.norm(q.astype(np.float64), axis=1).max())
        if largest > LARGEST_QUERY_NORM:
            raise InvalidInput(
                "expected query vectors of norm at most 1e30 for an index of compressed vectors, "
                f"found {largest:.4g}; scale them down"
            )
        return PreparedQuery(self, q, map_chunks)

    @cached_property
    def _cells(self) -> kmeans.Centroids:
        return kmeans.Centroids(self.centroids, self.coarse, self.starts)

    def _encode_chunk(self, vectors: Floats) -> Encoded:
        """`encode` of a few vectors: the steps of the module docstring, in its order."""
        units, norms = _normalize(vectors)  # [n, dim], [n]
        # Half of what a scale can be: it exceeds |x| where the decoded sum is shorter than 1.
        if norms.max(initial=0) > LARGEST_SCALE / 2:
            raise InvalidInput(
                f"expected vectors of norm at most {LARGEST_SCALE / 2:.0f}, which float16 scales can store, "
                f"found {norms.max():.4g}; scale them down, or create the index with nbits='float32'"
            )
        codes = kmeans.assign(units, self._cells)  # [n]
        residuals = units - self.centroids[codes]  # [n, dim]
        spreads = _spread_numbers(_norms(residuals))  # [n]
        buckets = _buckets(residuals, self.steps, SPREADS[spreads], self.nbits)  # [n, dim]
        decoded_norms = _norms(self._sum(codes, buckets, SPREADS[spreads]))  # [n] of y
        # A residual may nearly cancel its centroid. The scale |x| / |y| must fit float16 even then.
        least = norms / LARGEST_SCALE  # [n]
        scales = np.divide(norms, np.maximum(decoded_norms, least), out=np.zeros_like(norms), where=decoded_norms > 0)
        return Encoded(codes.astype(np.uint16), pack(buckets, self.nbits), scales.astype(np.float16), spreads)

    def _sum(self, codes: Array, buckets: Bytes, spreads: Floats) -> Floats:
        """Return centroid + residual of each token: [n], [n, dim], [n] -> [n, dim]."""
        vectors = buckets.astype(np.float32)
        vectors -= np.float32(self.middle)
        vectors *= self.steps
        vectors *= spreads[:, None]
        vectors += np.take(self.centroids, codes, axis=0)
        return vectors


class PreparedQuery:
    """A query q [n_q, dim] ready to be compared with encoded tokens, without decoding them.

        q . x' = scale * (q . centroid[code] + s * sum over k of q_k step_k (b_k - middle))

    The products with all centroids are computed once, and a search also chooses its candidates by them. For each token
    there remains the product of the vector q_k step_k with the bucket numbers b_k. The query itself is not compressed.
    """

    def __init__(self, codec: Codec, q: Floats, map_chunks: MapChunks = map) -> None:
        """Compare q with all centroids, and arrange q_k step_k as the packed bucket numbers are arranged."""
        self.centroids: Floats = np.empty((len(codec.centroids), len(q)), np.float32)  # [n_centroids, n_q]
        columns = np.ascontiguousarray(q.T)  # [dim, n_q]

        def compare(first: int) -> None:
            chunk = slice(first, first + CENTROID_CHUNK)
            multiply(codec.centroids[chunk], columns, self.centroids[chunk])

        # `list` runs the lazy map. Each chunk writes other rows, so threads do not disturb each other.
        list(map_chunks(compare, range(0, len(codec.centroids), CENTROID_CHUNK)))
        self._nbits, weighted = codec.nbits, q * codec.steps  # [n_q, dim]
        per_byte = 8 // codec.nbits
        # `_unpack_planes` gives the components of a token in another order. The query's are put into that order here,
        # once: component k is bits k % per_byte of byte k // per_byte, and planes come before bytes.
        padded = np.zeros((len(q), row_bytes(codec.dim, codec.nbits) * per_byte), np.float32)
        padded[:, : codec.dim] = weighted
        planes = np.concatenate([padded[:, i::per_byte] for i in range(per_byte)], axis=1)
        self._planes = np.ascontiguousarray(planes.T)  # [8 / nbits * row_bytes, n_q]
        self._shift: Floats = weighted.sum(axis=1) * np.float32(codec.middle)  # [n_q]
        # A similarity at scale 1 is q . centroid, of at most |q|, and two terms of at most |q| s (L - 1) |steps|: the
        # product with the bucket numbers, and the shift. Each of dim + 8 roundings is relative to their sum.
        terms: float = 1 + 2 * float(SPREADS[0]) * (2**codec.nbits - 1) * float(np.linalg.norm(codec.steps))
        n_u = (codec.dim + 8) * 2.0**-24
        norms = np.linalg.norm(q.astype(np.float64), axis=1)  # [n_q]
        self._bound_at_scale_1: Doubles = n_u / (1 - n_u) * norms * terms  # [n_q]

    def similarities(self, encoded: Encoded) -> Floats:
        """Return the similarities with n encoded tokens, [n, n_q].

        Tokens come first because BLAS multiplies a tall matrix by a narrow one faster than the reverse.
        """
        out = multiply(_unpack_planes(encoded.residuals, self._nbits), self._planes)
        out -= self._shift
        out *= SPREADS[encoded.spreads][:, None]
        out += np.take(self.centroids, encoded.codes, axis=0)
        out *= encoded.scales.astype(np.float32)[:, None]
        return out

    def error_bound(self, largest_scale: float) -> NDArray[np.float64]:
        """Return the largest error of `similarities` against the products with decoded vectors, [n_q].

        `largest_scale` is the largest scale of the tokens that are compared.
        """
        return self._bound_at_scale_1 * largest_scale


def join(parts: Sequence[Encoded]) -> Encoded:
    """Return the tokens of several parts, one part after the other."""
    return Encoded(*(np.concatenate([getattr(p, name) for p in parts]) for name in Encoded.__slots__))


def fit(vectors: Floats, n_centroids: int, nbits: int, seed: int) -> Codec:
    """Fit a codec to a sample of token vectors.

    The same input, seed and number of BLAS threads give the same bytes.

    vectors      [n, dim]; zero vectors are left out
    n_centroids  number of centroids; with fewer vectors, one per vector
    nbits        bits per component: 1, 2, 4 or 8
    seed         of the sampling and of k-means

    Raises `InvalidInput` for another nbits, or when there is no vector other than zero.
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
        raise InvalidInput("expected at least one vector other than zero to fit a codec to, found none; add documents")
    n_centroids = min(n_centroids, len(units))
    rng = np.random.default_rng([seed, 1])
    centroids = kmeans.fit(_sample(units, min(POINTS_PER_CENTROID * n_centroids, SAMPLE), rng), n_centroids, seed)
    sample = _sample(units, RESIDUAL_SAMPLE, rng)  # [n_sample, dim]
    steps = _fit_steps(sample - centroids.fine[kmeans.assign(sample, centroids)], nbits)
    return Codec(centroids.fine, centroids.coarse, centroids.starts, steps, nbits)


def _fit_steps(residuals: Floats, nbits: int) -> Floats:
    """Return the steps [dim] that store residuals [n, dim] with the least squared error.

    Each number in HALF_WIDTHS is tried. Narrow buckets are exact for small components and clip large ones. Wide buckets
    do the opposite.
    """
    spreads = SPREADS[_spread_numbers(_norms(residuals))]  # [n]
    deviations = np.sqrt(np.mean(np.square(residuals / spreads[:, None]), axis=0, dtype=np.float64))  # [dim]
    best, least = np.zeros(residuals.shape[1], np.float32), np.inf
    for half_width in HALF_WIDTHS:
        steps = (deviations * (2 * half_width / 2**nbits)).astype(np.float32)  # [dim]
        centered = _buckets(residuals, steps, spreads, nbits) - np.float32((2**nbits - 1) / 2)  # [n, dim]
        error = float(np.square(centered * steps * spreads[:, None] - residuals).sum(dtype=np.float64))
        if error < least:
            best, least = steps, error
    return best


def row_bytes(dim: int, nbits: int) -> int:
    """Return the number of bytes of one token's packed residual."""
    return -(-dim * nbits // 8)


def pack(buckets: Bytes, nbits: int) -> Bytes:
    """Return bucket numbers [n, dim], each below 2^nbits, packed into bytes [n, row_bytes].

    >>> bin(pack(np.array([[1, 2, 3, 0]], np.uint8), 2)[0, 0])
    '0b111001'
    """
    n, dim = buckets.shape
    per_byte = 8 // nbits
    padded = np.zeros((n, row_bytes(dim, nbits) * per_byte), np.uint8)
    padded[:, :dim] = buckets
    packed = np.zeros((n, row_bytes(dim, nbits)), np.uint8)
    for place in range(per_byte):
        packed |= padded[:, place::per_byte] << np.uint8(place * nbits)
    return packed


def unpack(packed: Bytes, dim: int, nbits: int) -> Bytes:
    """Return the bucket numbers [n, dim] of packed bytes [n, row_bytes]: the inverse of `pack`."""
    buckets = np.empty((len(packed), packed.shape[1] * 8 // nbits), np.uint8)
    for place in range(8 // nbits):
        buckets[:, place :: 8 // nbits] = (packed >> np.uint8(place * nbits)) & np.uint8(2**nbits - 1)
    return buckets[:, :dim]


def _unpack_planes(packed: Bytes, nbits: int) -> Floats:
    """Return bucket numbers plane by plane: [n, row_bytes] -> [n, 8 / nbits * row_bytes].

    First come the lowest bits of every byte of a row, then the next bits, and so on. With nbits 2 and dim 8, the order
    of components is 0 4, 1 5, 2 6, 3 7. Whole rows are shifted and masked in one call. The order of `unpack` would take
    several times as long, and a sum over components does not need it.
    """
    n, width = packed.shape
    buckets = np.empty((n, 8 // nbits, width), np.float32)
    for plane in range(8 // nbits):
        buckets[:, plane] = (packed >> np.uint8(plane * nbits)) & np.uint8(2**nbits - 1)
    return buckets.reshape(n, -1)


def _buckets(residuals: Floats, steps: Floats, spreads: Floats, nbits: int) -> Bytes:
    """Return bucket numbers [n, dim] of residuals [n, dim], for steps [dim] and spreads [n].

    A component whose step is 0 gets the upper middle bucket, which decodes to 0 there.
    """
    inverse = np.divide(1, steps, out=np.zeros_like(steps), where=steps > 0)  # [dim]
    numbers = residuals * inverse
    numbers *= (1 / spreads)[:, None]
    numbers += np.float32(2 ** (nbits - 1))
    np.clip(numbers, 0, 2**nbits - 1, out=numbers)
    # No number is negative any more, so truncation to integers is the floor of the definition.
    return numbers.astype(np.uint8)


def _spread_numbers(norms: Floats) -> Bytes:
    """Return the indices [n] of the spreads nearest to residual norms [n], on the scale of logarithms."""
    return (255 - np.searchsorted(SPREAD_BORDERS, norms)).astype(np.uint8)


def _normalize(vectors: Floats) -> tuple[Floats, Floats]:
    """Return the rows [n, dim] divided by their norms, and the norms [n]. Zero rows stay zero."""
    norms = _norms(vectors)  # [n]
    units: Floats = np.divide(vectors, np.where(norms > 0, norms, 1)[:, None], dtype=np.float32)
    return units, norms


def _norms(vectors: Floats) -> Floats:
    """Return the norms [n] of rows [n, dim], by `pairwise_sum`: their bits do not depend on the batch."""
    norms: Floats = np.sqrt(pairwise_sum(np.square(vectors)))
    return norms


def _sample(vectors: Floats, size: int, rng: np.random.Generator) -> Floats:
    """Return `size` vectors, drawn without replacement, in their given order; all vectors if there are no more."""
    if size >= len(vectors):
        return vectors
    return vectors[np.sort(rng.choice(len(vectors), size, replace=False))]
