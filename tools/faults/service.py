"""Damaged requests and crowds at the service: no 500, no hang, no growth of memory.

    python -m tools.faults.service [--requests 10000] [--connections 1000] [--seed 0]

First sound requests to every endpoint are damaged and sent: values in the JSON, fields, bytes of the body, bytes of the
whole request. Each must be answered with a status that a client can earn, or its connection closed, within its time.
Then many connections are open at the same time, and each sends several requests. The memory of the process is measured
after a third of each part and at its end.
"""

import asyncio
import json
import re
import resource
import socket
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click
import numpy as np

from refcolbert import Encoder, Index
from tools import ROOT
from tools.bench.serve import served

from .fuzz import change_bytes, change_json

__all__ = ["Answers", "crowd", "damaged", "fuzz", "resident"]

EARNED = frozenset({200, 400, 401, 404, 405, 408, 411, 413, 414, 415, 431, 501, 503})
CLOSED = 0  # the status of a connection that was closed without an answer
PATIENCE = 20.0  # seconds for an answer before it counts as a hang
GROWTH = 0.05
CLIENTS, ASKS = 8, 5
OPTIONS = ("--read-seconds", "1", "--max-queue", "2000")
MODEL = ROOT / "tests" / "models" / "tiny"
Rng = np.random.Generator
SOUND: tuple[tuple[str, dict[str, Any]], ...] = (
    (
        "/search",
        {"query": "a date", "k": 3, "where": {"$or": [{"n": {"$gte": 2}}, {"$not": {"n": 1}}]}, "ids": ["1", "2"]},
    ),
    ("/search", {"query": [[0.25] * 16, [-0.5] * 16], "nprobe": 3, "candidates": 9, "exact": True}),
    ("/search_many", {"queries": ["a date", "a wing"], "k": 2}),
    ("/explain", {"query": "a date", "id": "3", "matrix": True}),
    ("/rerank", {"query": "a date", "documents": ["one", {"text": "two"}], "top_n": 1, "return_documents": True}),
    ("/encode", {"texts": ["one", "two words"], "kind": "query", "encoding_format": "base64"}),
)
URLS = (
    b"/search?q=a+date&k=3&where=%7B%22n%22%3A1%7D&exact=true&nprobe=2&candidates=5",
    b"/search?query=%E4%B8%AD&ids=%5B%221%22%5D",
    b"/info",
    b"/metrics",
    b"/static/index.html",
    b"/openapi.json",
)


@dataclass(slots=True)
class Answers:
    """Statuses, findings, the slowest answer and the memory of a run."""

    statuses: Counter[int] = field(default_factory=Counter)
    bad: list[str] = field(default_factory=list)
    slowest: float = 0.0
    memory: list[int] = field(default_factory=list)  # bytes resident after a third, and at the end

    @property
    def growth(self) -> float:
        """Growth of memory between the first third and the end, as a share."""
        return self.memory[-1] / self.memory[0] - 1

    def note(self, status: int, seconds: float, what: str) -> None:
        """One answer."""
        self.statuses[status] += 1
        self.slowest = max(self.slowest, seconds)
        if status not in EARNED and status != CLOSED:
            self.bad.append(f"{status}: {what}")


def damaged(rng: Rng) -> bytes:
    """A request of which something is not as it should be; now and then nothing is wrong with it."""
    if rng.random() < 0.2:
        target = URLS[int(rng.integers(len(URLS)))]
        head = (
            b"GET "
            + (change_bytes(target, rng) if rng.random() < 0.7 else target)
            + b" HTTP/1.1\r\nHost: localhost\r\n\r\n"
        )
        return change_bytes(head, rng) if rng.random() < 0.3 else head
    path, sound = SOUND[int(rng.integers(len(SOUND)))]
    value = json.loads(json.dumps(sound))
    for _ in range(int(rng.integers(0, 5))):
        value = change_json(value, rng) if isinstance(value, dict | list) else value
    body = json.dumps(value, ensure_ascii=rng.random() < 0.5).encode(errors="surrogatepass")
    body = change_bytes(body, rng) if rng.random() < 0.2 else body
    kind = b"Host: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
    request = b"POST " + path.encode() + b" HTTP/1.1\r\n" + kind + body
    return change_bytes(request, rng) if rng.random() < 0.1 else request


