"""Ragged and its helpers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refcolbert import Ragged
from refcolbert.engine.ragged import offsets_of, rows_of
from refcolbert.errors import InvalidInput


def test_list_round_trip():
    """from_list, indexing and iteration give back the same rows."""
    arrays = [np.arange(6.0).reshape(3, 2), np.ones((1, 2)), np.zeros((2, 2))]
    ragged = Ragged.from_list(arrays)
    assert (len(ragged), ragged.dim, ragged.lengths.tolist()) == (3, 2, [3, 1, 2])
    assert all(np.array_equal(a, b) for a, b in zip(arrays, ragged, strict=True))
    assert np.array_equal(ragged[-1], arrays[-1])
    assert ragged.vectors.dtype == np.float32


@given(st.lists(st.integers(1, 5), min_size=1, max_size=10), st.data())
def test_take_equals_list_selection(lengths, data):
    """Taking documents, in any order and with repetition, equals picking them from a list."""
    ragged = Ragged.from_list([np.full((n, 1), i) for i, n in enumerate(lengths)])
    chosen = data.draw(st.lists(st.integers(0, len(lengths) - 1), max_size=12), label="documents")
    taken = ragged.take(np.array(chosen, np.int64))
    assert [d.tolist() for d in taken] == [ragged[i].tolist() for i in chosen]
    assert rows_of(ragged.offsets, np.array(chosen, np.int64)).size == sum(lengths[i] for i in chosen)


@pytest.mark.parametrize("offsets", [[0, 2], [1, 3], [0, 0, 3], [0, 2, 1, 3], [[0, 3]], []])
def test_offsets_that_do_not_cut_are_refused(offsets):
    """Offsets must rise strictly from 0 to the number of rows."""
    with pytest.raises(InvalidInput):
        Ragged(np.ones((3, 2), np.float32), np.array(offsets, np.int64))


def test_a_document_of_another_dim_is_named():
    """The error of from_list names the document whose dim is not that of the first."""
    with pytest.raises(InvalidInput, match=r"document 1.*dim 2"):
        Ragged.from_list([np.ones((1, 2)), np.ones((1, 3))])


def test_a_document_number_beyond_the_end_is_an_index_error():
    """A document number outside the range is an IndexError, so iteration protocols work."""
    with pytest.raises(IndexError):
        Ragged.from_list([np.ones((1, 2))])[1]


def test_offsets_of_nothing():
    """No documents have the offsets [0]."""
    assert offsets_of([]).tolist() == [0]
