"""Our index, through its public interface."""

import time
from pathlib import Path
from typing import Any

from refcolbert import Document, Index
from tools.bench.peers.protocol import Floats, Job, Many, One, main


def build(job: Job) -> float:
    """Stream the documents into an index."""
    _, offsets = job.vectors()
    documents = [Document(id=str(i)) for i in range(len(offsets) - 1)]
    vectors = job.documents()
    path, dim = Path(job.index) / "index", next(job.documents()).shape[1]
    start = time.perf_counter()
    Index.build(path, documents, vectors=vectors, dim=dim, nbits=job.nbits, train_at=1)  # however few they are
    return time.perf_counter() - start


def opened(job: Job) -> tuple[One, Many]:
    """The index, with the parameters of a call as they are."""
    index = Index.open(Path(job.index) / "index")

    def one(q: Floats, k: int, **point: Any) -> list[int]:
        return [int(hit.id) for hit in index.search(q, k, **point)]

    def many(queries: Floats, k: int, **point: Any) -> list[list[int]]:
        return [[int(hit.id) for hit in hits] for hits in index.search_many(list(queries), k, **point)]

    return one, many


if __name__ == "__main__":
    main(build, opened)
