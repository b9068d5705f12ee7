"""PyLate's scores: `colbert_scores`, its mask, and `rank.rerank`, which pads without one."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pylate import rank
from pylate.scores import colbert_scores

Floats = NDArray[np.float32]


def maxsim(q: Floats, d: Floats) -> float:
    """A batch of one by one."""
    return float(colbert_scores(torch.tensor(q)[None], torch.tensor(d)[None])[0, 0])


def maxsim_masked(q: Floats, d: Floats, mask: Sequence[bool]) -> float:
    """`documents_mask`."""
    given: Any = torch.tensor(mask)[None].float()
    return float(colbert_scores(torch.tensor(q)[None], torch.tensor(d)[None], documents_mask=given)[0, 0])


def scores(q: Floats, documents: Sequence[Floats]) -> list[float]:
    """`rerank` pads what it is given and sorts; the scores in the order of the documents."""
    (found,) = rank.rerank([list(range(len(documents)))], [torch.tensor(q)], [[torch.tensor(d) for d in documents]])
    by_id = {hit["id"]: float(hit["score"]) for hit in found}
    return [by_id[i] for i in range(len(documents))]
