"""What a case is, how an implementation is loaded, and how a case is run against one.

An implementation is any object with some of the attributes that README.md lists. A case names those it needs; one that
is absent makes the case "not offered", which is reported and is no pass.
"""

import importlib
import inspect
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from hypothesis import example, given, settings

from .oracle import definition
from .pairs import pairs

CASES: dict[str, "Case"] = {}


class NotOffered(Exception):  # noqa: N818 - it is not an error
    """The implementation lacks what a case needs."""


@dataclass(frozen=True, slots=True)
class Case:
    """One statement, and a function (implementation, **drawn) that fails where it does not hold."""

    name: str
    invariant: str
    needs: tuple[str, ...]
    function: Callable[..., None]
    strategies: dict[str, Any] = field(default_factory=dict)
    examples: tuple[dict[str, Any], ...] = ()
    heavy: bool = False  # a tenth of the examples, for cases whose single run is dear

    def check(self, implementation, max_examples=None, **how):
        """Run the case. Raises `NotOffered`, or what the failing assertion raised, with a reproducer attached."""
        __tracebackhide__ = True
        missing = [name for name in self.needs if not offers(implementation, name)]
        if missing:
            raise NotOffered(", ".join(missing))
        run = self._prepared(implementation)
        if self.strategies:
            examples = max_examples or settings().max_examples
            n = max(examples // 10, 3) if self.heavy else examples
            run = settings(max_examples=n, deadline=None, **how)(run)
        run()

    def _prepared(self, implementation):
        def run(**drawn):
            __tracebackhide__ = True
            try:
                self.function(implementation, **drawn)
            except NotOffered:
                raise
            except Exception as error:
                error.add_note(reproducer(self, implementation, drawn))
                raise

        # Hypothesis files failing examples under the name of the function
        run.__name__ = run.__qualname__ = re.sub(r"\W+", "_", f"{self.name} {name_of(implementation)}")
        run.__doc__ = self.function.__doc__
        if not self.strategies:
            return run
        for values in self.examples:
            run = example(**values)(run)
        return given(**self.strategies)(run)


def case(invariant, *needs, twice=False, examples=(), heavy=False, **strategies):
    """Register a case. With `twice` it takes a `pair`, of the grid for one case, of unit vectors for another."""

    def register(function):
        kinds = {" (grid)": True, " (unit)": False} if twice else {"": None}
        for suffix, exact in kinds.items():
            name = function.__name__.replace("_", " ") + suffix
            if name in CASES:
                raise ValueError(f"two cases are named {name!r}")
            drawn = {**strategies, "pair": pairs(exact)} if twice else strategies
            given_too = () if exact is False else tuple(examples)
            CASES[name] = Case(name, invariant, needs, function, drawn, given_too, heavy)
        return function

    return register


def offers(implementation, name):
    """Whether an implementation has an attribute, dotted names included."""
    for part in name.split("."):
        implementation = getattr(implementation, part, None)
    return implementation is not None


def load(name):
    """An implementation by the dotted name of its module; the definition needs no package around it."""
    if name.startswith("conformance.broken."):
        return importlib.import_module("conformance.broken").BROKEN[name.rpartition(".")[2]].implementation
    if name == "conformance.complete":
        return importlib.import_module(name).complete(name)
    implementation = definition if name == "refcolbert.definition" else importlib.import_module(name)
    if not any(offers(implementation, need) for found in all_cases().values() for need in found.needs):
        raise ValueError(f"{name} offers nothing of the protocol; tests/conformance/README.md lists it")
    return implementation


def name_of(implementation):
    """The dotted name by which an implementation is loaded."""
    name = getattr(implementation, "__name__", type(implementation).__name__)
    return "refcolbert.definition" if implementation is definition else name


PREAMBLE = """import sys; sys.path[:0] = ['.', 'tests']
from numpy import array, float32, inf, nan
from conformance import reproduce
from conformance.pairs import Pair"""


def reproducer(found, implementation, drawn):
    """Lines to paste into a Python that was started in the root of the clone."""
    with np.printoptions(threshold=sys.maxsize, floatmode="unique", linewidth=110):
        values = "".join(f", {name}={value!r}" for name, value in drawn.items())
    call = f"reproduce({name_of(implementation)!r}, {found.name!r}{values})"
    stated = f"{found.name}: {inspect.getdoc(found.function)}"
    return f"{stated}\nPaste this in the root of the clone to run the failing case again:\n{PREAMBLE}\n{call}"


def calls_of(error):
    """The last line of each reproducer that an error, or those that it groups, carry."""
    own = [note.partition(f"{PREAMBLE}\n")[2] for note in getattr(error, "__notes__", ()) if PREAMBLE in note]
    return own + [call for inner in getattr(error, "exceptions", ()) for call in calls_of(inner)]


def reproduce(implementation_name, case_name, **drawn):
    """Run one case on given values. Returns when it holds, raises when it does not."""
    all_cases()[case_name].function(load(implementation_name), **drawn)


def all_cases():
    """Every case by name."""
    from . import cells, checkpoints, codecs, losses, scoring, stores, texts  # noqa: F401 - they register their cases

    return CASES
