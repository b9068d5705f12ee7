"""The tables of docs/conformance-results.md equal what the suite and the kept results give."""

import json
from pathlib import Path

import pytest

from .registry import all_cases

tables = pytest.importorskip("tools.conformance.tables", reason="the tables are of this repository, not of an engine")
invariants = pytest.importorskip("tools.conformance.invariants")
pages = pytest.importorskip("tools.conformance.pages")


def between(name):
    """The lines between the markers of a table."""
    _, marker, rest = pages.PAGE.read_text().partition(f"<!-- {name}:")
    assert marker, f"no table {name}"
    return rest.partition("\n")[2].partition(f"<!-- end {name} -->")[0].strip()


@pytest.mark.parametrize("name", pages.TABLES)
def test_table_is_the_generated_one(name):
    """A table equals what its command writes; run `python -m tools.conformance tables` when it does not."""
    assert between(name) == pages.TABLES[name]()


def test_all_invariants_have_a_line():
    """1 to 47, and whatever else the suite numbers."""
    assert {str(n) for n in range(1, 48)} | {case.invariant for case in all_cases().values()} <= set(
        invariants.STATEMENTS
    )


def test_the_readme_lists_all_that_cases_need():
    """Every function that a case needs stands in README.md, so that whoever writes an adapter can offer it."""
    text = Path(__file__).with_name("README.md").read_text()
    needs = {need for case in all_cases().values() for need in case.needs}
    assert [need for need in needs if any(f"`{n}" not in text and f"{n}(" not in text for n in need.split("."))] == []


def test_kept_results_are_of_these_cases():
    """The results of every engine name exactly the cases that there are (`python -m tools.conformance` makes them)."""
    for engine, found in json.loads(tables.RESULTS.read_text()).items():
        assert set(found["cases"]) == set(all_cases()), engine


def test_our_own_pass_all_that_they_offer():
    """The definition and the core fail no case, and PyLate's mask does not hold negative similarities."""
    results = json.loads(tables.RESULTS.read_text())
    for engine in ("definition", "refcolbert"):
        assert {kind for kind, _ in results[engine]["cases"].values()} == {"passed", "not offered"}
    assert results["PyLate"]["cases"]["negative similarities survive a mask (grid)"][0] == "failed"
