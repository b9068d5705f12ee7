"""Threads that answer requests, and their bounded queue.

NumPy and ONNX Runtime release the GIL, so a few threads use all cores. A free thread takes its share of the waiting
queries and encodes them in one batch, which costs less per query. No query waits for a batch to fill.
"""

import asyncio
import logging
import math
import threading
from collections import deque
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field

from .endpoints import Call, Endpoint, encode_together
from .http_errors import Refusal
from .limits import ServiceLimits
from .requests import to_json

__all__ = ["Workers"]

log = logging.getLogger("refcolbert.service")


@dataclass(slots=True, eq=False)
class _Job:
    endpoint: Endpoint
    call: Call
    answer: "Future[bytes]" = field(default_factory=Future)

    def batches_with(self, other: "_Job") -> bool:
        """True if the queries of both may be encoded together: both are texts for the same generation."""
        return self._encodes_text() and other._encodes_text() and self.call.served is other.call.served

    def _encodes_text(self) -> bool:
        call = self.call
        return self.endpoint.batched and call.needs_vectors and isinstance(call.fields["query"], str)


class Workers:
    """`limits.threads` threads. They start and are closed in one event loop."""

    def __init__(self, limits: ServiceLimits) -> None:
        self._limits = limits
        self._waiting: deque[_Job] = deque()
        self._changed = threading.Condition()
        self._open = True
        # Daemons, so that a second SIGINT ends the process while they work.
        self._threads = [
            threading.Thread(target=self._work, name=f"answer-{i}", daemon=True) for i in range(limits.threads)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def waiting(self) -> int:
        """The number of requests that no thread has taken yet."""
        return len(self._waiting)

    async def answer(self, endpoint: Endpoint, call: Call) -> bytes:
        """The answer as JSON. It is never computed if this is cancelled before a thread has taken the job.

        Raises `Refusal` if too many requests wait or the answer takes too long, and the errors of the endpoint.
        """
        # A router waits for its parts only so long.
        seconds = min(self._limits.answer_seconds, call.fields.get("seconds", math.inf))
        job = _Job(endpoint, call)
        with self._changed:
            if len(self._waiting) >= self._limits.queue:
                raise Refusal("busy", headers={"retry-after": "1"})
            self._waiting.append(job)
            self._changed.notify()
        try:
            return await asyncio.wait_for(asyncio.wrap_future(job.answer), seconds)
        except TimeoutError:
            raise Refusal("timeout", headers={"retry-after": "1"}) from None
        finally:
            # A cancelled job must not keep its place in the queue.
            if job.answer.cancelled():
                with self._changed, suppress(ValueError):
                    self._waiting.remove(job)

    def close(self) -> None:
        """Answer the waiting requests, then end the threads."""
        with self._changed:
            self._open = False
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while jobs := self._take():
            started = [job for job in jobs if job.answer.set_running_or_notify_cancel()]
            if len(started) > 1:
                _encode([job.call for job in started])
            for job in started:
                _run(job)

    def _take(self) -> list[_Job]:
        """The oldest job and those behind it that batch with it, at most a fair share; none after `close`."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or not self._open)
            share = min(-(-len(self._waiting) // len(self._threads)), self._limits.together)
            jobs: list[_Job] = []
            while self._waiting and len(jobs) < max(share, 1):
                if jobs and not jobs[0].batches_with(self._waiting[0]):
                    break
                jobs.append(self._waiting.popleft())
            return jobs


def _encode(calls: list[Call]) -> None:
    """Encode the queries of several calls together. After an error each call encodes its own query."""
    try:
        encode_together(calls)
    except Exception:
        log.debug("the queries of a batch are encoded one by one", exc_info=True)


def _run(job: _Job) -> None:
    try:
        answer = to_json(job.endpoint.answer(job.call))
    except BaseException as error:  # noqa: BLE001 - it is raised where the answer is awaited
        job.answer.set_exception(error)
    else:
        job.answer.set_result(answer)
