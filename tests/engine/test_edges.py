"""The edges of the engine on an index with a codec: exact small answers, or typed errors."""

import numpy as np
import pytest
from strategies import topical, unit

from refcolbert import Index
from refcolbert.errors import InvalidInput

DIM, N_DOCS = 8, 60
DOCUMENTS = topical(np.random.default_rng(8), N_DOCS, DIM)
Q = unit(np.random.default_rng(1), 5, DIM)


@pytest.fixture
def coded(tmp_path):
    """Sixty documents with a codec."""
    index = Index.create(tmp_path / "i", dim=DIM, train_at=1)
    index.add([{"id": f"d{i}", "metadata": {"n": i}} for i in range(N_DOCS)], vectors=DOCUMENTS)
    return index


@pytest.mark.parametrize("k", [N_DOCS - 1, N_DOCS, 10 * N_DOCS])
@pytest.mark.parametrize("how", [{}, {"exact": True}, {"nprobe": 1, "candidates": 1}, {"nprobe": 10**6}])
def test_as_many_documents_as_are_asked_for(coded, k, how):
    """However few are probed, k documents come back, or all there are, in the order of the exact scan."""
    hits = coded.search(Q, k, **how)
    assert [hit.rank for hit in hits] == list(range(1, min(k, N_DOCS) + 1))
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    if k >= N_DOCS:
        assert [hit.id for hit in hits] == [hit.id for hit in coded.search(Q, k, exact=True)]


def test_only_deleted_documents_give_an_empty_answer(coded):
    """After the last document is deleted nothing is found, by any way of searching, and adding goes on."""
    coded.delete([f"d{i}" for i in range(N_DOCS)])
    for how in ({}, {"exact": True}, {"where": {"n": 3}}, {"ids": ["d3"]}, {"threads": 3}):
        assert coded.search(Q, 5, **how) == []
    coded.add([{"id": "new"}], vectors=[Q[:2]])
    assert [hit.id for hit in coded.search(Q, 5)] == ["new"]
    coded.check()


def test_documents_and_queries_of_one_token(tmp_path):
    """One vector is a document, and a query: the score is their product, to the codec's error."""
    index = Index.create(tmp_path / "one", dim=DIM, train_at=1, nbits=8)
    index.add([{"id": f"d{i}"} for i in range(40)], vectors=[DOCUMENTS.vectors[i : i + 1] for i in range(40)])
    products = DOCUMENTS.vectors[:40] @ Q[0]
    hits = index.search(Q[:1], 3)
    assert [hit.id for hit in hits] == [f"d{i}" for i in np.argsort(-products, kind="stable")[:3]]
    assert np.abs(np.array([hit.score for hit in hits]) - np.sort(products)[::-1][:3]).max() < 0.02


def test_a_query_of_zeros_scores_zero_and_ties_go_by_age(coded):
    """A zero row adds nothing, and where all rows are zero the oldest documents come first."""
    hits = coded.search(np.zeros((3, DIM)), 4)
    assert [(hit.id, hit.score) for hit in hits] == [("d0", 0.0), ("d1", 0.0), ("d2", 0.0), ("d3", 0.0)]
    with_zero = coded.search(np.concatenate([Q, np.zeros((1, DIM), np.float32)]), 5)
    assert [(hit.id, hit.score) for hit in with_zero] == [(hit.id, hit.score) for hit in coded.search(Q, 5)]


@pytest.mark.parametrize(
    ("query", "options", "message"),
    [
        (np.ones((2, DIM + 1)), {}, f"dim {DIM}, found {DIM + 1}"),
        (np.full((2, DIM), np.nan), {}, "NaN"),
        (np.empty((0, DIM)), {}, "at least one row"),
        (Q, {"k": 0}, "k must"),
        (Q, {"nprobe": 0}, "nprobe must"),
        (Q, {"candidates": -1}, "candidates must"),
        (Q, {"threads": 0}, "threads must"),
        (Q, {"nprobe": 2.5}, "nprobe must"),
    ],
)
def test_what_cannot_be_searched_is_refused(coded, query, options, message):
    """Queries of another dim, not finite or empty, and parameters below 1 are errors that say what was expected."""
    for search in (coded.search, lambda q, **kw: coded.search_many([Q, q], **kw)):
        with pytest.raises(InvalidInput, match=message):
            search(query, **options)
