"""Thresholds of similarity: what they lose and refuse, and the one that is recommended."""

import numpy as np
import pytest

from refcolbert import Index
from refcolbert.errors import InvalidInput
from refcolbert.evaluation.no_answer import shuffled, tune_min_score


@pytest.fixture
def index(tmp_path):
    """One document, so that a query's best similarity is its own cosine with it."""
    made = Index.create(tmp_path / "i", dim=2)
    made.add([{"id": "east"}], vectors=[[[1, 0]]])
    return made


def queries(*cosines):
    """Queries of one vector each with these cosines."""
    return [[[c, (1 - c * c) ** 0.5]] for c in cosines]


def test_the_curve_counts_what_each_threshold_refuses(index):
    """Each similarity of an answered query is a threshold, and queries below it are lost or refused."""
    found = tune_min_score(index, queries(0.9, 0.5, 0.7), queries(0.6, 0.2))
    assert [round(t.min_score, 6) for t in found.curve] == [0.5, 0.7, 0.9]
    assert [t.lost for t in found.curve] == pytest.approx([0, 1 / 3, 2 / 3])
    assert [t.refused for t in found.curve] == [0.5, 1, 1]
    assert (found.n_answered, found.n_unanswered) == (3, 2)


def test_the_recommended_threshold_refuses_most_and_then_loses_least(index):
    """Of the thresholds that lose few enough, one that refuses more wins, and of equals the one that loses fewer."""
    answered, unanswered = queries(0.9, 0.5, 0.7, 0.8), queries(0.6, 0.2)
    assert tune_min_score(index, answered, unanswered, max_lost=0.1).recommended.min_score == pytest.approx(0.5)
    assert tune_min_score(index, answered, unanswered, max_lost=0.9).recommended.min_score == pytest.approx(0.7)


def test_separation_is_the_share_of_pairs_in_order(index):
    """It is 1 if every answered query is above every other, and equal similarities count half."""
    assert tune_min_score(index, queries(0.9, 0.8), queries(0.1)).separation == 1
    assert tune_min_score(index, queries(0.5), queries(0.5)).separation == 0.5
    assert tune_min_score(index, queries(0.9, 0.1), queries(0.5)).separation == 0.5


def test_shuffled_queries_have_the_words_and_lengths_of_the_originals():
    """The words of all queries are dealt out again, by a seed."""
    texts = ["how to parse a date", "open a file", "sort"]
    mixed = shuffled(texts, seed=3)
    assert sorted(" ".join(mixed).split()) == sorted(" ".join(texts).split())
    assert [len(text.split()) for text in mixed] == [5, 3, 1]
    assert mixed == shuffled(texts, seed=3) != shuffled(texts, seed=4)


@pytest.mark.parametrize(
    ("answered", "unanswered", "options", "message"),
    [
        ([], queries(0.5), {}, "one query with an answer and one without"),
        (queries(0.5), [], {}, "one query with an answer and one without"),
        (queries(0.5), queries(0.5), {"max_lost": 1.0}, "max_lost must be a share"),
        (queries(0.5), queries(0.5), {"max_lost": float("nan")}, "max_lost must be a share"),
    ],
)
def test_nothing_to_tune_with_is_an_error(index, answered, unanswered, options, message):
    """Missing queries and impossible shares raise InvalidInput."""
    with pytest.raises(InvalidInput, match=message):
        tune_min_score(index, answered, unanswered, **options)


def test_an_empty_index_has_no_threshold(tmp_path):
    """Without documents no query has a similarity."""
    empty = Index.create(tmp_path / "empty", dim=2)
    with pytest.raises(InvalidInput, match="expected at least one document"):
        tune_min_score(empty, queries(0.5), queries(np.float64(0.1)))
