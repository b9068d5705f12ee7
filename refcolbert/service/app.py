"""The service as an ASGI application: the closed list of routes, and how a request becomes an answer."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route, Router

from ..errors import RefColbertError
from .endpoints import Call, Endpoint, endpoints
from .http_errors import Refusal, refusal_of
from .limits import ServiceLimits
from .metrics import Metrics
from .middleware import Access, Guard
from .openapi import openapi
from .reload import Live
from .requests import from_json, from_query, obey, to_json
from .workers import Workers

__all__ = ["Service", "create_app"]

log = logging.getLogger("refcolbert.service")

PAGE = Path(__file__).parent / "page"
JSON = "application/json"

Handler = Callable[[Request], Awaitable[Response]]


class Service:
    """What requests share: the index, the threads, the counters."""

    def __init__(self, live: Live, limits: ServiceLimits) -> None:
        self.live, self.limits = live, limits
        self.workers: Workers | None = None
        self.metrics = Metrics(
            waiting=lambda: self.workers.waiting if self.workers else 0,
            documents=lambda: len(live.now.index),
            generation=lambda: live.now.index.generation,
        )

    @asynccontextmanager
    async def life(self, app: object) -> AsyncIterator[None]:
        """From the first request to the last."""
        self.workers = Workers(self.limits)
        watcher = asyncio.create_task(self._watch())
        yield
        watcher.cancel()
        with suppress(asyncio.CancelledError):
            await watcher
        await asyncio.to_thread(self.workers.close)
        self.workers = None

    async def answer(self, endpoint: Endpoint, asked: dict[str, Any]) -> bytes:
        """The answer of the newest generation, as JSON."""
        if self.workers is None:
            raise Refusal("not_ready", headers={"retry-after": "1"})
        return await self.workers.answer(endpoint, Call(self.live.now, asked))

    async def _watch(self) -> None:
        """Look for a new generation, for ever. One that cannot be loaded is tried again; the last one is served on."""
        said = ""
        while True:
            await asyncio.sleep(self.limits.reload_seconds)
            try:
                if await asyncio.to_thread(self.live.refresh):
                    self.metrics.reloads.labels("loaded").inc()
                    log.info("generation %d is served", self.live.now.index.generation)
                said = ""
            except Exception as error:
                self.metrics.reloads.labels("failed").inc()
                if said != str(error):
                    log.exception("the newest generation cannot be loaded; the last one is served on")
                said = str(error)


def create_app(live: Live, limits: ServiceLimits | None = None, access: Access | None = None) -> Guard:
    """The application that answers from `live`: for a server that keeps to HTTP itself, as `serve` does."""
    limits, access = limits or ServiceLimits(), access or Access()
    service = Service(live, limits)
    asked = endpoints(limits)
    document = to_json(openapi(asked, token=access.token is not None))
    routes = [_route(service, path, endpoint) for endpoint in asked for path in endpoint.paths]
    routes += [
        _get("/info", lambda: to_json(_info(live))),
        _get("/health", lambda: to_json({"status": "ok"})),
        _get("/ready", lambda: to_json(_ready(service))),
        _get("/openapi.json", lambda: document),
        _get("/metrics", service.metrics.text, CONTENT_TYPE_LATEST),
    ]
    pages = {"/": PAGE / "index.html", **{f"/static/{file.name}": file for file in sorted(PAGE.glob("*.*"))}}
    routes += [_page(path, file) for path, file in pages.items()]
    methods = {route.path: frozenset(route.methods or ()) for route in routes}
    app = Router(routes, redirect_slashes=False, lifespan=service.life)
    return Guard(app, limits, access, service.metrics, methods, frozenset(pages))


def _route(service: Service, path: str, endpoint: Endpoint) -> Route:
    async def handle(request: Request) -> Response:
        try:
            asked = obey(await _asked(request, endpoint), endpoint.fields)
            return Response(await _unless_gone(request, service.answer(endpoint, asked)), media_type=JSON)
        except RefColbertError as error:
            raise refusal_of(error) from error

    return Route(path, handle, methods=["POST"] if endpoint.names is None else ["POST", "GET"])


async def _asked(request: Request, endpoint: Endpoint) -> Any:
    body = await request.body()
    if request.method == "POST":
        return from_json(body)
    return from_query(request.scope["query_string"], endpoint.fields, endpoint.names or {})


async def _unless_gone(request: Request, answer: Awaitable[bytes]) -> bytes:
    """The answer; given up, and if no thread has begun with it never computed, when the client goes away."""
    answering, leaving = asyncio.ensure_future(answer), asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait({answering, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not answering.done():
            raise ClientDisconnect
        return answering.result()
    finally:
        leaving.cancel()
        answering.cancel()


async def _gone(request: Request) -> None:
    """Until the client has gone."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _get(path: str, answer: Callable[[], bytes], media_type: str = JSON) -> Route:
    async def handle(request: Request) -> Response:
        return Response(answer(), media_type=media_type)

    return Route(path, handle, methods=["GET"])


def _page(path: str, file: Path) -> Route:
    async def handle(request: Request) -> Response:
        return FileResponse(file, headers={"cache-control": "no-cache"})

    return Route(path, handle, methods=["GET"])


def _info(live: Live) -> Mapping[str, Any]:
    """`Index.info` without places on this machine."""
    found = live.now.index.info()
    encoder = found["encoder"] and {"hash": found["encoder"]["hash"]}
    return {**found, "path": live.now.index.path.name, "encoder": encoder}


def _ready(service: Service) -> Mapping[str, str]:
    if service.workers is None:
        raise Refusal("not_ready")
    return {"status": "ok"}
