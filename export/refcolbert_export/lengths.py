"""Batches of texts of similar length, so that little is padded."""

from collections.abc import Sequence

import numpy as np

from refcolbert.arrays import Array

__all__ = ["by_length", "padded_rows"]

# A group of at least MIN_GROUP_TOKENS takes no text shorter than MIN_RATIO of its longest: for such a text another
# run of the transformer costs less than the padding.
MIN_RATIO, MIN_GROUP_TOKENS = 7 / 8, 512


def by_length(lengths: Sequence[int], most: int) -> list[list[int]]:
    """Positions of texts, longest first, in groups of similar length.

    A group has at most `most` tokens with padding, or is one text.
    """
    groups: list[list[int]] = []
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        longest = lengths[groups[-1][0]] if groups else 0
        full = not groups or (len(groups[-1]) + 1) * longest > most
        if full or (lengths[i] < MIN_RATIO * longest and len(groups[-1]) * longest >= MIN_GROUP_TOKENS):
            groups.append([])
        groups[-1].append(i)
    return groups


def padded_rows(rows: Sequence[Array], fill: int) -> Array:  # [n] of each row -> [n_rows, longest]
    """Rows of one type as a matrix, filled up at the end with `fill`."""
    matrix = np.full((len(rows), max(map(len, rows))), fill, rows[0].dtype)  # [n_rows, longest]
    for i, row in enumerate(rows):
        matrix[i, : len(row)] = row
    return matrix
