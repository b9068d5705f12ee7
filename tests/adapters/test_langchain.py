"""The LangChain adapter against langchain-core."""

import asyncio
import pickle

import pytest
from langchain_core.documents import Document
from langchain_core.runnables import RunnableLambda

from refcolbert import rerank
from refcolbert.adapters.langchain import ColBERTReranker, ColBERTRetriever
from refcolbert.errors import InvalidInput

QUERY = "how do I parse a date"


def test_documents_are_the_hits(index):
    """Ids, texts, metadata, scores and order are those of the search when a query is invoked."""
    found = ColBERTRetriever(index=index, k=3).invoke(QUERY)
    hits = index.search(QUERY, 3)
    assert [d.id for d in found] == [hit.id for hit in hits]
    assert [d.page_content for d in found] == [hit.text for hit in hits]
    assert [d.metadata for d in found] == [{**hit.metadata, "relevance_score": hit.score} for hit in hits]


def test_the_score_goes_where_it_is_told(index):
    """Metadata are those of the document alone when there is no key for the score."""
    (found,) = ColBERTRetriever(index=index, k=1, score_key=None).invoke(QUERY)
    assert found.metadata == index.get([found.id])[0].metadata


def test_filters_and_arguments_pass_through(index):
    """`where`, `search_kwargs` and arguments of a call reach the search, the call's first."""
    retriever = ColBERTRetriever(index=index, where={"lang": "de"}, search_kwargs={"exact": True})
    assert [d.id for d in retriever.invoke(QUERY)] == ["datum"]
    assert {d.id for d in retriever.invoke(QUERY, where={"year": {"$gte": 2024}})} == {"rows", "datum"}
    assert len(retriever.invoke(QUERY, where=None, k=2)) == 2
    with pytest.raises(InvalidInput, match="nprobe"):
        retriever.invoke(QUERY, nprobe=0)


def test_hybrid_search_and_a_least_score(index):
    """`search_kwargs` reach the search: scores are the fused ones, and fewer documents may be left."""
    hits = index.search("strptime", mode="hybrid")
    retriever = ColBERTRetriever(index=index, search_kwargs={"mode": "hybrid"})
    found = retriever.invoke("strptime")
    assert [(d.id, d.metadata["relevance_score"]) for d in found] == [(hit.id, hit.score) for hit in hits]
    assert len(retriever.invoke("strptime", min_score=max(hit.similarity for hit in hits))) == 1


def test_async_and_batches_answer_alike(index):
    """`ainvoke`, with arguments, and `batch` return the same as `invoke`."""
    retriever = ColBERTRetriever(index=index)
    assert asyncio.run(retriever.ainvoke(QUERY, k=2)) == retriever.invoke(QUERY, k=2)
    assert retriever.batch([QUERY, "rows of a table"]) == [retriever.invoke(QUERY), retriever.invoke("rows of a table")]


def test_it_is_a_runnable(index):
    """A chain runs through the retriever when it is piped into another step."""
    chain = ColBERTRetriever(index=index, k=1) | RunnableLambda(lambda found: found[0].id)
    assert chain.invoke(QUERY) == index.search(QUERY, 1)[0].id


def test_a_pickled_retriever_opens_the_index_again(index):
    """Another process gets the same answers when it is handed the retriever."""
    retriever = ColBERTRetriever(index=index, k=2, where={"lang": "en"})
    assert pickle.loads(pickle.dumps(retriever)).invoke(QUERY) == retriever.invoke(QUERY)  # noqa: S301 - our own


def test_a_document_without_text_is_refused(textless):
    """There is no empty page content when the index was given vectors alone."""
    with pytest.raises(InvalidInput, match="none in 'a'"):
        ColBERTRetriever(index=textless).invoke(QUERY)


def test_reranking_is_rerank(encoder):
    """Documents are ranked as by `rerank`, and the documents that were passed in stay unchanged."""
    texts = ["the cat sat", "a date is parsed from a text", "strptime", "files in a folder"]
    documents = [Document(id=f"d{i}", page_content=text, metadata={"n": i}) for i, text in enumerate(texts)]
    found = ColBERTReranker(encoder=encoder, top_n=3).compress_documents(documents, QUERY)
    hits = rerank(QUERY, texts, encoder, 3)
    assert [(d.id, d.metadata) for d in found] == [
        (f"d{hit.id}", {"n": int(hit.id), "relevance_score": hit.score}) for hit in hits
    ]
    assert [d.metadata for d in documents] == [{"n": i} for i in range(4)]
    again = asyncio.run(ColBERTReranker(encoder=encoder).acompress_documents(documents, QUERY))
    assert [d.id for d in again[:3]] == [d.id for d in found]
    assert len(again) == 4


def test_nothing_is_reranked_to_nothing(encoder):
    """The answer is empty when no document was found."""
    assert ColBERTReranker(encoder=encoder).compress_documents([], QUERY) == []
