"""maxsim-cpu: `maxsim_scores_variable`, which takes documents of any lengths."""

from collections.abc import Sequence

import maxsim_cpu
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


def maxsim(q: Floats, d: Floats) -> float:
    """A list of one document."""
    return scores(q, [d])[0]


def scores(q: Floats, documents: Sequence[Floats]) -> list[float]:
    """Contiguous float32, as it asks for."""
    given = [np.ascontiguousarray(d, np.float32) for d in documents]
    found: list[float] = np.asarray(
        maxsim_cpu.maxsim_scores_variable(np.ascontiguousarray(q, np.float32), given)
    ).tolist()
    return found
