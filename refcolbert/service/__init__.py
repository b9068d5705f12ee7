"""The HTTP service: `refcolbert serve INDEX`, or `server.bind(Live(path)).run()` from Python.

Read in this order:

    limits          every limit of a service, with its default and its help
    reload          Live: the newest generation of an index
    schemas         JSON Schemas of requests and answers, and the check against them
    requests        strict JSON -> checked fields
    endpoints       the table of endpoints, and the functions that answer
    wire            queries, pools and explanations as JSON, for parts of a collection
    part_endpoints  what a part answers to a router
    http_parts      HttpPart: asks the services of a part
    write_endpoints what changes the index, in a service that is writable
    router          Router: the services of all parts as one index
    workers         the threads in which they run, and the queue
    http_errors     the table of error codes
    metrics         counters for Prometheus
    middleware      checks of a request's head: size, token, Host, method
    openapi         the OpenAPI document, from the same tables
    app             the ASGI application
    timeouts        uvicorn's protocol with time limits
    server          the socket
    mcp             the tools of an agent, over stdio instead of HTTP (extra `mcp`)

May import: everything of the package but the command line and the adapters. Needs the extra `serve`. The names below,
`server.bind`, `server.Bound` and `app.create_app` are public. Modules that need starlette or uvicorn are imported by
their users, so that `refcolbert serve --help` works without the extra.
"""

from .limits import LIMITS, ServiceLimits
from .reload import Live

__all__ = ["LIMITS", "Live", "ServiceLimits"]
