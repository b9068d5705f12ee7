"""The tables in their places: README.md and ARCHITECTURE.md."""

import re

from tools.environments import ROOT

from .invariants import invariants
from .tables import engines, summary

TABLES = {  # name of its markers -> where it stands, what makes it
    "summary": (ROOT / "README.md", summary),
    "engines": (ROOT / "ARCHITECTURE.md", engines),
    "invariants": (ROOT / "ARCHITECTURE.md", invariants),
}


def write() -> None:
    """Put the tables between their markers."""
    for name, (path, make) in TABLES.items():
        path.write_text(replaced(path.read_text(), name, make()))


def replaced(text: str, name: str, made: str) -> str:
    """The document with one table in place."""
    pattern = re.compile(rf"(<!-- {name}: [^\n]*-->\n).*?(<!-- end {name} -->)", re.DOTALL)
    if not pattern.search(text):
        raise ValueError(f"no document has a place for the table {name}")
    return pattern.sub(lambda found: f"{found[1]}{made}\n{found[2]}", text)
