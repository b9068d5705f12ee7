"""Grouping: one answer for each document, however many passages it was cut into; replaced and deleted as one."""

import numpy as np
import pytest

from refcolbert import Index
from refcolbert.errors import InvalidInput, UnknownId

DIM = 8
KEY = "passage_of"


def passages(counts, seed=0):
    """Documents {"id", "metadata"} with vectors: document i in counts[i] passages, or whole where that is 0."""
    rng = np.random.default_rng(seed)
    documents = []
    for i, count in enumerate(counts):
        names = [(f"d{i}@{j}", {KEY: f"d{i}"}) for j in range(count)] or [(f"d{i}", {})]
        documents += [{"id": name, "metadata": metadata} for name, metadata in names]
    vectors = rng.standard_normal((len(documents), 3, DIM)).astype(np.float32)
    return documents, list(vectors / np.linalg.norm(vectors, axis=2, keepdims=True))


@pytest.fixture(params=["raw", "encoded"])
def index(tmp_path, request):
    """40 documents, some of which are cut into up to 30 passages."""
    documents, vectors = passages([30, 1, 0, 5] * 10)
    options = {} if request.param == "raw" else {"nbits": 4, "train_at": 1}
    with Index.build(tmp_path / "index", documents, vectors=vectors, dim=DIM, **options) as built:
        yield built


def by_hand(hits, k):
    """The first hit of each group in a whole ranking."""
    best = {}
    for hit in hits:
        best.setdefault(hit.metadata.get(KEY, hit.id), hit)
    return list(best.items())[:k]


@pytest.mark.parametrize("k", [1, 10, 39, 40, 100])
def test_each_group_answers_once_by_its_best_document(index, k):
    """The grouped answer is the whole exact ranking with all but the first of each group taken out."""
    q = passages([0], seed=1)[1][0]
    expected = by_hand(index.search(q, len(index), exact=True), k)
    found = index.search(q, k, group_by=KEY, exact=True)
    assert [(hit.metadata.get(KEY, hit.id), hit.id, hit.score) for hit in found] == [
        (group, hit.id, hit.score) for group, hit in expected
    ]
    assert [hit.rank for hit in found] == list(range(1, len(expected) + 1))
    assert len(found) == min(k, 40)


def test_as_many_groups_as_asked_for_are_found_without_an_exact_scan(index):
    """Searching with one probe and one candidate still gives k different groups, where there are so many."""
    q = passages([0], seed=1)[1][0]
    found = index.search(q, 40, group_by=KEY, nprobe=1, candidates=1)
    assert len({hit.metadata.get(KEY, hit.id) for hit in found}) == 40


def test_a_filter_is_applied_before_grouping(index):
    """Groups of which nothing is allowed are no answer."""
    q = passages([0], seed=1)[1][0]
    found = index.search(q, 10, group_by=KEY, where={KEY: {"$in": ["d0", "d4"]}})
    assert {hit.metadata[KEY] for hit in found} == {"d0", "d4"}
    assert index.search(q, 10, group_by=KEY, ids=[]) == []


def test_many_queries_are_grouped_like_one(index):
    """search_many with a key is search for each query."""
    queries = passages([0, 0, 0], seed=2)[1]
    assert index.search_many(queries, 5, group_by=KEY, threads=2) == [index.search(q, 5, group_by=KEY) for q in queries]


def test_upsert_of_a_group_replaces_all_of_it(index):
    """A document that is now cut into fewer passages leaves none of its former ones, in one generation."""
    documents, vectors = passages([2], seed=3)
    before = index.info()["generation"]
    index.upsert(documents, vectors=vectors, group_by=KEY)
    assert sorted(name for name in index.ids() if name.startswith("d0@")) == ["d0@0", "d0@1"]
    assert index.info()["generation"] == before + 1
    assert len(index) == 30 * 9 + 10 + 10 + 5 * 10 + 2


def test_a_document_replaces_its_passages_and_they_it(index):
    """Whether a text was cut before or is cut now makes no difference."""
    whole, vectors = passages([0], seed=3)
    index.upsert(whole, vectors=vectors, group_by=KEY)
    assert [name for name in index.ids() if name.split("@")[0] == "d0"] == ["d0"]
    cut, vectors = passages([3], seed=3)
    index.upsert(cut, vectors=vectors, group_by=KEY)
    assert [name for name in index.ids() if name.split("@")[0] == "d0"] == ["d0@0", "d0@1", "d0@2"]


def test_upsert_without_a_key_replaces_by_id_alone(index):
    """Other passages of the document stay."""
    documents, vectors = passages([2], seed=3)
    index.upsert(documents, vectors=vectors)
    assert len([name for name in index.ids() if name.startswith("d0@")]) == 30


def test_groups_are_deleted_whole(index):
    """Passages and uncut documents go by the name of their document; an unknown one among them deletes nothing."""
    with pytest.raises(UnknownId, match="'d0@1'"):
        index.delete(["d0", "d0@1"], group_by=KEY)
    assert "d0@1" in index
    index.delete(["d0", "d2"], group_by=KEY)
    assert not [name for name in index.ids() if name.split("@")[0] in ("d0", "d2")]
    with pytest.raises(UnknownId, match="'d0'"):
        index.delete(["d0"], group_by=KEY)


@pytest.mark.parametrize("key", ["", "a.b", 3, "$in", 'a"b'])
def test_a_key_that_names_no_field_is_refused(index, key):
    """Searching, replacing and deleting say so, and nothing is changed."""
    documents, vectors = passages([2], seed=3)
    before = index.info()
    for call in (
        lambda: index.upsert(documents, vectors=vectors, group_by=key),
        lambda: index.delete(["d0"], group_by=key),
    ):
        with pytest.raises(InvalidInput):
            call()
    assert index.info() == before


def test_numbers_name_groups(tmp_path):
    """Documents with equal numbers are one group; it is replaced and deleted by the number or its text."""
    index = Index.create(tmp_path / "i", dim=2)
    years = [2023, 2024, 2024, "2024", True, 2024.5]
    documents = [{"id": f"d{i}", "metadata": {"year": year}} for i, year in enumerate(years)]
    index.add(documents, vectors=[[[1, i]] for i in range(len(years))])
    assert [hit.id for hit in index.search([[0, 1]], group_by="year")] == ["d5", "d4", "d3", "d0"]
    index.upsert([{"id": "new", "metadata": {"year": 2024}}], vectors=[[[1, 0]]], group_by="year")
    assert index.ids() == ["d0", "d4", "d5", "new"]
    index.delete(["2024.5"], group_by="year")
    with pytest.raises(UnknownId):
        index.delete(["NaN"], group_by="year")
    assert index.ids() == ["d0", "d4", "new"]
