"""Examples in docstrings print what they say."""

import doctest
import importlib
import pkgutil

from refcolbert import engine


def test_the_examples_give_what_they_show():
    """Every >>> example of the engine prints the lines below it."""
    names = [module.name for module in pkgutil.iter_modules(engine.__path__)]
    results = [doctest.testmod(importlib.import_module(f"refcolbert.engine.{name}")) for name in names]
    assert sum(result.failed for result in results) == 0
    assert sum(result.attempted for result in results) > 10
