"""Scores of Stanford's colbert-ai on a CPU: `colbert_score` with its padding and mask."""

from collections.abc import Sequence

import numpy as np
import torch
from colbert.modeling.colbert import colbert_score
from numpy.typing import NDArray

Floats = NDArray[np.float32]


def maxsim(q: Floats, d: Floats) -> float:
    """Nothing masked."""
    return maxsim_masked(q, d, [True] * len(d))


def maxsim_masked(q: Floats, d: Floats, mask: Sequence[bool]) -> float:
    """The mask as the documents of a batch have it."""
    return float(colbert_score(torch.tensor(q)[None], torch.tensor(d)[None], torch.tensor(mask)[None, :, None])[0])


def scores(q: Floats, documents: Sequence[Floats]) -> list[float]:
    """Padded with zeros to the longest, masked."""
    padded = torch.nn.utils.rnn.pad_sequence([torch.tensor(d) for d in documents], batch_first=True)
    lengths = torch.tensor([len(d) for d in documents])
    mask = torch.arange(padded.shape[1])[None] < lengths[:, None]
    found: list[float] = colbert_score(torch.tensor(q)[None], padded, mask[:, :, None]).tolist()
    return found
