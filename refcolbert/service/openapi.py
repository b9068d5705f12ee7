"""The service's OpenAPI document, made from the tables that its routes are made from."""

from collections.abc import Sequence
from typing import Any

from .._version import __version__
from . import schemas
from .endpoints import Endpoint
from .http_errors import CODES
from .schemas import Schema

__all__ = ["STATES", "openapi"]

Json = dict[str, Any]

# GET paths about the service itself: summary and schema of the answer
STATES = {
    "/info": ("What the index holds and how", schemas.INFO),
    "/health": ("Whether the process runs", schemas.STATUS),
    "/ready": ("Whether the service takes requests", schemas.STATUS),
    "/openapi.json": ("This document", {"type": "object"}),
}
ANY_PATH = (400, 401, 405, 408, 413, 431, 500, 501, 503)  # statuses of errors
WITH_BODY = (*ANY_PATH, 404, 409, 411, 415)


def openapi(endpoints: Sequence[Endpoint], *, token: bool) -> Json:
    """OpenAPI 3.1 of a service with these endpoints; `token` is true if it needs a bearer token."""
    paths: Json = {path: _methods(endpoint, path) for endpoint in endpoints for path in endpoint.paths}
    paths |= {path: {"get": _operation(path, "get", *state)} for path, state in STATES.items()}
    counters = "Counters in the format of Prometheus"
    paths["/metrics"] = {"get": _operation("/metrics", "get", counters, {"type": "string"}, media="text/plain")}
    document: Json = {
        "openapi": "3.1.0",
        "info": {"title": "refcolbert", "version": __version__, "description": "ColBERT retrieval over HTTP."},
        "paths": paths,
        "components": {"schemas": {"Error": schemas.ERROR}},
    }
    if token:
        document["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        document["security"] = [{"token": []}]
        for path in ("/health", "/ready"):
            paths[path]["get"]["security"] = []
    return document


def _methods(endpoint: Endpoint, path: str) -> Json:
    """The operations of one endpoint at one of its paths."""
    post = _operation(path, "post", endpoint.summary, endpoint.response, WITH_BODY)
    post["requestBody"] = {"required": True, "content": {"application/json": {"schema": endpoint.request}}}
    if endpoint.names is None:
        return {"post": post}
    get = _operation(path, "get", endpoint.summary, endpoint.response)
    in_url = {field: name for name, field in endpoint.names.items()}
    required = endpoint.request["required"]
    get["parameters"] = [
        _parameter(in_url.get(field, field), schema, field in required)
        for field, schema in endpoint.request["properties"].items()
    ]
    return {"get": get, "post": post}


def _parameter(name: str, schema: Schema, required: bool) -> Json:
    """A field in the URL: a list or an object is written as JSON."""
    parameter: Json = {"name": name, "in": "query", "required": required, "description": schema["description"]}
    if schema.get("type") in ("object", "array"):
        return {**parameter, "content": {"application/json": {"schema": schema}}}
    return {**parameter, "schema": schema["oneOf"][0] if "oneOf" in schema else schema}


def _operation(
    path: str,
    method: str,
    summary: str,
    response: Schema,
    statuses: tuple[int, ...] = ANY_PATH,
    media: str = "application/json",
) -> Json:
    """One operation with the schema of its answer and all errors that it may return."""
    name = f"{method}_{path.strip('/').replace('/', '_').replace('.', '_')}"
    answer = {"description": "Done.", "content": {media: {"schema": response}}}
    return {
        "operationId": name,
        "summary": summary,
        "responses": {"200": answer, **{str(status): _error(status) for status in sorted(statuses)}},
    }


def _error(status: int) -> Json:
    meanings = [f"`{code}`: {meaning}" for code, (of_code, meaning) in CODES.items() if of_code == status]
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    return {"description": " ".join(meanings), "content": content}
