"""Centroid interaction: MaxSim with each document token replaced by its centroid (PLAID, section 4.2), in bytes.

A search computes the similarity of every query token with every centroid once. Rounded to one byte each, these
similarities are a table [n_centroids, n_q] that stays in the processor's cache. One row of it scores one document token
against all query tokens. Candidate documents are chosen by sums of such bytes. Stored vectors are read later.

A worked example, two query tokens and three centroids:

    similarities          quantized (largest .9 becomes 255)
    c_0   .9  .1          255   28
    c_1   .2  .3           56   85
    c_2  -.1  .8            0  226

A document with tokens in cells 1 and 2 scores max(56, 0) + max(85, 226) = 282. Without rounding this would be
(.2 + .8) * 255 / .9 = 283.3.

NumPy computes the maxima of many short runs of rows slowly, and the maximum of whole arrays fast. So the tokens of each
document are put into groups of at most GROUP, and its last group is filled up with its last token. Then the first
tokens of all groups are compared with the second tokens of all groups, these with the third, and so on. The maxima of
the groups are put into groups in turn, until each document has one.
"""

import numpy as np

from ..arrays import Array, Bytes, Floats, Ints
from .ragged import offsets_of

__all__ = ["NEAR", "QuantizedScores", "approximate_maxsim", "nearest_tokens", "quantize_scores", "unit_of"]

QuantizedScores = Bytes  # [n_centroids, n_q]

LARGEST = 255
NEAR = 8  # in the unit of the quantized scores: a token this far below the best of its document counts as nearest
GROUP = 8  # tokens in a group, where documents have as many


def quantize_scores(similarities: Floats) -> QuantizedScores:
    """Return similarities [n_centroids, n_q] in units of largest / 255, rounded down. Negative ones become 0.

    `largest` is the largest similarity of all query tokens. With a unit of its own per query token, a sum over query
    tokens would weigh them differently.
    """
    return (np.maximum(similarities, 0) * np.float32(1 / unit_of(similarities))).astype(np.uint8)


def unit_of(similarities: Floats) -> float:
    """Return the similarity that a quantized score of 1 stands for, given similarities [n_centroids, n_q]."""
    return max(float(similarities.max()), 1e-30) / LARGEST


def approximate_maxsim(
    quantized: QuantizedScores,  # [n_centroids, n_q]
    cells: Array,  # [n_tokens] the cell of each token
    starts: Ints,  # [n_docs] each document's first token
    counts: Ints,  # [n_docs] its number of tokens, at least 1
) -> Ints:
    """Return MaxSim of each document by quantized scores, [n_docs].

    Document i has the cells cells[starts[i] : starts[i] + counts[i]].
    """
    tokens, n_groups = _in_groups(starts, counts)  # [group, n_all_groups], [n_docs]
    best = _maxima(np.take(quantized, cells.take(tokens), axis=0).max(axis=0), n_groups)  # [n_docs, n_q]
    # `best.sum(axis=1)` takes three times as long.
    sums: Ints = np.einsum("ij->i", best, dtype=np.int64, casting="unsafe")
    return sums


def nearest_tokens(quantized: QuantizedScores, cells: Array, starts: Ints, counts: Ints) -> Ints:
    """Return the tokens, ascending, whose score for some query token is within NEAR of their document's best.

    Almost all maxima of exact MaxSim are among these tokens, because a stored vector differs little from its centroid.
    Every document has at least one such token. The parameters are those of `approximate_maxsim`.
    """
    tokens, n_groups = _in_groups(starts, counts)
    scores = np.take(quantized, cells.take(tokens), axis=0)  # [group, n_all_groups, n_q]
    best = _maxima(scores.max(axis=0), n_groups)  # [n_docs, n_q]
    # Bytes wrap around below 0: a best score of 3 less NEAR would become 251.
    enough = np.repeat(np.maximum(best, NEAR) - np.uint8(NEAR), n_groups, axis=0)  # [n_all_groups, n_q]
    # One bit per query token. Finding the bytes that are not 0 is much faster than `any` over so short an axis.
    bits = np.packbits(scores >= enough, axis=2)  # [group, n_all_groups, n_bytes]
    near = np.zeros(tokens.size, np.bool_)  # [group * n_all_groups]
    near[np.flatnonzero(bits) // bits.shape[2]] = True
    # [n] ascending, but the places that fill up a group repeat its last token
    found = tokens.T[near.reshape(tokens.shape).T]
    return found[np.diff(found, prepend=-1) > 0]


def _maxima(rows: Bytes, counts: Ints) -> Bytes:
    """Return the maxima of runs of rows [n_rows, n_q], which have `counts` [n_docs] rows: [n_docs, n_q]."""
    while len(rows) > len(counts):
        places, counts = _in_groups(offsets_of(counts)[:-1], counts)
        rows = np.take(rows, places, axis=0).max(axis=0)
    return rows


def _in_groups(starts: Ints, counts: Ints) -> tuple[Ints, Ints]:
    """Return the tokens of all documents in groups, [group, n_all_groups], and the number of groups of each, [n_docs].

    A group has as many tokens as a document on average, but at least 2 and at most GROUP. With groups of 2, a document
    of tokens 4 5 6 and one of tokens 9 10 give the columns (4, 5), (6, 6), (9, 10).
    """
    group = min(max(-(-int(counts.sum()) // max(len(counts), 1)), 2), GROUP)
    n_groups = -(-counts // group)  # [n_docs]
    # Group g begins at token group * g + shift, with one shift per document. In the example the shifts are 4 and 5.
    shift = starts - group * offsets_of(n_groups)[:-1]  # [n_docs]
    firsts = group * np.arange(n_groups.sum()) + np.repeat(shift, n_groups)  # [n_all_groups]
    lasts = np.repeat(starts + counts - 1, n_groups)  # [n_all_groups] the last token of each group's document
    return np.minimum(firsts + np.arange(group)[:, None], lasts), n_groups
