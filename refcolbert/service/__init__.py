"""The HTTP service: `refcolbert serve INDEX`. Extra `serve`."""

from .app import create_app
from .limits import ServiceLimits
from .live import Live

__all__ = ["Live", "ServiceLimits", "create_app"]
