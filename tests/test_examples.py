"""The examples in docstrings: each `>>>` prints what the docstring says."""

import doctest
import importlib
from pathlib import Path

import pytest

import refcolbert

PACKAGE = Path(refcolbert.__file__).parent
NEEDS_FRAMEWORKS = "adapters"
MODULES = [
    ".".join(("refcolbert", *file.relative_to(PACKAGE).with_suffix("").parts))
    for file in sorted(PACKAGE.rglob("*.py"))
    if ">>> " in file.read_text() and NEEDS_FRAMEWORKS not in file.parts
]


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_module_run(name, tmp_path, monkeypatch):
    """Every example of a module runs in a folder of its own, with the model of the package."""
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    for number, test in enumerate(doctest.DocTestFinder().find(importlib.import_module(name))):
        (tmp_path / str(number)).mkdir()
        monkeypatch.chdir(tmp_path / str(number))
        runner.run(test)
    assert runner.summarize(verbose=False).attempted > 0
    assert runner.summarize(verbose=False).failed == 0


def test_the_public_index_has_examples():
    """The methods that readers meet first are shown at work."""
    assert {"refcolbert.index", "refcolbert.rerank", "refcolbert.documents"} <= set(MODULES)
