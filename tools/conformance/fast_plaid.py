"""fast-plaid: an index of 4 bits at its defaults, searched with every cell probed, and the vectors that it reports."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from fast_plaid.search import FastPlaid
from numpy.typing import NDArray

Floats = NDArray[np.float32]


def held(documents: Sequence[Floats], q: Floats, k: int) -> tuple[list[tuple[int, float]], list[Floats]]:
    """`create`, `search`, `get_embeddings`."""
    with tempfile.TemporaryDirectory() as scratch:
        index = FastPlaid(scratch, device="cpu")
        index.create([torch.tensor(d) for d in documents], nbits=4)
        cells = len(np.load(Path(scratch) / "centroids.npy"))  # to probe more than there are is a panic
        given = torch.tensor(q)[None]
        (found,) = index.search(given, top_k=k, n_ivf_probe=cells, n_full_scores=1 << 12, show_progress=False)
        kept = [np.asarray(e.float()) for e in index.get_embeddings(list(range(len(documents))))]
    return [(int(i), float(score)) for i, score in found], kept
