"""xtr-warp-rs: WARP in Rust over libtorch."""

import time
from typing import Any

import numpy as np
import torch
from xtr_warp import XTRWarp

from tools.bench.peers.protocol import Floats, Job, Many, One, main


def build(job: Job) -> float:
    """Index tensors that are in memory."""
    documents = [torch.from_numpy(np.array(document)) for document in job.documents()]
    index = XTRWarp(job.index)
    start = time.perf_counter()
    index.create(documents, device="cpu", nbits=job.nbits, show_progress=False)
    return time.perf_counter() - start


def opened(job: Job) -> tuple[One, Many]:
    """The index as its own default opens it; a point may name the number of threads."""
    index = XTRWarp(job.index).load("cpu")

    def one(q: Floats, k: int, **point: Any) -> list[int]:
        return many(q[None], k, **point)[0]

    def many(queries: Floats, k: int, **point: Any) -> list[list[int]]:
        given = torch.from_numpy(np.ascontiguousarray(queries))
        found = index.search(given, top_k=k, show_progress=False, **point)
        return [[document for document, _ in answer] for answer in found]

    return one, many


if __name__ == "__main__":
    main(build, opened, "xtr-warp-rs")
