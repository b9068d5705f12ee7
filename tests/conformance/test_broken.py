"""Tests of the cases: the cases of an invariant reject every implementation that breaks it."""

import pytest
from hypothesis import Phase

from .broken import BROKEN
from .complete import complete
from .oracle import STATEMENTS
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
            except Exception:  # noqa: BLE001 - any error of a case rejects the implementation
                return
    pytest.fail(f"no case of invariant {broken.invariant} rejects {name}: {broken.what}")


def test_a_failure_says_how_to_run_it_again():
    """The lines attached to a failure cite the equation, and fail in the same way when they are executed."""
    case, broken = all_cases()["the score is the definition (grid)"], BROKEN["negative_clipped"]
    with pytest.raises(AssertionError) as failure:
        case.check(broken.implementation, 50, derandomize=True, database=None)
    (note,) = [n for n in failure.value.__notes__ if "Paste this" in n]
    assert "equation 2.6 of refcolbert definition 1.2: S(q, d) = sum over i of max over j of q_i . d_j" in note
    both = ExceptionGroup("two failures", [failure.value, failure.value])
    assert calls_of(both) == 2 * [note[note.index("reproduce('conformance.broken") :]]
    with pytest.raises(AssertionError, match="is not"):
        exec(note.partition("again:\n")[2], {})  # noqa: S102 - a reader would do the same


def test_absent_functions_are_reported():
    """A case whose function is missing raises NotOffered with the name of the function."""
    implementation = complete()
    del implementation.top_k
    with pytest.raises(NotOffered, match="top_k"):
        all_cases()["shards merge"].check(implementation)


def test_a_module_that_offers_nothing_is_refused():
    """A mistyped or empty adapter is an error, not a run without failures."""
    with pytest.raises(ValueError, match="offers nothing"):
        load("json")


def test_every_case_has_a_broken_implementation():
    """For every invariant there is a broken implementation, and for every broken implementation a case."""
    assert {case.invariant for case in all_cases().values()} == {broken.invariant for broken in BROKEN.values()}


def test_every_case_names_an_equation():
    """The number that a case names is that of an equation or a section of the definition."""
    assert {case.name: case.equation for case in all_cases().values() if case.equation not in STATEMENTS} == {}
