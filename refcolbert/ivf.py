"""Inverted lists: for each centroid, the documents that have a token there (PLAID, section 4).

Only cells that hold something are stored, so the lists of a small segment are small however many centroids there are.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import InvalidInput

__all__ = ["InvertedLists", "build", "candidates", "probe"]

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class InvertedLists:
    """List i holds documents[offsets[i] : offsets[i + 1]], the documents with a token in cell cells[i]."""

    cells: NDArray[np.uint32]  # [n_cells] centroid numbers, ascending
    offsets: Ints  # [n_cells + 1]
    documents: NDArray[np.uint32]  # [n_entries] each list ascending, without repetition


def build(codes: NDArray[Any], offsets: Ints) -> InvertedLists:
    """Token codes [n_tokens] and document offsets [n_docs + 1] -> the inverted lists."""
    n_docs = len(offsets) - 1
    documents = np.repeat(np.arange(n_docs, dtype=np.uint64), np.diff(offsets))  # [n_tokens]
    pairs = np.unique(codes.astype(np.uint64) * np.uint64(max(n_docs, 1)) + documents)  # [n_entries] by cell, document
    cell_of, document_of = np.divmod(pairs, np.uint64(max(n_docs, 1)))
    cells, starts = np.unique(cell_of, return_index=True)
    bounds = np.concatenate([starts, [len(pairs)]]).astype(np.int64)
    return InvertedLists(cells.astype(np.uint32), bounds, document_of.astype(np.uint32))


def probe(centroid_scores: NDArray[np.float32], nprobe: int) -> Ints:
    """[n_q, n_centroids] -> the cells that are among the `nprobe` best of some query token, ascending.

    Ties at the border go to the lower centroid number.
    """
    if isinstance(nprobe, bool) or not isinstance(nprobe, int | np.integer) or nprobe < 1:
        raise InvalidInput(f"nprobe must be an integer >= 1, found {nprobe!r}")
    n_centroids = centroid_scores.shape[1]
    if nprobe >= n_centroids:
        return np.arange(n_centroids)
    kth = np.partition(centroid_scores, n_centroids - nprobe, axis=1)[:, n_centroids - nprobe, None]  # [n_q, 1]
    above = centroid_scores > kth  # [n_q, n_centroids] fewer than nprobe a row
    tied = centroid_scores == kth
    room = nprobe - above.sum(axis=1, keepdims=True)  # [n_q, 1]
    chosen = above | (tied & (np.cumsum(tied, axis=1) <= room))
    return np.flatnonzero(chosen.any(axis=0))


def candidates(lists: InvertedLists, cells: Ints) -> Ints:
    """The documents with a token in one of `cells`, ascending."""
    found = np.flatnonzero(np.isin(lists.cells, cells))
    parts = [lists.documents[lists.offsets[i] : lists.offsets[i + 1]] for i in found]
    if not parts:
        return np.empty(0, np.int64)
    return np.unique(np.concatenate(parts)).astype(np.int64)
