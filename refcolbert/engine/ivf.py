"""Inverted lists: for each centroid, the documents that have a token there (PLAID, section 4).

Only cells that hold something are stored, so the lists of a small segment are small however many centroids there are.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..arrays import Ints
from ..checks import check_count
from .ragged import rows_of

__all__ = ["InvertedLists", "build", "candidates", "entries", "probe"]


GROUPS, ROOM = 128, 4  # groups of cells whose best are compared: so many, or so many for each probe


@dataclass(frozen=True, slots=True, eq=False)
class InvertedLists:
    """List i holds documents[offsets[i] : offsets[i + 1]], the documents with a token in cell cells[i]."""

    cells: NDArray[np.uint32]  # [n_lists] centroid numbers, ascending
    offsets: Ints  # [n_lists + 1]
    documents: NDArray[Any]  # [n_entries] uint16 or uint32; each list ascending, without repetition


def build(codes: NDArray[Any], offsets: Ints) -> InvertedLists:
    """Token codes [n_tokens] and document offsets [n_docs + 1] -> the inverted lists."""
    n_docs = len(offsets) - 1
    documents = np.repeat(np.arange(n_docs, dtype=np.uint64), np.diff(offsets))  # [n_tokens]
    tokens = np.sort(codes.astype(np.uint64) * np.uint64(max(n_docs, 1)) + documents)  # [n_tokens] by cell, document
    first = np.ones(len(tokens), np.bool_)
    first[1:] = tokens[1:] != tokens[:-1]
    pairs = tokens[first]  # [n_entries] each once
    cell_of, document_of = np.divmod(pairs, np.uint64(max(n_docs, 1)))
    cells, starts = np.unique(cell_of, return_index=True)
    bounds = np.concatenate([starts, [len(pairs)]]).astype(np.int64)
    return InvertedLists(cells.astype(np.uint32), bounds, document_of.astype(np.uint32))


def probe(centroid_scores: NDArray[np.float32], nprobe: int) -> Ints:
    """[n_q, n_centroids] -> the cells that are among the `nprobe` best of some query token, ascending.

    Ties at the border go to the lower centroid number.
    """
    nprobe = check_count(nprobe, "nprobe")
    n_q, n_centroids = centroid_scores.shape
    if nprobe >= n_centroids:
        return np.arange(n_centroids)
    by_cell = centroid_scores.T  # [n_centroids, n_q] which is how search has them, one after the other
    group = max(n_centroids // max(GROUPS, ROOM * nprobe), 1)  # cells in each of n_groups >= nprobe
    n_groups = n_centroids // group
    best = by_cell[: group * n_groups].reshape(group, n_groups, n_q).max(axis=0)  # [n_groups, n_q]
    # The best of the nprobe best groups are nprobe cells, so the nprobe best cells are no worse than these.
    least = np.partition(best, n_groups - nprobe, axis=0)[n_groups - nprobe]  # [n_q]
    cell, token = np.divmod(np.flatnonzero(by_cell >= least), n_q)  # [n_left] each
    order = np.lexsort((-by_cell[cell, token], token))  # by query token, the best first, of equals the lower number
    rank = np.arange(len(order)) - np.searchsorted(token[order], token[order])  # [n_left] among those of its token
    return np.unique(cell[order[rank < nprobe]])


def entries(lists: InvertedLists, cells: Ints) -> tuple[NDArray[Any], NDArray[np.uint32]]:
    """The lists of `cells` (ascending), one after the other: documents and their cells, [n] each."""
    found = np.searchsorted(lists.cells, cells)  # [n_cells] where each would stand
    found = found[lists.cells[np.minimum(found, len(lists.cells) - 1)] == cells]  # [n_found]
    counts = lists.offsets[found + 1] - lists.offsets[found]  # [n_found]
    return lists.documents[rows_of(lists.offsets, found)], np.repeat(lists.cells[found], counts)


def candidates(lists: InvertedLists, cells: Ints) -> Ints:
    """The documents with a token in one of `cells` (ascending), each once, ascending."""
    return np.unique(entries(lists, cells)[0]).astype(np.int64)
