"""HttpPart: a part of a collection that one service answers, or any of several replicas of it.

A request goes to one replica. The next one is asked too if the connection fails, if the answer is an error of the
replica, or if it takes longer than 95 % of the last answers did. The first answer is used (Dean and Barroso, The Tail
at Scale, 2013). So a slow replica costs a little work, and no time.

A thread asks with blocking calls, and waits for several replicas at a time without more threads. Connections stay open.
"""

import json
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from copy import copy
from dataclasses import dataclass, replace
from functools import lru_cache
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from itertools import count
from multiprocessing.connection import wait
from socket import socket
from typing import TYPE_CHECKING, Any, Self, TypeVar
from urllib.parse import urlsplit

from ..arguments import ReadyQuery
from ..documents import Document
from ..errors import InvalidInput, MissingPart, UnknownId
from ..explanation.explanation import Explanation
from ..parts import Counts, Ids, PartPools, PoolRequest, Where
from ..storage.format import EncoderEntry, Manifest
from . import wire
from .requests import to_json

if TYPE_CHECKING:  # it needs the extra `serve`
    from .metrics import PartMetrics

__all__ = ["HttpPart", "Replica"]

Json = dict[str, Any]
T = TypeVar("T")

CONNECT_SECONDS = 1.0  # a machine that is cut off does not refuse a connection: it says nothing
OBSERVED, LEAST_OBSERVED = 128, 16  # answers whose times decide about a second request
LARGEST_BODY = 700_000  # bytes of a request: less than a service takes by default


class _Failed(Exception):  # noqa: N818 - another replica may answer
    """A replica gave no answer that can be used."""


@dataclass(slots=True, eq=False)
class _Asked:
    """A request that was sent."""

    replica: "Replica"
    connection: HTTPConnection
    socket: socket
    reused: bool  # the service may have closed the connection meanwhile


