"""Centroid interaction: MaxSim with each document token replaced by its centroid (PLAID, section 4.2), in bytes.

A search computes the similarity of every query token with every centroid once. Rounded to one byte each, these
similarities are a table [n_centroids, n_q] that stays in the processor's cache, and one row of it scores one document
token against all query tokens. Candidate documents are chosen by sums of such bytes; stored vectors are read later.

A worked example, two query tokens and three centroids:

    similarities          quantized (largest .9 becomes 255)
    c_0   .9  .1          255   28
    c_1   .2  .3           56   85
    c_2  -.1  .8            0  226

A document with tokens in cells 0 and 1 scores max(255, 56) + max(28, 85) = 340, which is .9 + .3 = 1.2 times 255 / .9,
less what was cut off.

NumPy computes a maximum over many short rows slowly when it goes row by row, and fast when it compares whole arrays. So
the tokens of each document are taken in groups of GROUP, a document's last group filled up with its last token, and
first tokens are compared with second tokens, and so on, for all groups in one call.
"""

import numpy as np

from ..arrays import Array, Bytes, Floats, Ints
from .ragged import offsets_of

__all__ = ["NEAR", "QuantizedScores", "approximate_maxsim", "nearest_tokens", "quantize_scores"]

QuantizedScores = Bytes  # [n_centroids, n_q]

LARGEST = 255
NEAR = 8  # steps of 1 / 255: a token that far below the best one of its document still counts as nearest
GROUP = 8  # tokens of a document compared at a time


def quantize_scores(similarities: Floats) -> QuantizedScores:
    """Return similarities [n_centroids, n_q] in steps of largest / 255, cut down. Negative ones become 0.

    The largest one is over all query tokens, so that sums over query tokens keep their order.
    """
    largest = max(float(similarities.max()), 1e-30)
    return (np.maximum(similarities, 0) * np.float32(LARGEST / largest)).astype(np.uint8)


def approximate_maxsim(
    quantized: QuantizedScores,  # [n_centroids, n_q]
    cells: Array,  # [n_tokens] the cell of each token
    starts: Ints,  # [n_docs] each document's first token
    counts: Ints,  # [n_docs] its number of tokens, at least 1
) -> Ints:
    """Return [n_docs] the sum over query tokens of the best quantized score among cells[start : start + count]."""
    tokens, n_groups = _in_groups(starts, counts)  # [GROUP, n_all_groups], [n_docs]
    best_of_groups = np.take(quantized, cells[tokens], axis=0).max(axis=0)  # [n_all_groups, n_q]
    best = np.maximum.reduceat(best_of_groups, offsets_of(n_groups)[:-1], axis=0)  # [n_docs, n_q]
    sums: Ints = best.sum(axis=1, dtype=np.int64)
    return sums


def nearest_tokens(quantized: QuantizedScores, cells: Array, starts: Ints, counts: Ints) -> Ints:
    """Return the tokens, ascending, whose score for some query token is within NEAR of their document's best.

    These hold almost all the maxima of exact MaxSim: a stored vector differs from its centroid by little. Every
    document has at least one such token. The arguments are those of `approximate_maxsim`.
    """
    tokens, n_groups = _in_groups(starts, counts)
    scores = np.take(quantized, cells[tokens], axis=0)  # [GROUP, n_all_groups, n_q]
    best = np.maximum.reduceat(scores.max(axis=0), offsets_of(n_groups)[:-1], axis=0)  # [n_docs, n_q]
    # Bytes do not go below 0: subtracting NEAR from a smaller best would wrap around to 250 and more.
    enough = np.repeat(np.maximum(best, NEAR) - np.uint8(NEAR), n_groups, axis=0)  # [n_all_groups, n_q]
    hits = np.flatnonzero(scores >= enough) // quantized.shape[1]  # a token is hit once per query token it is near to
    place, group = np.divmod(hits, len(enough))
    near = np.zeros(tokens.shape[::-1], np.bool_)  # [n_all_groups, GROUP]
    near[group, place] = True
    found = tokens.T[near]  # ascending, but the filled places of a group repeat its last token
    return found[np.diff(found, prepend=-1) > 0]


def _in_groups(starts: Ints, counts: Ints) -> tuple[Ints, Ints]:
    """Return the tokens of all documents in groups, [GROUP, n_all_groups], and how many groups each has, [n_docs].

    With GROUP 2, a document of tokens 4 5 6 and one of tokens 9 10 give the groups (4, 5), (6, 6), (9, 10).
    """
    n_groups = -(-counts // GROUP)  # [n_docs]
    shift = starts - GROUP * offsets_of(n_groups)[:-1]  # [n_docs] from GROUP x the group's number to its first token
    firsts = GROUP * np.arange(n_groups.sum()) + np.repeat(shift, n_groups)  # [n_all_groups]
    lasts = np.repeat(starts + counts - 1, n_groups)  # [n_all_groups] the last token of each group's document
    return np.minimum(firsts + np.arange(GROUP)[:, None], lasts), n_groups
