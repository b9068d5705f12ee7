"""Scores of Sentence-Transformers 6: `util.similarity.maxsim`."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from sentence_transformers.util.similarity import maxsim as _maxsim

Floats = NDArray[np.float32]


def maxsim(q: Floats, d: Floats) -> float:
    """A batch of one by one."""
    return float(_maxsim([torch.tensor(q)], [torch.tensor(d)])[0, 0])


def maxsim_masked(q: Floats, d: Floats, mask: Sequence[bool]) -> float:
    """`b_mask`."""
    return float(_maxsim(torch.tensor(q)[None], torch.tensor(d)[None], b_mask=torch.tensor(mask)[None])[0, 0])


def scores(q: Floats, documents: Sequence[Floats]) -> list[float]:
    """A list of any lengths."""
    found: list[float] = _maxsim([torch.tensor(q)], [torch.tensor(d) for d in documents])[0].tolist()
    return found
