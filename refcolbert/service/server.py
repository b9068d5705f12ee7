"""The service behind a socket: uvicorn, made careful."""

import ipaddress
import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import uvicorn
from threadpoolctl import threadpool_limits

from ..errors import InvalidInput
from .app import create_app
from .limits import ServiceLimits
from .middleware import Access
from .reload import Live
from .timeouts import protocol_for

try:
    import resource
except ImportError:  # not on Windows, where sockets are no files
    resource = None  # type: ignore[assignment]

__all__ = ["Bound", "bind"]

LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})
SHORTEST_TOKEN = 16
BACKLOG = 1024
FILES = 1024  # that may be open besides connections: an index has three a segment


@dataclass(frozen=True, slots=True)
class Bound:
    """A service that listens and does not answer yet."""

    server: uvicorn.Server
    socket: socket.socket
    url: str
    limits: ServiceLimits

    def run(self) -> None:
        """Answer until SIGTERM or SIGINT, or until `server.should_exit` is set; then finish what runs."""
        with _signals_end_it(), threadpool_limits(self.limits.inner_threads, user_api="blas"):
            self.server.run(sockets=[self.socket])


def bind(
    live: Live,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    limits: ServiceLimits | None = None,
    token: str | None = None,
    hosts: frozenset[str] = frozenset(),
) -> Bound:
    """A service at an address; `port` 0 takes a free one.

    An address other than this machine's own needs a `token`, which every request then brings as a bearer token.
    `hosts` are further names by which the service may be called; with a token and none of them, any name will do.
    Raises `InvalidInput`, and `OSError` where the address cannot be had.
    """
    limits = limits or ServiceLimits()
    family, address = _resolve(host, port)
    access = _access(address[0], token, hosts)
    _allow_connections(limits.connections)
    server = uvicorn.Server(_config(create_app(live, limits, access), limits))
    listening = _listen(family, address)
    name, taken = listening.getsockname()[:2]
    url = f"http://{f'[{name}]' if ':' in name else name}:{taken}/"
    return Bound(server, listening, url, limits)


def _check_token(token: str) -> str:
    """The token, if it is long enough and fits into a header. Raises `InvalidInput`."""
    if len(token) < SHORTEST_TOKEN or not token.isascii() or not token.isprintable() or " " in token:
        raise InvalidInput(f"a token has at least {SHORTEST_TOKEN} printable ASCII characters without spaces")
    return token


def _access(address: str, token: str | None, hosts: frozenset[str]) -> Access:
    """Who may ask a service at this address. Raises `InvalidInput` for one that is open to others without a token."""
    if token is not None:
        return Access(_check_token(token), frozenset(hosts) | LOCAL_NAMES if hosts else None)
    if not ipaddress.ip_address(address.partition("%")[0]).is_loopback:
        raise InvalidInput(
            f"{address} can be reached by other machines: give a token (--token-file or REFCOLBERT_TOKEN), "
            "or listen at 127.0.0.1"
        )
    return Access(None, frozenset(hosts) | LOCAL_NAMES)


def _resolve(host: str, port: int) -> tuple[socket.AddressFamily, tuple[str, int]]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, _, _, _, address = found[0]
    return family, (str(address[0]), int(address[1]))


def _listen(family: socket.AddressFamily, address: tuple[str, int]) -> socket.socket:
    """A listening socket. It names its protocol: else asyncio would not know TCP, and leave small packets to wait."""
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, os.name == "posix")
        listening.bind(address)
        listening.listen(BACKLOG)
    except OSError:
        listening.close()
        raise
    return listening


def _config(app: Any, limits: ServiceLimits) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=protocol_for(limits),
        ws="none",
        lifespan="on",
        loop="asyncio",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=BACKLOG,
        h11_max_incomplete_event_size=limits.head_bytes,
        timeout_keep_alive=limits.idle_seconds,  # type: ignore[arg-type]  # it goes to call_later, which takes both
        timeout_graceful_shutdown=limits.drain_seconds,  # type: ignore[arg-type]  # and this one to wait_for
    )


def _allow_connections(connections: int) -> None:
    """Raise the number of files that may be open, where it is too low for so many connections."""
    if resource is None:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + FILES if hard == resource.RLIM_INFINITY else min(connections + FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


@contextmanager
def _signals_end_it() -> Iterator[None]:
    """Uvicorn drains at SIGTERM and SIGINT, then raises the signal once more: that one ends nothing."""
    if threading.current_thread() is not threading.main_thread():
        yield  # where no signal is handled
        return
    before = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
