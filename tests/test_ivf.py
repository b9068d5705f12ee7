"""Inverted lists and probing against the definition."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refcolbert import definition, ivf
from refcolbert.errors import InvalidInput
from refcolbert.ragged import offsets_of

K = 6
CODES = st.lists(st.lists(st.integers(0, K - 1), min_size=1, max_size=8), min_size=1, max_size=10)


@given(CODES)
def test_lists_hold_exactly_the_documents_of_each_cell(codes):
    """List c is the documents with a token in cell c, once each, ascending (26)."""
    lists = ivf.build(np.concatenate(codes).astype(np.uint16), offsets_of([len(c) for c in codes]))
    found = {
        int(c): lists.documents[lists.offsets[i] : lists.offsets[i + 1]].tolist() for i, c in enumerate(lists.cells)
    }
    expected = {c: list_ for c, list_ in enumerate(definition.inverted_lists(codes, K)) if list_}
    assert found == expected


@given(CODES, st.sets(st.integers(0, K - 1)))
def test_candidates_are_the_union_of_the_probed_lists(codes, cells):
    """Every document with a token in a probed cell, once, ascending."""
    lists = ivf.build(np.concatenate(codes).astype(np.uint16), offsets_of([len(c) for c in codes]))
    found = ivf.candidates(lists, np.array(sorted(cells), np.int64))
    assert found.tolist() == definition.candidates(definition.inverted_lists(codes, K), cells)


@given(st.lists(st.lists(st.integers(-2, 2), min_size=K, max_size=K), min_size=1, max_size=4), st.integers(1, K + 2))
def test_probe_equals_definition(scores, nprobe):
    """The union of each query token's best cells, ties to the lower number; more probes never lose a cell (27)."""
    array = np.array(scores, np.float32)
    expected = {c for row in scores for c in definition.top_k(row, nprobe)}
    assert set(ivf.probe(array, nprobe).tolist()) == expected
    assert set(ivf.probe(array, nprobe)) <= set(ivf.probe(array, nprobe + 1))
    if nprobe < K:
        few, many = ivf._best(array, nprobe), ivf._best_of_many(array, nprobe)
        assert few.tolist() == many.tolist()


def test_all_cells_give_all_documents():
    """Probing everything finds every document (27)."""
    codes = [[0, 3], [5], [5, 5, 1]]
    lists = ivf.build(np.concatenate(codes).astype(np.uint16), offsets_of([2, 1, 3]))
    assert ivf.candidates(lists, ivf.probe(np.zeros((1, K), np.float32), K)).tolist() == [0, 1, 2]


@pytest.mark.parametrize("nprobe", [0, -1, 1.5, True, "2"])
def test_bad_nprobe_is_refused(nprobe):
    """nprobe must be an integer of at least 1."""
    with pytest.raises(InvalidInput, match="nprobe"):
        ivf.probe(np.zeros((1, 3), np.float32), nprobe)
