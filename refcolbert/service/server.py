"""The service at a socket: who may use which address, and uvicorn's settings."""

import ipaddress
import socket
from contextlib import suppress
from dataclasses import dataclass

import uvicorn
from threadpoolctl import threadpool_limits

from ..errors import InvalidInput
from .app import create_app
from .limits import ServiceLimits
from .middleware import Access
from .reload import Live
from .router import Router
from .timeouts import protocol_for

try:
    import resource
except ImportError:  # Windows, where sockets are not files
    resource = None  # type: ignore[assignment]

__all__ = ["Bound", "bind"]

LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})
MIN_TOKEN_LENGTH = 16
BACKLOG = 1024


@dataclass(frozen=True, slots=True)
class Bound:
    """A service whose socket listens, and that does not answer before `run`."""

    server: uvicorn.Server
    socket: socket.socket
    url: str
    limits: ServiceLimits

    def run(self) -> None:
        """Answer until SIGTERM, SIGINT or `server.should_exit`, then finish the running requests.

        After that the signal is raised again, as `uvicorn.Server.run` does it.
        """
        with threadpool_limits(self.limits.inner_threads, user_api="blas"):
            self.server.run(sockets=[self.socket])


def bind(
    live: Live | Router,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    limits: ServiceLimits | None = None,
    token: str | None = None,
    hosts: frozenset[str] = frozenset(),
) -> Bound:
    """A service of the index or router `live` at an address.

    host    an address of another kind than loopback needs a token
    port    0 takes a free one
    limits  the default limits if None
    token   every request must then bring it as a bearer token
    hosts   more names that requests may have in their Host header; with a token and no names, any name is allowed

    Raises `InvalidInput`, and `OSError` if the address cannot be used.
    """
    limits = limits or ServiceLimits()
    # getaddrinfo would take a larger port modulo 65536.
    if not 0 <= port <= 65535:
        raise InvalidInput(f"expected a port from 0 to 65535, found {port}; choose another one, 0 takes a free one")
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    access = _access(str(address[0]), token, hosts)
    _allow_open_files()
    server = uvicorn.Server(
        uvicorn.Config(
            create_app(live, limits, access),
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
            timeout_keep_alive=limits.idle_seconds,  # type: ignore[arg-type]  # call_later takes floats
            timeout_graceful_shutdown=limits.drain_seconds,  # type: ignore[arg-type]  # and wait_for too
        )
    )
    listening = socket.create_server(
        (str(address[0]), int(address[1])),
        family=family,
        backlog=BACKLOG,
        dualstack_ipv6=family == socket.AF_INET6 and socket.has_dualstack_ipv6(),
    )
    # Accepted connections inherit this. asyncio sets it only where the socket names its protocol, as this one does not.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    name, number = listening.getsockname()[:2]
    return Bound(server, listening, f"http://{f'[{name}]' if ':' in name else name}:{number}/", limits)


def _access(address: str, token: str | None, hosts: frozenset[str]) -> Access:
    """The access rules at this address. Raises `InvalidInput` for a weak token, or if other machines need none."""
    if token is None:
        if not ipaddress.ip_address(address.partition("%")[0]).is_loopback:
            raise InvalidInput(
                f"expected a token, as other machines can reach {address}, found none; "
                "give a token (--token-file or REFCOLBERT_TOKEN), or listen at 127.0.0.1"
            )
    elif len(token) < MIN_TOKEN_LENGTH or not token.isascii() or not token.isprintable() or " " in token:
        raise InvalidInput(
            f"expected a token of at least {MIN_TOKEN_LENGTH} printable ASCII characters without spaces, found one of "
            f"{len(token)} characters; choose another one"
        )
    return Access(token, None if token and not hosts else hosts | LOCAL_NAMES)


def _allow_open_files() -> None:
    """Open as many files as the system allows, as Go does: the usual default of 1,024 is below our connections."""
    if resource is not None:
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        # macOS refuses its own hard limit.
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
