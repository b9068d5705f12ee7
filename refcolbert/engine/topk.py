"""The one total order: score descending, then position ascending.

`argpartition` alone would cut a group of equal scores at an arbitrary place, so everything that ties with the k-th
score is gathered before the final sort.
"""

import numpy as np
from numpy.typing import NDArray

from ..checks import check_count

__all__ = ["top_k"]


def top_k(
    scores: NDArray[np.floating | np.integer], k: int, positions: NDArray[np.int64] | None = None
) -> NDArray[np.int64]:
    """[n] scores -> [min(k, n)] indices into `scores`, best first; equal scores by `positions` (default: by index).

    Exactly the first k of a full sort by (-score, position). Scores must not be NaN.
    """
    k = check_count(k, "k")
    if positions is None:
        positions = np.arange(len(scores))
    chosen = np.arange(len(scores))
    if k < len(scores):
        kth = np.partition(scores, len(scores) - k)[len(scores) - k]
        chosen = np.flatnonzero(scores >= kth)  # all ties with the k-th
    order = np.lexsort((positions[chosen], -scores[chosen]))
    return chosen[order[:k]]
