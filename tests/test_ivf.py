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


@pytest.mark.parametrize("few", [0, 99])
def test_both_ways_of_probing_are_used(monkeypatch, few):
    """Below FEW probes the best are looked for one after the other, above by partition: the same cells."""
    scores = np.random.default_rng(0).integers(-3, 4, (5, 40)).astype(np.float32)
    monkeypatch.setattr(ivf, "FEW", few)
    for nprobe in (1, 7, 39, 40, 41):
        expected = {c for row in scores.tolist() for c in definition.top_k(row, nprobe)}
        assert set(ivf.probe(scores, nprobe).tolist()) == expected
        assert ivf.probe(scores, np.int64(nprobe)).tolist() == sorted(expected)


def test_the_partition_is_used_beyond_few_probes(monkeypatch):
    """Up to FEW probes take the one way, more the other."""
    used = []
    for name in ("_best", "_best_of_many"):
        way = getattr(ivf, name)
        monkeypatch.setattr(ivf, name, lambda s, n, way=way, name=name: used.append((name, n)) or way(s, n))
    for nprobe in (ivf.FEW, ivf.FEW + 1):
        ivf.probe(np.zeros((1, 99), np.float32), nprobe)
    assert used == [("_best", ivf.FEW), ("_best_of_many", ivf.FEW + 1)]


def test_arrays_have_their_types():
    """Cells and documents are uint32, offsets and candidates int64; nothing gives empty lists."""
    lists = ivf.build(np.array([3, 1, 3], np.uint16), offsets_of([1, 2]))
    assert (lists.cells.dtype, lists.offsets.dtype, lists.documents.dtype) == (np.uint32, np.int64, np.uint32)
    assert (lists.cells.tolist(), lists.offsets.tolist(), lists.documents.tolist()) == ([1, 3], [0, 1, 3], [1, 0, 1])
    documents, cells = ivf.entries(lists, np.array([0, 1, 3, 9]))
    assert (documents.tolist(), cells.tolist()) == ([1, 0, 1], [1, 3, 3])
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


def test_a_partition_of_many_finds_the_best():
    """Both ways find the best of many different scores."""
    scores = np.random.default_rng(1).standard_normal((4, 700)).astype(np.float32)
    for nprobe in (1, 20, 350, 699):
        expected = np.unique(np.argsort(-scores, axis=1)[:, :nprobe]).tolist()
        for way in (ivf._best, ivf._best_of_many):
            assert np.flatnonzero(way(scores, nprobe)).tolist() == expected
