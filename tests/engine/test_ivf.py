"""Inverted lists and probing against the definition."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refcolbert import definition
from refcolbert.engine import ivf
from refcolbert.engine.ragged import offsets_of
from refcolbert.errors import InvalidInput

K = 6
CODES = st.lists(st.lists(st.integers(0, K - 1), min_size=1, max_size=8), min_size=1, max_size=10)


def lists_of(codes):
    """The inverted lists of documents with these cells."""
    return ivf.build(np.concatenate(codes).astype(np.uint16), offsets_of([len(c) for c in codes]))


@given(CODES)
def test_lists_hold_exactly_the_documents_of_each_cell(codes):
    """List c is the documents with a token in cell c, once each, ascending (26)."""
    lists = lists_of(codes)
    documents = [part.tolist() for part in np.split(lists.documents, lists.offsets[1:-1])]
    expected = {c: list_ for c, list_ in enumerate(definition.inverted_lists(codes, K)) if list_}
    assert dict(zip(lists.cells.tolist(), documents, strict=True)) == expected


@given(CODES, st.sets(st.integers(0, K - 1)))
def test_candidates_are_the_union_of_the_probed_lists(codes, cells):
    """Every document with a token in a probed cell, once, ascending."""
    documents = ivf.candidates(lists_of(codes), np.array(sorted(cells), np.int64))
    assert documents.tolist() == definition.candidates(definition.inverted_lists(codes, K), cells)


@given(st.lists(st.lists(st.integers(-2, 2), min_size=K, max_size=K), min_size=1, max_size=4), st.integers(1, K + 2))
def test_probe_equals_definition(scores, nprobe):
    """The union of each query token's best cells, ties to the lower number; more probes never lose a cell (27)."""
    array = np.array(scores, np.float32)
    expected = {c for row in scores for c in definition.top_k(row, nprobe)}
    assert set(ivf.probe(array, nprobe).tolist()) == expected
    assert set(ivf.probe(array, nprobe)) <= set(ivf.probe(array, nprobe + 1))


def test_all_cells_give_all_documents():
    """Probing everything finds every document (27)."""
    cells = ivf.probe(np.zeros((1, K), np.float32), K)
    assert ivf.candidates(lists_of([[0, 3], [5], [5, 5, 1]]), cells).tolist() == [0, 1, 2]


@pytest.mark.parametrize("nprobe", [0, -1, 1.5, True, "2"])
def test_bad_nprobe_is_refused(nprobe):
    """nprobe must be an integer of at least 1."""
    with pytest.raises(InvalidInput, match="nprobe"):
        ivf.probe(np.zeros((1, 3), np.float32), nprobe)


@pytest.mark.parametrize("groups", [1, 2, 7, 128])
@pytest.mark.parametrize("per_probe", [1, 4])
def test_cells_in_groups_of_any_size_give_the_same(monkeypatch, groups, per_probe):
    """The probed cells do not depend on the size of groups, also with ties and with cells left over by the groups."""
    monkeypatch.setattr(ivf, "MIN_GROUPS", groups)
    monkeypatch.setattr(ivf, "GROUPS_PER_PROBE", per_probe)
    rng = np.random.default_rng(0)
    for n in (40, 41, 127, 300):
        for scores in (rng.integers(-3, 4, (5, n)), rng.standard_normal((5, n))):
            array = scores.astype(np.float32)
            for nprobe in (1, 2, 7, n - 1, n, n + 1):
                expected = {c for row in array.tolist() for c in definition.top_k(row, nprobe)}
                assert set(ivf.probe(array, nprobe).tolist()) == expected
                assert ivf.probe(np.asfortranarray(array), np.int64(nprobe)).tolist() == sorted(expected)


def test_arrays_have_their_types():
    """Cells and documents are uint32, offsets and candidates int64; nothing gives empty lists."""
    lists = ivf.build(np.array([3, 1, 3], np.uint16), offsets_of([1, 2]))
    assert (lists.cells.dtype, lists.offsets.dtype, lists.documents.dtype) == (np.uint32, np.int64, np.uint32)
    assert (lists.cells.tolist(), lists.offsets.tolist(), lists.documents.tolist()) == ([1, 3], [0, 1, 3], [1, 0, 1])
    documents, places = ivf.entries(lists, np.array([0, 1, 3, 9]))
    assert (documents.tolist(), places.tolist()) == ([1, 0, 1], [1, 2, 2])
    assert [len(part) for part in ivf.entries(lists, np.array([0, 9]))] == [0, 0]
    assert ivf.candidates(lists, np.array([0, 2])).dtype == np.int64
    empty = ivf.build(np.empty(0, np.uint16), offsets_of([]))
    assert (empty.cells.tolist(), empty.offsets.tolist()) == ([], [0])
    assert ivf.candidates(empty, np.array([], np.int64)).tolist() == []


def test_codes_of_two_bytes_and_many_documents_do_not_overflow():
    """Cell and document are told apart for the largest code."""
    codes = np.full(70_000, 65_535, np.uint16)
    lists = ivf.build(codes, np.arange(70_001))
    assert lists.cells.tolist() == [65_535]
    assert lists.documents.tolist() == list(range(70_000))


@given(CODES, st.lists(st.integers(0, 10), max_size=3))
def test_joined_lists_are_those_of_all_documents(codes, cuts):
    """However documents are cut into runs, `join` makes what `build` makes of all."""
    bounds = sorted({0, *(min(cut, len(codes)) for cut in cuts), len(codes)})
    parts = []
    for first, last in pairwise(bounds):
        lists = lists_of(codes[first:last])
        parts.append(replace(lists, documents=lists.documents + np.uint32(first)))
    joined, whole = ivf.join(parts), lists_of(codes)
    for name in ("cells", "offsets", "documents"):
        found, expected = getattr(joined, name), getattr(whole, name)
        assert (found.dtype, found.tolist()) == (expected.dtype, expected.tolist())


def test_merged_lists_have_the_entries_of_each_part_in_turn():
    """Keys are merged, and a list has the first part's entries before the second's; no parts give no lists."""
    parts = [(np.array([2, 5]), np.array([0, 2, 3])), (np.array([5, 9]), np.array([0, 1, 3]))]
    keys, offsets, places = ivf.merge_lists(parts)
    assert (keys.tolist(), offsets.tolist()) == ([2, 5, 9], [0, 2, 4, 6])
    assert [place.tolist() for place in places] == [[0, 1, 2], [3, 4, 5]]
    keys, offsets, places = ivf.merge_lists([])
    assert (keys.tolist(), offsets.tolist(), list(places)) == ([], [0], [])
