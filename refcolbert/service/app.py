"""The service as an ASGI application: its routes, and the way from a request to an answer."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route
from starlette.routing import Router as Routes

from ..errors import RefColbertError
from .endpoints import Call, Endpoint, endpoints
from .http_errors import Refusal, refusal_of
from .limits import ServiceLimits
from .metrics import Metrics
from .middleware import Access, Guard
from .openapi import openapi
from .part_endpoints import part_endpoints
from .reload import Live
from .requests import check_fields, from_json, from_query, to_json
from .router import Router
from .workers import Workers
from .write_endpoints import write_endpoints

__all__ = ["Service", "create_app"]

log = logging.getLogger("refcolbert.service")

PAGE = Path(__file__).parent / "page"
JSON = "application/json"
NO_CACHE = {"cache-control": "no-cache"}  # a browser asks for the page again after an update


class Service:
    """The state that all requests share: the index, the worker threads, the counters."""

    def __init__(self, live: Live | Router, limits: ServiceLimits) -> None:
        self.live, self.limits = live, limits
        self.workers: Workers | None = None
        self.metrics = Metrics(
            waiting=lambda: self.workers.waiting if self.workers else 0,
            documents=lambda: len(live.now.index),
            generation=lambda: live.now.index.generation,
        )
        if isinstance(live, Router):
            self.metrics.include(live.metrics)

    @asynccontextmanager
    async def lifespan(self, app: object) -> AsyncIterator[None]:
        """Run the workers and watch the index between the first request and the last."""
        self.workers = Workers(self.limits)
        watcher = asyncio.create_task(self._watch())
        yield
        watcher.cancel()
        with suppress(asyncio.CancelledError):
            await watcher
        await asyncio.to_thread(self.workers.close)
        self.workers = None

    def running(self) -> Workers:
        """The workers. Raises `Refusal` before they have started and after they have ended."""
        if self.workers is None:
            raise Refusal("not_ready", headers={"retry-after": "1"})
        return self.workers

    def ready(self) -> dict[str, Any]:
        """The answer to a probe. Raises `Refusal` if requests cannot be answered."""
        self.running()
        return {"status": "ok", **self.live.readiness()}

    async def handle(self, endpoint: Endpoint, request: Request) -> Response:
        """The answer of the newest generation."""
        try:
            body = await request.body()
            if request.method == "POST":
                parsed = from_json(body)
            else:
                parsed = from_query(request.scope["query_string"], endpoint.request, endpoint.names or {})
            call = Call(self.live.now, check_fields(parsed, endpoint.request))
            answer = await _unless_disconnected(request, self.running().answer(endpoint, call))
        except RefColbertError as error:
            raise refusal_of(error) from error
        return Response(answer, media_type=JSON)

    async def _watch(self) -> None:
        """Load each new generation. One that cannot be loaded is tried again, and the last one stays in use."""
        logged = ""
        while True:
            await asyncio.sleep(self.limits.reload_seconds)
            try:
                if await asyncio.to_thread(self.live.refresh):
                    self.metrics.reloads.labels("loaded").inc()
                    log.info("generation %d is served", self.live.now.index.generation)
                logged = ""
            except Exception as error:
                self.metrics.reloads.labels("failed").inc()
                if logged != str(error):
                    log.exception("the newest generation cannot be loaded; the last one stays in use")
                logged = str(error)


def create_app(live: Live | Router, limits: ServiceLimits | None = None, access: Access | None = None) -> Guard:
    """The ASGI application of `live`, for a server that limits the time of connections, as `bind` does."""
    limits, access = limits or ServiceLimits(), access or Access()
    service = Service(live, limits)
    # A router is not itself a part.
    table = endpoints(limits) + (() if isinstance(live, Router) else part_endpoints(limits))
    if isinstance(live, Live) and live.writable:
        table += write_endpoints(live, limits)
    document = openapi(table, token=access.token is not None)
    routes = [_endpoint(service, path, endpoint) for endpoint in table for path in endpoint.paths]
    routes += [
        _get("/info", lambda: _json({**live.info(), "limits": asdict(limits)})),
        _get("/health", lambda: _json({"status": "ok"})),
        _get("/ready", lambda: _json(service.ready())),
        _get("/openapi.json", lambda: _json(document)),
        _get("/metrics", lambda: Response(service.metrics.text(), media_type=CONTENT_TYPE_LATEST)),
    ]
    pages = {"/": PAGE / "index.html", **{f"/static/{file.name}": file for file in sorted(PAGE.glob("*.*"))}}
    routes += [_get(path, partial(FileResponse, file, headers=NO_CACHE)) for path, file in pages.items()]
    methods = {route.path: frozenset(route.methods or ()) for route in routes}
    router = Routes(routes, redirect_slashes=False, lifespan=service.lifespan)
    return Guard(router, limits, access, service.metrics, methods, frozenset(pages))


def _endpoint(service: Service, path: str, endpoint: Endpoint) -> Route:
    async def handle(request: Request) -> Response:
        return await service.handle(endpoint, request)

    return Route(path, handle, methods=["POST"] if endpoint.names is None else ["POST", "GET"])


def _get(path: str, answer: Callable[[], Response]) -> Route:
    async def handle(request: Request) -> Response:
        return answer()

    return Route(path, handle, methods=["GET"])


def _json(value: Any) -> Response:
    return Response(to_json(value), media_type=JSON)


async def _unless_disconnected(request: Request, answer: Awaitable[bytes]) -> bytes:
    """The answer. When the client disconnects it is cancelled, and never computed if no thread has begun with it."""
    answering, leaving = asyncio.ensure_future(answer), asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait({answering, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not answering.done():
            raise ClientDisconnect
        return answering.result()
    finally:
        leaving.cancel()
        answering.cancel()


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
