"""Print the lines of code: of the part that a reader starts with, and of each folder.

python -m tools.release.code_size
"""

import ast
from collections.abc import Iterable
from pathlib import Path
from statistics import median

from tools import ROOT

__all__ = ["lines", "sentence"]

CORE, EXPORT = ROOT / "refcolbert", ROOT / "export" / "refcolbert_export"


def lines(*paths: Path) -> int:
    """Lines of the Python files in these files and folders."""
    return sum(path.read_text().count("\n") for path in _files(paths))


def sentence() -> str:
    """The claim of the documents, rounded to hundreds of lines."""
    engine, definition = lines(CORE / "encoding", CORE / "engine"), lines(CORE / "definition.py")
    return f"encoding/ and engine/ are {round(engine, -2):,} lines, definition.py {round(definition, -2):,}"


def _files(paths: Iterable[Path]) -> list[Path]:
    return [file for path in paths for file in (sorted(path.rglob("*.py")) if path.is_dir() else [path])]


def _row(path: Path) -> str:
    trees = [ast.parse(file.read_text()) for file in _files([path])]
    functions = [n for tree in trees for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    lengths = [(n.end_lineno or n.lineno) - n.lineno + 1 for n in functions] or [0]
    name = path.relative_to(ROOT)
    return f"{name!s:36} {lines(path):6,} {len(functions):9,} {median(lengths):7.0f} {max(lengths):8}"


def main() -> None:
    """Print the sentence and the table."""
    print(f"{sentence()}\n\n{'':36} {'lines':>6} functions  median  longest")
    for whole in (CORE, EXPORT, ROOT / "tools", ROOT / "tests"):
        for path in [whole, *sorted(path for path in whole.iterdir() if path.is_dir() and _files([path]))]:
            print(_row(path))
    print(_row(CORE / "definition.py"))


if __name__ == "__main__":
    main()
