"""Wrong implementations of the whole protocol, each with one fault that an engine has had or could have."""

from .faults import BROKEN, Broken, everything

__all__ = ["BROKEN", "Broken", "everything"]

everything()
