"""Tests of the tests: every broken implementation is rejected, by the cases of the invariant that it breaks."""

import pytest
from hypothesis import Phase

from .broken import BROKEN
from .complete import complete
from .registry import NotOffered, all_cases, calls_of, load

QUICK = {"phases": (Phase.explicit, Phase.generate), "derandomize": True, "database": None}


@pytest.mark.parametrize("name", sorted(BROKEN))
def test_broken_is_rejected(name):
    """A broken implementation fails a case of its own invariant."""
    broken = BROKEN[name]
    for case in all_cases().values():
        if case.invariant == broken.invariant:
            try:
                case.check(broken.implementation, 1000 if case.heavy else 100, **QUICK)
            except NotOffered as missing:
                pytest.fail(f"{name} offers everything, {case.name} misses {missing}")
            except Exception:  # noqa: BLE001 - whatever the case raised, it has rejected the implementation
                return
    pytest.fail(f"no case of invariant {broken.invariant} rejects {name}: {broken.what}")


def test_a_failure_says_how_to_run_it_again():
    """The lines attached to a failure fail in the same way when they are executed."""
    case, broken = all_cases()["the score is the definition (grid)"], BROKEN["negative_clipped"]
    with pytest.raises(AssertionError) as failure:
        case.check(broken.implementation, 50, derandomize=True, database=None)
    (note,) = [n for n in failure.value.__notes__ if "Paste this" in n]
    both = ExceptionGroup("two failures", [failure.value, failure.value])
    assert calls_of(both) == 2 * [note[note.index("reproduce('conformance.broken") :]]
    with pytest.raises(AssertionError, match="is not"):
        exec(note.partition("again:\n")[2], {})  # noqa: S102 - that is what a reader would do


def test_absent_functions_are_reported():
    """A case that needs what is not offered raises NotOffered and names it."""
    implementation = complete()
    del implementation.top_k
    with pytest.raises(NotOffered, match="top_k"):
        all_cases()["shards merge"].check(implementation)


def test_a_module_that_offers_nothing_is_refused():
    """A mistyped or empty adapter is an error, not a run without failures."""
    with pytest.raises(ValueError, match="offers nothing"):
        load("json")


def test_every_case_has_a_broken_implementation():
    """No invariant is in the suite without something that its cases have caught."""
    assert {case.invariant for case in all_cases().values()} == {broken.invariant for broken in BROKEN.values()}
