"""The edges of the engine on an index with a codec: exact small answers, or typed errors."""

import numpy as np
import pytest
from strategies import topical, unit

from refcolbert import Index
from refcolbert.errors import InvalidInput

DIM, N_DOCS = 8, 60


@pytest.fixture(scope="module")
def documents():
    """Sixty documents of unit vectors."""
    return topical(np.random.default_rng(8), N_DOCS, DIM)


@pytest.fixture(scope="module")
def q():
    """A query of five unit vectors."""
    return unit(np.random.default_rng(1), 5, DIM)


@pytest.fixture
def coded(tmp_path, documents):
    """An index of the documents, with a codec."""
    index = Index.create(tmp_path / "i", dim=DIM, train_at=1)
    index.add([{"id": f"d{i}", "metadata": {"n": i}} for i in range(N_DOCS)], vectors=documents)
    return index


@pytest.mark.parametrize("k", [N_DOCS - 1, N_DOCS, 10 * N_DOCS])
@pytest.mark.parametrize("options", [{}, {"exact": True}, {"nprobe": 1, "candidates": 1}, {"nprobe": 10**6}])
def test_k_documents_come_back(coded, q, k, options):
    """However few cells are probed, k documents come back, or all there are, in the order of the exact scan."""
    hits = coded.search(q, k, **options)
    assert [hit.rank for hit in hits] == list(range(1, min(k, N_DOCS) + 1))
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    if k >= N_DOCS:
        assert [hit.id for hit in hits] == [hit.id for hit in coded.search(q, k, exact=True)]


def test_only_deleted_documents_give_an_empty_answer(coded, q):
    """After the last document is deleted no search returns anything, and documents can be added again."""
    coded.delete([f"d{i}" for i in range(N_DOCS)])
    for options in ({}, {"exact": True}, {"where": {"n": 3}}, {"ids": ["d3"]}, {"threads": 3}):
        assert coded.search(q, 5, **options) == []
    coded.add([{"id": "new"}], vectors=[q[:2]])
    assert [hit.id for hit in coded.search(q, 5)] == ["new"]
    coded.check()


def test_documents_and_queries_of_one_token(tmp_path, documents, q):
    """A document and a query may be one vector each: the score is their product, to the codec's error."""
    index = Index.create(tmp_path / "one", dim=DIM, train_at=1, nbits=8)
    index.add([{"id": f"d{i}"} for i in range(40)], vectors=list(documents.vectors[:40, None]))
    products = documents.vectors[:40] @ q[0]
    hits = index.search(q[:1], 3)
    assert [hit.id for hit in hits] == [f"d{i}" for i in np.argsort(-products, kind="stable")[:3]]
    assert np.abs(np.array([hit.score for hit in hits]) - np.sort(products)[::-1][:3]).max() < 0.02


def test_a_query_of_zeros_scores_zero_and_ties_go_by_age(coded, q):
    """A zero row adds nothing, and where all rows are zero the oldest documents come first."""
    hits = coded.search(np.zeros((3, DIM)), 4)
    assert [(hit.id, hit.score) for hit in hits] == [("d0", 0.0), ("d1", 0.0), ("d2", 0.0), ("d3", 0.0)]
    with_zero = coded.search(np.concatenate([q, np.zeros((1, DIM), np.float32)]), 5)
    assert [(hit.id, hit.score) for hit in with_zero] == [(hit.id, hit.score) for hit in coded.search(q, 5)]


@pytest.mark.parametrize(
    ("query", "options", "message"),
    [
        (np.ones((2, DIM + 1)), {}, f"dim {DIM}, found {DIM + 1}"),
        (np.full((2, DIM), np.nan), {}, "NaN"),
        (np.empty((0, DIM)), {}, "at least one row"),
        (np.ones((2, DIM)), {"k": 0}, "k must"),
        (np.ones((2, DIM)), {"nprobe": 0}, "nprobe must"),
        (np.ones((2, DIM)), {"candidates": -1}, "candidates must"),
        (np.ones((2, DIM)), {"threads": 0}, "threads must"),
        (np.ones((2, DIM)), {"nprobe": 2.5}, "nprobe must"),
    ],
)
def test_bad_searches_are_refused(coded, q, query, options, message):
    """Queries of another dim, not finite or empty, and parameters below 1 are errors that say what was expected."""
    for search in (coded.search, lambda query, **options: coded.search_many([q, query], **options)):
        with pytest.raises(InvalidInput, match=message):
            search(query, **options)
