"""Power loss, kills and failing disks: the short form of `python -m tools.faults`."""

import pytest

from refcolbert.errors import IndexWriteError
from tools.faults import crash, inject
from tools.faults.scenarios import NOTHING, SCENARIOS, answers, on

BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}


@pytest.mark.parametrize("name", BY_NAME)
def test_a_crash_leaves_the_old_or_the_new_generation(name, scratch):
    """A sample of the states of every commit shape opens as before or as after, and as after once it has returned."""
    found = crash.lab(BY_NAME[name], scratch, every=1 if name == "create" else 151)
    assert found.bad == []
    assert found.verdicts["old"]
    assert found.verdicts["new"]


@pytest.mark.parametrize("name", crash.MUTANTS)
def test_a_broken_commit_order_is_caught(name, scratch):
    """Each seeded mutant of the order of writes makes some state of the smallest commits fail."""
    mutant = crash.MUTANTS[name]
    smallest = ("create", "add", "fit the codec", "build")
    assert any(crash.lab(BY_NAME[s], scratch, mutant, until_bad=True).bad for s in smallest)


@pytest.mark.parametrize("name", BY_NAME)
def test_a_kill_leaves_the_old_or_the_new_generation(name, scratch):
    """A process killed at a sample of its operations leaves one of the two, and the next writer cleans up."""
    found = inject.kills(BY_NAME[name], scratch, every=13)
    assert found.bad == []
    assert found.cases


@pytest.mark.parametrize("name", BY_NAME)
def test_a_failing_disk_leaves_the_index_as_it_was(name, scratch):
    """Errors at a sample of the operations are typed, change no object and no published file, and are not retried."""
    found = inject.injections(BY_NAME[name], scratch, every=41)
    assert found.bad == []
    assert found.cases


@pytest.mark.parametrize("name", inject.MUTANTS)
def test_wrong_error_handling_is_caught(name, scratch):
    """Each seeded mutant that handles an error wrongly is found."""
    assert inject.injections(BY_NAME["add"], scratch, every=3, disk_type=inject.MUTANTS[name]).bad


@pytest.mark.parametrize("step", range(1, 12))
@pytest.mark.parametrize("name", ["create", "build"])
def test_what_fails_at_the_beginning_can_be_done_again(name, step, scratch):
    """After a full disk there is no index, and create and build succeed where they failed."""
    scratch.mkdir()
    path = scratch / "i"
    with on(inject.Failing(step, "ENOSPC", persistent=True)), pytest.raises(IndexWriteError):
        BY_NAME[name].operate(path)
    assert answers(path) == NOTHING
    BY_NAME[name].operate(path)
    assert answers(path) != NOTHING
