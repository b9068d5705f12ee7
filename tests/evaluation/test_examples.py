"""The examples in the docstrings of evaluation/ print what they show."""

import doctest
from importlib import import_module

import pytest


@pytest.mark.parametrize("name", ["metrics", "significance", "tune", "plan"])
def test_examples_print_what_they_show(name):
    """Every >>> example of the module prints the result below it."""
    failed, attempted = doctest.testmod(import_module(f"refcolbert.evaluation.{name}"))
    assert (failed, attempted > 0) == (0, True)
