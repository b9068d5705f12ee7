"""The service's OpenAPI document, made from the tables that its routes are made from."""

from collections.abc import Mapping, Sequence
from typing import Any

from .._version import __version__
from . import schemas
from .endpoints import Endpoint
from .http_errors import CODES
from .requests import Field

__all__ = ["openapi"]

Json = dict[str, Any]

STATES = {
    "/info": ("What the index holds and how", schemas.INFO),
    "/health": ("Whether the process answers", schemas.STATUS),
    "/ready": ("Whether it takes requests", schemas.STATUS),
    "/openapi.json": ("This document", {"type": "object"}),
}
EVERYWHERE = (400, 401, 405, 408, 413, 431, 500, 501, 503)  # refusals that any path may give; with a body also:
BODY = (404, 411, 415)


def openapi(endpoints: Sequence[Endpoint], *, token: bool) -> Json:
    """OpenAPI 3.1 of a service with these endpoints; `token`: whether it asks for one."""
    paths: Json = {path: _asked(endpoint, path) for endpoint in endpoints for path in endpoint.paths}
    paths |= {path: {"get": _operation(path, "get", *state)} for path, state in STATES.items()}
    paths["/metrics"] = {"get": _metrics()}
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


def _asked(endpoint: Endpoint, path: str) -> Json:
    """The operations of one endpoint's path."""
    required = [name for name, entry in endpoint.fields.items() if entry.required]
    properties = {name: entry.schema for name, entry in endpoint.fields.items()}
    schema = {"type": "object", "properties": properties, "required": required, "additionalProperties": False}
    post = _operation(path, "post", endpoint.summary, endpoint.response, BODY)
    post["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
    if endpoint.names is None:
        return {"post": post}
    get = _operation(path, "get", endpoint.summary, endpoint.response)
    other = {name: given for given, name in endpoint.names.items()}
    get["parameters"] = [_parameter(other.get(name, name), entry) for name, entry in endpoint.fields.items()]
    return {"get": get, "post": post}


def _parameter(name: str, entry: Field) -> Json:
    """A field in the URL: a list or an object is written as JSON."""
    place: Json = {"name": name, "in": "query", "required": entry.required, "description": entry.about}
    if entry.schema.get("type") in ("object", "array"):
        return {**place, "content": {"application/json": {"schema": entry.schema}}}
    first: Mapping[str, Any] = entry.schema["oneOf"][0] if "oneOf" in entry.schema else entry.schema
    return {**place, "schema": first}


def _operation(path: str, method: str, summary: str, response: Json, more: tuple[int, ...] = ()) -> Json:
    name = f"{method}_{path.strip('/').replace('/', '_').replace('.', '_')}"
    refusals = {str(status): _refusal(status) for status in sorted({*EVERYWHERE, *more})}
    answer = {"description": "Done.", "content": {"application/json": {"schema": response}}}
    return {"operationId": name, "summary": summary, "responses": {"200": answer, **refusals}}


def _metrics() -> Json:
    found = _operation("/metrics", "get", "Counters in Prometheus' form", {"type": "string"})
    found["responses"]["200"]["content"] = {"text/plain": {"schema": {"type": "string"}}}
    return found


def _refusal(status: int) -> Json:
    meanings = [f"`{code}`: {meaning}" for code, (its, meaning) in CODES.items() if its == status]
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    return {"description": " ".join(meanings), "content": content}
