"""tachiom: k-means for each token id, HNSW over its centroids, product quantization to 32 bytes, in Rust."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import tachiom

from tools.bench.peers.protocol import Floats, Job, Many, One, main

NONE = 2**32 - 1  # in place of documents that it did not find


def build(job: Job) -> float:
    """Index arrays that are in memory. It stores 32 bytes per token, whatever `nbits` says."""
    mapped, offsets = job.vectors()
    vectors, tokens = np.array(mapped), job.tokens().astype(np.uint32)  # [n_tokens, dim], [n_tokens]
    start = time.perf_counter()
    halves = vectors.astype(np.float16).view(np.uint16)  # [n_tokens, dim]
    index = tachiom.Tachiom.build_from_arrays(halves, tokens, np.diff(offsets).astype(np.int32))
    index.save(str(Path(job.index) / "index"))
    return time.perf_counter() - start


def opened(job: Job) -> tuple[One, Many]:
    """The index; a query takes one thread, a batch as many as the job has."""
    index = tachiom.Tachiom.load(str(Path(job.index) / "index"))

    def one(q: Floats, k: int, **point: Any) -> list[int]:
        return _found(index.search(np.ascontiguousarray(q), k, **point)[1])

    def many(queries: Floats, k: int, **point: Any) -> list[list[int]]:
        rows = np.ascontiguousarray(queries).reshape(-1, queries.shape[2])  # [n_queries * n_q, dim]
        _, found = index.batch_search(rows, len(queries), k, num_threads=job.threads, **point)  # [n_queries, k]
        return [_found(answer) for answer in found]

    return one, many


def _found(answer: Any) -> list[int]:
    return [int(number) for number in answer if number != NONE]


if __name__ == "__main__":
    main(build, opened, "tachiom")
