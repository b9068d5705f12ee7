"""A broken export cannot be produced; `python -m tools.export_checks.broken_exports` tries many more."""

import pytest

from tools.export_checks.broken_exports import is_refused, mutants

# Every kind of fault once or a few times: the whole list takes minutes.
CASES = ("pylate-chain Dense", "multivector-both-sides", "stanford-bert no ", "stanford-bert attention")
CASES += ("pylate-attended attention", "query without prompt", "casing")
CHOSEN = [m for m in mutants() if any(f"{m[0]} {m[1]}".startswith(c) or c in m[1] for c in CASES)]


def test_nothing_is_refused_without_reason():
    """The gate accepts the export when nothing was changed."""
    assert not is_refused("pylate-chain", None)


@pytest.mark.parametrize(("case", "wrong", "change", "spoil"), CHOSEN, ids=[f"{m[0]}: {m[1]}" for m in CHOSEN])
def test_a_mutant_is_refused(case, wrong, change, spoil):
    """The gate refuses an export with one thing wrong, and leaves nothing behind."""
    assert is_refused(case, change, spoil), wrong
