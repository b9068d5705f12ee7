"""Register a fault: `@fault("9", "maxsim_masked")` decorates the function that replaces the right one."""

from dataclasses import dataclass
from typing import Any

from ..complete import complete

BROKEN: dict[str, "Broken"] = {}


@dataclass(frozen=True, slots=True)
class Broken:
    """One wrong implementation, the invariant that it breaks, and a sentence about the fault."""

    name: str
    invariant: str
    what: str
    implementation: Any


def fault(invariant, attribute):
    """Register the decorated function as the `attribute` of an implementation that is otherwise right."""

    def register(wrong):
        name = wrong.__name__
        if name in BROKEN:
            raise ValueError(f"two faults are named {name!r}")
        implementation = complete(f"conformance.broken.{name}", **{attribute: wrong})
        BROKEN[name] = Broken(name, invariant, wrong.__doc__, implementation)
        return wrong

    return register


def everything():
    """Import the modules that register faults."""
    from . import codecs, retrieval, scoring, stores, texts, words  # noqa: F401 - they register
