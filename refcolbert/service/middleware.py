"""ASGI middleware before the routes: checks the head of every request before its body is read, counts and logs."""

import hmac
import logging
import re
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field

from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .http_errors import Refusal, error_body
from .limits import ServiceLimits
from .metrics import Metrics

__all__ = ["Access", "Guard"]

log = logging.getLogger("refcolbert.service")

PROBES = frozenset({"/health", "/ready"})  # they need no token
VERSIONS = ("1.0", "1.1")
REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
SAFE_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (
        b"content-security-policy",
        b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        b"base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    ),
)


@dataclass(frozen=True, slots=True)
class Access:
    """The bearer token that requests need (None: no token), and the Host names that they may have (None: any).

    The names stop DNS rebinding: a web page whose own name resolves to this machine sends that name as Host.
    """

    token: str | None = field(default=None, repr=False)
    hosts: frozenset[str] | None = None


class Guard:
    """An ASGI application around `app`, whose paths and methods are `routes`; `pages` need no token."""

    def __init__(
        self,
        app: ASGIApp,
        limits: ServiceLimits,
        access: Access,
        metrics: Metrics,
        routes: Mapping[str, frozenset[str]],
        pages: frozenset[str],
    ) -> None:
        self._app, self._limits, self._access, self._metrics = app, limits, access, metrics
        self._routes, self._without_token = routes, PROBES | pages

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start = time.perf_counter()
        reply = _Reply(scope, send)
        with self._metrics.running.track_inprogress():
            await self._answer(scope, receive, reply)
        route = scope["path"] if scope["path"] in self._routes else "other"
        seconds = time.perf_counter() - start
        self._metrics.count(route, scope["method"], reply.status, seconds)
        log.info("%s %s %s %d %.1f ms", reply.request_id, scope["method"], route, reply.status, 1e3 * seconds)

    async def _answer(self, scope: Scope, receive: Receive, reply: "_Reply") -> None:
        try:
            self._check_head(scope)
            await self._app(scope, receive, reply.send)
        except Refusal as refusal:
            if refusal.code == "internal":
                log.error("request %s failed", reply.request_id, exc_info=refusal)
            await reply.refuse(refusal, receive)
        except ClientDisconnect:
            log.debug("the client of request %s has disconnected", reply.request_id)
        except Exception:
            log.exception("request %s failed", reply.request_id)
            await reply.refuse(Refusal("internal"), receive)

    def _check_head(self, scope: Scope) -> None:
        """Raise `Refusal` for a request whose head is enough to refuse it."""
        headers = scope["headers"]
        if scope["http_version"] not in VERSIONS:
            raise Refusal("invalid_request")
        # The server limits only a head that arrives in several pieces.
        head_bytes = len(scope["raw_path"]) + len(scope["query_string"])
        if head_bytes + sum(len(name) + len(value) + 4 for name, value in headers) > self._limits.head_bytes:
            raise Refusal("head_too_large")
        hosts, access = _values(headers, b"host"), self._access
        if access.hosts is not None and (len(hosts) != 1 or _host_name(hosts[0]) not in access.hosts):
            raise Refusal("wrong_host")
        if access.token is not None and scope["path"] not in self._without_token:
            _check_token(_values(headers, b"authorization"), access.token)
        if (methods := self._routes.get(scope["path"])) is None:
            raise Refusal("not_found")
        if scope["method"] not in methods:
            raise Refusal("method_not_allowed", headers={"allow": ", ".join(sorted(methods))})
        if _values(headers, b"transfer-encoding"):
            raise Refusal("not_implemented")
        _check_body(scope["method"], headers, self._limits.body_bytes)


class _Reply:
    """Sends an answer: adds the request id and the safe headers, and keeps the status."""

    def __init__(self, scope: Scope, send: Send) -> None:
        self._scope, self._send = scope, send
        # The client's own id is kept only if it is safe to log.
        ids = _values(scope["headers"], b"x-request-id")
        self.request_id = ids[0].decode() if len(ids) == 1 and REQUEST_ID.fullmatch(ids[0]) else uuid.uuid4().hex
        self.status = 0  # stays 0 if the client disconnects before an answer

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            request_id = (b"x-request-id", self.request_id.encode())
            message["headers"] = [*message.get("headers", ()), request_id, *SAFE_HEADERS]
        await self._send(message)

    async def refuse(self, refusal: Refusal, receive: Receive) -> None:
        """Send an error, unless an answer has begun: the server then closes the connection."""
        if not self.status:
            body = error_body(refusal.code, refusal.message, self.request_id)
            headers = refusal.headers | ({"connection": "close"} if refusal.closes else {})
            answer = Response(body, refusal.status, headers, "application/json")
            await answer(self._scope, receive, self.send)


def _values(headers: list[tuple[bytes, bytes]], name: bytes) -> list[bytes]:
    return [value for key, value in headers if key == name]


def _host_name(host: bytes) -> str:
    """The name in a Host header, without a port."""
    name = host.decode("latin-1").lower()
    return name[: name.index("]") + 1] if name.startswith("[") and "]" in name else name.partition(":")[0]


def _check_token(authorization: list[bytes], token: str) -> None:
    """Raise `Refusal` for a wrong token. The time of the comparison does not depend on the correct part of it."""
    scheme, _, value = authorization[0].partition(b" ") if len(authorization) == 1 else (b"", b"", b"")
    if scheme.lower() != b"bearer" or not hmac.compare_digest(value.strip(), token.encode()):
        raise Refusal("unauthorized", headers={"www-authenticate": "Bearer"})


def _check_body(method: str, headers: list[tuple[bytes, bytes]], most: int) -> None:
    """Raise `Refusal` for wrong headers of a body, before it is read."""
    lengths = _values(headers, b"content-length")
    if method == "POST":
        if not lengths:
            raise Refusal("length_required")
        types = _values(headers, b"content-type")
        if len(types) != 1 or types[0].partition(b";")[0].strip().lower() != b"application/json":
            raise Refusal("not_json")
    if lengths and int(lengths[0]) > (most if method == "POST" else 0):
        raise Refusal("too_large")
