"""Seeded spherical k-means in two levels: fit the centroids, assign vectors to them.

Spherical k-means maximizes the objective, the sum over n of x_n . c_a(n). The centroids c are unit vectors, and a(n) is
the centroid of vector x_n. A step assigns each vector to its best centroid, then replaces each centroid by the
normalized sum of its vectors. Neither half of a step lowers the objective.

A worked example, two clusters in two dimensions:

    vectors     (1, 0)  (.8, .6)  (0, 1)        first centroids (1, 0) and (0, 1)
    best        0       0         1             .8 > .6, so the second vector goes to centroid 0
    x . c       1       .8        1             objective 2.8
    sums        (1.8, .6)         (0, 1)        centroids become (.95, .32) and (0, 1)
    x . c       .95     .95       1             objective 2.9

Plain k-means over K centroids costs n * K * dim multiplications per step. Here about sqrt(K) coarse centroids divide
the space, and each coarse cell gets a share of the K fine centroids by its number of vectors. A vector is compared only
with the fine centroids of its few best coarse cells: about n * (1 + probes) * sqrt(K) * dim. The price is that a vector
gets another centroid if its nearest one lies in a coarse cell that was not probed. `assign` is exact when every coarse
cell is probed.
"""

import math
from dataclasses import dataclass

import numpy as np

from ..arrays import Doubles, Floats, Ints
from ..errors import InvalidInput

__all__ = ["MAX_CENTROIDS", "Centroids", "assign", "assign_exact", "centroid_count", "fit"]

CHUNK = 1 << 22  # similarities in memory at a time: 16 MiB of float32
COARSE_POINTS = 256  # vectors per coarse centroid that the coarse centroids are fitted to
PROBES = 4  # coarse cells whose fine centroids a vector is compared with
ITERATIONS = 4  # as in PLAID's code
MAX_CENTROIDS = 1 << 16  # so that a code takes two bytes


@dataclass(frozen=True, slots=True, eq=False)
class Centroids:
    """Fine centroids grouped by coarse cell: cell g owns the fine centroids starts[g] : starts[g + 1]."""

    fine: Floats  # [n_centroids, dim] unit rows
    coarse: Floats  # [n_coarse, dim] unit rows
    starts: Ints  # [n_coarse + 1]

    def __len__(self) -> int:
        return len(self.fine)


def centroid_count(n_tokens: int) -> int:
    """Return K = 2^floor(log2(16 sqrt(n_tokens))): PLAID's rule (CIKM 2022, section 4.1 and its code).

    At most n_tokens, and at most MAX_CENTROIDS. From 67 million tokens on, PLAID has more centroids; here the inverted
    lists grow instead.

    >>> [centroid_count(n) for n in (1, 100, 100_000, 80_000_000)]
    [1, 100, 4096, 65536]
    """
    return max(1, min(n_tokens, MAX_CENTROIDS, 1 << int(math.log2(16 * math.sqrt(n_tokens)))))


def fit(vectors: Floats, n_centroids: int, seed: int) -> Centroids:
    """Fit `n_centroids` to unit vectors [n, dim].

    The same vectors, seed and number of BLAS threads give the same bytes.

    Raises `InvalidInput` when there are fewer vectors than centroids.
    """
    if not 1 <= n_centroids <= len(vectors):
        raise InvalidInput(f"expected 1 to {len(vectors)} centroids for {len(vectors)} vectors, found {n_centroids}")
    rng = np.random.default_rng(seed)
    n_coarse = max(1, round(np.sqrt(n_centroids)))
    # Few vectors suffice for the coarse centroids: every `step`-th one.
    step = max(len(vectors) // (COARSE_POINTS * n_coarse), 1)
    coarse = _lloyd(vectors[::step], n_coarse, rng)
    cells = assign_exact(vectors, coarse)  # [n]
    # The vector numbers of each coarse cell: sorted by cell, then split where the next cell begins.
    members = np.split(np.argsort(cells, kind="stable"), np.cumsum(np.bincount(cells, minlength=n_coarse))[:-1])
    shares = _shares(np.array([len(m) for m in members]), n_centroids)  # [n_coarse]
    fine = [_lloyd(vectors[m], share, rng) for m, share in zip(members, shares, strict=True) if share]
    used = shares > 0  # [n_coarse] a coarse cell without fine centroids could never be a nearest one
    starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(shares[used])])
    return Centroids(np.concatenate(fine), coarse[used], starts)


