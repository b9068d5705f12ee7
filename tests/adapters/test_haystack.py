"""The Haystack adapter against haystack-ai, whose own filter function is the oracle for filters."""

import asyncio
from datetime import datetime

import pytest
from haystack import Document, Pipeline
from haystack.utils.filters import document_matches_filter
from hypothesis import given
from hypothesis import strategies as st

from refcolbert import Index, rerank
from refcolbert.adapters.haystack import ColBERTRanker, ColBERTRetriever, where_of
from refcolbert.errors import InvalidInput

QUERY = "how do I parse a date"
RECENT = {"field": "meta.year", "operator": ">=", "value": 2024}
GERMAN = {"field": "meta.lang", "operator": "==", "value": "de"}


def ids(answer):
    """Which documents, in which order."""
    return [document.id for document in answer["documents"]]


def test_documents_are_the_hits(index):
    """Ids, contents, metadata, scores and order are those of the search when the component runs, also in async code."""
    retriever = ColBERTRetriever(index, top_k=3)
    expected = [(hit.id, hit.text, hit.metadata, hit.score) for hit in index.search(QUERY, 3)]
    for answer in (retriever.run(QUERY), asyncio.run(retriever.run_async(QUERY))):
        assert [(d.id, d.content, d.meta, d.score) for d in answer["documents"]] == expected
    assert ids(retriever.run(QUERY, top_k=1)) == [expected[0][0]]


def test_filters_follow_the_policy(index):
    """Filters of the call replace the component's or are joined with them, as the policy says."""
    replacing = ColBERTRetriever(index, filters=GERMAN)
    assert ids(replacing.run(QUERY)) == ["datum"]
    assert set(ids(replacing.run(QUERY, filters=RECENT))) == {"rows", "datum"}
    joining = ColBERTRetriever(index, filters=GERMAN, filter_policy="merge")
    assert ids(joining.run(QUERY, filters=RECENT)) == ["datum"]


def test_arguments_reach_the_search(index):
    """nprobe, candidates and exact are those of the search."""
    with pytest.raises(InvalidInput, match="candidates"):
        ColBERTRetriever(index, candidates=0).run(QUERY)
    with pytest.raises(InvalidInput, match="nprobe"):
        ColBERTRetriever(index, nprobe=0).run(QUERY)
    assert ids(ColBERTRetriever(index, exact=True).run(QUERY)) == [hit.id for hit in index.search(QUERY, exact=True)]


def test_hybrid_search_and_a_least_score(index):
    """`search_kwargs` reach the search: scores are the fused ones, and fewer documents may be left."""
    hits = index.search("strptime", mode="hybrid")
    found = ColBERTRetriever(index, search_kwargs={"mode": "hybrid"}).run("strptime")["documents"]
    assert [(d.id, d.score) for d in found] == [(hit.id, hit.score) for hit in hits]
    least = {"mode": "hybrid", "min_score": max(hit.similarity for hit in hits)}
    assert len(ColBERTRetriever(index, search_kwargs=least).run("strptime")["documents"]) == 1


def test_a_pipeline_is_dumped_and_loaded(index, encoder):
    """Retriever and ranker answer alike when their pipeline comes back from YAML."""
    pipeline = Pipeline()
    pipeline.add_component(
        "retriever", ColBERTRetriever(index, top_k=3, filters=RECENT, exact=True, search_kwargs={"mode": "hybrid"})
    )
    pipeline.add_component("ranker", ColBERTRanker(encoder, top_k=2))
    pipeline.connect("retriever.documents", "ranker.documents")
    asked = {"retriever": {"query": QUERY}, "ranker": {"query": QUERY}}
    answer = pipeline.run(asked)
    assert set(ids(answer["ranker"])) == {"rows", "datum"}
    text = pipeline.dumps()
    assert "refcolbert.adapters.haystack.ColBERTRetriever" in text
    loaded = Pipeline.loads(text, allowed_modules=["refcolbert.adapters.haystack"])
    assert loaded.run(asked) == answer
    assert loaded.dumps() == text


def test_an_async_pipeline_runs(index):
    """The retriever answers when its pipeline is run asynchronously."""
    pipeline = Pipeline()
    pipeline.add_component("retriever", ColBERTRetriever(str(index.path)))
    answer = asyncio.run(pipeline.run_async({"retriever": {"query": QUERY}}))
    assert ids(answer["retriever"]) == [hit.id for hit in index.search(QUERY)]


def test_a_model_is_named_where_the_index_cannot_find_its_own(index, encoder):
    """The index is opened with the model of that folder."""
    retriever = ColBERTRetriever(index.path, model=str(encoder.folder))
    retriever.warm_up()
    assert ids(retriever.run(QUERY)) == [hit.id for hit in index.search(QUERY)]
    assert ColBERTRetriever.from_dict(retriever.to_dict()).model == str(encoder.folder)


