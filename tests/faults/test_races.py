"""Writers that start at once, and limits of the kernel: the short form of `python -m tools.faults`."""

import pytest

from tools.faults.damage import small_index
from tools.faults.races import full_disk, races, real_limits, small_disk
from tools.faults.scenarios import SCENARIOS


def test_of_many_writers_one_wins_and_its_death_frees_the_lock(scratch):
    """Each round one of sixteen processes writes; every third winner is killed, and the next round has a winner too."""
    assert races(small_index(scratch), 4).bad == []


def test_a_file_size_limit_leaves_the_index_as_it_was(scratch):
    """Whatever the kernel allows, the add is complete or a typed error, and the next writer goes on."""
    found = real_limits(SCENARIOS[1], scratch, range(0, 14_000, 1500))
    assert found.bad == []
    assert 0 < found.new < found.cases


def test_a_disk_that_is_really_full_leaves_the_index_as_it_was(scratch):
    """On a small file system of its own, filled up, the add is complete or a typed error, and the next goes on."""
    with small_disk(scratch, 512 << 10) as disk:
        if disk is None:
            pytest.skip("this process may not mount a file system")
        found = full_disk(SCENARIOS[1], disk, range(0, 60_000, 8_192))
    assert found.bad == []
    assert 0 < found.new < found.cases
