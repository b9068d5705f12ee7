"""Which segments merge, and what a generation of merged segments holds."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refcolbert import Index
from refcolbert.storage.publish import first_to_merge


@pytest.mark.parametrize(
    ("sizes", "first"),
    [
        ([], 0),
        ([5], 0),
        ([10, 5], 1),
        ([9, 5], 0),
        ([100, 10, 5], 2),
        ([100, 9, 5], 1),
        ([27, 9, 5], 0),
        ([28, 9, 5], 1),
        ([1, 100], 0),
        ([1, 100, 50], 2),
    ],
)
def test_small_segments_at_the_end_are_merged(sizes, first):
    """A segment merges while it has less than twice as many documents as all behind it."""
    assert first_to_merge(sizes) == first


@given(st.lists(st.integers(1, 50), max_size=60))
def test_the_number_of_segments_stays_logarithmic(additions):
    """After each add, every segment has at least twice as many documents as the next one."""
    sizes = []
    for n_docs in additions:
        sizes.append(n_docs)
        first = first_to_merge(sizes)
        sizes[first:] = [sum(sizes[first:])]
        assert all(size >= 2 * following for size, following in pairwise(sizes))


def test_an_add_that_merges_nothing_leaves_earlier_segments_alone(tmp_path):
    """A small segment behind a large one is written alone, and the files of the large one keep their names."""
    index = Index.create(tmp_path / "i", dim=2)
    index.add([{"id": f"a{i}"} for i in range(10)], vectors=[np.eye(2)] * 10)
    large = index.view.manifest.segments[0]
    index.add([{"id": "b"}], vectors=[np.eye(2)])
    assert index.view.manifest.segments[0] == large
    assert [entry.n_docs for entry in index.view.manifest.segments] == [10, 1]
