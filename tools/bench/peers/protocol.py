"""The jobs that every engine gets, and the measurement of its answers. Needs numpy alone.

A job is a JSON file. Stage `build` indexes the corpus, stage `search` opens that index and answers all queries at every
point of a grid of parameters: one query at a time with k = 10, which is timed, then all in a batch with k = 100.
"""

import itertools
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Floats", "Job", "Many", "One", "main", "memory"]

Floats = NDArray[np.float32]
One = Callable[..., Sequence[int]]  # (query [n_q, dim], k, **point) -> numbers of documents, best first
Many = Callable[..., Sequence[Sequence[int]]]  # (queries, k, **point) -> the same for each

K, BATCH_K = 10, 100
WARM = 5  # queries before the clock starts


@dataclass(frozen=True, slots=True)
class Job:
    """Paths and parameters of one stage."""

    corpus: str  # folder of vectors.npy [n_tokens, dim], tokens.npy [n_tokens], offsets.npy [n_docs + 1]
    queries: str  # file of [n_queries, n_q, dim]
    truth: str  # file of [n_queries, 100] numbers of the best documents, for what only reranks
    index: str  # folder that the engine may fill
    nbits: int
    threads: int
    points: list[dict[str, Any]]
    out: str  # file of the results

    def write(self, path: Path) -> Path:
        """Write the job for another process."""
        path.write_text(json.dumps(asdict(self)))
        return path

    def vectors(self) -> tuple[Floats, NDArray[np.int64]]:
        """[n_tokens, dim] mapped, and [n_docs + 1] offsets."""
        return np.load(Path(self.corpus) / "vectors.npy", mmap_mode="r"), np.load(Path(self.corpus) / "offsets.npy")

    def tokens(self) -> NDArray[np.int32]:
        """[n_tokens] the vocabulary ids of the documents' tokens."""
        found: NDArray[np.int32] = np.load(Path(self.corpus) / "tokens.npy")
        return found

    def pool(self) -> tuple[NDArray[np.int64], list[Floats]]:
        """The documents that rerankers sort for every query, numbers and vectors: the ten best of all queries."""
        mapped, offsets = self.vectors()
        numbers = np.unique(np.load(self.truth)[:, :K])  # [n_pool]
        return numbers, [np.array(mapped[offsets[i] : offsets[i + 1]]) for i in numbers]

    def documents(self) -> Iterator[Floats]:
        """[n_d, dim] of each document, mapped."""
        vectors, offsets = self.vectors()
        return (vectors[first:last] for first, last in itertools.pairwise(offsets))


def main(
    build: Callable[[Job], float] | None, opened: Callable[[Job], tuple[One, Many]], package: str | None = None
) -> None:
    """Run one stage, and note the version of `package`.

    `build` returns the seconds that it took from vectors in memory; None: nothing to build.
    """
    stage, path = sys.argv[1:]
    job = Job(**json.loads(Path(path).read_text()))
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: job.threads])
    if stage == "search":
        result = _search(job, *opened(job))
    else:
        result = {"seconds": build(job) if build else None, "bytes": _size(Path(job.index))}
    noted = {"version": version(package) if package else "", "memory": memory()}
    Path(job.out).write_text(json.dumps({**result, **noted}))


def memory() -> dict[str, float]:
    """MiB of this process: the most it ever held, and what of it is private now."""
    lines = (line.split() for line in Path("/proc/self/status").read_text().splitlines())
    found = {line[0].rstrip(":"): int(line[1]) / 1024 for line in lines if line[0] in ("VmHWM:", "RssAnon:")}
    return {"peak": found["VmHWM"], "private": found["RssAnon"]}


def _search(job: Job, one: One, many: Many) -> dict[str, Any]:
    queries = np.load(job.queries)  # [n_queries, n_q, dim]
    points = []
    for point in job.points:
        for q in queries[:WARM]:
            one(q, K, **point)
        found, times = [], []
        for q in queries:
            start = time.perf_counter()
            answer = one(q, K, **point)
            times.append((time.perf_counter() - start) * 1e3)
            found.append([int(document) for document in answer])
        start = time.perf_counter()
        batch = many(queries, BATCH_K, **point)
        seconds = time.perf_counter() - start
        deep = [[int(document) for document in answer] for answer in batch]
        points.append({"point": point, "times": times, "found": found, "batch_seconds": seconds, "deep": deep})
        print(f"{point}: median {np.median(times):.1f} ms", flush=True)
    return {"points": points}


def _size(folder: Path) -> int:
    """Bytes of an index."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
