"""Write the tables of docs/conformance-results.md between their markers."""

import re

from tools import ROOT

from .invariants import invariants
from .tables import engines, summary

PAGE = ROOT / "docs" / "conformance-results.md"
TABLES = {"summary": summary, "engines": engines, "invariants": invariants}  # marker -> what makes its table


def write() -> None:
    """Put every table between its markers."""
    text = PAGE.read_text()
    for name, make in TABLES.items():
        text = replaced(text, name, make())
    PAGE.write_text(text)


def replaced(text: str, name: str, table: str) -> str:
    """The page with one table in place. Raises `ValueError` when the page lacks the table's markers."""
    pattern = re.compile(rf"(<!-- {name}: [^\n]*-->\n).*?(<!-- end {name} -->)", re.DOTALL)
    if not pattern.search(text):
        raise ValueError(f"expected the markers of the table {name} in {PAGE.name}, found none; add them to the page")
    return pattern.sub(lambda match: f"{match[1]}{table}\n{match[2]}", text)
