"""Inverted lists of words against counting by hand."""

from collections import Counter
from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refcolbert.engine.terms import MAX_COUNT, TermLists, build, join
from refcolbert.errors import CorruptIndexError

# Documents as term -> count. Terms are bytes: their order is not that of the characters' names, nor of their lengths.
TERMS = st.sampled_from(["a", "aa", "b", "cat", "é", "文", "\U0001f44d"]).map(str.encode)
DOCUMENT = st.dictionaries(TERMS, st.integers(1, 2 * MAX_COUNT), max_size=5)
DOCUMENTS = st.lists(DOCUMENT, max_size=8)


def lists_of(documents):
    """The lists of these documents."""
    entries = sorted((term, i, count) for i, document in enumerate(documents) for term, count in document.items())
    return build(entries, len(documents))


def assert_equal(found, expected):
    """Every array is the same, its dtype included."""
    for field in fields(TermLists):
        one, other = getattr(found, field.name), getattr(expected, field.name)
        assert one.dtype == other.dtype, field.name
        assert one.tolist() == other.tolist(), field.name


@given(DOCUMENTS)
def test_lists_hold_exactly_the_documents_of_each_term(documents):
    """Terms ascend as bytes; each list has the documents with the term, ascending, and their counts, at most 255."""
    lists = lists_of(documents)
    assert lists.terms() == sorted({term for document in documents for term in document})
    assert sorted(lists.terms()) == lists.terms()
    for term in lists.terms():
        rows, counts = lists.entries(term)
        expected = [(i, min(d[term], MAX_COUNT)) for i, d in enumerate(documents) if term in d]
        assert list(zip(rows.tolist(), counts.tolist(), strict=True)) == expected
    assert lists.lengths.tolist() == [sum(document.values()) for document in documents]


@given(DOCUMENTS, st.binary(max_size=4))
def test_a_term_that_no_document_has_has_no_entries(documents, term):
    """Whether it sorts before, between or behind the others."""
    rows, counts = lists_of(documents).entries(term)
    assert len(rows) == len(counts) == sum(term in document for document in documents)


@given(st.lists(st.lists(st.tuples(DOCUMENT, st.booleans()), max_size=5), max_size=4))
def test_joined_lists_are_those_of_the_live_documents(parts):
    """However documents are cut into parts and whichever are deleted, `join` makes what `build` makes of the rest."""
    joined = join([(lists_of([d for d, _ in part]), np.array([live for _, live in part], np.bool_)) for part in parts])
    assert_equal(joined, lists_of([document for part in parts for document, live in part if live]))


def test_nothing_gives_empty_lists():
    """Without documents, and with documents that have no words, there is no term and every length is 0."""
    for documents in ([], [{}, {}]):
        lists = lists_of(documents)
        assert (len(lists), lists.terms(), lists.offsets.tolist(), lists.bounds.tolist()) == (0, [], [0], [0])
        assert lists.lengths.tolist() == [0] * len(documents)
    assert_equal(join([]), lists_of([]))


def test_a_document_that_is_not_there_is_refused():
    """A damaged list that names a row beyond the documents is a CorruptIndexError, not an IndexError of a search."""
    lists = lists_of([{b"a": 1}, {b"a": 2, b"b": 1}])
    damaged = replace(lists, documents=np.array([2, 0, 1], np.uint16))
    with pytest.raises(CorruptIndexError, match="below 2, found 2"):
        damaged.entries(b"a")
    assert Counter(damaged.entries(b"b")[0].tolist()) == {1: 1}
