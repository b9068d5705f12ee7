"""Explanations: exact sums, and places in the caller's text that hold the right words."""

import json
import re
import shutil
import unicodedata

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from refcolbert import Encoder, Index, maxsim, rerank
from refcolbert.explanation.explanation import LabelledVectors, explain

TEXTS = [
    "How to parse a date from a string.",
    "The boundary layer: a flow over a wing, heated!",
    "",
    "Read the file, line by line; close it.",
    "naïve CAFÉ -- \u201cquoted\u201d 中文 text",
    "a word",
]
QUERY = "parse the date string"


@pytest.fixture(scope="session")
def variant(encoder, tmp_path_factory):
    """Changes of the spec -> the tiny model with that spec."""
    encoders = {}

    def make(changes):
        key = json.dumps(changes, sort_keys=True)
        if key not in encoders:
            folder = tmp_path_factory.mktemp("variant") / "model"
            shutil.copytree(encoder.folder, folder)
            spec = json.loads((folder / "encoding.json").read_text())
            (folder / "encoding.json").write_text(json.dumps({**spec, **changes}))
            encoders[key] = Encoder.load(folder)
        return encoders[key]

    return make


# ---- the sum


grid = st.integers(-8, 8).map(lambda value: value / 8)


@st.composite
def pairs(draw):
    """A query and a document on the dyadic grid, where every sum is exact."""
    n_q, n_d, dim = (draw(st.integers(1, 6)) for _ in range(3))
    return tuple(draw(npst.arrays(np.float32, (n, dim), elements=grid)) for n in (n_q, n_d))


@given(pairs())
def test_the_similarities_add_up_to_the_score(pair):
    """The score is MaxSim, and the sum of the matches' similarities, each the first maximum of its row."""
    q, d = pair
    query = LabelledVectors(q, [f"q{i}" for i in range(len(q))])
    explanation = explain(query, LabelledVectors(d, [f"d{j}" for j in range(len(d))]))
    table = q @ d.T  # [n_q, n_d]
    assert explanation.score == maxsim(q, d) == sum(match.similarity for match in explanation.matches)
    assert [match.document_row for match in explanation.matches] == table.argmax(axis=1).tolist()
    assert [match.similarity for match in explanation.matches] == table.max(axis=1).tolist()
    assert explanation.similarities.dtype == np.float32
    assert (explanation.similarities == table).all()
    assert [match.query_token for match in explanation.matches] == [f"q{i}" for i in range(len(q))]
    assert [match.document_token for match in explanation.matches] == [
        f"d{match.document_row}" for match in explanation.matches
    ]


def check(hit, query_labels):
    """Assert that a hit on a text is explained exactly, and return the explanation."""
    explanation = hit.explain()
    assert explanation.score == hit.score
    assert sum(m.similarity for m in explanation.matches) == pytest.approx(hit.score, abs=1e-9)
    assert [m.query_token for m in explanation.matches] == query_labels
    assert explanation.similarities.shape[0] == len(query_labels)
    for match in explanation.matches:
        assert match.text == ("" if match.span is None else hit.text[slice(*match.span)])
    return explanation


def test_a_reranked_text_is_explained_exactly(encoder):
    """Every hit's explanation has the hit's score, to the last bit, and one match for each query token."""
    for hit in rerank(QUERY, TEXTS, encoder):
        check(hit, encoder.query_labels(QUERY))


@pytest.mark.parametrize("nbits", [2, 8, "float16", "float32"])
def test_a_hit_is_explained_by_the_vectors_in_the_index(tmp_path, encoder, nbits):
    """Compressed vectors give the explanation too, so it adds up to the score of the search."""
    with Index.create(tmp_path / "index", encoder, nbits=nbits, train_at=20) as index:
        index.add(TEXTS)
        hits = index.search(QUERY)
        assert len(hits) == len(TEXTS)
        for hit in hits:
            check(hit, encoder.query_labels(QUERY))


def test_an_explanation_outlives_the_document(tmp_path, encoder):
    """A hit explains the generation in which it was found, also after its document was deleted."""
    with Index.create(tmp_path / "index", encoder) as index:
        index.add(TEXTS)
        best = index.search(QUERY)[0]
        index.delete([best.id])
        index.compact()
        check(best, encoder.query_labels(QUERY))


