"""Tokens joined to words, similarities of words that add up to the score, and pieces that join to the text."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refcolbert import Index, rerank
from refcolbert.explanation.alignment import Word, words_of
from refcolbert.explanation.explanation import LabelledVectors, explain

TEXT = "Read the boundary-layer, \u4e2d\u6587 x\u00b2!"


def spelled(text, *spans):
    """The words of tokens at these places."""
    return [(w.text, w.rows) for w in words_of([f"t{i}" for i in range(len(spans))], spans, text)]


@pytest.mark.parametrize(
    ("text", "spans", "words"),
    [
        ("strptime is", [(0, 3), (3, 5), (5, 8), (9, 11)], [("strptime", (0, 1, 2)), ("is", (3,))]),
        ("boundary-layer", [(0, 8), (8, 9), (9, 14)], [("boundary", (0,)), ("-", (1,)), ("layer", (2,))]),
        ("boundary-layer", [(0, 8), (9, 14)], [("boundary", (0,)), ("layer", (1,))]),
        ("\u4e2d\u6587", [(0, 1), (1, 2)], [("\u4e2d", (0,)), ("\u6587", (1,))]),
        ("\u30c6\u30b9 a", [(0, 1), (1, 2), (3, 4)], [("\u30c6", (0,)), ("\u30b9", (1,)), ("a", (2,))]),
        ("a date", [(0, 1), (1, 6)], [("a", (0,)), ("date", (1,))]),  # a vocabulary that counts the space to the word
        ("\U0001f600x", [(0, 1), (0, 1), (1, 2)], [("\U0001f600", (0, 1)), ("x", (2,))]),  # bytes of one character
        ("a b", [None, (0, 1), (1, 2), None], [("t0", (0,)), ("a", (1,)), ("t2", (2,)), ("t3", (3,))]),
        (None, [(0, 1), None], [("t0", (0,)), ("t1", (1,))]),
    ],
)
def test_pieces_of_a_word_are_joined(text, spans, words):
    """Letters that meet are one word; spaces, signs and ideographs separate words, as do tokens without a place."""
    assert spelled(text, *spans) == words


def test_markers_between_are_not_joined():
    """Two pieces that touch are two words when a token without a place is between them."""
    assert words_of(["a", "[SEP]", "b"], [(0, 1), None, (1, 2)], "ab") == [
        Word("a", (0, 1), (0,)),
        Word("[SEP]", None, (1,)),
        Word("b", (1, 2), (2,)),
    ]


texts = st.text(st.sampled_from("ab .-\u4e2d\u00e9\U0001f600\n"), max_size=12)


@given(texts, texts)
def test_words_and_segments_lose_nothing(encoder, query, text):
    """The words' similarities add up to the score, the segments' texts to the text, each token once on both sides."""
    (hit,) = rerank(query, [text], encoder)
    explanation = hit.explain()
    assert sum(word.similarity for word in explanation.words) == pytest.approx(explanation.score, abs=1e-9)
    assert sorted(row for word in explanation.words for row in word.rows) == list(range(len(explanation.matches)))
    assert "".join(segment.text for segment in explanation.segments) == text
    assert all(bool(segment.text) != bool(segment.token) for segment in explanation.segments)
    answered = {row for segment in explanation.segments if segment.answers for row in segment.rows}
    assert answered >= {match.document_row for match in explanation.matches}
    for number, word in enumerate(explanation.words):
        places = {match.document_row for match in (explanation.matches[row] for row in word.rows)}
        here = [s for s in explanation.segments if places & set(s.rows)]
        assert here == [s for s in explanation.segments if number in {answer.word for answer in s.answers}]
        assert sum(count for _, count in word.found) == len(word.rows)


def explained(table, query_tokens, document, document_text, **query):
    """Return an explanation with these similarities [n_q, n_d]: the document's vectors are the axes."""
    d = np.eye(len(table[0]), dtype=np.float32)  # [n_d, n_d]
    tokens, spans = zip(*document, strict=True)
    q = np.array(table, np.float32)  # [n_q, n_d]
    return explain(LabelledVectors(q, query_tokens, **query), LabelledVectors(d, tokens, spans, document_text))


