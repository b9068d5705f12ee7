"""What is public, and the rules every module keeps."""

import ast
import importlib
import inspect
import logging
from importlib.util import find_spec
from pathlib import Path

import pytest

import refcolbert

PACKAGE = Path(refcolbert.__file__).parent
FILES = [p.relative_to(PACKAGE).with_suffix("") for p in PACKAGE.rglob("*.py") if not p.stem.startswith("_")]
# The adapters need their frameworks, and the tools of agents need mcp, which one environment of `make test` has.
NEEDING = {"adapters"} | (set() if find_spec("mcp") else {"mcp"})
MODULES = sorted(".".join(path.parts) for path in FILES if not NEEDING & set(path.parts))


@pytest.mark.parametrize("name", MODULES)
def test_all_names_the_public_definitions(name):
    """__all__ is sorted, every name exists, and no public class or function of the module is missing."""
    module = importlib.import_module(f"refcolbert.{name}")
    assert sorted(module.__all__) == sorted(set(module.__all__))
    assert all(hasattr(module, public) for public in module.__all__)
    own = {
        n
        for n, value in vars(module).items()
        if not n.startswith("_")
        and (inspect.isclass(value) or inspect.isfunction(value))
        and value.__module__ == module.__name__
    }
    assert own <= set(module.__all__), own - set(module.__all__)


def test_the_package_exports_what_it_says():
    """Every name in refcolbert.__all__ is there, and the fixed surface is among them."""
    assert all(hasattr(refcolbert, name) for name in refcolbert.__all__)
    assert {"Encoder", "Index", "Ragged", "Hit", "maxsim", "rerank"} <= set(refcolbert.__all__)


PACKAGES = sorted(".".join(p.parent.relative_to(PACKAGE.parent).parts) for p in PACKAGE.rglob("__init__.py"))


@pytest.mark.parametrize("name", [*PACKAGES, *(f"refcolbert.{name}" for name in MODULES)])
def test_every_module_can_be_star_imported(name):
    """`from X import *` works for every module and package that needs no framework."""
    exec(f"from {name} import *", {})  # noqa: S102 - our own modules


@pytest.mark.parametrize("name", MODULES)
def test_no_assert_and_no_print(name):
    """Validation raises typed errors; the library prints nothing."""
    tree = ast.parse((PACKAGE / f"{name.replace('.', '/')}.py").read_text())
    assert not [node.lineno for node in ast.walk(tree) if isinstance(node, ast.Assert)]
    calls = [node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)]
    assert "print" not in calls


@pytest.mark.parametrize("name", MODULES)
def test_long_functions_say_what_they_do(name):
    """Every function of 14 lines or more has a docstring, private ones too."""
    tree = ast.parse((PACKAGE / f"{name.replace('.', '/')}.py").read_text())
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    long = [node for node in functions if node.end_lineno - node.lineno + 1 >= 14]
    assert [node.name for node in long if not ast.get_docstring(node)] == []


def test_types_are_shipped_and_logging_is_silent():
    """py.typed is there, and the library's logger has a NullHandler and no level of its own."""
    assert (PACKAGE / "py.typed").exists()
    logger = logging.getLogger("refcolbert")
    assert any(isinstance(handler, logging.NullHandler) for handler in logger.handlers)
    assert logger.level == logging.NOTSET
