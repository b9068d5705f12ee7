"""Hand-made wrong implementations, each complete but for one fault that somebody has made or would make."""

from .faults import BROKEN, Broken, everything

__all__ = ["BROKEN", "Broken", "everything"]

everything()