def test_ready_made_vectors_are_explained_by_row(tmp_path):
    """Without an encoder tokens are named by their number and have no place."""
    with Index.create(tmp_path / "index", dim=2, nbits="float32") as index:
        index.add(["a text"], vectors=[np.eye(2)])
        explanation = index.search(np.array([[0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]))[0].explain()
    assert [(m.query_token, m.document_token, m.span, m.text) for m in explanation.matches] == [
        ("query 0", "row 1", None, ""),
        ("query 1", "row 0", None, ""),
        ("query 2", "row 0", None, ""),
    ]


def test_vectors_of_another_origin_are_not_labelled_with_the_texts_tokens(tmp_path, encoder):
    """When the number of rows is not that of the text's tokens, rows are named by number."""
    with Index.create(tmp_path / "index", encoder) as index:
        index.add(["a word"], vectors=[np.eye(16)[:2]])
        explanation = index.search(QUERY)[0].explain()
    assert {m.document_token for m in explanation.matches} <= {"row 0", "row 1"}
    assert [m.query_token for m in explanation.matches] == encoder.query_labels(QUERY)


def test_a_query_token_that_is_dropped_is_not_labelled(variant):
    """With a query skiplist there are as many labels as query vectors, so the explanation still adds up."""
    encoder = variant({"query_skiplist": [111]})  # "the"
    (q,) = encoder.encode_queries([QUERY])
    labels = encoder.query_labels(QUERY)
    assert len(labels) == len(q) == 31
    assert "the" not in labels
    check(rerank(QUERY, TEXTS, encoder)[0], labels)


# ---- places


def spelled(text):
    """A piece of text as the tokenizer normalizes it: no accents, no invisible characters, lower case."""
    decomposed = unicodedata.normalize("NFD", text.lower())
    return "".join(c for c in decomposed if unicodedata.category(c) not in ("Mn", "Cf"))


SPECS = [
    {},
    {"lowercase": True},
    {"strip": True},
    {"document_prompt": "passage: "},
    {"document_prompt": "passage: ", "strip": True, "lowercase": True},
    {"document_prompt": " İS the ", "strip": True, "lowercase": True},
    {"document_prompt": "wor", "lowercase": True},
]
pieces = st.sampled_from(
    ["the", "Word", "İ", "İS", "é", "e\u0301", "ß", "x", " ", "  ", "\t", ".", "中", "\u200b", "ing"]
)
awkward = st.lists(pieces, max_size=12).map("".join)


@pytest.mark.parametrize("changes", SPECS, ids=str)
@given(text=awkward)
def test_a_span_holds_the_text_of_its_token(variant, changes, text):
    """The caller's text at a span spells the token, whatever prompt, strip and lower() did to it before."""
    encoder = variant(changes)
    labels, spans = encoder.document_labels(text)
    assert len(labels) == len(spans) == len(encoder.encode_documents([text])[0])
    for label, span in zip(labels, spans, strict=True):
        if span is not None and label != "[UNK]":
            assert spelled(text[slice(*span)]) == re.sub("^##", "", label), (text, label, span)
        assert span is None or 0 <= span[0] <= span[1] <= len(text)
    placed = [span for span in spans if span is not None]
    assert placed == sorted(placed)


@pytest.mark.parametrize("changes", SPECS[:5], ids=str)
def test_every_token_of_the_text_has_a_span(variant, changes):
    """The spans of a text without punctuation and rare characters cover all its letters, with any preparation."""
    text = "  The İndex of a Word "
    _, spans = variant(changes).document_labels(text)
    covered = {i for span in spans if span is not None for i in range(*span)}
    assert covered == {i for i, letter in enumerate(text) if letter != " "}


def test_markers_have_no_span(encoder):
    """[CLS], the document marker and [SEP] have no place in the text, and every other token has one."""
    labels, spans = encoder.document_labels("a word")
    assert labels == ["[CLS]", "[unused1]", "a", "word", "[SEP]"]
    assert spans == [None, None, (0, 1), (2, 6), None]


def test_a_marker_spelled_in_the_text_has_its_place(encoder):
    """A marker that the caller wrote is text of the caller's."""
    labels, spans = encoder.document_labels("a [SEP]")
    assert (labels[3], spans[3]) == ("[SEP]", (2, 7))
    assert (labels[-1], spans[-1]) == ("[SEP]", None)


def test_the_tokens_of_a_prompt_have_no_span(variant):
    """The prompt is not part of the text."""
    labels, spans = variant({"document_prompt": "search the index: "}).document_labels("a word")
    assert labels[2:7] == ["search", "the", "index", "a", "word"]
    assert spans[2:7] == [None, None, None, (0, 1), (2, 6)]


def test_a_match_on_a_marker_has_no_text(encoder):
    """An empty document is answered by its markers alone."""
    (hit,) = rerank(QUERY, [""], encoder)
    assert {(m.span, m.text) for m in check(hit, encoder.query_labels(QUERY)).matches} == {(None, "")}


# ---- the table


def test_an_explanation_prints_as_a_table(encoder):
    """The table has one line per word, marker and expansion: label, share of the score, words of the document."""
    explanation = rerank("strptime the date", ["The strptime date"], encoder)[0].explain()
    first, *lines = str(explanation).splitlines()
    assert first == f"score {explanation.score:.4f}"
    labels, shares, found = zip(*(re.split("  +", line.strip(), maxsplit=2) for line in lines), strict=True)
    assert labels == ("[CLS]", "[Q]", "strptime", "the", "date", "[SEP]", f"[MASK] x{len(explanation.words[-1].rows)}")
    assert sum(map(float, shares)) == pytest.approx(explanation.score, abs=0.01)
    assert {re.sub(r" x\d+$", "", word) for line in found for word in line.split(", ")} <= {
        *("[CLS]", "[D]", "[SEP]", "The", "strptime", "date")
    }


def test_vectors_without_words_print_as_a_table():
    """Without words there is one line per query token."""
    q, d = np.array([[1, 0], [0, 1]], np.float32), np.array([[0.5, 0], [0, -0.25]], np.float32)
    explanation = explain(LabelledVectors(q, ["[CLS]", "b"]), LabelledVectors(d, ["x", "y"]))
    assert str(explanation) == "score 0.5000\n[CLS]   0.500  x\n    b   0.000  x"


def test_an_unused_token_is_shown_as_the_marker_that_it_is(encoder):
    """[unused0] and [unused1] are [Q] and [D] in words and pieces; matches keep the vocabulary's spelling."""
    explanation = rerank("date", ["a"], encoder)[0].explain()
    assert [word.text for word in explanation.words][:3] == ["[CLS]", "[Q]", "date"]
    assert {piece.token for piece in explanation.segments} <= {"", "[CLS]", "[D]", "[SEP]"}
    assert [match.query_token for match in explanation.matches][1] == "[unused0]"
    assert "[unused1]" in explanation.document_tokens
