"""The order of results: score descending, then position ascending. It is total, so there is one right answer."""

import numpy as np
from numpy.typing import NDArray

from ..arrays import Ints
from ..checks import check_count

__all__ = ["top_k"]


def top_k(scores: NDArray[np.floating | np.integer], k: int, positions: Ints | None = None) -> Ints:
    """Return the indices of the k best scores, best first: [min(k, n)].

    These are exactly the first k of a full sort by (-score, position).

    scores     [n], never NaN
    k          at least 1
    positions  [n], decide between equal scores; default: the index

    >>> top_k(np.array([1.0, 3.0, 3.0, 2.0]), 2)
    array([1, 2])
    >>> top_k(np.array([1.0, 3.0, 3.0, 2.0]), 2, np.array([7, 9, 8, 6]))
    array([2, 1])
    """
    k = check_count(k, "k")
    if positions is None:
        positions = np.arange(len(scores))
    chosen = np.arange(len(scores))
    if k < len(scores):
        # A partition alone would cut a group of equal scores at an arbitrary place. So every score that equals the k-th
        # stays until the sort.
        kth = np.partition(scores, len(scores) - k)[len(scores) - k]
        chosen = np.flatnonzero(scores >= kth)
    order = np.lexsort((positions[chosen], -scores[chosen]))
    return chosen[order[:k]]