def test_reranking_is_rerank(encoder):
    """Documents are ranked as by `rerank`, and the documents that were passed in stay unchanged."""
    texts = ["the cat sat", "a date is parsed from a text", "strptime", "files in a folder"]
    documents = [Document(id=f"d{i}", content=text, meta={"n": i}) for i, text in enumerate(texts)]
    ranker = ColBERTRanker(encoder)
    found = ranker.run(QUERY, documents, top_k=3)["documents"]
    assert [(d.id, d.score) for d in found] == [(f"d{hit.id}", hit.score) for hit in rerank(QUERY, texts, encoder, 3)]
    assert [d.meta["n"] for d in found] == [int(d.id[1:]) for d in found]
    assert [d.score for d in documents] == [None] * 4
    assert len(asyncio.run(ranker.run_async(QUERY, documents))["documents"]) == 4
    assert ranker.run(QUERY, []) == {"documents": []}


def test_a_ranker_loads_its_model_by_name(encoder):
    """The model is loaded by warm_up, or at the first run, when a ranker comes from its dictionary."""
    ranker = ColBERTRanker.from_dict(ColBERTRanker(model=str(encoder.folder), top_k=1).to_dict())
    documents = [Document(content="a"), Document(content="b")]
    assert ranker.run(QUERY, documents) == ColBERTRanker(encoder, top_k=1).run(QUERY, documents)


def test_a_document_without_content_is_refused(encoder):
    """A ranker reads text: a document that has none is a typed error."""
    with pytest.raises(InvalidInput, match="none in 'x'"):
        ColBERTRanker(encoder).run(QUERY, [Document(id="x")])


VALUES = {
    "n": st.sampled_from([1, 2, 3, 2.5]),
    "t": st.sampled_from(["a", "b", "c"]),
    "day": st.sampled_from(["2024-01-31", "2024-02-01", "2023-12-24"]),
}


@st.composite
def comparisons(draw):
    """A comparison of a number, a text or a date; the order of texts that are no dates is an error in both."""
    name = draw(st.sampled_from(sorted(VALUES)))
    value = VALUES[name] | st.none()
    operator = draw(st.sampled_from(["==", "!=", "in", "not in"] + ([] if name == "t" else [">", ">=", "<", "<="])))
    drawn = draw(st.lists(value, max_size=2) if operator.endswith("in") else value)
    return {"field": draw(st.sampled_from(["meta.", ""])) + name, "operator": operator, "value": drawn}


FILTERS = st.recursive(
    comparisons(),
    lambda inner: st.fixed_dictionaries(
        {"operator": st.sampled_from(["AND", "OR", "NOT"]), "conditions": st.lists(inner, max_size=3)}
    ),
    max_leaves=6,
)
METADATA = st.fixed_dictionaries({}, optional={name: values | st.none() for name, values in VALUES.items()})


@given(st.lists(METADATA, min_size=1, max_size=6), st.lists(FILTERS, min_size=1, max_size=8))
def test_filters_mean_what_haystack_means(tmp_path_factory, metadata, filters):
    """Each document matches exactly when Haystack's own function says so."""
    index = Index.create(tmp_path_factory.mktemp("filters") / "i", dim=2)
    index.add([{"id": str(i), "metadata": m} for i, m in enumerate(metadata)], vectors=[[[1, 0]]] * len(metadata))
    documents = [Document(id=str(i), meta=m) for i, m in enumerate(metadata)]
    for some in filters:
        expected = {d.id for d in documents if document_matches_filter(some, d)}
        assert {hit.id for hit in index.search([[1, 0]], 10, where=where_of(some))} == expected, some


def test_dates_may_be_dates():
    """A datetime is compared as the ISO text that metadata hold."""
    made = where_of({"field": "meta.day", "operator": ">", "value": datetime(2024, 1, 31)})
    assert made == {"day": {"$gt": "2024-01-31T00:00:00"}}


@pytest.mark.parametrize(
    ("filters", "message"),
    [
        ({"field": "content", "operator": "==", "value": "x"}, "filter on metadata"),
        ({"field": "meta.t", "operator": ">", "value": "b"}, "ISO date"),
        ({"field": "meta.t", "operator": "in", "value": "b"}, "list of values"),
        ({"field": "meta.t", "operator": "~", "value": "b"}, "unknown operator '~'"),
        ({"field": "meta.t", "value": "b"}, "field, operator and value"),
        ({"operator": "XOR", "conditions": []}, "AND, OR, NOT"),
        ({"operator": "AND"}, "list of conditions"),
        ({"lang": "de"}, "expected a comparison"),
    ],
)
def test_what_is_no_filter_is_refused(filters, message):
    """A filter that refcolbert cannot express raises InvalidInput."""
    with pytest.raises(InvalidInput, match=message):
        where_of(filters)
