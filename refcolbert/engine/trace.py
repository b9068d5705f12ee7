"""The trace of one search: for each stage, how much it read, how much came out, how long it took."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

__all__ = ["Stage", "Trace"]


@dataclass(slots=True)
class Stage:
    """One stage of one search.

    `read` counts centroids, cells, entries of inverted lists, or tokens, whichever the stage goes through; refining
    counts the nearest tokens alone. `count` is the number of things, mostly documents, that the stage leaves.
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
