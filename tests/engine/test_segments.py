"""Segments as one collection."""

import numpy as np
import pytest

from refcolbert.engine.segments import Segment, SegmentedIndex
from refcolbert.errors import InvalidInput

LIVE = np.ones(2, np.bool_)


def segment(raw, norm=1.0, first=0):
    """Two documents of two and one rows."""
    return Segment(np.array([first, first + 1]), np.array([0, 2, 3]), LIVE, norm, raw, None, None)


def test_a_segment_holds_vectors_one_way_or_the_other():
    """Neither raw vectors nor encoded ones with a codec is an error."""
    with pytest.raises(InvalidInput, match="expected a codec"):
        segment(None).decode(slice(0, 3), None)


def test_documents_are_numbered_through_the_segments():
    """Lengths, positions and vectors go on from one segment to the next; without segments there are none."""
    rows = np.arange(6, dtype=np.float32).reshape(3, 2)
    both = SegmentedIndex(2, None, (segment(rows, 2.0), segment(rows + 10, 5.0, 7)))
    assert both.lengths.tolist() == [2, 1, 2, 1]
    assert both.positions.tolist() == [0, 1, 7, 8]
    assert [d.tolist() for d in both.vectors(np.array([1, 2]))] == [[[4, 5]], [[10, 11], [12, 13]]]
    nothing = SegmentedIndex(2, None, ())
    assert len(nothing.vectors(np.array([], np.int64))) == 0


def test_the_longest_vector_is_found_wherever_it_lies(monkeypatch):
    """The largest norm is of all rows, however few are decoded at a time."""
    rows = np.float32([[3, 4], [1, 0], [5, 12]])
    for part in (1, 2, 3, 100):
        monkeypatch.setattr("refcolbert.engine.segments.PART", part)
        assert segment(rows).longest(None) == 13.0
        assert segment(rows[::-1]).longest(None) == 13.0
