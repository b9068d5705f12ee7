"""The walls of the house: what may import what, read from the sources."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import refcolbert

PACKAGE = Path(refcolbert.__file__).parent

# Rooms in the order in which data flows: a module imports only what stands before it.
ORDER = [
    "_version", "errors", "spec",
    "topk", "tokens", "ragged", "maxsim", "pooling", "kmeans", "codec", "ivf", "strict", "format", "files", "disk",
    "filters", "documents", "graphs", "encoder", "store", "collection", "levels", "search",
    "words", "markup", "heatmap", "explain", "markdown", "passages", "splitting", "docstrings",
    "segments", "generation", "building",
    "hits", "rerank", "inputs", "answers", "grouping", "index", "importers",
    "evaluate", "comparison", "tune", "calibration", "plan",
    "terminal", "service", "cli", "adapters",
]  # fmt: skip
STANDALONE = {"definition"}  # the oracle: imports nothing of the package, nothing imports it

# Third-party packages, and the only rooms that may import them ("*": any).
THIRD_PARTY = {
    "numpy": "*",
    "tokenizers": {"tokens"},
    "onnxruntime": {"encoder"},
    "huggingface_hub": {"encoder"},
    "tqdm": {"encoder", "index", "cli"},
    "filelock": {"files"},
    "click": {"cli", "terminal"},
    "ir_measures": {"evaluate"},
    **{name: {"service"} for name in ("starlette", "uvicorn", "h11", "prometheus_client", "threadpoolctl")},
    "markdown_it": {"markdown"},
    "yaml": {"markdown"},
    "starlette": {"service", "cli"},
    "uvicorn": {"service", "cli"},
    "langchain_core": {"adapters"},
    "pydantic": {"adapters"},
    "llama_index": {"adapters"},
    "haystack": {"adapters"},
    "matplotlib": {"heatmap", "explain"},  # explain names its type only
}


def files(room):
    """A room's source files: one, or those of a folder."""
    return sorted((PACKAGE / room).rglob("*.py")) if (PACKAGE / room).is_dir() else [PACKAGE / f"{room}.py"]


def calls(room):
    """Every call in a room's text."""
    return [
        node for file in files(room) for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Call)
    ]


def imports(room):
    """(own rooms, other top-level packages) that a room imports anywhere in its text."""
    own, other = set(), set()
    for file in files(room):
        inside = len(file.relative_to(PACKAGE).parts) - 1  # so many levels up are still the same room
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom) and node.level > inside:
                own |= {node.module.split(".")[0]} if node.module else {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                other.add(node.module.split(".")[0])
            elif isinstance(node, ast.Import):
                other |= {alias.name.split(".")[0] for alias in node.names}
    return own, other - set(sys.stdlib_module_names)


FOLDERS = {p.parent.name for p in PACKAGE.glob("*/__init__.py")}
MODULES = sorted({p.stem for p in PACKAGE.glob("*.py") if p.stem != "__init__"} | FOLDERS)


def test_every_room_is_on_the_map():
    """A new module has its place in the order."""
    assert set(MODULES) == set(ORDER) | STANDALONE


@pytest.mark.parametrize("module", MODULES)
def test_imports_follow_the_arrows(module):
    """A room imports only rooms before it, and third-party packages only where they belong."""
    own, other = imports(module)
    allowed = set() if module in STANDALONE else set(ORDER[: ORDER.index(module)])
    assert own <= allowed, f"{module} imports {own - allowed}"
    for package in other:
        rooms = THIRD_PARTY.get(package, set())
        assert rooms == "*" or module in rooms, f"{module} imports {package}"


def test_only_the_store_writes_index_files():
    """Calls that change a disk stand in disk.py, which only store.py imports; others write TREC runs and exports."""
    writing = {"write_bytes", "write_text", "unlink", "mkdir", "rename", "replace_file", "touch", "save", "tofile"}
    found = {
        (module, node.func.attr)
        for module in MODULES
        for node in calls(module)
        if isinstance(node.func, ast.Attribute) and node.func.attr in writing
    }
    assert {(m, call) for m, call in found if m != "disk"} == {("evaluate", "write_text"), ("importers", "unlink")}
    assert [module for module in MODULES if "disk" in imports(module)[0]] == ["store"]


def test_importing_pulls_no_torch_and_changes_nothing():
    """A fresh interpreter has no torch, transformers, onnx or scipy after the import, and the same environment."""
    code = """
import os, sys, random
before = dict(os.environ), random.getstate()
import refcolbert, refcolbert.cli
assert (dict(os.environ), random.getstate()) == before
heavy = {"torch", "transformers", "onnx", "scipy", "huggingface_hub", "ir_measures"} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", code], check=True, env={"PATH": ""}, timeout=120)
