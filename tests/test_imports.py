"""Which folder may import which, and what each may do: read from the sources."""

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import refcolbert

PACKAGE = Path(refcolbert.__file__).parent

# Each layer imports only from the layers above it, and from its own folder.
LAYERS = [
    {"_version", "errors", "arrays"},
    {"checks"},
    {"engine"},
    {"encoding", "documents"},
    {"storage", "explanation", "corpus"},
    {"arguments"},
    {"hits"},
    {"rerank", "reading"},
    {"synchronize"},
    {"index", "parts"},
    {"sharded"},
    {"interchange", "evaluation", "cluster"},
    {"service"},
    {"cli", "adapters"},
    {"__main__"},
]
STANDALONE = {"definition"}  # the oracle: it imports nothing of the package, and nothing imports it

# Third-party packages, and where each may be imported: a folder, or a module of it.
THIRD_PARTY = {
    "tokenizers": {"encoding.tokens"},
    "onnxruntime": {"encoding.encoder"},
    "huggingface_hub": {"encoding.hub"},
    "tqdm": {"encoding.encoder", "index", "cli", "cluster.workers"},
    "dask": {"cluster.workers"},
    "distributed": {"cluster.workers"},
    "filelock": {"storage.locks"},
    "fsspec": {"storage.objects"},
    "click": {"cli"},
    "watchfiles": {"cli"},
    "mcp": {"service.mcp"},
    "ir_measures": {"evaluation.metrics"},
    "starlette": {"service", "cli"},
    "uvicorn": {"service", "cli"},
    "h11": {"service"},
    "prometheus_client": {"service"},
    "threadpoolctl": {"service", "cluster.workers"},
    "markdown_it": {"corpus.markdown"},
    "yaml": {"corpus.markdown"},
    "bs4": {"corpus.pages"},
    "pypdf": {"corpus.pages"},
    "pyarrow": {"corpus.tables"},
    "pathspec": {"corpus.folders"},
    "tree_sitter": {"corpus.source_code"},
    "langchain_core": {"adapters"},
    "pydantic": {"adapters"},
    "llama_index": {"adapters"},
    "haystack": {"adapters"},
    "matplotlib": {"explanation"},
}
INPUT_AND_OUTPUT = {"io", "os", "pathlib", "shutil", "socket", "sqlite3", "subprocess", "tempfile", "mmap", "logging"}
WRITING = {"write_bytes", "write_text", "unlink", "mkdir", "rename", "replace_file", "touch", "save", "tofile"}


def dotted(file):
    """The dotted name of a source file within the package."""
    parts = file.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {dotted(file): file for file in sorted(PACKAGE.rglob("*.py"))}
FILES.pop("")  # the package itself gathers the public names
LAYER_OF = {name: number for number, layer in enumerate(LAYERS) for name in layer}


def imported(module):
    """(modules of the package, top-level names of other packages) that a module imports anywhere in its text."""
    package = module if FILES[module].stem == "__init__" else module.rpartition(".")[0]
    own, other = set(), set()
    for node in ast.walk(ast.parse(FILES[module].read_text())):
        if isinstance(node, ast.Import):
            other |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            other.add(node.module.split(".")[0])
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".") if package else []
            base = [*parts[: len(parts) - node.level + 1], *(node.module.split(".") if node.module else [])]
            names = {".".join([*base, alias.name]) for alias in node.names}
            own |= {name if name in FILES else ".".join(base) for name in names}
    return own, other


def test_every_module_has_a_layer():
    """A new module or folder is given its place in LAYERS."""
    assert {name.split(".")[0] for name in FILES} == set(LAYER_OF) | STANDALONE


@pytest.mark.parametrize("module", FILES)
def test_imports_follow_the_layers(module):
    """A module imports only from layers above its own, and third-party packages only where they belong."""
    own, other = imported(module)
    folder = module.split(".")[0]
    for name in own:
        assert folder not in STANDALONE, f"{module} imports {name}"
        above = LAYER_OF[name.split(".")[0]] < LAYER_OF[folder]
        assert above or name.split(".")[0] == folder, f"{module} imports {name}"
    for name in other - set(sys.stdlib_module_names) - {"numpy"}:
        assert {module, folder} & THIRD_PARTY.get(name, set()), f"{module} imports {name}"


def test_no_modules_import_each_other():
    """There is no circle, within a folder or between folders."""
    graph = {name: imported(name)[0] - {name} for name in FILES}
    assert list(TopologicalSorter(graph).static_order())


def test_the_engine_does_no_input_or_output():
    """Nothing in engine/ imports a module that reaches files, processes or networks, or calls open or print."""
    for name in (name for name in FILES if name.startswith("engine")):
        assert not imported(name)[1] & INPUT_AND_OUTPUT, name
        calls = [n.func for n in ast.walk(ast.parse(FILES[name].read_text())) if isinstance(n, ast.Call)]
        assert not {"open", "print"} & {function.id for function in calls if isinstance(function, ast.Name)}, name


def test_only_the_store_writes_index_files():
    """One module changes the disk and only the store imports it; others write TREC runs and exported vectors."""
    calls = {
        (name, node.func.attr)
        for name, file in FILES.items()
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in WRITING
    }
    writers = {(name, call) for name, call in calls if name != "storage.durable"}
    assert writers == {("evaluation.metrics", "write_text"), ("interchange.vector_files", "unlink")}
    assert [name for name in FILES if "storage.durable" in imported(name)[0]] == ["storage.store"]


def test_importing_pulls_no_torch_and_changes_nothing():
    """A fresh interpreter has no torch, transformers, onnx or scipy after the import, and the same environment."""
    code = """
import os, sys, random
before = dict(os.environ), random.getstate()
import refcolbert, refcolbert.cli, refcolbert.cluster
assert (dict(os.environ), random.getstate()) == before
heavy = {"torch", "transformers", "onnx", "scipy", "huggingface_hub", "ir_measures", "dask"} & set(sys.modules)
heavy |= {"bs4", "pypdf", "pyarrow", "pathspec", "tree_sitter"} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", code], check=True, env={"PATH": ""}, timeout=120)
