"""Inverted lists: for each centroid, the documents that have a token there (PLAID, section 4).

A worked example. Three documents whose tokens lie in these cells, and their inverted lists:

    document 0   cells 4 4 7        cells      4    7          the cells in use, ascending
    document 1   cells 7            offsets    0    2     5    list of cell 4: entries 0 to 2; of cell 7: 2 to 5
    document 2   cells 4 7 7        documents  0 2  0 1 2      the entries: each document once per cell

Only cells with a document have a list. So the lists of a small segment are small, however many centroids there are.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..arrays import Array, Floats, Ints
from ..checks import check_count
from .ragged import offsets_of

__all__ = ["InvertedLists", "build", "candidates", "entries", "join", "merge_lists", "probe"]

# `probe` divides the cells into GROUPS_PER_PROBE * nprobe groups, and into at least MIN_GROUPS.
MIN_GROUPS, GROUPS_PER_PROBE = 128, 4


@dataclass(frozen=True, slots=True, eq=False)
class InvertedLists:
    """List i holds documents[offsets[i] : offsets[i + 1]]: the documents with a token in cell cells[i]."""

    cells: NDArray[np.uint32]  # [n_lists] centroid numbers, ascending
    offsets: Ints  # [n_lists + 1]
    documents: NDArray[Any]  # [n_entries] uint16 or uint32; each list ascending, without repetition


def build(codes: Array, offsets: Ints) -> InvertedLists:
    """Return the inverted lists of documents.

    codes    [n_tokens] the cell of each token
    offsets  [n_docs + 1] document i has tokens offsets[i] : offsets[i + 1]

    >>> lists = build(np.array([4, 4, 7, 7, 4, 7, 7]), np.array([0, 3, 4, 7]))
    >>> lists.cells.tolist(), lists.offsets.tolist(), lists.documents.tolist()
    ([4, 7], [0, 2, 5], [0, 2, 0, 1, 2])
    """
    n_docs = len(offsets) - 1
    documents = np.repeat(np.arange(n_docs, dtype=np.uint64), np.diff(offsets))  # [n_tokens]
    # Cell and document in one integer: one sort orders by cell, then by document, and brings repetitions together.
    tokens = np.sort(codes.astype(np.uint64) * np.uint64(max(n_docs, 1)) + documents)  # [n_tokens]
    first = np.ones(len(tokens), np.bool_)  # [n_tokens] False for a repetition
    first[1:] = tokens[1:] != tokens[:-1]
    pairs = tokens[first]  # [n_entries]
    cell_of, document_of = np.divmod(pairs, np.uint64(max(n_docs, 1)))  # [n_entries] each
    cells, starts = np.unique(cell_of, return_index=True)
    bounds = np.concatenate([starts, [len(pairs)]]).astype(np.int64)
    return InvertedLists(cells.astype(np.uint32), bounds, document_of.astype(np.uint32))


def join(parts: Sequence[InvertedLists]) -> InvertedLists:
    """Return the inverted lists of all documents, from the lists of consecutive runs of them.

    The documents of all parts are numbered together already, so they ascend from one run to the next. Two runs:

        cell 2: documents 0 1    cell 5: document 1        and        cell 5: documents 2 3
        joined:  cells [2, 5]    offsets [0, 2, 5]    documents [0, 1, 1, 2, 3]
    """
    cells, offsets, places = merge_lists([(part.cells, part.offsets) for part in parts])
    documents = np.empty(int(offsets[-1]), np.uint32)
    for part, place in zip(parts, places, strict=True):
        documents[place] = part.documents
    return InvertedLists(cells.astype(np.uint32), offsets, documents)


def merge_lists(parts: Sequence[tuple[Array, Ints]]) -> tuple[Array, Ints, Iterator[Ints]]:
    """Merge the lists of several parts: return their keys, their offsets, and the places of each part's entries.

    parts  for each part the keys of its lists [n_lists], ascending, and the lists' offsets [n_lists + 1]

    A merged list has the entries of the first part, then those of the second, and so on. Places are computed one part
    at a time: [n_entries of the part].
    """
    keys = np.concatenate([np.empty(0, np.int64), *(keys for keys, _ in parts)])  # [n_lists] one per list of each part
    lengths = np.concatenate([np.empty(0, np.int64), *(np.diff(offsets) for _, offsets in parts)])  # [n_lists]
    # By key, then by part, because the sort is stable.
    order = np.argsort(keys, kind="stable")
    ends = offsets_of(lengths[order])  # [n_lists + 1]
    starts = np.empty(len(keys), np.int64)  # [n_lists] place of each list's first entry
    starts[order] = ends[:-1]
    by_part = np.split(starts, np.cumsum([len(keys) for keys, _ in parts])[:-1])
    unique, first = np.unique(keys[order], return_index=True)
    places = (
        np.repeat(part_starts - offsets[:-1], np.diff(offsets)) + np.arange(int(offsets[-1]))
        for part_starts, (_, offsets) in zip(by_part, parts, strict=False)
    )
    return unique, np.concatenate([ends[:-1][first], ends[-1:]]), places


def probe(centroid_scores: Floats, nprobe: int) -> Ints:
    """Return the cells that are among the `nprobe` best of some query token, ascending.

    Equal scores at the border go to the lower centroid number.

    centroid_scores  [n_q, n_centroids]; fastest as the transpose of a C-ordered [n_centroids, n_q] array
    nprobe           at least 1; all cells where it is at least n_centroids

    >>> probe(np.array([[0.9, 0.2, 0.1], [0.1, 0.3, 0.8]], np.float32), 1)
    array([0, 2])
    """
    nprobe = check_count(nprobe, "nprobe")
    n_q, n_centroids = centroid_scores.shape
    if nprobe >= n_centroids:
        return np.arange(n_centroids)
    by_cell = centroid_scores.T  # [n_centroids, n_q]
    # Partitioning all scores of a query token would read them several times. Instead cells are put into groups, and the
    # best cell of each group is found in one pass. The nprobe best groups have nprobe different best cells. So the
    # nprobe-th best cell of all scores at least as much as the best cell of the nprobe-th best group. Few cells do, and
    # only these are sorted. The last cells, fewer than one group, are in no group. They are compared with `least` too.
    group = max(n_centroids // max(MIN_GROUPS, GROUPS_PER_PROBE * nprobe), 1)  # cells in each of n_groups >= nprobe
    n_groups = n_centroids // group
    best = by_cell[: group * n_groups].reshape(group, n_groups, n_q).max(axis=0)  # [n_groups, n_q]
    least = np.partition(best, n_groups - nprobe, axis=0)[n_groups - nprobe]  # [n_q]
    cell, token = np.divmod(np.flatnonzero(by_cell >= least), n_q)  # [n_left] each
    order = np.lexsort((-by_cell[cell, token], token))  # by query token, best first; a stable sort, so ties by number
    # [n_left] the place in `order` minus the first place of the same query token: 0 for the token's best cell.
    rank = np.arange(len(order)) - np.searchsorted(token[order], token[order])
    return np.unique(cell[order[rank < nprobe]])


def entries(lists: InvertedLists, cells: Ints) -> tuple[Array, Ints]:
    """Return the entries of the lists of `cells` (ascending), list after list: documents, and places in `cells`.

    Both are [n_entries].
    """
    places = np.searchsorted(lists.cells, cells)  # [n_cells] where each cell's list is, if it has one
    # A cell above all listed cells has the place len(lists.cells). `minimum` turns it into that of the last list, whose
    # cell differs.
    listed = np.flatnonzero(lists.cells[np.minimum(places, len(lists.cells) - 1)] == cells)  # [n_found]
    starts, ends = lists.offsets[places[listed]], lists.offsets[places[listed] + 1]  # [n_found] each
    # Copying a slice per list is faster than taking the entries by their places.
    parts = [lists.documents[start:end] for start, end in zip(starts.tolist(), ends.tolist(), strict=True)]
    return np.concatenate([lists.documents[:0], *parts]), np.repeat(listed, ends - starts)


def candidates(lists: InvertedLists, cells: Ints) -> Ints:
    """Return the documents with a token in one of `cells` (ascending), ascending and each once."""
    return np.unique(entries(lists, cells)[0]).astype(np.int64)
