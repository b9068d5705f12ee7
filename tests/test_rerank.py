"""Reranking: exact MaxSim in the one total order, without an index."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refcolbert import Hit, maxsim, rerank
from refcolbert.errors import InvalidInput, ModelNotFound

QUERY = "how to read a file line by line"
words = st.sampled_from(["the", "of", "file", "line", "read", "write", "open", "close", "a", "[SEP]", ".", "\0"])
texts_lists = st.lists(st.lists(words, max_size=4).map(" ".join), max_size=8)


def expected(encoder, query, texts):
    """(score, position) of every text, each encoded alone, best first; equal scores by position."""
    (q,) = encoder.encode_queries([query])
    scored = [(maxsim(q, encoder.encode_documents([text])[0]), i) for i, text in enumerate(texts)]
    return sorted(scored, key=lambda pair: (-pair[0], pair[1]))


@given(texts_lists)
def test_every_text_is_scored_exactly_and_sorted(encoder, texts):
    """Scores are those of the definition to the encoder's rounding, descending; equal texts keep their order."""
    hits = rerank(QUERY, texts, encoder)
    scores = {i: score for score, i in expected(encoder, QUERY, texts)}
    assert sorted(int(hit.id) for hit in hits) == list(range(len(texts)))
    assert [hit.rank for hit in hits] == list(range(1, len(texts) + 1))
    assert all(hit.text == texts[int(hit.id)] for hit in hits)
    assert [hit.score for hit in hits] == pytest.approx([scores[int(hit.id)] for hit in hits], abs=1e-3)
    assert hits == sorted(hits, key=lambda hit: (-hit.score, int(hit.id)))
    for text in set(texts):
        ties = [hit for hit in hits if hit.text == text]
        assert len({hit.score for hit in ties}) == 1


@given(st.lists(words, min_size=1, max_size=6), st.integers(1, 8))
def test_k_gives_the_first_of_all(encoder, texts, k):
    """The k best are a prefix of the full order; more than there are gives all."""
    assert rerank(QUERY, texts, encoder, k) == rerank(QUERY, texts, encoder)[:k]


def test_the_text_that_asks_the_question_is_the_best_answer(encoder):
    """A text that equals the query comes before texts that share nothing with it."""
    hits = rerank(QUERY, ["heat of a boundary layer", "why were they there", QUERY], encoder, 1)
    assert [hit.id for hit in hits] == ["2"]


def test_a_hit_holds_what_is_known(encoder):
    """Id is the decimal position, metadata are empty, the score is a Python float."""
    (hit,) = rerank(QUERY, ("a file",), encoder)
    assert isinstance(hit, Hit)
    assert (hit.rank, hit.id, hit.text, hit.metadata, type(hit.score)) == (1, "0", "a file", {}, float)


def test_a_score_is_the_same_in_any_company(encoder):
    """What else is reranked changes a score by no more than rounding."""
    company = [f"{word} file" for word in ("the", "of", "and", "to", "in", "is", "as", "on")]
    (alone,) = rerank(QUERY, ["read the path"], encoder)
    among = next(hit for hit in rerank(QUERY, [*company, "read the path"], encoder) if hit.text == "read the path")
    assert among.score == pytest.approx(alone.score, abs=1e-4)


def test_no_texts_no_hits(encoder):
    """Nothing to sort is an empty answer."""
    assert rerank(QUERY, [], encoder) == []


@pytest.mark.parametrize("k", [0, -1, 1.0, "1", True, np.float32(2)])
@pytest.mark.parametrize("texts", [["a", "b"], []], ids=["texts", "none"])
def test_k_must_be_a_count(encoder, k, texts):
    """A k that is not an integer >= 1 is refused, also when there is nothing to sort."""
    with pytest.raises(InvalidInput, match="k must be an integer >= 1"):
        rerank(QUERY, texts, encoder, k=k)


@pytest.mark.parametrize(
    ("query", "texts"),
    [
        (QUERY, "one text"),
        (QUERY, ["a", 5]),
        (QUERY, ["a", None]),
        (QUERY, [b"a"]),
        (QUERY, ["\ud800"]),
        ("\ud800", ["a"]),
        (5, ["a"]),
        (None, ["a"]),
        (["a"], ["a"]),
    ],
    ids=range(9),
)
def test_other_values_than_texts_are_refused(encoder, query, texts):
    """A bare string instead of a list, and items that are not strings, are an InvalidInput."""
    with pytest.raises(InvalidInput):
        rerank(query, texts, encoder)


def test_a_generator_is_not_taken_for_nothing(encoder):
    """Texts that can be read only once are reranked."""
    assert len(rerank(QUERY, (text for text in ("a", "b")), encoder)) == 2


def test_the_default_model_is_used_when_none_is_given(encoder, monkeypatch):
    """Without an encoder the default model answers."""
    monkeypatch.setattr("refcolbert.encoding.encoder.default_model_folder", lambda: encoder.folder)
    assert rerank(QUERY, ["a", "b"]) == rerank(QUERY, ["a", "b"], encoder)


def test_without_a_default_model_the_error_says_where_it_belongs(tmp_path, monkeypatch):
    """A missing default model is a ModelNotFound naming the place and a way out."""
    monkeypatch.setattr("refcolbert.encoding.encoder.default_model_folder", lambda: tmp_path / "default_model")
    with pytest.raises(ModelNotFound, match=r"default_model.*Encoder\.load"):
        rerank(QUERY, ["a"])
