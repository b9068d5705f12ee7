"""Write docs/benchmarks.md from benchmarks/*.json.

    python -m tools.bench.pages

One file holds one table: title, command, machine, date, versions, columns, rows and notes. Files are shown by name.
Numbers are written with the decimals that the file has. Whoever measures a table again edits its file, date included;
some commands do that with --record.
"""

import json
import re
import textwrap
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

from tools import ROOT

__all__ = ["PAGE", "load", "page", "record", "section"]

PAGE = ROOT / "docs" / "benchmarks.md"
KEYS = ["title", "command", "date", "machine", "versions", "columns", "rows", "notes"]
NUMBER = re.compile(r"[\d,.]+(?: (?:%|MB|s))?")

INTRODUCTION = """\
# Benchmarks

<!-- Written by `python -m tools.bench.pages` from benchmarks/*.json: edit these files, not this page. -->

Each table says which command printed it, when, and on which machine. `DIR` is a folder of
collections in BEIR's layout. The docstring of each command says how to make its `CHECKPOINT`,
`CORPUS` or `INDEX`. Compare times within one table, because each table is one run. "The default
model" is the first one, which had 128 columns, unless a table says that it is the second one.
"""


def load() -> dict[str, dict[str, Any]]:
    """File name -> benchmark, by name. Numbers stay text, so that 0.760 keeps its last digit."""
    return {
        path.name: json.loads(path.read_text(), parse_float=str, parse_int=lambda digits: f"{int(digits):,}")
        for path in sorted((ROOT / "benchmarks").glob("*.json"))
    }


def section(name: str, benchmark: dict[str, Any]) -> str:
    """One benchmark in Markdown. Raises `ValueError` when keys or cells are missing."""
    if list(benchmark) != KEYS:
        raise ValueError(f"{name}: expected the keys {KEYS}, found {list(benchmark)}; see tools/bench/pages.py")
    columns, rows = benchmark["columns"], benchmark["rows"]
    for row in rows:
        if len(row) != len(columns):
            raise ValueError(f"{name}: expected {len(columns)} cells per row, found {len(row)} in {row}")
    numeric = [all(NUMBER.fullmatch(row[i]) for row in rows if row[i] not in ("", "-")) for i in range(len(columns))]
    versions = ", ".join(f"{package} {version}" for package, version in benchmark["versions"].items())
    lines = [
        f"## {benchmark['title']}",
        "",
        f"    {benchmark['command']}",
        "",
        _wrapped(f"{benchmark['date']}, {benchmark['machine']}. {versions}."),
        "",
        *(f"| {' | '.join(cells)} |" for cells in (columns, ["--:" if right else "---" for right in numeric], *rows)),
        *([""] if benchmark["notes"] else []),
        *(_wrapped(f"- {note}", indent="  ") for note in benchmark["notes"]),
    ]
    return "\n".join(lines) + "\n"


def page() -> str:
    """The whole page."""
    return "\n".join([INTRODUCTION, *(section(*item) for item in load().items())])


def record(name: str, rows: Sequence[Sequence[Any]]) -> None:
    """Put new rows into a file of benchmarks/, with today's date and the installed versions of what it names."""
    path = ROOT / "benchmarks" / name
    benchmark = json.loads(path.read_text())
    benchmark["date"] = datetime.now(UTC).date().isoformat()
    benchmark["versions"] = {package: version(package) for package in benchmark["versions"]}
    benchmark["rows"] = rows
    path.write_text("{\n" + ",\n".join(f' "{key}": {_laid_out(value)}' for key, value in benchmark.items()) + "\n}\n")


def _laid_out(value: Any) -> str:
    """JSON of one value: a list of rows, and one of notes, with one line per item."""
    if isinstance(value, list) and any(isinstance(item, list) or len(item) > 60 for item in value):
        return "[\n" + ",\n".join(f"  {json.dumps(item, ensure_ascii=False)}" for item in value) + "\n ]"
    return json.dumps(value, ensure_ascii=False)


def _wrapped(text: str, indent: str = "") -> str:
    return textwrap.fill(text, 100, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


if __name__ == "__main__":
    PAGE.write_text(page())