def test_answers_begin_with_the_words_of_the_user():
    """A word's answers are sorted: the user's words before markers and expansion, then the closest first."""
    explanation = explained(
        [[0.5, 0.25], [0.75, 0.25], [1, 0.25], [1, 0.25]],
        ["ab", "cd", "[SEP]", "[MASK]"],
        [("xy", (0, 2)), ("[SEP]", None)],
        "xy z",
        text="ab cd",
        spans=[(0, 2), (3, 5), None, None],
        n_expansion=1,
    )
    assert [word.kind for word in explanation.words] == ["text", "text", "marker", "expansion"]
    assert [(a.word, a.similarity) for a in explanation.segments[0].answers] == [
        (1, 0.75),
        (0, 0.5),
        (2, 1.0),
        (3, 1.0),
    ]
    assert [segment.text for segment in explanation.segments] == ["xy", " z"]


def test_expansion_is_one_word_that_counts_its_answers():
    """All [MASK] tokens are one word; its answers are counted, most first; a marker that answered is a segment."""
    explanation = explained(
        [[1, 0, 0], [0, 0, 1], [0, 1, 0], [0, 0, 1]],
        ["a", "[MASK]", "[MASK]", "[MASK]"],
        [("[CLS]", None), ("b", (0, 1)), ("c", (2, 3))],
        "b c",
        text="a",
        spans=[(0, 1), None, None, None],
        n_expansion=3,
    )
    own, expansion = explanation.words
    assert (own.text, own.rows, own.found) == ("a", (0,), (("[CLS]", 1),))
    assert (expansion.text, expansion.rows, expansion.similarity) == ("[MASK]", (1, 2, 3), 3.0)
    assert expansion.found == (("c", 2), ("b", 1))
    assert [(s.text, s.token) for s in explanation.segments] == [("", "[CLS]"), ("b", ""), (" ", ""), ("c", "")]


def test_trailing_markers_come_after_the_text():
    """Text without a vector at the end, such as a full stop, comes before [SEP]."""
    explanation = explained([[0.0, 1.0]], ["a"], [("b", (0, 1)), ("[SEP]", None)], "b.", text="a", spans=[(0, 1)])
    assert [(s.text, s.token) for s in explanation.segments] == [("b", ""), (".", ""), ("", "[SEP]")]


def test_a_query_of_markers_and_expansion_has_its_kinds(encoder):
    """The model's own frame is marker and expansion; the user's words, also one spelled [MASK], are text."""
    (hit,) = rerank("date [MASK]", ["a date"], encoder)
    words = hit.explain().words
    assert [(w.text, w.kind, len(w.rows)) for w in words] == [
        ("[CLS]", "marker", 1),
        ("[Q]", "marker", 1),
        ("date", "text", 1),
        ("[MASK]", "text", 1),
        ("[SEP]", "marker", 1),
        ("[MASK]", "expansion", 27),
    ]


def test_ready_made_query_vectors_are_words(tmp_path):
    """Each vector of a query without a text is a word of its own."""
    with Index.create(tmp_path / "index", dim=2, nbits="float32") as index:
        index.add(["a text"], vectors=[np.eye(2)])
        explanation = index.search(np.eye(2))[0].explain()
    assert [(w.text, w.kind, w.found) for w in explanation.words] == [
        ("query 0", "text", (("row 0", 1),)),
        ("query 1", "text", (("row 1", 1),)),
    ]
    assert [(s.text, s.token) for s in explanation.segments] == [("a text", ""), ("", "row 0"), ("", "row 1")]


def test_an_explanation_is_json(encoder):
    """to_dict holds words, segments and matches, survives JSON, and has the similarities only on request."""
    (hit,) = rerank("read \u4e2d", [TEXT], encoder)
    explanation = hit.explain()
    plain, full = explanation.to_dict(), json.loads(json.dumps(explanation.to_dict(matrix=True), allow_nan=False))
    assert set(plain) == {"score", "matches", "words", "segments", "shared_words"}
    assert json.loads(json.dumps(plain)).items() <= full.items()
    assert "".join(segment["text"] for segment in full["segments"]) == TEXT
    assert full["words"][2] == {
        "text": "read",
        "kind": "text",
        "rows": [2],
        "similarity": explanation.words[2].similarity,
        "found": [list(pair) for pair in explanation.words[2].found],
    }
    assert (
        np.abs(np.array(full["similarities"]) - explanation.similarities).max() <= 0.5e-4 + 1e-7
    )  # rounded to 4 decimals
    assert len(full["document_tokens"]) == explanation.similarities.shape[1]
