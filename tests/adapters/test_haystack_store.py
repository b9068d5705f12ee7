"""The document store of Haystack, by Haystack's own standard tests and by our own."""

import asyncio

import pytest
from haystack import Document, Pipeline
from haystack.components.writers import DocumentWriter
from haystack.document_stores.errors import DuplicateDocumentError
from haystack.document_stores.types import DuplicatePolicy
from haystack.errors import FilterError
from haystack.testing.document_store import CountDocumentsByFilterTest, DocumentStoreBaseExtendedTests

from refcolbert import Index
from refcolbert.adapters.haystack import ColBERTDocumentStore, ColBERTRetriever
from refcolbert.errors import InvalidInput

QUERY = "how do I parse a date"


class TestStandard(DocumentStoreBaseExtendedTests, CountDocumentsByFilterTest):
    """Haystack's tests of document stores."""

    @pytest.fixture
    def document_store(self, tmp_path, encoder):
        """An empty store."""
        return ColBERTDocumentStore(Index.create(tmp_path / "i", encoder))

    @staticmethod
    def assert_documents_are_equal(received, expected) -> None:
        """Embeddings are not compared, because the index makes its own vectors."""
        kept = [Document(id=d.id, content=d.content, meta=d.meta) for d in expected]
        assert received == kept

    def test_write_documents(self, document_store):
        """The default policy is that of Haystack's own store: known ids are an error."""
        document = Document(content="test doc")
        assert document_store.write_documents([document]) == 1
        with pytest.raises(DuplicateDocumentError, match=document.id):
            document_store.write_documents([document])
        self.assert_documents_are_equal(document_store.filter_documents(), [document])


@pytest.fixture
def store(index):
    """The store of four notes."""
    return ColBERTDocumentStore(index)


def contents(store):
    """Id -> content of all documents, by position."""
    return {d.id: d.content for d in store.filter_documents()}


def test_policies_hold_within_a_call(tmp_path, encoder):
    """The last of two documents with one id is kept with OVERWRITE, the first with SKIP, none with FAIL."""
    both = [Document(id="a", content="one"), Document(id="b", content="b"), Document(id="a", content="two")]
    store = ColBERTDocumentStore(Index.create(tmp_path / "i", encoder))
    with pytest.raises(DuplicateDocumentError):
        store.write_documents(both, DuplicatePolicy.FAIL)
    assert contents(store) == {}
    assert store.write_documents(both, DuplicatePolicy.SKIP) == 2
    assert contents(store) == {"a": "one", "b": "b"}
    assert store.write_documents(both, DuplicatePolicy.OVERWRITE) == 3
    assert contents(store) == {"a": "two", "b": "b"}
    assert store.write_documents([], DuplicatePolicy.SKIP) == 0


def test_deleted_documents_match_no_filter(store):
    """A deleted document is gone from filters while its segment still holds it."""
    store.delete_documents(["dates"])
    english = {"field": "meta.lang", "operator": "==", "value": "en"}
    assert [document.id for document in store.filter_documents(english)] == ["rows", "files"]
    assert store.index.info()["deleted"] == 1


def test_meta_is_updated_without_encoding(store):
    """Vectors stay the same bits when meta changes."""
    before = store.index.vectors(["datum"])[0]
    assert store.update_by_filter({"field": "meta.lang", "operator": "==", "value": "de"}, {"read": True}) == 1
    (found,) = store.filter_documents({"field": "meta.read", "operator": "==", "value": True})
    assert found.meta == {"year": 2024, "lang": "de", "read": True}
    assert (store.index.vectors(["datum"])[0] == before).all()


@pytest.mark.parametrize(
    "filters",
    [
        {"field": "content", "operator": "==", "value": "x"},
        {"field": "meta.tags", "operator": "==", "value": ["a"]},
        {"field": 'meta."', "operator": "==", "value": "x"},
        {"field": "meta.lang", "operator": "contains", "value": "x"},
    ],
)
def test_a_filter_without_where_is_refused(store, filters):
    """Reading, counting, deleting and updating raise FilterError, and nothing is deleted."""
    for call in (
        store.filter_documents,
        store.count_documents_by_filter,
        store.delete_by_filter,
        lambda some: store.update_by_filter(some, {"read": True}),
    ):
        with pytest.raises(FilterError, match=r"filter|operator"):
            call(filters)
    assert store.count_documents() == 4


def test_a_document_without_content_is_refused(store):
    """A document that has no text is a typed error, and nothing of the call is written."""
    with pytest.raises(InvalidInput, match="none in 'x'"):
        store.write_documents([Document(id="y", content="text"), Document(id="x")])
    assert store.count_documents() == 4


def test_pipelines_share_a_store(tmp_path, encoder):
    """One pipeline finds what another one writes when both come from YAML, and the folder is made when it is used."""
    store = ColBERTDocumentStore(tmp_path / "i", model=str(encoder.folder))
    writing, asking = Pipeline(), Pipeline()
    writing.add_component("writer", DocumentWriter(store, policy=DuplicatePolicy.OVERWRITE))
    asking.add_component("retriever", ColBERTRetriever(store, top_k=1))
    allowed = ["refcolbert.adapters.haystack"]
    writing, asking = (Pipeline.loads(pipeline.dumps(), allowed_modules=allowed) for pipeline in (writing, asking))
    assert not (tmp_path / "i").exists()
    for n in range(3):
        document = Document(id=str(n), content=f"note {n}")
        assert writing.run({"writer": {"documents": [document]}}) == {"writer": {"documents_written": 1}}
        filters = {"field": "meta.n", "operator": "==", "value": None}
        answer = asking.run({"retriever": {"query": QUERY, "top_k": 3, "filters": filters}})
        assert len(answer["retriever"]["documents"]) == n + 1


def test_asynchronous_calls_do_the_same(store):
    """Coroutines write, count, filter and delete as the methods do, and an asynchronous pipeline writes."""

    async def all_of_it():
        pipeline = Pipeline()
        pipeline.add_component("writer", DocumentWriter(store))
        await pipeline.run_async({"writer": {"documents": [Document(id="x", content="x")]}})
        await store.write_documents_async([Document(id="x", content="y")], DuplicatePolicy.OVERWRITE)
        await store.delete_documents_async(["dates", "unknown"])
        none = {"field": "meta.lang", "operator": "==", "value": None}
        return await store.count_documents_async(), await store.filter_documents_async(none)

    count, (found,) = asyncio.run(all_of_it())
    assert (count, found.content) == (4, "y")