class Replica:
    """One service, and its open connections that no request uses."""

    def __init__(self, url: str, token: str | None) -> None:
        """Raises `InvalidInput` for an address that is not http://HOST or https://HOST, with a port or a path."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query:
            raise InvalidInput(f"expected the address of a service, such as http://a:8000, found {url!r}")
        self.url = url.rstrip("/")
        self._place = (HTTPSConnection if parts.scheme == "https" else HTTPConnection, parts.hostname, parts.port)
        self._path = parts.path.rstrip("/")
        self._headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
        self._idle: list[HTTPConnection] = []
        self.problem = "it has not been asked yet"  # why it is not asked for answers; "" if it is
        self.info: Json = {}  # what it last said about itself

    def send(self, method: str, path: str, body: bytes | None, deadline: float) -> _Asked:
        """Send a request. Raises `OSError`."""
        while self._idle:
            with suppress(IndexError):
                connection = self._idle.pop()
                # One that can be read without a request was closed by the service.
                if wait([connection.sock], 0):
                    connection.close()
                    continue
                return self._send(connection, method, path, body, deadline, reused=True)
        kind, host, port = self._place
        connection = kind(host, port, timeout=min(CONNECT_SECONDS, _left(deadline)))
        return self._send(connection, method, path, body, deadline, reused=False)

    def receive(self, asked: _Asked, deadline: float) -> Any:
        """Return the JSON of an answer. Raises `_Failed`, `OSError`, `HTTPException`, and the errors of the request."""
        try:
            response = asked.connection.getresponse()
            body = _body(response, asked.socket, deadline)
        except BaseException:
            asked.connection.close()
            raise
        if not response.will_close:
            self._idle.append(asked.connection)
        if response.status == 200:
            return json.loads(body)
        error = _error(body)
        message = str(error.get("message"))
        if error.get("code") == "invalid_input":
            raise InvalidInput(message)
        if error.get("code") == "unknown_id":
            raise UnknownId(message)
        raise _Failed(f"{response.status} {message}")

    def forget(self) -> None:
        """Close the open connections that no request uses."""
        while self._idle:
            with suppress(IndexError):
                self._idle.pop().close()

    def _send(
        self, connection: HTTPConnection, method: str, path: str, body: bytes | None, deadline: float, *, reused: bool
    ) -> _Asked:
        try:
            connection.request(method, self._path + path, body, self._headers)
            connection.sock.settimeout(_left(deadline))
        except OSError:
            connection.close()
            raise
        return _Asked(self, connection, connection.sock, reused)


class HttpPart:
    """A part of a collection behind HTTP.

    name      of the part: the addresses of its replicas, http://a:8000|http://a2:8000
    token     the bearer token of the replicas
    seconds   time to answer a request, or all requests of a search (`for_a_search`); the part is told
    metrics   counts answers, second requests and failures
    """

    def __init__(self, name: str, token: str | None, seconds: float, metrics: "PartMetrics") -> None:
        self.name, self.replicas = name, [Replica(url, token) for url in name.split("|")]
        self._seconds, self._metrics = seconds, metrics
        self._numbers = count()
        self._took: dict[str, deque[float]] = {}  # path -> seconds of the last answers
        self.settings: Mapping[str, Any] = {}  # that every answer must be made with; see `wire.settings`
        self.limits: Mapping[str, float] = {}  # that a service must have, or higher ones
        self._ends: float | None = None  # when the search ends that this object is for

    def for_a_search(self) -> Self:
        """Return an object all of whose requests share the time of one, each with half of what is left.

        So a part that says nothing leaves time to ask the others again.
        """
        part = copy(self)
        part._ends = time.monotonic() + self._seconds
        return part

    @property
    def manifest(self) -> Manifest:
        """The settings of the part, as far as a search depends on them."""
        own = self.settings
        return Manifest(
            generation=1,
            dim=own["dim"],
            nbits="float32",
            train_at=1,
            seed=0,
            pool_factor=own["pool_factor"],
            words=own["words"],
            encoder=EncoderEntry(own["model"], None) if own["model"] else None,
        )

    @property
    def info(self) -> Json | None:
        """What a replica that answers last said about itself; None if none answers."""
        return next((replica.info for replica in self.replicas if not replica.problem), None)

    def counts(self, terms: Sequence[bytes], similar: Sequence[bytes], where: Where, ids: Ids) -> Counts:
        """Count the documents of the part, of as many requests as the limit of a body needs."""
        fixed = {"where": where, "ids": ids, "similar": list(map(wire.term_json, similar))}
        frequencies: dict[bytes, int] = {}
        for some in _batches(map(wire.term_json, dict.fromkeys(terms))):
            counts = self._ask("/parts/counts", fixed, wire.counts, terms=some)
            frequencies |= counts.frequencies
        return replace(counts, frequencies=frequencies)

    def pools(self, request: PoolRequest) -> PartPools:
        """Return the pool of each query, of as many requests as the limit of a body needs."""
        options, found = request.options, []
        fixed = {"where": request.where, "ids": request.ids, "k": request.k, "exact": options.exact}
        fixed |= {"nprobe": options.nprobe, "candidates": options.candidates}
        for some in _query_batches(request):
            found += self._ask("/parts/pools", fixed, lambda a: list(map(wire.pool, a["pools"])), queries=some)
        return PartPools([pool for pool, _ in found], [documents for _, documents in found])

    def get(self, ids: Sequence[str]) -> list[Document]:
        """Return the documents that the part has among `ids`."""
        return self._ask("/parts/get", {"ids": ids}, lambda answer: wire.documents(answer["documents"]))

    def explain(self, query: ReadyQuery, document_id: str) -> Explanation:
        """Explain the score of a document that the part has. Raises `UnknownId`."""
        text = {"query": query.query} if isinstance(query.query, str) else {}
        body = {"query": text | wire.query_json(query.vectors, query.words), "id": document_id}
        return self._ask("/parts/explain", body, wire.explanation)

    def look(self, seconds: float) -> None:
        """Ask every replica for its settings, and note which of them do not answer or have others than the part."""
        for replica in self.replicas:
            deadline = time.monotonic() + seconds
            try:
                info = replica.receive(replica.send("GET", "/info", None, deadline), deadline)
                replica.info, differs = info, self.difference(info)
                replica.problem = differs and f"it has {differs}"
            except (OSError, HTTPException, ValueError, _Failed) as error:
                replica.forget()
                replica.problem = str(error) or type(error).__name__

    def difference(self, info: Json) -> str:
        """Return a setting or limit of a service that the part cannot use, and the part's; "" if there is none."""
        model = (info.get("encoder") or {}).get("hash")
        own = {**info, "model": model}
        for name, expected in self.settings.items():
            if own.get(name) != expected:
                return f"{name} {_short(own.get(name))}, not {_short(expected)}"
        for name, least in self.limits.items():
            if (limit := info.get("limits", {}).get(name, 0)) < least:
                return f"--max-{name.replace('_', '-')} {limit}, less than {least}"
        return ""

    def _ask(self, path: str, fields: Json, read: Callable[[Any], T], **written: bytes) -> T:
        """Return the first answer of a replica. Raises `MissingPart`, and the errors of the request.

        - `written`: more fields, which are JSON already.
        """
        start = time.monotonic()
        allowed = self._seconds if self._ends is None else max(self._ends - start, 0) / 2
        body = to_json({**fields, "settings": self.settings, "seconds": allowed})[:-1]
        body += b"".join(b',"%b":%b' % (name.encode(), value) for name, value in written.items()) + b"}"
        try:
            answer = read(self._first(path, body, start + allowed))
        except (MissingPart, ValueError, KeyError, TypeError) as error:
            if isinstance(error, InvalidInput):
                raise
            self._metrics.failures.labels(self.name).inc()
            if isinstance(error, MissingPart):
                raise
            raise MissingPart(f"the answer of {self.name} cannot be read: {error!r}") from error
        seconds = time.monotonic() - start
        self._took.setdefault(path, deque(maxlen=OBSERVED)).append(seconds)
        self._metrics.seconds.labels(self.name).observe(seconds)
        return answer

    def _first(self, path: str, body: bytes, deadline: float) -> Any:
        """Ask one replica, and the next after a failure or a while. Returns the first answer's JSON."""
        left, problems = self._in_turn(), [f"{r.url}: {r.problem}" for r in self.replicas if r.problem]
        running: list[_Asked] = []
        patience, more_at = self._patience(path), deadline
        try:
            while left or running:
                if left and (not running or time.monotonic() >= more_at):
                    if running:
                        self._metrics.hedges.labels(self.name).inc()
                    more_at = time.monotonic() + patience
                    replica = left.pop(0)
                    try:
                        running.append(replica.send("POST", path, body, deadline))
                    except OSError as error:
                        problems.append(f"{replica.url}: {error}")
                    continue
                until = min(more_at, deadline) if left else deadline
                ready = wait([asked.socket for asked in running], max(until - time.monotonic(), 0))
                if not ready and time.monotonic() >= deadline:
                    problems += [f"{asked.replica.url}: no answer in time" for asked in running]
                    break
                for asked in [asked for asked in running if asked.socket in ready]:
                    running.remove(asked)
                    try:
                        return asked.replica.receive(asked, deadline)
                    except (OSError, HTTPException, _Failed) as error:
                        problems.append(f"{asked.replica.url}: {error or type(error).__name__}")
                        if asked.reused and not isinstance(error, _Failed):
                            asked.replica.forget()
                            left.insert(0, asked.replica)
        finally:
            for asked in running:
                asked.connection.close()
        raise MissingPart(f"expected an answer of {self.name}, found none: {'; '.join(problems)}")

    def _in_turn(self) -> list[Replica]:
        """Return the replicas that answer, each call beginning with another one."""
        answering = [replica for replica in self.replicas if not replica.problem]
        first = next(self._numbers) % max(len(answering), 1)
        return answering[first:] + answering[:first]

    def _patience(self, path: str) -> float:
        """Return the seconds after which the next replica is asked as well: the 95th percentile of the last answers."""
        took = sorted(self._took.get(path, ()))
        return took[len(took) * 95 // 100] if len(took) >= LEAST_OBSERVED else self._seconds


@lru_cache(maxsize=16)  # all parts get the same; most of a router's JSON is vectors
def _query_batches(request: PoolRequest) -> list[bytes]:
    return _batches(wire.query_json(*query) for query in request.queries)


def _batches(items: Iterable[Any]) -> list[bytes]:
    """Return queries or terms as lists in JSON that each fit into the body of a request."""
    batches: list[list[bytes]] = [[]]
    size = 0
    for item in map(to_json, items):
        if batches[-1] and size + len(item) > LARGEST_BODY:
            batches.append([])
            size = 0
        batches[-1].append(item)
        size += len(item)
    return [b"[" + b",".join(batch) + b"]" for batch in batches]


def _body(response: HTTPResponse, connected: socket, deadline: float) -> bytes:
    """Return the body of an answer. Raises `OSError` if it is not complete in time."""
    body, length = b"", response.length
    while length is None or len(body) < length:
        # The limit is for all pieces, a socket's own for each of them.
        connected.settimeout(_left(deadline))
        piece = response.read1(1 << 20)
        if not piece and length is not None:
            raise ConnectionError("the answer ended before it was complete")
        if not piece:
            break
        body += piece
    response.close()
    return body


def _left(deadline: float) -> float:
    """Return the seconds until then. A socket takes 0 for no waiting at all."""
    return max(deadline - time.monotonic(), 1e-3)


def _error(body: bytes) -> Json:
    try:
        return dict(json.loads(body)["error"])
    except (ValueError, KeyError, TypeError):
        return {"message": "an answer that is not JSON"}


def _short(value: Any) -> str:
    return value[:12] if isinstance(value, str) else str(value)