def fuzz(url: str, pid: int, requests: int, seed: int = 0) -> Answers:
    """Send damaged requests, each on a connection of its own."""
    answers, rng = Answers(), np.random.default_rng(seed)
    place = (urlsplit(url).hostname or "", urlsplit(url).port or 0)
    with ThreadPoolExecutor(CLIENTS) as pool:
        for share in (requests - 2 * requests // 3, 2 * requests // 3):
            sent = [damaged(rng) for _ in range(share)]
            for request, (status, seconds) in zip(sent, pool.map(lambda one: _ask(place, one), sent), strict=True):
                answers.note(status, seconds, repr(request[:300]))
            answers.memory.append(resident(pid))
    return answers


def _ask(place: tuple[str, int], request: bytes) -> tuple[int, float]:
    """The status of the first answer, -1 for none in time, and how long it took."""
    start = time.perf_counter()
    with socket.create_connection(place, timeout=PATIENCE) as connection:
        try:
            connection.sendall(request)
            answer = HTTPResponse(connection)
            answer.begin()
            answer.read()
            status = answer.status
        except TimeoutError:
            status = -1
        except (OSError, HTTPException):
            status = CLOSED
    return status, time.perf_counter() - start


def crowd(url: str, pid: int, connections: int) -> Answers:
    """Open the connections, then let all of them ask at the same time, several times."""
    return asyncio.run(_crowd(urlsplit(url).hostname or "", urlsplit(url).port or 0, pid, connections))


async def _crowd(host: str, port: int, pid: int, connections: int) -> Answers:
    answers = Answers()
    streams = [await asyncio.open_connection(host, port) for _ in range(connections)]
    for turn in range(ASKS):
        for status, seconds in await asyncio.gather(*[_turn(*stream, turn, i) for i, stream in enumerate(streams)]):
            answers.note(status if status == 200 else -1, seconds, f"turn {turn}: {status}")
        if turn in (ASKS // 3, ASKS - 1):
            answers.memory.append(resident(pid))
    for _, writer in streams:
        writer.close()
    return answers


async def _turn(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, turn: int, i: int) -> tuple[int, float]:
    start = time.perf_counter()
    try:
        async with asyncio.timeout(3 * PATIENCE):
            writer.write(b"GET /search?q=date+%d+of+%d HTTP/1.1\r\nHost: localhost\r\n\r\n" % (turn, i))
            head = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"content-length: (\d+)", head)
            await reader.readexactly(int(length[1]) if length else 0)
            status = int(head.split()[1])
    except (TimeoutError, OSError, asyncio.IncompleteReadError):
        status = -1
    return status, time.perf_counter() - start


def resident(pid: int) -> int:
    """Bytes of memory that a process holds."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize()


@contextmanager
def small_service(*options: str) -> Iterator[tuple[str, int, Path]]:
    """A service of ten documents: as `served`."""
    with tempfile.TemporaryDirectory() as folder:
        with Index.create(Path(folder) / "index", Encoder.load(MODEL)) as index:
            index.add([{"id": str(i), "text": f"the date of document {i}", "metadata": {"n": i}} for i in range(10)])
        with served(Path(folder) / "index", *options) as service:
            yield service


@click.command()
@click.option("--requests", default=10_000, show_default=True)
@click.option("--connections", default=1000, show_default=True)
@click.option("--seed", default=0, show_default=True)
def main(requests: int, connections: int, seed: int) -> None:
    """Run both and print what came of them."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(2 * connections + 200, limit[1]), limit[1]))
    with small_service(*OPTIONS) as (url, pid, said):
        bad = [_report(f"{requests:,} damaged requests", fuzz(url, pid, requests, seed))]
        bad.append(_report(f"{connections:,} connections, {ASKS} requests each", crowd(url, pid, connections)))
        traces = said.read_text().count("Traceback")
    print(f"tracebacks in the log: {traces}")
    raise SystemExit(any(bad) or traces > 0)


def _report(what: str, answers: Answers) -> bool:
    """Print it; whether something is wrong."""
    statuses = ", ".join(f"{status or 'closed'}: {count:,}" for status, count in sorted(answers.statuses.items()))
    memory = f"{answers.memory[0] / 2**20:.0f} -> {answers.memory[-1] / 2**20:.0f} MiB ({answers.growth:+.1%})"
    print(f"{what}: {len(answers.bad)} bad; {statuses}; slowest {answers.slowest:.2f} s; memory {memory}")
    for bad in answers.bad[:10]:
        print(f"  {bad}")
    return bool(answers.bad) or answers.growth > GROWTH


if __name__ == "__main__":
    main()
