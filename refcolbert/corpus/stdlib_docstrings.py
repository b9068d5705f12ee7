"""The docstrings of Python's standard library: real English text that is on every machine.

The demo indexes them. The default model was first trained on them. Sources are parsed, never imported.
"""

import ast
import inspect
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from ..documents import Document

__all__ = ["standard_library_docstrings"]

# Test suites, vendored packages and toys: nobody searches their documentation.
LEFT_OUT = {
    "test",
    "tests",
    "idlelib",
    "lib2to3",
    "site-packages",
    "ensurepip",
    "turtledemo",
    "pydoc_data",
    "__pycache__",
}
LEAST_CHARACTERS = 40  # a shorter docstring ("See above.") says nothing on its own

Definition = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def standard_library_docstrings() -> list[Document]:
    """Return one document per docstring of a public module, class or function, sorted by qualified name.

    The id is the qualified name. The text is the name and the docstring, and each text occurs once. The metadata holds
    the module.
    """
    root = Path(sysconfig.get_path("stdlib"))
    documents = {document.text: document for path in sorted(root.rglob("*.py")) for document in _of_file(path, root)}
    by_id = {document.id: document for document in documents.values()}
    return [by_id[name] for name in sorted(by_id)]


def _of_file(path: Path, root: Path) -> Iterator[Document]:
    parts = path.relative_to(root).with_suffix("").parts
    if LEFT_OUT & set(parts) or any(part.startswith("_") and part != "__init__" for part in parts):
        return
    module = ".".join(part for part in parts if part != "__init__")
    try:
        tree = ast.parse(path.read_bytes())
    # A few files of the library are broken on purpose.
    except (SyntaxError, ValueError):
        return
    for name, text in _of_node(tree, module):
        yield Document(id=name, text=f"{name}: {text}", metadata={"module": module})


def _of_node(node: Definition, name: str) -> Iterator[tuple[str, str]]:
    text = ast.get_docstring(node)
    if text and len(text) >= LEAST_CHARACTERS:
        yield name, inspect.cleandoc(text)
    for child in node.body:
        if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and not child.name.startswith("_"):
            yield from _of_node(child, f"{name}.{child.name}")
