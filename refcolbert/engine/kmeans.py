"""Seeded spherical k-means in two levels: fit the centroids, assign vectors to them.

Spherical k-means maximizes sum over n of x_n . c_a(n) with unit centroids; a step assigns each vector to its best
centroid and replaces each centroid by the normalized sum of its vectors, which never lowers that sum.

Plain k-means over K centroids costs n * K * dim multiplications a pass. Here about sqrt(K) coarse centroids divide the
space, each coarse cell gets a share of the K fine centroids by its number of vectors, and a vector is compared only
with the fine centroids of its few best coarse cells: about n * (1 + probes) * sqrt(K) * dim. The price is that a vector
whose nearest centroid lies in a farther cell gets its second best; `assign` is exact when every cell is probed.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..arrays import Floats, Ints
from ..errors import InvalidInput

__all__ = ["MAX_CENTROIDS", "Centroids", "assign", "assign_exact", "centroid_count", "fit"]


CHUNK = 1 << 22  # similarities held at once (16 MiB of float32)
COARSE_POINTS = 256  # vectors looked at for each coarse centroid
PROBES = 4  # coarse cells compared for each vector
ITERATIONS = 4
MAX_CENTROIDS = 1 << 16  # so that a code takes two bytes


@dataclass(frozen=True, slots=True, eq=False)
class Centroids:
    """Fine centroids grouped by coarse cell: cell g owns fine centroids starts[g] : starts[g + 1]."""

    fine: Floats  # [n_centroids, dim] unit rows
    coarse: Floats  # [n_coarse, dim] unit rows
    starts: Ints  # [n_coarse + 1]

    def __len__(self) -> int:
        return len(self.fine)


def centroid_count(n_tokens: int) -> int:
    """K = 2^floor(log2(16 sqrt(n_tokens))): PLAID's rule (CIKM 2022, section 4.1 and its code).

    But at most n_tokens, and at most MAX_CENTROIDS: PLAID goes on beyond 16.8 million tokens, where lists grow instead.
    """
    return max(1, min(n_tokens, MAX_CENTROIDS, 1 << int(math.log2(16 * math.sqrt(n_tokens)))))


def fit(vectors: Floats, n_centroids: int, seed: int) -> Centroids:
    """Fit `n_centroids` to unit vectors [n, dim]. Same vectors, seed and BLAS threads give the same bytes.

    Raises `InvalidInput` when there are fewer vectors than centroids.
    """
    if not 1 <= n_centroids <= len(vectors):
        raise InvalidInput(f"expected 1 to {len(vectors)} centroids for {len(vectors)} vectors, found {n_centroids}")
    rng = np.random.default_rng(seed)
    n_coarse = max(1, round(np.sqrt(n_centroids)))
    step = max(len(vectors) // (COARSE_POINTS * n_coarse), 1)  # a coarse centroid needs few points to find its place
    coarse = _lloyd(vectors[::step], n_coarse, rng)
    cells = assign_exact(vectors, coarse)  # [n]
    members = np.split(np.argsort(cells, kind="stable"), np.cumsum(np.bincount(cells, minlength=n_coarse))[:-1])
    shares = _shares(np.array([len(m) for m in members]), n_centroids)  # [n_coarse]
    fine = [_lloyd(vectors[m], share, rng) for m, share in zip(members, shares, strict=True) if share]
    used = shares > 0
    starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(shares[used])])
    return Centroids(np.concatenate(fine), coarse[used], starts)


def assign(vectors: Floats, centroids: Centroids, probes: int = PROBES) -> Ints:
    """[n, dim] unit rows -> [n] the best fine centroid among those of each vector's `probes` best coarse cells.

    Equal similarities go to the lower centroid number, and a vector's centroid does not depend on what else is in the
    batch. Not guaranteed: that it is the nearest of all, unless `probes` is at least the number of cells.
    """
    out = np.empty(len(vectors), np.int64)  # [n]
    widest = max(len(centroids.coarse), int(np.diff(centroids.starts).max()))
    step = max(CHUNK // widest, 1)
    for first in range(0, len(vectors), step):
        out[first : first + step] = _assign_chunk(vectors[first : first + step], centroids, probes)
    return out


def assign_exact(vectors: Floats, fine: Floats) -> Ints:
    """[n, dim], [n_centroids, dim] -> [n] the nearest centroid, equal similarities to the lower number."""
    out = np.empty(len(vectors), np.int64)  # [n]
    step = max(CHUNK // len(fine), 1)
    for first in range(0, len(vectors), step):
        out[first : first + step] = (vectors[first : first + step] @ fine.T).argmax(axis=1)
    return out


def _assign_chunk(vectors: Floats, centroids: Centroids, probes: int) -> Ints:
    similarities = vectors @ centroids.coarse.T  # [n, n_coarse]
    probes = min(probes, similarities.shape[1])
    chosen = np.argpartition(-similarities, probes - 1, axis=1)[:, :probes]  # [n, probes]
    slack = _slack(vectors.shape[1])
    last = np.take_along_axis(similarities, chosen, axis=1).min(axis=1)  # [n]
    close = np.count_nonzero(similarities >= (last - slack)[:, None], axis=1) > probes  # [n]
    order = np.argsort(chosen, axis=None, kind="stable")  # (vector, probe) pairs, cell by cell
    bounds = np.searchsorted(chosen.ravel()[order], np.arange(len(centroids.coarse) + 1))
    best = np.full(len(vectors), -np.inf, np.float32)  # [n]
    second = best.copy()  # [n]
    codes = np.zeros(len(vectors), np.int64)  # [n]
    for cell in range(len(centroids.coarse)):
        rows = order[bounds[cell] : bounds[cell + 1]] // probes  # vectors that compare with this cell, ascending
        first, last = centroids.starts[cell : cell + 2]
        found = vectors[rows] @ centroids.fine[first:last].T  # [n_rows, n_fine]
        code = found.argmax(axis=1)  # [n_rows]
        value = found[np.arange(len(rows)), code]  # [n_rows]
        found[np.arange(len(rows)), code] = -np.inf
        second[rows] = np.maximum(np.minimum(best[rows], value), np.maximum(second[rows], found.max(axis=1)))
        better = value > best[rows]
        best[rows[better]] = value[better]
        codes[rows[better]] = first + code[better]
    for i in np.flatnonzero(close | (second >= best - slack)):
        codes[i] = _assign_one(vectors[i], centroids, probes)
    return codes


def _slack(dim: int) -> float:
    """How far apart two float32 similarities of unit rows must be for their order to be sure, with room to spare.

    BLAS adds a row up in another order when there are more rows; who has a closer pair is therefore assigned alone.
    """
    return 2 * (dim + 4) * 2.0**-24


def _assign_one(x: Floats, centroids: Centroids, probes: int) -> int:
    """[dim] -> the same as `assign`, in float64, with nothing beside it."""
    cells = np.argsort(-_products(x, centroids.coarse), kind="stable")[:probes]
    numbers = np.concatenate([np.arange(*centroids.starts[c : c + 2]) for c in np.sort(cells)])
    return int(numbers[_products(x, centroids.fine[numbers]).argmax()])


def _products(x: Floats, rows: Floats) -> NDArray[np.float64]:
    """[dim], [n, dim] -> [n] float64, without BLAS, whose threads share a sum as they please."""
    products: NDArray[np.float64] = (rows.astype(np.float64) * x).sum(axis=1)
    return products


def _lloyd(vectors: Floats, k: int, rng: np.random.Generator) -> Floats:
    """Plain spherical k-means: unit centroids [k, dim]. An empty cluster moves onto the worst-placed vector."""
    centroids = vectors[np.sort(rng.choice(len(vectors), k, replace=False))].copy()  # [k, dim]
    for _ in range(ITERATIONS):
        codes = assign_exact(vectors, centroids)  # [n]
        sums = _sums(vectors, codes, k)  # [k, dim]
        norms = np.linalg.norm(sums, axis=1)  # [k] 0 where vectors cancel out: that centroid stays where it was
        centroids[norms > 0] = sums[norms > 0] / norms[norms > 0, None]
        empty = np.flatnonzero(np.bincount(codes, minlength=k) == 0)
        if len(empty):
            own = np.einsum("nd,nd->n", vectors, centroids[codes])  # [n] similarity to the own centroid
            centroids[empty] = vectors[np.argsort(own, kind="stable")[: len(empty)]]
    return centroids


def _sums(vectors: Floats, codes: Ints, k: int) -> Floats:
    """[k, dim] the sum of each cluster's vectors: membership as a 0/1 matrix, so that BLAS does the adding."""
    sums = np.zeros((k, vectors.shape[1]), np.float32)
    step = max(CHUNK // k, 1)
    for first in range(0, len(vectors), step):
        part = codes[first : first + step]  # [n]
        member = np.zeros((k, len(part)), np.float32)  # [k, n]
        member[part, np.arange(len(part))] = 1
        sums += member @ vectors[first : first + step]
    return sums


def _shares(sizes: Ints, total: int) -> Ints:
    """Divide `total` centroids among cells by size, the rest to the largest remainders: [n_coarse].

    None gets more than its vectors: `total` is at most their number, and a quota with a remainder is below the size.
    """
    quota = sizes * total / sizes.sum()  # [n_coarse]
    shares: Ints = np.floor(quota).astype(np.int64)
    for _ in range(total - int(shares.sum())):
        shares[int(np.argmax(quota - shares))] += 1
    return shares
