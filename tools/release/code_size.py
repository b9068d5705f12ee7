"""Print how large each room is: lines of code, functions, the median and longest of them.

python -m tools.release.code_size
"""

import ast
from pathlib import Path
from statistics import median

ROOT = Path(__file__).parents[2]
PARTS = ("refcolbert", "export/refcolbert_export", "tools", "tests")
SURFACE = {"docstrings.py", "evaluate.py", "passages.py", "documents.py", "filters.py"}
FOLDERS = {"cli"}  # of the surface


def functions(tree: ast.Module) -> list[int]:
    """Lengths of all functions, in lines."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return [(node.end_lineno or node.lineno) - node.lineno + 1 for node in ast.walk(tree) if isinstance(node, kinds)]


def main() -> None:
    """Print the table."""
    core = 0
    for part in PARTS:
        total = 0
        lengths: list[int] = []
        for path in sorted((ROOT / part).rglob("*.py")):
            text = path.read_text()
            lines, own = text.count("\n"), functions(ast.parse(text))
            total, lengths = total + lines, lengths + own
            if part == "refcolbert":
                core += 0 if path.name in SURFACE or path.parent.name in FOLDERS else lines
                print(f"  {path.name:20} {lines:5} lines {len(own):4} functions, longest {max(own, default=0):3}")
        print(f"{part:26} {total:6} lines {len(lengths):5} functions, median {median(lengths or [0]):.0f}")
    print(f"numerical rooms of the core {core} lines (aim: about 3,000)")


if __name__ == "__main__":
    main()
