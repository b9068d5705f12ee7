"""What the service lets a client ask for, and how long it waits: each entry is a flag of `refcolbert serve`."""

from dataclasses import dataclass, fields

from ..errors import InvalidInput

__all__ = ["HELP", "ServiceLimits"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceLimits:
    """The limits of a service. Raises `InvalidInput` for one that is not positive."""

    body_bytes: int = 1 << 20
    head_bytes: int = 64 << 10
    characters: int = 4096
    batch: int = 64
    documents: int = 1000
    k: int = 1000
    nprobe: int = 1024
    candidates: int = 16384
    threads: int = 2
    queue: int = 64
    connections: int = 4096
    read_seconds: float = 10.0
    idle_seconds: float = 30.0
    answer_seconds: float = 30.0
    drain_seconds: float = 30.0
    reload_seconds: float = 1.0

    def __post_init__(self) -> None:
        for entry in fields(self):
            value = getattr(self, entry.name)
            if not 0 < value < 2**31:
                raise InvalidInput(f"the limit {entry.name} must be above 0 and below 2**31, found {value!r}")


HELP = {
    "body_bytes": "Longest request body.",
    "head_bytes": "Longest request line with headers.",
    "characters": "Longest query.",
    "batch": "Most queries or texts in one request.",
    "documents": "Most documents to rerank in one request.",
    "k": "Most hits for one query.",
    "nprobe": "Most cells to probe for a query token.",
    "candidates": "Most documents to rank for a query.",
    "threads": "Searches that run at a time.",
    "queue": "Requests that may wait for a thread; the next one gets 503.",
    "connections": "Most open connections; the next one is closed.",
    "read_seconds": "Time for a request to arrive whole.",
    "idle_seconds": "How long a connection may stay open without a request.",
    "answer_seconds": "Time for an answer.",
    "drain_seconds": "Time for running requests to end after SIGTERM.",
    "reload_seconds": "How often to look for a new generation of the index.",
}
