"""The tables of ARCHITECTURE.md: what each engine passes and fails, and what tests each invariant."""

import json
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
RESULTS = Path(__file__).with_name("results.json")
DOCUMENT = ROOT / "ARCHITECTURE.md"
MARKS = {"passed": "yes", "failed": "**no**", "not offered": "-"}


def suite() -> tuple[dict[str, Any], dict[str, Any]]:
    """The cases and the broken implementations, by name."""
    sys.path.insert(0, str(ROOT / "tests"))
    from conformance.broken import BROKEN  # type: ignore[import-not-found]
    from conformance.registry import all_cases  # type: ignore[import-not-found]

    return all_cases(), BROKEN


def table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Markdown."""
    lines = [list(header)]
    lines += [["---"] * len(lines[0]), *map(list, rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def engines() -> str:
    """A line for each case that somebody else's engine offers, and one for all others."""
    results, (cases, _) = json.loads(RESULTS.read_text()), suite()
    others = list(results)[2:]
    merged: dict[str, list[str]] = {}
    for name in cases:
        merged.setdefault(re.sub(r" \((grid|unit)\)", "", name), []).append(name)
    rows, rest = [], {name: [0, 0, 0] for name in results}
    for title, names in merged.items():
        found = {e: [results[e]["cases"].get(n, ["not offered", ""])[0] for n in names] for e in results}
        if all(kind == "not offered" for e in others for kind in found[e]):
            for e in results:
                for i, kind in enumerate(MARKS):
                    rest[e][i] += found[e].count(kind)
        else:
            rows.append([f"{title} ({cases[names[0]].invariant})", *(_mark(found[e]) for e in results)])
    rows.append(
        ["other cases: passed, failed, not offered", *(", ".join(map(str, counts)) for counts in rest.values())]
    )
    return table(["case (invariant)", *(f"{e} {results[e]['version']}".strip() for e in results)], rows)


def _mark(kinds: list[str]) -> str:
    if len(set(kinds)) == 1:
        return MARKS[kinds[0]]
    return f"{MARKS[kinds[0]]} on the grid, {MARKS[kinds[1]]} on unit vectors"


def write() -> None:
    """Put the tables between their markers in ARCHITECTURE.md."""
    from .invariants import invariants

    text = DOCUMENT.read_text()
    for name, made in (("engines", engines()), ("invariants", invariants())):
        text = replaced(text, name, made)
    DOCUMENT.write_text(text)


def replaced(text: str, name: str, made: str) -> str:
    """The document with one table in place."""
    pattern = re.compile(rf"(<!-- {name}: [^\n]*-->\n).*?(<!-- end {name} -->)", re.DOTALL)
    if not pattern.search(text):
        raise ValueError(f"{DOCUMENT.name} has no place for {name}")
    return pattern.sub(lambda found: f"{found[1]}{made}\n{found[2]}", text)
