"""Damaged bytes, and readers beside a writer: the short form of `python -m tools.faults`."""

import pytest

from tools.faults.damage import careless, cuts, flips, small_index, swaps, without_sizes
from tools.faults.readers import lying, read_while_writing


@pytest.mark.parametrize("name", ["add", "compact"])
def test_a_flipped_bit_is_found(scratch, name):
    """Raw and encoded: a bit flipped in a sample of the bytes is a CorruptIndexError."""
    found = flips(small_index(scratch, name), every=101)
    assert found.bad == []
    assert found.cases > 100


def test_a_cut_file_is_found(scratch):
    """A file cut at a sample of its lengths is a CorruptIndexError."""
    found = cuts(small_index(scratch), every=151)
    assert found.bad == []
    assert found.cases > 300


def test_swapped_zeroed_and_missing_files_are_found(scratch):
    """Another file's content, zeros, more bytes or none in a file's place are a CorruptIndexError or nothing."""
    assert swaps(small_index(scratch, "add")).bad == []


def test_damage_without_verification_is_seen_by_this_harness(scratch):
    """With verify="fast" some flips change answers: the harness that calls them bad can fail."""
    assert flips(small_index(scratch), every=97, opener=careless).bad


def test_readers_never_mix_generations(scratch):
    """Readers in other processes answer as one complete generation does while a writer commits."""
    found = read_while_writing(scratch, readers=4, commits=15, queries=400)
    assert found.bad == []
    assert found.queries >= 400
    assert found.generations > 1


def test_a_reader_that_mixes_is_caught(scratch):
    """An index that now and then answers from the generation before is found."""
    with lying():
        assert read_while_writing(scratch, readers=2, commits=6, queries=50).bad


def test_sizes_that_are_not_compared_are_caught(scratch):
    """A store that takes a file of any size is found."""
    with without_sizes():
        assert swaps(small_index(scratch, "add"), opener=careless).bad
