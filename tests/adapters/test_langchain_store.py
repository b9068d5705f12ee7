"""The vector store of LangChain, by LangChain's own standard tests and by our own."""

import asyncio

import pytest
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.indexing import InMemoryRecordManager, index
from langchain_tests.integration_tests import VectorStoreIntegrationTests
from shards import cut

from refcolbert import Index
from refcolbert.adapters.langchain import ColBERTVectorStore
from refcolbert.errors import InvalidInput

QUERY = "how do I parse a date"


@pytest.mark.anyio
class TestStandard(VectorStoreIntegrationTests):
    """LangChain's tests of vector stores. They pass an embedding to nothing but the fixture below."""

    @pytest.fixture
    def anyio_backend(self):
        """Coroutines run in asyncio."""
        return "asyncio"

    @pytest.fixture
    def vectorstore(self, tmp_path, encoder):
        """An empty store."""
        return ColBERTVectorStore(tmp_path / "i", encoder)


@pytest.fixture
def store(index):
    """The store of four notes."""
    return ColBERTVectorStore(index)


def documents():
    """Documents as a loader returns them."""
    return [Document(id=name, page_content=text, metadata={"n": i}) for i, (name, text) in enumerate(TEXTS.items())]


TEXTS = {"a": "the cat sat", "b": "a date is parsed from a text", "c": "files in a folder"}


def test_a_store_is_made_from_documents(tmp_path, encoder):
    """`from_documents` makes the index in a folder, and a store of that folder finds the same."""
    store = ColBERTVectorStore.from_documents(documents(), index=tmp_path / "i", encoder=encoder)
    assert store.similarity_search(QUERY, 3) == ColBERTVectorStore(tmp_path / "i", encoder).similarity_search(QUERY, 3)
    assert {d.id: d.page_content for d in store.get_by_ids(["a", "b", "c"])} == TEXTS
    again = asyncio.run(ColBERTVectorStore.afrom_documents(documents(), index=store.index))
    assert len(again.index) == 3


def test_texts_get_ids_that_no_document_has(tmp_path, encoder):
    """Texts without ids replace nothing when documents are called by numbers."""
    store = ColBERTVectorStore.from_texts(["one", "two"], ids=["2", "3"], index=tmp_path / "i", encoder=encoder)
    names = store.add_texts(["three", "four"], [{"n": 3}, {"n": 4}])
    assert len(store.index) == 4
    assert [d.metadata for d in store.get_by_ids(names)] == [{"n": 3}, {"n": 4}]


def test_ids_are_as_many_as_documents(store):
    """Other numbers of ids are an error, and nothing is written."""
    with pytest.raises(InvalidInput, match="expected 3 ids, one per document, found 2"):
        store.add_documents(documents(), ids=["x", "y"])
    with pytest.raises(InvalidInput, match="expected 3 ids, one per document, found 2"):
        store.add_texts(TEXTS.values(), ids=["x", "y"])
    assert len(store.index) == 4


def test_the_texts_of_a_generator_are_added(store):
    """LangChain takes any iterable of texts, and none of them is lost."""
    assert len(store.add_texts(text for text in ("one", "two"))) == 2
    assert len(store.index) == 6


def test_a_search_is_that_of_the_index(store):
    """Documents, scores, filters and further arguments are those of `Index.search`."""
    hits = store.index.search(QUERY, 2, where={"year": {"$gte": 2024}}, mode="hybrid")
    found = store.similarity_search_with_score(QUERY, 2, {"year": {"$gte": 2024}}, mode="hybrid")
    assert [(d.id, d.page_content, d.metadata, score) for d, score in found] == [
        (hit.id, hit.text, hit.metadata, hit.score) for hit in hits
    ]
    assert store.similarity_search(QUERY, 2, {"year": {"$gte": 2024}}, mode="hybrid") == [d for d, _ in found]


def test_a_retriever_filters(store):
    """Filter and number reach the search when the store is used as a retriever, also in async code."""
    retriever = store.as_retriever(search_kwargs={"k": 1, "filter": {"lang": "de"}})
    assert [d.id for d in retriever.invoke(QUERY)] == ["datum"]
    assert asyncio.run(retriever.ainvoke(QUERY)) == retriever.invoke(QUERY)


def test_relevance_is_similarity(store):
    """Relevance scores are the hits' similarities when a threshold is given, also in async code."""
    similarities = [hit.similarity for hit in store.index.search(QUERY)]
    found = store.similarity_search_with_relevance_scores(QUERY, 10)
    assert [score for _, score in found] == similarities
    retriever = store.as_retriever(
        search_type="similarity_score_threshold", search_kwargs={"score_threshold": similarities[1]}
    )
    assert [d.id for d in retriever.invoke(QUERY)] == [d.id for d, _ in found[:2]]
    assert asyncio.run(retriever.ainvoke(QUERY)) == retriever.invoke(QUERY)
    with pytest.raises(InvalidInput, match="found 'words'"):
        store.similarity_search_with_relevance_scores("date", mode="words")


def test_single_vectors_are_refused(store, tmp_path):
    """An embedding, and every method that compares single vectors, raises an error that says why."""
    embedding = DeterministicFakeEmbedding(size=6)
    with pytest.raises(InvalidInput, match="expected embedding=None, found DeterministicFakeEmbedding"):
        ColBERTVectorStore.from_documents(documents(), embedding, index=tmp_path / "none")
    for search in (
        lambda: store.similarity_search_by_vector([0.0]),
        lambda: asyncio.run(store.asimilarity_search_by_vector([0.0], k=2)),
        lambda: store.max_marginal_relevance_search(QUERY, fetch_k=3),
        lambda: store.max_marginal_relevance_search_by_vector([0.0]),
        lambda: store.as_retriever(search_type="mmr").invoke(QUERY),
    ):
        with pytest.raises(InvalidInput, match="one vector per token"):
            search()


def test_everything_is_deleted(store):
    """No document is left when `delete` is called without ids."""
    store.delete()
    assert len(store.index) == 0


def test_deleting_nothing_writes_nothing(store):
    """The index keeps its generation when no id is known."""
    generation = store.index.generation
    store.delete(["unknown"])
    assert store.index.generation == generation


def test_langchain_indexes_into_it(store):
    """LangChain's indexing adds, skips and removes documents by its own record of them."""
    records = InMemoryRecordManager("notes")
    records.create_schema()
    options = {"cleanup": "full", "source_id_key": "n", "key_encoder": "sha256"}
    before = len(store.index)
    first = index(documents(), records, store, **options)
    second = index(documents()[:2], records, store, **options)
    assert (first["num_added"], second["num_skipped"], second["num_deleted"]) == (3, 2, 1)
    assert len(store.index) == before + 2


def test_a_document_without_text_is_refused(textless):
    """Reading it is an error that names it: LangChain's documents have texts."""
    with pytest.raises(InvalidInput, match="none in 'a'"):
        ColBERTVectorStore(textless).get_by_ids(["a"])


def test_a_sharded_index_is_a_store(tmp_path, encoder):
    """Documents of every shard are read, replaced and deleted when the folder holds a sharded index."""
    whole = Index.create(tmp_path / "i", encoder, nbits="float16")
    whole.add([{"id": name, "text": text} for name, text in TEXTS.items()])
    cut(whole, tmp_path / "shards", [2])
    store = ColBERTVectorStore(tmp_path / "shards", encoder)
    assert len(store.get_by_ids(["a", "c"])) == 2
    store.add_documents([Document(id="a", page_content="replaced")])
    store.delete(["c"])
    assert [d.page_content for d in store.get_by_ids(["a", "c"])] == ["replaced"]
