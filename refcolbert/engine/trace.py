"""The trace of one search: for each stage, the amount it read, the amount it kept, and its time."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

__all__ = ["Stage", "Trace"]


@dataclass(slots=True)
class Stage:
    """One stage of one search.

    `read` and `count` are the numbers of

        stage       read                         count

        centroids   centroids                    centroids
        cells       centroids                    probed cells
        candidates  entries of inverted lists    documents
        prune       tokens                       documents
        refine      nearest tokens               documents
        rank        tokens                       documents that are ranked
        words       entries of lists of terms    documents, by BM25

    A stage that has nothing to do, because few documents are left, has `read` 0.
    """

    name: str
    read: int = 0
    count: int = 0
    milliseconds: float = 0.0


@dataclass(slots=True)
class Trace:
    """The stages of one search, in the order in which they ran."""

    stages: list[Stage] = field(default_factory=list)

    @contextmanager
    def stage(self, name: str) -> Iterator[Stage]:
        """Time a stage. The stage itself fills in `read` and `count`."""
        stage = Stage(name)
        start = time.perf_counter()
        yield stage
        stage.milliseconds = (time.perf_counter() - start) * 1e3
        self.stages.append(stage)