def assign(vectors: Floats, centroids: Centroids, probes: int = PROBES) -> Ints:
    """Return the centroid of each unit vector [n, dim]: the best fine centroid in its `probes` best coarse cells, [n].

    Equal similarities go to the lower centroid number. A vector's centroid does not depend on the other vectors of the
    batch. It is the nearest of all centroids only if every coarse cell is probed.
    """
    codes = np.empty(len(vectors), np.int64)  # [n]
    # One product gives each vector of a chunk at most this many similarities.
    widest = max(len(centroids.coarse), int(np.diff(centroids.starts).max()))
    step = max(CHUNK // widest, 1)
    for first in range(0, len(vectors), step):
        codes[first : first + step] = _assign_chunk(vectors[first : first + step], centroids, probes)
    return codes


def assign_exact(vectors: Floats, fine: Floats) -> Ints:
    """Return [n] the nearest of the centroids [n_centroids, dim] for each vector [n, dim]; ties to the lower number."""
    codes = np.empty(len(vectors), np.int64)  # [n]
    step = max(CHUNK // len(fine), 1)
    for first in range(0, len(vectors), step):
        codes[first : first + step] = (vectors[first : first + step] @ fine.T).argmax(axis=1)
    return codes


def _assign_chunk(vectors: Floats, centroids: Centroids, probes: int) -> Ints:
    """`assign` by float32 matrix products; vectors whose choice is too close for float32 are assigned one by one.

    A matrix product may add in another order when it has more rows. So the order of two nearly equal similarities could
    depend on the batch. A vector with such a pair is compared again alone, in float64.
    """
    similarities = vectors @ centroids.coarse.T  # [n, n_coarse]
    probes = min(probes, similarities.shape[1])
    cells = np.argpartition(-similarities, probes - 1, axis=1)[:, :probes]  # [n, probes]
    margin = _float32_margin(vectors.shape[1])
    worst_kept = np.take_along_axis(similarities, cells, axis=1).min(axis=1)  # [n]
    # [n] True where another cell is so near to the worst kept one that float32 cannot tell which of them to keep.
    close = np.count_nonzero(similarities >= (worst_kept - margin)[:, None], axis=1) > probes
    codes, best, second = _best_two(vectors, centroids, cells)
    for i in np.flatnonzero(close | (second >= best - margin)):
        codes[i] = _assign_one(vectors[i], centroids, probes)
    return codes


def _best_two(vectors: Floats, centroids: Centroids, cells: Ints) -> tuple[Ints, Floats, Floats]:
    """Return the best centroid of each vector among its coarse cells [n, probes], and its best two similarities.

    One matrix product per coarse cell: all vectors that chose the cell with the cell's fine centroids.
    """
    probes = cells.shape[1]
    order = np.argsort(cells, axis=None, kind="stable")  # [n * probes] (vector, probe) pairs, cell after cell
    bounds = np.searchsorted(cells.ravel()[order], np.arange(len(centroids.coarse) + 1))  # [n_coarse + 1]
    best = np.full(len(vectors), -np.inf, np.float32)  # [n]
    second = best.copy()  # [n]
    codes = np.zeros(len(vectors), np.int64)  # [n]
    for cell in range(len(centroids.coarse)):
        rows = order[bounds[cell] : bounds[cell + 1]] // probes  # [n_rows] ascending
        first, last = centroids.starts[cell : cell + 2]
        similarities = vectors[rows] @ centroids.fine[first:last].T  # [n_rows, n_fine]
        code = similarities.argmax(axis=1)  # [n_rows] the first of equals, hence the lower number
        value = similarities[np.arange(len(rows)), code]  # [n_rows]
        similarities[np.arange(len(rows)), code] = -np.inf
        # The new second is the lower of the two bests, the old second, or this cell's second.
        loser = np.minimum(best[rows], value)  # [n_rows]
        second[rows] = np.maximum(loser, np.maximum(second[rows], similarities.max(axis=1)))
        better = value > best[rows]
        best[rows[better]] = value[better]
        codes[rows[better]] = first + code[better]
    return codes, best, second


def _float32_margin(dim: int) -> float:
    """Return the least difference of two float32 similarities of unit rows that makes their order certain.

    Each of the two is off by about dim 2^-24 at most. The 4 more cover rows whose norm is not exactly 1.
    """
    return 2 * (dim + 4) * 2.0**-24


def _assign_one(x: Floats, centroids: Centroids, probes: int) -> int:
    """`assign` of one vector [dim], in float64."""
    cells = np.argsort(-_products(x, centroids.coarse), kind="stable")[:probes]
    # In ascending order, so that argmax gives equal similarities to the lower number.
    numbers = np.concatenate([np.arange(*centroids.starts[c : c + 2]) for c in np.sort(cells)])
    return int(numbers[_products(x, centroids.fine[numbers]).argmax()])


def _products(x: Floats, rows: Floats) -> Doubles:
    """Return x . row for each row: [dim], [n, dim] -> [n]. Not by BLAS, whose threads may divide a sum differently."""
    products: Doubles = (rows.astype(np.float64) * x).sum(axis=1)
    return products


def _lloyd(vectors: Floats, k: int, rng: np.random.Generator) -> Floats:
    """Return unit centroids [k, dim] by plain spherical k-means, started from k of the vectors."""
    centroids = vectors[np.sort(rng.choice(len(vectors), k, replace=False))].copy()  # [k, dim]
    for _ in range(ITERATIONS):
        codes = assign_exact(vectors, centroids)  # [n]
        sums = _cluster_sums(vectors, codes, k)  # [k, dim]
        norms = np.linalg.norm(sums, axis=1)  # [k] 0 where vectors cancel out: that centroid stays where it was
        centroids[norms > 0] = sums[norms > 0] / norms[norms > 0, None]
        empty = np.flatnonzero(np.bincount(codes, minlength=k) == 0)
        if len(empty):
            # An empty cluster moves onto a vector that is farthest from its own centroid.
            own = np.einsum("nd,nd->n", vectors, centroids[codes])  # [n]
            centroids[empty] = vectors[np.argsort(own, kind="stable")[: len(empty)]]
    return centroids


def _cluster_sums(vectors: Floats, codes: Ints, k: int) -> Floats:
    """Return the sum of each cluster's vectors, [k, dim].

    Membership is written as a matrix of 0 and 1 [k, n], so that BLAS does the adding.
    """
    sums = np.zeros((k, vectors.shape[1]), np.float32)
    step = max(CHUNK // k, 1)
    for first in range(0, len(vectors), step):
        part = codes[first : first + step]  # [n_part]
        member = np.zeros((k, len(part)), np.float32)  # [k, n_part]
        member[part, np.arange(len(part))] = 1
        sums += member @ vectors[first : first + step]
    return sums


def _shares(sizes: Ints, total: int) -> Ints:
    """Divide `total` centroids among cells in proportion to their sizes [n_coarse]: [n_coarse].

    Quotas are rounded down, and the centroids that are left go to the largest remainders. No cell gets more centroids
    than it has vectors: `total` is at most the sum of the sizes, so a quota is at most the size of its cell, and a
    quota with a remainder is below it.
    """
    quota = sizes * total / sizes.sum()  # [n_coarse]
    shares: Ints = np.floor(quota).astype(np.int64)
    for _ in range(total - int(shares.sum())):
        shares[int(np.argmax(quota - shares))] += 1
    return shares
