"""The service as an ASGI application: routes, and how a request becomes an answer or an error."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from ..errors import EncoderMismatch, InvalidInput, UnknownId
from .endpoints import Endpoint, endpoints
from .limits import ServiceLimits
from .live import Live
from .wire import from_json, from_query, obey

__all__ = ["create_app"]

log = logging.getLogger("refcolbert.service")

PAGE = Path(__file__).parent.parent / "page"


def create_app(live: Live, limits: ServiceLimits | None = None) -> Starlette:
    """The application that answers from `live`."""
    limits = limits or ServiceLimits()
    pool = ThreadPoolExecutor(limits.threads)

    @asynccontextmanager
    async def life(app: Starlette) -> AsyncIterator[None]:
        watcher = asyncio.create_task(_watch(live, limits.reload_seconds))
        yield
        watcher.cancel()
        pool.shutdown()

    routes: list[Any] = [
        Route(path, _handler(live, endpoint, pool), methods=["POST", "GET"] if endpoint.names is not None else ["POST"])
        for endpoint in endpoints(limits)
        for path in endpoint.paths
    ]

    async def info(request: Request) -> Response:
        found = await asyncio.to_thread(live.index.info)
        return JSONResponse({**found, "path": live.index.path.name})

    async def healthy(request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def page(request: Request) -> Response:
        return FileResponse(PAGE / "index.html")

    routes += [
        Route("/info", info),
        Route("/health", healthy),
        Route("/ready", healthy),
        Route("/", page),
        Mount("/static", StaticFiles(directory=PAGE)),
    ]
    return Starlette(routes=routes, lifespan=life)


async def _watch(live: Live, seconds: float) -> None:
    while True:
        await asyncio.sleep(seconds)
        try:
            await asyncio.to_thread(live.refresh)
        except Exception:
            log.exception("the new generation cannot be loaded, the last one is served on")


def _handler(live: Live, endpoint: Endpoint, pool: ThreadPoolExecutor) -> Callable[[Request], Awaitable[Response]]:
    async def handle(request: Request) -> Response:
        try:
            if request.method == "POST":
                asked = obey(from_json(await request.body()), endpoint.fields)
            else:
                found = from_query(request.scope["query_string"], endpoint.fields, endpoint.names or {})
                asked = obey(found, endpoint.fields)
            loop = asyncio.get_running_loop()
            return Response(
                await loop.run_in_executor(pool, _answer, live, endpoint, asked), media_type="application/json"
            )
        except UnknownId as error:
            return _error(404, "unknown_id", str(error))
        except (InvalidInput, EncoderMismatch) as error:
            return _error(400, "invalid_input", str(error))

    return handle


def _answer(live: Live, endpoint: Endpoint, asked: dict[str, Any]) -> bytes:
    found = endpoint.answer(live.index, live.encoder, asked)
    return json.dumps(found, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def _error(status: int, code: str, message: str) -> Response:
    return JSONResponse({"error": {"code": code, "message": message}}, status)
