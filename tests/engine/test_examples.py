"""Examples in docstrings print what they say."""

import doctest
import importlib
import pkgutil

import pytest

from refcolbert import engine

MODULES = [module.name for module in pkgutil.iter_modules(engine.__path__)]


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_give_what_they_show(name):
    """Every >>> example of the module runs and prints the lines below it."""
    assert doctest.testmod(importlib.import_module(f"refcolbert.engine.{name}")).failed == 0
