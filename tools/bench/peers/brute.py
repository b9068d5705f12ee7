"""Brute force: exact MaxSim with every document, in float32 NumPy."""

from collections.abc import Sequence

import numpy as np

from tools.bench.peers.protocol import Floats, Job, Many, One, main


def opened(job: Job) -> tuple[One, Many]:
    """All vectors in memory."""
    mapped, offsets = job.vectors()
    vectors = np.array(mapped)  # [n_tokens, dim]

    def one(q: Floats, k: int) -> Sequence[int]:
        similarities = q @ vectors.T  # [n_q, n_tokens]
        scores = np.maximum.reduceat(similarities, offsets[:-1], axis=1).sum(axis=0, dtype=np.float64)  # [n_docs]
        near = np.argpartition(-scores, k)[:k] if k < len(scores) else np.arange(len(scores))
        order: list[int] = near[np.lexsort((near, -scores[near]))].tolist()
        return order

    return one, lambda queries, k: [one(q, k) for q in queries]


if __name__ == "__main__":
    main(None, opened)
