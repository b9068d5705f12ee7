"""The tables of docs/conformance-results.md: results of each engine, and the tests of each invariant."""

import ast
import json
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tools import ROOT

RESULTS = Path(__file__).with_name("results.json")
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


def with_new_cases(results: dict[str, Any], adapters: dict[str, str]) -> dict[str, Any]:
    """Results of exactly the cases that there are now; new ones are not offered where the adapter lacks what they need.

    That is read off the adapter's source, which needs no environment. Where the adapter has it, the engine has to run.
    """
    cases, _ = suite()
    for engine, run in results.items():
        names = offered(ROOT / Path(*adapters[engine].split(".")).with_suffix(".py"))
        kept = {name: outcome for name, outcome in run["cases"].items() if name in cases}
        for name, case in cases.items():
            missing = [need for need in case.needs if need.partition(".")[0] not in names]
            if missing:
                kept.setdefault(name, ["not offered", ", ".join(missing)])
        run["cases"] = {name: kept[name] for name in sorted(kept)}
    return results


def offered(path: Path) -> set[str]:
    """The names that a module defines or imports."""
    names: set[str] = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.Assign):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return names


def titles(cases: Iterable[str]) -> dict[str, list[str]]:
    """Cases by what they state, on the grid and on unit vectors together."""
    merged: dict[str, list[str]] = {}
    for name in cases:
        merged.setdefault(re.sub(r" \((grid|unit)\)", "", name), []).append(name)
    return merged


def summary() -> str:
    """A line for each engine: how many cases it passes, fails and does not offer, and which it fails."""
    rows = []
    for engine, run in json.loads(RESULTS.read_text()).items():
        kinds = [kind for kind, _ in run["cases"].values()]
        failed = titles(name for name in suite()[0] if run["cases"].get(name, [""])[0] == "failed")
        counts = [str(kinds.count(kind)) for kind in MARKS]
        rows.append([f"{engine} {run['version']}".strip(), *counts, "; ".join(failed)])
    return table(["engine", *MARKS, "fails"], rows)


def engines() -> str:
    """A line for each case that somebody else's engine offers, and one for all others."""
    results, (cases, _) = json.loads(RESULTS.read_text()), suite()
    others, merged = list(results)[2:], titles(cases)
    rows, rest = [], {name: [0, 0, 0] for name in results}
    for title, names in merged.items():
        outcomes = {e: [results[e]["cases"].get(n, ["not offered", ""])[0] for n in names] for e in results}
        if all(kind == "not offered" for e in others for kind in outcomes[e]):
            for e in results:
                for i, kind in enumerate(MARKS):
                    rest[e][i] += outcomes[e].count(kind)
        else:
            rows.append([f"{title} ({cases[names[0]].invariant})", *(_mark(outcomes[e]) for e in results)])
    rows.append(
        ["other cases: passed, failed, not offered", *(", ".join(map(str, counts)) for counts in rest.values())]
    )
    return table(["case (invariant)", *(f"{e} {results[e]['version']}".strip() for e in results)], rows)


def _mark(kinds: list[str]) -> str:
    if len(set(kinds)) == 1:
        return MARKS[kinds[0]]
    return f"{MARKS[kinds[0]]} on the grid, {MARKS[kinds[1]]} on unit vectors"
