"""Residual compression: a token vector is its nearest centroid plus an n-bit residual (ColBERTv2, section 3.3).

    code      = argmax over c of x . c
    residual  r = x / |x| - centroid[code];   bucket b(r_k) = how many of the cutoffs lie below r_k
    decoded   y = centroid[code] + weight[b(r)];   x' = scale * y  with  scale = |x| / |y|

so a decoded vector keeps the norm of the original, and no division is left for search. The 2^nbits - 1 cutoffs and
2^nbits weights are quantiles of all residual components of a sample: bucket i holds the values between the quantiles
i / 2^nbits and (i + 1) / 2^nbits, its weight is the quantile (i + 1/2) / 2^nbits.

Packing. Component k's bucket number takes bits k * nbits to (k + 1) * nbits of the row, counted from the low bit of
the first byte; a row is ceil(dim * nbits / 8) bytes and unused high bits are 0.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import kmeans
from .errors import InvalidInput

__all__ = ["NBITS", "Codec", "Encoded", "code_dtype", "fit", "join", "pack", "row_bytes", "unpack"]

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]

NBITS = (1, 2, 4, 8)
CHUNK = 1 << 14  # vectors encoded at once: 8 MiB at dim 128
LARGEST = 65504.0  # of float16: scales are stored in it
RESIDUAL_SAMPLE = 1 << 15  # vectors whose residuals fix the buckets
POINTS_PER_CENTROID = 64  # vectors that k-means looks at, for each centroid


@dataclass(frozen=True, slots=True, eq=False)
class Encoded:
    """Token vectors as they are stored; row i of each array is token i."""

    codes: NDArray[Any]  # [n_tokens] uint16 or uint32, see `code_dtype`
    residuals: Bytes  # [n_tokens, row_bytes] packed
    scales: NDArray[np.float16]  # [n_tokens]

    def take(self, tokens: NDArray[np.int64] | slice) -> "Encoded":
        """The listed tokens; a slice is a view."""
        return Encoded(self.codes[tokens], self.residuals[tokens], self.scales[tokens])


@dataclass(frozen=True, eq=False)
class Codec:
    """Fitted centroids and buckets. Immutable: every vector of an index is encoded by the same one."""

    centroids: Floats  # [n_centroids, dim] unit rows, grouped by coarse cell
    coarse: Floats  # [n_cells, dim] unit rows
    starts: NDArray[np.int64]  # [n_cells + 1] fine centroids of each cell
    cutoffs: Floats  # [2^nbits - 1] ascending
    weights: Floats  # [2^nbits] ascending

    @property
    def dim(self) -> int:
        """Columns of a vector."""
        return int(self.centroids.shape[1])

    @property
    def nbits(self) -> int:
        """Bits of one residual component."""
        return len(self.weights).bit_length() - 1

    def encode(self, vectors: Floats) -> Encoded:
        """[n, dim] -> n encoded tokens, each on its own: not dependent on what else is in the batch.

        Except that a vector equally near to two centroids, to the last bits of a float32 product, may go to either.
        Raises `InvalidInput` for a norm that float16 cannot hold.
        """
        return join([self._encode_chunk(vectors[i : i + CHUNK]) for i in range(0, len(vectors), CHUNK)])

    def decode(self, encoded: Encoded) -> Floats:
        """n encoded tokens -> [n, dim] float32."""
        vectors: Floats = np.take(self.centroids, encoded.codes, axis=0)  # [n, dim]
        vectors += self.residuals(encoded.residuals)
        vectors *= encoded.scales.astype(np.float32)[:, None]
        return vectors

    def residuals(self, packed: Bytes) -> Floats:
        """[n, row_bytes] packed -> [n, dim] float32 weights, one table look-up a byte."""
        return np.take(self._table, packed, axis=0).reshape(len(packed), -1)[:, : self.dim]

    @cached_property
    def _table(self) -> Floats:
        """[256, 8 / nbits] the weights that each byte value stands for."""
        every_byte = np.arange(256, dtype=np.uint8)[:, None]  # [256, 1]
        return self.weights[unpack(every_byte, 8 // self.nbits, self.nbits)]

    @cached_property
    def _cells(self) -> kmeans.Centroids:
        return kmeans.Centroids(self.centroids, self.coarse, self.starts)

    def _encode_chunk(self, vectors: Floats) -> Encoded:
        units, norms = _normalize(vectors)  # [n, dim], [n]
        if norms.max(initial=0) > LARGEST / 2:
            raise InvalidInput(f"a vector has norm {norms.max():.4g}; the index stores norms up to {LARGEST / 2:.0f}")
        codes = kmeans.assign(units, self._cells)  # [n]
        nearest = self.centroids[codes]  # [n, dim]
        buckets = _buckets(units - nearest, self.cutoffs)  # [n, dim]
        decoded = nearest + np.take(self.weights, buckets)  # [n, dim]
        lengths = _norms(decoded)  # [n]
        scales = np.divide(norms, lengths, out=np.zeros_like(norms), where=lengths > 0)
        return Encoded(
            codes.astype(code_dtype(len(self.centroids))), pack(buckets, self.nbits), scales.astype(np.float16)
        )


def join(parts: Sequence[Encoded]) -> Encoded:
    """The tokens of several pieces, one after the other."""
    return Encoded(
        np.concatenate([p.codes for p in parts]),
        np.concatenate([p.residuals for p in parts]),
        np.concatenate([p.scales for p in parts]),
    )


def fit(vectors: Floats, n_centroids: int, nbits: int, seed: int) -> Codec:
    """Fit a codec to a sample of token vectors [n, dim]; zero vectors are left out.

    There are `n_centroids`, or one for each vector if those are fewer. Same input, seed and BLAS threads give the same
    bytes.
    Raises `InvalidInput` for another nbits than 1, 2, 4, 8 or when nothing but zero vectors is given.
    """
    if nbits not in NBITS:
        raise InvalidInput(f"nbits must be one of {NBITS}, found {nbits!r}")
    units, norms = _normalize(vectors)
    units = units[norms > 0]
    if not len(units):
        raise InvalidInput("a codec cannot be fitted: there is no vector other than zero")
    n_centroids = min(n_centroids, len(units))
    rng = np.random.default_rng([seed, 1])
    centroids = kmeans.fit(_sample(units, POINTS_PER_CENTROID * n_centroids, rng), n_centroids, seed)
    sample = _sample(units, RESIDUAL_SAMPLE, rng)  # [n_sample, dim]
    residuals = (sample - centroids.fine[kmeans.assign(sample, centroids)]).ravel()  # [n_sample * dim]
    levels = 2**nbits
    cutoffs = np.quantile(residuals, np.arange(1, levels) / levels).astype(np.float32)
    weights = np.quantile(residuals, (np.arange(levels) + 0.5) / levels).astype(np.float32)
    return Codec(centroids.fine, centroids.coarse, centroids.starts, cutoffs, weights)


def code_dtype(n_centroids: int) -> np.dtype[Any]:
    """The smallest of uint16 and uint32 that numbers the centroids."""
    return np.dtype(np.uint16 if n_centroids <= 1 << 16 else np.uint32)


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
    shifts = np.arange(0, 8, nbits, dtype=np.uint8)  # [8 / nbits]
    buckets = (packed[:, :, None] >> shifts) & np.uint8(2**nbits - 1)  # [n, row_bytes, 8 / nbits]
    return buckets.reshape(len(packed), -1)[:, :dim]


def _buckets(residuals: Floats, cutoffs: Floats) -> Bytes:
    """How many cutoffs lie below each component, counted one cutoff at a time: vectorized, unlike bisection."""
    buckets = np.zeros(residuals.shape, np.uint8)
    above = np.empty(residuals.shape, np.bool_)
    for cutoff in cutoffs:
        np.greater(residuals, cutoff, out=above)
        buckets += above.view(np.uint8)
    return buckets


def _normalize(vectors: Floats) -> tuple[Floats, Floats]:
    """Unit rows (zero rows stay zero) and the norms."""
    norms = _norms(vectors)  # [n]
    units: Floats = np.divide(vectors, np.where(norms > 0, norms, 1)[:, None], dtype=np.float32)
    return units, norms


def _norms(vectors: Floats) -> Floats:
    """[n, dim] -> [n] by folding halves together, element by element.

    A library sum may add a row in another order when there are more rows; here a vector is encoded to the same bits
    whatever else is in its batch, and the tree of additions is as exact as pairwise summation.
    """
    width = 1 << (vectors.shape[1] - 1).bit_length()
    squares = np.zeros((len(vectors), width), np.float32)
    np.square(vectors, out=squares[:, : vectors.shape[1]])
    while width > 1:
        width //= 2
        squares = squares[:, :width] + squares[:, width : 2 * width]
    norms: Floats = np.sqrt(squares[:, 0])
    return norms


def _sample(vectors: Floats, size: int, rng: np.random.Generator) -> Floats:
    if size >= len(vectors):
        return vectors
    return vectors[np.sort(rng.choice(len(vectors), size, replace=False))]
