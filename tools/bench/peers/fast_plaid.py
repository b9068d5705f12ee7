"""fast-plaid: PLAID in Rust over libtorch."""

import time
from typing import Any

import numpy as np
import torch
from fast_plaid import search

from tools.bench.peers.protocol import Floats, Job, Many, One, main


def build(job: Job) -> float:
    """Index tensors that are in memory."""
    documents = [torch.from_numpy(np.array(document)) for document in job.documents()]
    index = search.FastPlaid(job.index, device="cpu")
    start = time.perf_counter()
    index.create(documents, nbits=job.nbits)
    return time.perf_counter() - start


def opened(job: Job) -> tuple[One, Many]:
    """The index as its own default opens it."""
    index = search.FastPlaid(job.index, device="cpu")

    def one(q: Floats, k: int, **point: Any) -> list[int]:
        return many(q[None], k, n_processes=1, **point)[0]

    def many(queries: Floats, k: int, n_processes: int = job.threads, **point: Any) -> list[list[int]]:
        given = torch.from_numpy(np.ascontiguousarray(queries))
        # Its processes are threads, each with torch threads of its own.
        torch.set_num_threads(job.threads if n_processes == 1 else 1)
        found = index.search(given, top_k=k, show_progress=False, n_processes=n_processes, **point)
        return [[document for document, _ in answer] for answer in found]

    return one, many


if __name__ == "__main__":
    main(build, opened, "fast-plaid")
