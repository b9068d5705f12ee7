"""Threads that answer, and the bounded queue before them.

NumPy and ONNX Runtime release the interpreter's lock, so a few threads use all cores. A thread that becomes free takes
its share of the queries that wait and encodes them together: a matrix product of many rows costs less for each. Nobody
waits for a batch to fill.
"""

import asyncio
import logging
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

    def goes_with(self, other: "_Job") -> bool:
        """Whether the queries of both may be encoded together."""
        return self._has_words and other._has_words and self.call.served is other.call.served

    @property
    def _has_words(self) -> bool:
        return self.endpoint.together and isinstance(self.call.asked["query"], str)


class Workers:
    """`limits.threads` threads. Made and closed in one event loop."""

    def __init__(self, limits: ServiceLimits) -> None:
        self._limits = limits
        self._waiting: deque[_Job] = deque()
        self._changed = threading.Condition()
        self._open = True
        self._threads = [  # daemons: a second SIGINT ends the process though they still work
            threading.Thread(target=self._work, name=f"answer-{i}", daemon=True) for i in range(limits.threads)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def waiting(self) -> int:
        """Requests that no thread has taken yet."""
        return len(self._waiting)

    async def answer(self, endpoint: Endpoint, call: Call) -> bytes:
        """The answer as JSON. Raises `Refusal` when too many wait or it takes too long, and what the endpoint raises.

        Cancelled before a thread has taken it, it is never computed.
        """
        job = _Job(endpoint, call)
        with self._changed:
            if len(self._waiting) >= self._limits.queue:
                raise Refusal("busy", headers={"retry-after": "1"})
            self._waiting.append(job)
            self._changed.notify()
        try:
            return await asyncio.wait_for(asyncio.wrap_future(job.answer), self._limits.answer_seconds)
        except TimeoutError:
            raise Refusal("timeout", headers={"retry-after": "1"}) from None
        finally:
            self._forget(job)

    def _forget(self, job: _Job) -> None:
        """Let what was given up no longer take a place in the queue."""
        if job.answer.cancelled():
            with self._changed, suppress(ValueError):
                self._waiting.remove(job)

    def close(self) -> None:
        """Answer what waits, then end the threads."""
        with self._changed:
            self._open = False
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while jobs := self._take():
            started = [job for job in jobs if job.answer.set_running_or_notify_cancel()]
            if len(started) > 1:
                _prepare([job.call for job in started])
            for job in started:
                _run(job)

    def _take(self) -> list[_Job]:
        """The job that waits longest and those behind it that go with it, a fair share; none when all is done."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or not self._open)
            share = min(-(-len(self._waiting) // len(self._threads)), self._limits.together)
            jobs: list[_Job] = []
            while self._waiting and len(jobs) < max(share, 1):
                if jobs and not jobs[0].goes_with(self._waiting[0]):
                    break
                jobs.append(self._waiting.popleft())
            return jobs


def _prepare(calls: list[Call]) -> None:
    """Encode the queries of several calls together. What cannot be encoded is left to fail alone."""
    try:
        encode_together(calls)
    except Exception:
        log.debug("queries that cannot be encoded together are encoded one by one", exc_info=True)


def _run(job: _Job) -> None:
    try:
        answer = to_json(job.endpoint.answer(job.call))
    except BaseException as error:  # noqa: BLE001 - it belongs to whoever awaits the answer
        job.answer.set_exception(error)
    else:
        job.answer.set_result(answer)
