"""BM25 over inverted lists against the definition, in segments, with deleted documents and with filters."""

import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refcolbert import definition
from refcolbert.engine import terms as term_lists
from refcolbert.engine.bm25 import query_terms, term_scores, weigh, word_scores
from refcolbert.engine.hybrid import search_by
from refcolbert.engine.ragged import offsets_of
from refcolbert.engine.segments import Segment, SegmentedIndex
from refcolbert.errors import InvalidInput

WORDS = ("ant", "bee", "cat", "dog", "été", "zebra")
TEXTS = st.lists(st.lists(st.sampled_from(WORDS), max_size=8), max_size=14)
QUERIES = st.lists(st.sampled_from((*WORDS, "yak")), max_size=7)


def lists_of(texts):
    """Inverted lists of documents that are lists of words."""
    counted = ((term.encode(), i, n) for i, text in enumerate(texts) for term, n in Counter(text).items())
    return term_lists.build(sorted(counted), len(texts))


def index_of(texts, dead=(), cuts=()):
    """An index of these texts, each with one vector, cut into segments; positions grow by 3."""
    bounds = [0, *sorted(min(cut, len(texts)) for cut in cuts), len(texts)]
    segments = []
    for first, last in itertools.pairwise(bounds):
        numbers, n = np.arange(first, last), last - first
        live, raw = ~np.isin(numbers, list(dead)), np.ones((n, 1), np.float32)
        segments.append(
            Segment(3 * numbers, offsets_of([1] * n), live, 1.0, raw, None, None, lists_of(texts[first:last]))
        )
    return SegmentedIndex(1, None, tuple(segments))


def answer(terms, index, k, allowed=None):
    """(document, score) of the k best documents for a query of words."""
    result = search_by((None, weigh([term.encode() for term in terms], index)), index, k, allowed=allowed)
    return list(zip(result.documents.tolist(), result.scores.tolist(), strict=True))


def expected(terms, texts, k, dead=(), allowed=None):
    """(document, score) by the definition: the dead are not there, and `allowed` names what may be returned."""
    model, names = definition.Index(1), [str(i) for i in range(len(texts)) if i not in dead]
    model.add(names, [[[1.0]]] * len(names), [texts[int(name)] for name in names])
    ids = None if allowed is None else [str(i) for i in np.flatnonzero(allowed)]
    return [(int(name), score) for name, score in model.search_words(terms, k, ids)]


def collection(seed=0, n=300):
    """Documents of a common word that all have, and of rarer ones."""
    rng, rarity = np.random.default_rng(seed), [1, 0.9, 0.5, 0.1, 0.02]
    return [
        [w for w, p in zip(WORDS, rarity, strict=False) if rng.random() < p for _ in range(rng.integers(1, 4))]
        for _ in range(n)
    ]


@pytest.fixture(params=[0, 1, 1 << 12], ids="lists of more than {} are long".format)
def long_list(monkeypatch, request):
    """Sets the length from which a list is read only if it must be."""
    monkeypatch.setattr("refcolbert.engine.bm25.LONG_LIST", request.param)


@given(
    texts=TEXTS,
    query=QUERIES,
    k=st.integers(1, 16),
    cuts=st.lists(st.integers(0, 14), max_size=3),
    dead=st.sets(st.integers(0, 13), max_size=5),
    allowed=st.none() | st.lists(st.booleans(), min_size=14, max_size=14),
)
def test_a_search_is_the_definition_to_the_bit(long_list, texts, query, k, cuts, dead, allowed):
    """Documents, scores and order are those of equation 8.5, whatever the segments, the deletions and the filter."""
    mask = None if allowed is None else np.array(allowed[: len(texts)], np.bool_)
    assert answer(query, index_of(texts, dead, cuts), k, mask) == expected(query, texts, k, dead, mask)


@given(texts=TEXTS, query=QUERIES, dead=st.sets(st.integers(0, 13), max_size=5))
def test_scores_of_single_documents_are_the_definition_to_the_bit(texts, query, dead):
    """`word_scores` gives every live document the bits of equation 10.5, and the shares of its terms add up to them."""
    index, live = index_of(texts, dead, [5]), [i for i in range(len(texts)) if i not in dead]
    weighted = query_terms(weigh([term.encode() for term in query], index), index)
    scores = word_scores(weighted, index, np.array(live, np.int64)).tolist()
    assert scores == definition.word_scores(query, [texts[i] for i in live])
    for i, score in zip(live, scores, strict=True):
        assert sum(float(term_scores(term, index, np.array([i]))[0]) for term in weighted) == pytest.approx(score)


@pytest.mark.parametrize(("k", "left_out"), [(3, [b"dog", b"bee", b"ant"]), (10, [b"bee", b"ant"])])
def test_lists_of_common_words_are_left_out(monkeypatch, k, left_out):
    """Once k documents have a rare word, the lists of words that cannot outweigh it are read for few documents only."""
    texts, read = collection(), {}

    def watched(term, index, documents):
        read[term.term] = len(documents)
        return term_scores(term, index, documents)

    monkeypatch.setattr("refcolbert.engine.bm25.LONG_LIST", 0)
    monkeypatch.setattr("refcolbert.engine.bm25.term_scores", watched)
    query = ["ant", "été", "bee", "dog"]
    assert answer(query, index_of(texts, cuts=[100]), k) == expected(query, texts, k)
    assert list(read) == left_out
    assert max(read.values()) < 20


