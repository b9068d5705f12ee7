"""Which module may import which, read from the sources."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import refcolbert

PACKAGE = Path(refcolbert.__file__).parent

# Modules (or folders) in the order in which data flows: each imports only what comes before it.
ORDER = [
    "refcolbert._version",
    "refcolbert.errors",
    "refcolbert.arrays",
    "refcolbert.checks",
    "refcolbert.encoding.spec",
    "refcolbert.engine.topk",
    "refcolbert.encoding.tokens",
    "refcolbert.engine.ragged",
    "refcolbert.engine.maxsim",
    "refcolbert.engine.pooling",
    "refcolbert.engine.kmeans",
    "refcolbert.engine.codec",
    "refcolbert.engine.ivf",
    "refcolbert.storage.strict_json",
    "refcolbert.storage.format",
    "refcolbert.storage.locks",
    "refcolbert.storage.durable",
    "refcolbert.storage.filters",
    "refcolbert.documents",
    "refcolbert.storage.document_file",
    "refcolbert.encoding.onnx_file",
    "refcolbert.encoding.encoder",
    "refcolbert.storage.store",
    "refcolbert.engine.segments",
    "refcolbert.engine.centroid_interaction",
    "refcolbert.engine.search",
    "refcolbert.explanation.alignment",
    "refcolbert.explanation.html",
    "refcolbert.explanation.heatmap",
    "refcolbert.explanation.explanation",
    "refcolbert.corpus.markdown",
    "refcolbert.corpus.readers",
    "refcolbert.corpus.passages",
    "refcolbert.corpus.stdlib_docstrings",
    "refcolbert.storage.segment_files",
    "refcolbert.storage.generation",
    "refcolbert.storage.bulk_build",
    "refcolbert.storage.groups",
    "refcolbert.arguments",
    "refcolbert.hits",
    "refcolbert.rerank",
    "refcolbert.index",
    "refcolbert.interchange.plaid",
    "refcolbert.interchange.vector_files",
    "refcolbert.evaluation.metrics",
    "refcolbert.evaluation.significance",
    "refcolbert.evaluation.tune",
    "refcolbert.evaluation.calibration",
    "refcolbert.evaluation.plan",
    "refcolbert.cli.printing",
    "refcolbert.service",
    "refcolbert.cli",
    "refcolbert.adapters",
]
STANDALONE = {"refcolbert.definition"}  # the oracle: imports nothing of the package, nothing imports it

# Third-party packages, and the only modules that may import them.
THIRD_PARTY = {
    "tokenizers": {"refcolbert.encoding.tokens"},
    "onnxruntime": {"refcolbert.encoding.encoder"},
    "huggingface_hub": {"refcolbert.encoding.encoder"},
    "tqdm": {"refcolbert.encoding.encoder", "refcolbert.index", "refcolbert.cli"},
    "filelock": {"refcolbert.storage.locks"},
    "click": {"refcolbert.cli", "refcolbert.cli.printing"},
    "ir_measures": {"refcolbert.evaluation.metrics"},
    "starlette": {"refcolbert.service", "refcolbert.cli"},
    "uvicorn": {"refcolbert.service", "refcolbert.cli"},
    "h11": {"refcolbert.service"},
    "prometheus_client": {"refcolbert.service"},
    "threadpoolctl": {"refcolbert.service"},
    "markdown_it": {"refcolbert.corpus.markdown"},
    "yaml": {"refcolbert.corpus.markdown"},
    "langchain_core": {"refcolbert.adapters"},
    "pydantic": {"refcolbert.adapters"},
    "llama_index": {"refcolbert.adapters"},
    "haystack": {"refcolbert.adapters"},
    "matplotlib": {
        "refcolbert.explanation.heatmap",
        "refcolbert.explanation.explanation",
    },  # explain names its type only
}
WRITERS = {  # calls that change a disk, apart from the module of operations that only the store imports
    ("refcolbert.evaluation.metrics", "write_text"),
    ("refcolbert.interchange.vector_files", "unlink"),
}


def dotted(file):
    """The dotted name of a source file of the package."""
    parts = file.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {dotted(file): file for file in sorted(PACKAGE.rglob("*.py"))}


def entry(name):
    """The entry of ORDER that a module belongs to: itself, or a folder above it."""
    while name and name not in {*ORDER, *STANDALONE}:
        name = name.rpartition(".")[0]
    return name


def imported(name):
    """Dotted names that a module imports anywhere in its text."""
    file, names = FILES[name], set()
    package = name if file.stem == "__init__" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package.split(".")[: len(package.split(".")) - node.level + 1]) if node.level else ""
            module = ".".join(filter(None, [base, node.module]))
            names |= {f"{module}.{alias.name}" if f"{module}.{alias.name}" in FILES else module for alias in node.names}
    return names


MODULES = sorted(name for name in FILES if FILES[name].stem != "__init__" or name in ORDER)


def test_every_module_is_on_the_map():
    """A new module has its place in the order."""
    assert {name for name in MODULES if not entry(name)} == set()
    assert {name for name in ORDER if name not in FILES} == set()


@pytest.mark.parametrize("module", MODULES)
def test_imports_follow_the_order(module):
    """A module imports only what comes before it, and third-party packages only where they belong."""
    place = entry(module)
    before = set() if place in STANDALONE else {*ORDER[: ORDER.index(place)], place}
    for name in imported(module):
        top = name.split(".")[0]
        if top == "refcolbert":
            assert entry(name) in before, f"{module} imports {name}"
        elif top not in {*sys.stdlib_module_names, "numpy"}:
            assert place in THIRD_PARTY.get(top, set()), f"{module} imports {name}"


def test_only_the_store_writes_index_files():
    """One module changes the disk and only the store imports it; others write TREC runs and exports."""
    writing = {"write_bytes", "write_text", "unlink", "mkdir", "rename", "replace_file", "touch", "save", "tofile"}
    calls = {
        (name, node.func.attr)
        for name, file in FILES.items()
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in writing
    }
    assert {(name, call) for name, call in calls if name != "refcolbert.storage.durable"} == WRITERS
    assert [name for name in FILES if "refcolbert.storage.durable" in imported(name)] == ["refcolbert.storage.store"]


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
