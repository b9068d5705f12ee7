"""Cases: how they are registered, how an implementation is loaded, and how a case is run against it.

An implementation is any object with some of the attributes that README.md lists. A case names the attributes that it
needs. If one is missing, the case is reported as "not offered", which does not count as passed.
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

from .oracle import STATEMENTS, definition, equation_of
from .pairs import pairs

CASES: dict[str, "Case"] = {}


class NotOffered(Exception):  # noqa: N818 - it is not an error
    """The implementation lacks an attribute that the case needs."""


@dataclass(frozen=True, slots=True)
class Case:
    """One statement about an implementation, and the function (implementation, **drawn) that fails if it is false."""

    name: str
    invariant: str  # number in the table of invariants
    equation: str  # number in the definition: of an equation, "2.6", or of a section, "8"
    needs: tuple[str, ...]
    function: Callable[..., None]
    strategies: dict[str, Any] = field(default_factory=dict)
    examples: tuple[dict[str, Any], ...] = ()
    heavy: bool = False  # a tenth of the examples, for cases whose single run is slow

    def check(self, implementation, max_examples=None, **options):
        """Run the case. Raises `NotOffered`, or the error of the failing case with a reproducer attached."""
        __tracebackhide__ = True
        missing = [name for name in self.needs if not offers(implementation, name)]
        if missing:
            raise NotOffered(", ".join(missing))
        run = self._prepared(implementation)
        if self.strategies:
            examples = max_examples or settings().max_examples
            n = max(examples // 10, 3) if self.heavy else examples
            run = settings(max_examples=n, deadline=None, **options)(run)
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


def case(invariant, *needs, equation=None, twice=False, examples=(), heavy=False, **strategies):
    """Register the decorated function as a case.

    `equation` is the number of an equation or a section; by default the equation of the first function that is needed.
    With `twice` there are two cases, which draw a `pair` on the grid and of unit vectors.
    """

    def register(function):
        kinds = {" (grid)": True, " (unit)": False} if twice else {"": None}
        for suffix, exact in kinds.items():
            name = function.__name__.replace("_", " ") + suffix
            if name in CASES:
                raise ValueError(f"two cases are named {name!r}")
            drawn = {**strategies, "pair": pairs(exact)} if twice else strategies
            own_examples = () if exact is False else tuple(examples)
            CASES[name] = Case(
                name, invariant, equation or equation_of(needs[0]), needs, function, drawn, own_examples, heavy
            )
        return function

    return register


def offers(implementation, name):
    """True if an implementation has an attribute; the name may be dotted."""
    for part in name.split("."):
        implementation = getattr(implementation, part, None)
    return implementation is not None


def load(name):
    """The implementation with this dotted module name. The definition is loaded without its package."""
    if name.startswith("conformance.broken."):
        return importlib.import_module("conformance.broken").BROKEN[name.rpartition(".")[2]].implementation
    if name == "conformance.complete":
        return importlib.import_module(name).complete(name)
    implementation = definition if name == "refcolbert.definition" else importlib.import_module(name)
    if not any(offers(implementation, need) for case in all_cases().values() for need in case.needs):
        raise ValueError(
            f"expected a module with functions of the protocol, {name} offers nothing: see tests/conformance/README.md"
        )
    return implementation


def name_of(implementation):
    """The dotted name by which an implementation is loaded."""
    name = getattr(implementation, "__name__", type(implementation).__name__)
    return "refcolbert.definition" if implementation is definition else name


PREAMBLE = """import sys; sys.path[:0] = ['.', 'tests']
from numpy import array, float32, inf, nan
from conformance import reproduce
from conformance.pairs import Pair"""


def reproducer(case, implementation, drawn):
    """The case, its equation, and lines to paste into a Python that was started in the root of the clone."""
    with np.printoptions(threshold=sys.maxsize, floatmode="unique", linewidth=110):
        values = "".join(f", {name}={value!r}" for name, value in drawn.items())
    call = f"reproduce({name_of(implementation)!r}, {case.name!r}{values})"
    kind = "equation" if "." in case.equation else "section"
    cited = f"{kind} {case.equation} of refcolbert definition {definition.DEFINITION_VERSION}"
    stated = f"{case.name}: {inspect.getdoc(case.function)}\nIt checks {cited}: {STATEMENTS[case.equation]}"
    return f"{stated}\nPaste this in the root of the clone to run the failing case again:\n{PREAMBLE}\n{call}"


def calls_of(error):
    """The last line of each reproducer that an error carries, and the errors that it groups."""
    own = [note.partition(f"{PREAMBLE}\n")[2] for note in getattr(error, "__notes__", ()) if PREAMBLE in note]
    return own + [call for inner in getattr(error, "exceptions", ()) for call in calls_of(inner)]


def reproduce(implementation_name, case_name, **drawn):
    """Run one case on given values. Raises the error of the case if it fails."""
    all_cases()[case_name].function(load(implementation_name), **drawn)


def all_cases():
    """Every case by name."""
    from . import cells, checkpoints, codecs, losses, scoring, stores, texts, words  # noqa: F401 - they register their cases

    return CASES