@pytest.mark.parametrize("seed", range(6))
def test_answers_with_lists_left_out_are_the_definition(long_list, seed):
    """Long lists, filters and deletions together give the bits of equation 8.5, for k around the number of matches."""
    rng, texts = np.random.default_rng(seed), collection(seed)
    dead, allowed = set(rng.choice(300, 40).tolist()), rng.random(300) < 0.4
    index = index_of(texts, dead, rng.integers(0, 300, 3).tolist())
    for query in (["été", "ant"], ["dog", "été", "bee", "bee"], ["cat", "ant", "yak"]):
        n = len(expected(query, texts, 300, dead, allowed))
        for k in (1, 5, n - 1, n, n + 1):
            assert answer(query, index, k, allowed) == expected(query, texts, k, dead, allowed)


def test_a_filter_leaves_the_scores_as_they_are():
    """A document has the same score whatever else a search may return: statistics are of all live documents."""
    texts = collection(1)
    index, query = index_of(texts), ["ant", "cat"]
    scores = dict(answer(query, index, 300))
    allowed = np.arange(300) % 7 == 0
    assert all(scores[document] == score for document, score in answer(query, index, 300, allowed))


def test_equal_scores_are_ordered_by_position(long_list):
    """Documents with equal words come by position, not by number, also where k cuts them."""
    index = index_of([["ant", "bee"]] * 9 + [["cat"]])
    segment = index.segments[0]
    turned = SegmentedIndex(1, None, (Segment(segment.positions[::-1].copy(), *_rest(segment)),))
    assert [document for document, _ in answer(["ant"], index, 4)] == [0, 1, 2, 3]
    assert [document for document, _ in answer(["ant"], turned, 4)] == [8, 7, 6, 5]


def _rest(segment):
    """The fields of a segment behind its positions."""
    return (
        segment.offsets,
        segment.live,
        segment.largest_norm,
        segment.raw,
        segment.encoded,
        segment.lists,
        segment.terms,
    )


def test_the_order_of_the_query_changes_no_bit():
    """Terms of equal weight are added by spelling, whatever their order in the query is."""
    rng = np.random.default_rng(0)
    texts = [[w for w in WORDS[:4] for _ in range(rng.integers(1, 9))] for _ in range(20)]
    index = index_of(texts)
    for query in itertools.permutations(WORDS[:4]):
        assert answer(query, index, 20) == expected(WORDS[:4], texts, 20)


def test_counts_above_255_score_as_255():
    """A count is kept in one byte; the length of the document is that of all its words."""
    texts = [["ant"] * 700 + ["bee"], ["ant"] * 255 + ["cat"] * 446, ["bee"]]
    hits = answer(["ant"], index_of(texts), 3)
    assert hits == expected(["ant"], texts, 3)
    assert hits[0][1] == hits[1][1]


def test_documents_without_words_are_never_found():
    """They count as documents of length 0: they lower the mean length and are not returned."""
    texts = [[], ["ant"], [], ["ant", "bee", "bee"]]
    index = index_of(texts)
    assert answer(["ant"], index, 9) == expected(["ant"], texts, 9)
    assert weigh([], index).mean_words == 1
    assert answer([], index, 9) == answer(["yak"], index, 9) == []


def test_an_index_without_words_has_no_answer():
    """No segment, no live document, or no document with a word: nothing is found, and nothing fails."""
    for index in (SegmentedIndex(1, None, ()), index_of([["ant"]], dead=[0]), index_of([[], []])):
        assert answer(["ant"], index, 3) == []


def test_a_k_below_one_is_refused():
    """k = 0 is an error, not an empty answer."""
    with pytest.raises(InvalidInput, match="k must be"):
        answer(["ant"], index_of([["ant"]]), 0)


@given(
    texts=st.lists(st.lists(st.sampled_from(("shell", "shelf", "hell", "part", "parse", "p4rse")), max_size=6)),
    query=st.lists(st.sampled_from(("shel", "shelll", "sehll", "parse", "prase", "pars", "p4rs", "yaks")), max_size=14),
    dead=st.sets(st.integers(0, 13), max_size=5),
)
def test_misspelt_terms_are_the_definition_to_the_bit(texts, query, dead):
    """Unknown terms are respelled as equation 10.8 says, by the live documents alone."""
    texts = texts[:14]
    assert answer(query, index_of(texts, dead, [3]), 14) == expected(query, texts, 14, dead)


def test_only_a_few_short_terms_are_respelled():
    """The ninth unknown term and a term of more than 24 letters stay as they are: looking up takes time and memory."""
    near = [f"{letter * 4}" for letter in "abcdefghi"]
    index = index_of([near, ["z" * 25]])
    query = [f"{term}x" for term in near]
    terms = {term.asked: term.term for term in query_terms(weigh([term.encode() for term in query], index), index)}
    assert [terms[term.encode()].decode() for term in query] == [*near[:8], query[8]]
    assert answer(["z" * 26], index, 2) == []
    assert answer(["z" * 24], index, 2) == expected(["z" * 24], [near, ["z" * 25]], 2) != []
