"""Levels: similarities with centroids in steps of a byte. Choosing documents goes by these, until vectors are read.

A table [n_centroids, n_q] of bytes stays in the cache, and one row of it holds what all query tokens think of a cell.
Documents are given as cells[start : start + count], one cell a token.

A maximum over short rows is slow one row after the other and fast over many at once. So tokens are taken in groups of
GROUP, a document's last group filled up with its last token, and the first maximum is over whole groups.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..arrays import Ints
from .ragged import offsets_of

__all__ = ["NEAR", "QuantizedScores", "approximate_maxsim", "nearest_tokens", "quantize_scores"]

QuantizedScores = NDArray[np.uint8]

LARGEST = 255
NEAR = 8  # levels: a token that far below the best of its document is still one of the nearest
GROUP = 8  # tokens of a document whose levels are compared at once


def quantize_scores(similarities: NDArray[np.float32]) -> QuantizedScores:
    """[n_centroids, n_q] similarities in steps of largest / 255; what is negative counts as 0."""
    largest = max(float(similarities.max()), 1e-30)
    return (np.maximum(similarities, 0) * np.float32(LARGEST / largest)).astype(np.uint8)


def approximate_maxsim(table: QuantizedScores, cells: NDArray[Any], starts: Ints, counts: Ints) -> Ints:
    """[n_docs] the levels of MaxSim with the centroids of cells[start : start + count]."""
    tokens, groups = _grouped(starts, counts)
    levels = np.take(table, cells[tokens], axis=0).max(axis=0)  # [n_groups, n_q]
    sums: Ints = np.maximum.reduceat(levels, offsets_of(groups)[:-1], axis=0).sum(axis=1, dtype=np.int64)
    return sums


def nearest_tokens(table: QuantizedScores, cells: NDArray[Any], starts: Ints, counts: Ints) -> Ints:
    """The tokens, ascending, whose level is for some query token within NEAR of the best of their document."""
    tokens, groups = _grouped(starts, counts)
    levels = np.take(table, cells[tokens], axis=0)  # [GROUP, n_groups, n_q]
    best = np.maximum.reduceat(levels.max(axis=0), offsets_of(groups)[:-1], axis=0)  # [n_docs, n_q]
    enough = np.repeat(np.maximum(best, NEAR) - np.uint8(NEAR), groups, axis=0)  # [n_groups, n_q]
    hits = np.flatnonzero(levels >= enough) // table.shape[1]  # a token is hit once or more
    place, group = np.divmod(hits, len(enough))
    near = np.zeros(tokens.shape[::-1], np.bool_)  # [n_groups, GROUP]
    near[group, place] = True
    found = tokens.T[near]  # ascending; the fill of a group repeats its last token
    return found[np.diff(found, prepend=-1) > 0]


def _grouped(starts: Ints, counts: Ints) -> tuple[Ints, Ints]:
    """Tokens [GROUP, n_groups], document after document, and how many groups each document has [n_docs]."""
    groups = -(-counts // GROUP)  # [n_docs]
    firsts = GROUP * np.arange(groups.sum()) + np.repeat(starts - GROUP * offsets_of(groups)[:-1], groups)  # [n_groups]
    lasts = np.repeat(starts + counts - 1, groups)  # [n_groups] of each group's document
    return np.minimum(firsts + np.arange(GROUP)[:, None], lasts), groups
