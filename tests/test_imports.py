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
    "filters", "documents", "graphs", "encoder", "store", "collection", "search",
    "explain", "passages", "docstrings", "segments", "generation", "building",
    "hits", "rerank", "inputs", "answers", "index", "importers",
    "evaluate", "tune",
    "terminal", "cli",
]  # fmt: skip
STANDALONE = {"definition"}  # the oracle: imports nothing of the package, nothing imports it

# Third-party packages, and the only rooms that may import them ("*": any).
THIRD_PARTY = {
    "numpy": "*",
    "tokenizers": {"tokens"},
    "onnxruntime": {"encoder"},
    "huggingface_hub": {"encoder"},
    "tqdm": {"encoder", "index"},
    "filelock": {"files"},
    "click": {"cli", "terminal"},
    "ir_measures": {"evaluate"},
}


def imports(module):
    """(own modules, other top-level packages) that a module imports anywhere in its text."""
    own, other = set(), set()
    for node in ast.walk(ast.parse((PACKAGE / f"{module}.py").read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            own |= {node.module} if node.module else {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            other.add(node.module.split(".")[0])
        elif isinstance(node, ast.Import):
            other |= {alias.name.split(".")[0] for alias in node.names}
    return own, other - set(sys.stdlib_module_names)


MODULES = sorted(p.stem for p in PACKAGE.glob("*.py") if p.stem != "__init__")


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
        for node in ast.walk(ast.parse((PACKAGE / f"{module}.py").read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in writing
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
