"""Segments as one index."""

import numpy as np
import pytest

from refcolbert.engine.segments import Segment, SegmentedIndex, _widened
from refcolbert.errors import InvalidInput


def segment(raw, norm=1.0, first=0):
    """A segment of two documents, of two rows and one row."""
    return Segment(np.array([first, first + 1]), np.array([0, 2, 3]), np.ones(2, np.bool_), norm, raw, None, None)


def test_encoded_vectors_need_a_codec():
    """A segment without raw vectors cannot be decoded without a codec."""
    with pytest.raises(InvalidInput, match="expected a codec"):
        segment(None).decode(slice(0, 3), None)


def test_documents_are_numbered_through_the_segments():
    """Lengths, positions and vectors continue from one segment to the next; without segments there are none."""
    rows = np.arange(6, dtype=np.float32).reshape(3, 2)
    both = SegmentedIndex(2, None, (segment(rows, 2.0), segment(rows + 10, 5.0, 7)))
    assert both.lengths.tolist() == [2, 1, 2, 1]
    assert both.positions.tolist() == [0, 1, 7, 8]
    assert [d.tolist() for d in both.vectors(np.array([1, 2]))] == [[[4, 5]], [[10, 11], [12, 13]]]
    assert len(SegmentedIndex(2, None, ()).vectors(np.array([], np.int64))) == 0


@pytest.mark.parametrize("part", [1, 2, 3, 100])
def test_the_largest_norm_is_of_all_rows(monkeypatch, part):
    """The largest norm does not depend on how many rows are decoded at a time."""
    monkeypatch.setattr("refcolbert.engine.segments.PART", part)
    rows = np.float32([[3, 4], [1, 0], [5, 12]])
    assert segment(rows).longest(None) == segment(rows[::-1]).longest(None) == 13.0


def test_every_finite_float16_is_read_exactly():
    """Each of them, subnormal numbers and both zeros included, becomes the float32 that `astype` makes."""
    halves = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    halves = halves[np.isfinite(halves)]
    assert len(halves) == (1 << 16) - (1 << 11)
    np.testing.assert_array_equal(_widened(halves).view(np.uint32), halves.astype(np.float32).view(np.uint32))
