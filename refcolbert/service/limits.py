"""What the service lets a client ask for, and how long it waits: each entry is a flag of `refcolbert serve`."""

import os
from dataclasses import dataclass, fields

from ..errors import InvalidInput

__all__ = ["LIMITS", "ServiceLimits"]

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceLimits:
    """The limits of a service. Raises `InvalidInput` for one that is not positive."""

    threads: int = CORES
    queue: int = 64
    together: int = 8
    connections: int = 4096
    body_bytes: int = 1 << 20
    head_bytes: int = 64 << 10
    characters: int = 4096
    vectors: int = 256
    batch: int = 64
    documents: int = 1000
    k: int = 1000
    nprobe: int = 1024
    candidates: int = 1 << 14
    read_seconds: float = 10.0
    idle_seconds: float = 30.0
    answer_seconds: float = 30.0
    drain_seconds: float = 30.0
    reload_seconds: float = 1.0

    @property
    def inner_threads(self) -> int:
        """Threads of BLAS and ONNX Runtime inside one of ours: all together are as many as there are cores."""
        return max(CORES // self.threads, 1)

    def __post_init__(self) -> None:
        for entry in fields(self):
            value = getattr(self, entry.name)
            whole = entry.type is int
            if type(value) not in ((int,) if whole else (int, float)) or not 0 < value < 2**31:
                kind = "an integer" if whole else "a number"
                raise InvalidInput(f"the limit {entry.name} must be {kind} above 0 and below 2**31, found {value!r}")


LIMITS = {
    "threads": "Requests that are answered at a time.",
    "queue": "Requests that may wait for that; the next one gets 503.",
    "together": "Most queries that are encoded together.",
    "connections": "Most open connections; the next one is closed.",
    "body_bytes": "Longest body of a request.",
    "head_bytes": "Longest request line with its headers.",
    "characters": "Longest query.",
    "vectors": "Most vectors of a query that is no text.",
    "batch": "Most queries or texts in a request.",
    "documents": "Most documents to rerank, or ids to search among, in a request.",
    "k": "Most hits for a query.",
    "nprobe": "Most cells probed for a query token.",
    "candidates": "Most documents whose vectors a query looks at.",
    "read_seconds": "How long a request may take to arrive whole.",
    "idle_seconds": "How long a connection may stay open without a request.",
    "answer_seconds": "How long an answer may take, and its way to the client.",
    "drain_seconds": "How long running requests may take to end after SIGTERM.",
    "reload_seconds": "How often to look for a new generation of the index.",
}
