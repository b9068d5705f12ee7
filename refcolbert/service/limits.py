"""The limits of a service. Each one is an option of `refcolbert serve`."""

import os
from dataclasses import dataclass, field, fields
from typing import Any

from ..errors import InvalidInput

__all__ = ["LIMITS", "ServiceLimits"]

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _limit(default: float, help_text: str) -> Any:
    return field(default=default, metadata={"help": help_text})


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceLimits:
    """The limits of a service. Raises `InvalidInput` for a limit that is not positive."""

    threads: int = _limit(CORES, "Requests that are answered at the same time.")
    queue: int = _limit(64, "Requests that may wait for a thread; the next one gets 503.")
    together: int = _limit(8, "Most queries that are encoded in one batch.")
    connections: int = _limit(4096, "Most open connections; the next one is closed.")
    body_bytes: int = _limit(1 << 20, "Longest body of a request.")
    head_bytes: int = _limit(64 << 10, "Longest request line with its headers.")
    characters: int = _limit(4096, "Longest query.")
    vectors: int = _limit(256, "Most vectors in a query that is not text.")
    batch: int = _limit(64, "Most queries or texts in a request.")
    documents: int = _limit(1000, "Most documents to rerank, or ids to search among, in a request.")
    k: int = _limit(1000, "Most hits per query.")
    nprobe: int = _limit(1024, "Most cells that are probed per query token.")
    candidates: int = _limit(1 << 14, "Most documents whose vectors are scored per query.")
    read_seconds: float = _limit(10.0, "Time for the headers of a request to arrive, and again for its body.")
    idle_seconds: float = _limit(30.0, "Time that a connection may stay open without a request.")
    answer_seconds: float = _limit(30.0, "Time to compute an answer, and again for the client to read it.")
    drain_seconds: float = _limit(30.0, "Time for running requests to end after SIGTERM.")
    reload_seconds: float = _limit(1.0, "Time between two looks for a new generation of the index.")

    @property
    def inner_threads(self) -> int:
        """Threads of BLAS and ONNX Runtime inside each worker thread, so that all together use each core once."""
        return max(CORES // self.threads, 1)

    def __post_init__(self) -> None:
        for entry in fields(self):
            value = getattr(self, entry.name)
            types = (int,) if entry.type is int else (int, float)
            if type(value) not in types or not 0 < value < 2**31:
                kind = "an integer" if entry.type is int else "a number"
                raise InvalidInput(f"the limit {entry.name} must be {kind} above 0 and below 2**31, found {value!r}")


LIMITS = {entry.name: entry.metadata["help"] for entry in fields(ServiceLimits)}
