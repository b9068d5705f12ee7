"""The examples in the docstrings of encoding, explanation and corpus are right."""

import doctest
import importlib

import pytest


@pytest.mark.parametrize(
    "name",
    [
        "corpus.markdown",
        "corpus.passages",
        "corpus.readers",
        "encoding.encoder",
        "encoding.spec",
        "explanation.alignment",
        "explanation.explanation",
    ],
)
def test_the_examples_of_a_module_run(name):
    """Each example gives the output that its docstring shows."""
    failed, attempted = doctest.testmod(importlib.import_module(f"refcolbert.{name}"))
    assert failed == 0
    assert attempted > 0
