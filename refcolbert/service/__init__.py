"""The HTTP service: `refcolbert serve INDEX`, or `server.bind(Live(path)).run()` from Python. Needs the extra `serve`.

`app.create_app` is the ASGI application; `server` puts it behind a socket with the clocks that HTTP needs.
"""

from .limits import LIMITS, ServiceLimits
from .reload import Live

__all__ = [
    "CORES",
    "LIMITS",
    "Live",
    "ServiceLimits",
]  # what needs starlette or uvicorn is imported from its own module
