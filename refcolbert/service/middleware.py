"""What stands before the routes: every request is named, looked at before its body is read, counted and logged."""

import hmac
import logging
import re
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .http_errors import Refusal, error_body
from .limits import ServiceLimits
from .metrics import Metrics

__all__ = ["Access", "Guard"]

log = logging.getLogger("refcolbert.service")

OPEN = frozenset({"/health", "/ready"})  # and the page: what answers without a token
VERSIONS = ("1.0", "1.1")
REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
SAFE = (
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
    """Who may ask: `token`, None for everybody; `hosts`, names in the Host header, None for any.

    A page in a browser that resolves its own name to this machine (DNS rebinding) sends that name as Host.
    """

    token: str | None = field(default=None, repr=False)
    hosts: frozenset[str] | None = None


class Guard:
    """An ASGI application around another one, whose paths and methods are `routes`; `pages` need no token."""

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
        self._routes, self._open = routes, OPEN | pages

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start = time.perf_counter()
        reply = _Reply(send, _request_id(scope))
        with self._metrics.running.track_inprogress():
            await self._answer(scope, receive, reply)
        self._note(scope, reply, time.perf_counter() - start)

    async def _answer(self, scope: Scope, receive: Receive, reply: "_Reply") -> None:
        try:
            self._look_at(scope)
            await self._app(scope, receive, reply.send)
        except Refusal as refusal:
            if refusal.code == "internal":
                log.error("request %s failed", reply.request_id, exc_info=refusal)
            await reply.refuse(refusal)
        except ClientDisconnect:
            log.debug("request %s was given up by its client", reply.request_id)
        except Exception:
            log.exception("request %s failed", reply.request_id)
            await reply.refuse(Refusal("internal"))

    def _look_at(self, scope: Scope) -> None:
        """Raise `Refusal` for what the headers alone forbid."""
        headers = scope["headers"]
        if scope["http_version"] not in VERSIONS:
            raise Refusal("invalid_request")
        if _head_bytes(scope) > self._limits.head_bytes:  # the server bounds only a head that comes in pieces
            raise Refusal("head_too_large")
        hosts, access = _values(headers, b"host"), self._access
        if access.hosts is not None and (len(hosts) != 1 or _host_name(hosts[0]) not in access.hosts):
            raise Refusal("wrong_host")
        if access.token is not None and scope["path"] not in self._open:
            _check_token(_values(headers, b"authorization"), access.token)
        if (methods := self._routes.get(scope["path"])) is None:
            raise Refusal("not_found")
        if scope["method"] not in methods:
            raise Refusal("method_not_allowed", headers={"allow": ", ".join(sorted(methods))})
        if _values(headers, b"transfer-encoding"):
            raise Refusal("not_implemented")
        _check_body(scope["method"], headers, self._limits.body_bytes)

    def _note(self, scope: Scope, reply: "_Reply", seconds: float) -> None:
        route = scope["path"] if scope["path"] in self._routes else "other"
        self._metrics.count(route, scope["method"], reply.status, seconds)
        log.info("%s %s %s %d %.1f ms", reply.request_id, scope["method"], route, reply.status, 1e3 * seconds)


class _Reply:
    """What is sent back: the request's id and safe headers are added, the status is remembered."""

    def __init__(self, send: Send, request_id: str) -> None:
        self._send, self.request_id = send, request_id
        self.status = 0  # 0: nothing was sent, the client has gone

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = [*message.get("headers", ()), (b"x-request-id", self.request_id.encode()), *SAFE]
        await self._send(message)

    async def refuse(self, refusal: Refusal) -> None:
        """Say no."""
        if self.status:
            return  # the answer has begun: the server ends it by closing the connection
        body = error_body(refusal.code, refusal.message, self.request_id)
        headers = {"content-type": "application/json", "content-length": str(len(body)), **refusal.headers}
        if refusal.closes:
            headers["connection"] = "close"
        pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
        await self.send({"type": "http.response.start", "status": refusal.status, "headers": pairs})
        await self.send({"type": "http.response.body", "body": body})


def _request_id(scope: Scope) -> str:
    """The client's own, if it is a harmless one, else a new one."""
    given = _values(scope["headers"], b"x-request-id")
    if len(given) == 1 and REQUEST_ID.fullmatch(given[0]):
        return given[0].decode()
    return uuid.uuid4().hex


def _values(headers: list[tuple[bytes, bytes]], name: bytes) -> list[bytes]:
    return [value for key, value in headers if key == name]


def _head_bytes(scope: Scope) -> int:
    target = len(scope["raw_path"]) + len(scope["query_string"])
    return target + sum(len(name) + len(value) + 4 for name, value in scope["headers"])


def _host_name(host: bytes) -> str:
    """The name in a Host header, without a port."""
    name = host.decode("latin-1").lower()
    return name[: name.index("]") + 1] if name.startswith("[") and "]" in name else name.partition(":")[0]


def _check_token(given: list[bytes], token: str) -> None:
    """Compare in a time that does not tell how much was right."""
    scheme, _, value = given[0].partition(b" ") if len(given) == 1 else (b"", b"", b"")
    if scheme.lower() != b"bearer" or not hmac.compare_digest(value.strip(), token.encode()):
        raise Refusal("unauthorized", headers={"www-authenticate": "Bearer"})


def _check_body(method: str, headers: list[tuple[bytes, bytes]], most: int) -> None:
    """Whether a body is announced as it must be; it has not been read."""
    lengths = _values(headers, b"content-length")
    if method == "POST":
        if not lengths:
            raise Refusal("length_required")
        kinds = _values(headers, b"content-type")
        if len(kinds) != 1 or kinds[0].partition(b";")[0].strip().lower() != b"application/json":
            raise Refusal("not_json")
    if lengths and int(lengths[0]) > (most if method == "POST" else 0):
        raise Refusal("too_large")
