"""The LlamaIndex adapter against llama-index-core, whose own filter function is the oracle for filters."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st
from llama_index.core.schema import MetadataMode, NodeWithScore, QueryBundle, TextNode
from llama_index.core.vector_stores import FilterCondition, FilterOperator, MetadataFilter, MetadataFilters
from llama_index.core.vector_stores.utils import build_metadata_filter_fn

from refcolbert import Encoder, Index, rerank
from refcolbert.adapters.llamaindex import ColBERTReranker, ColBERTRetriever, where_of
from refcolbert.errors import InvalidInput

QUERY = "how do I parse a date"


def test_nodes_are_the_hits(index):
    """Ids, texts, metadata, scores and order are those of the search when a query is retrieved, also in async code."""
    retriever = ColBERTRetriever(index, 3, search_kwargs={"exact": True})
    hits = [(hit.id, hit.text, hit.metadata, hit.score) for hit in index.search(QUERY, 3, exact=True)]
    for found in (
        retriever.retrieve(QUERY),
        retriever.retrieve(QueryBundle(QUERY)),
        asyncio.run(retriever.aretrieve(QUERY)),
    ):
        assert [(n.node.node_id, n.node.get_content(), n.node.metadata, n.score) for n in found] == hits


def test_filters_pass_through(index):
    """Only matching documents are found when the retriever has LlamaIndex's filters."""
    filters = MetadataFilters(filters=[MetadataFilter(key="year", value=2024, operator=FilterOperator.GTE)])
    found = ColBERTRetriever(index, filters=filters).retrieve(QUERY)
    assert {n.node.node_id for n in found} == {"rows", "datum"}


def test_hybrid_search_and_a_least_score(index):
    """`search_kwargs` reach the search: scores are the fused ones, and fewer nodes may be left."""
    hits = index.search("strptime", mode="hybrid")
    found = ColBERTRetriever(index, search_kwargs={"mode": "hybrid"}).retrieve("strptime")
    assert [(n.node.node_id, n.score) for n in found] == [(hit.id, hit.score) for hit in hits]
    least = {"mode": "hybrid", "min_score": max(hit.similarity for hit in hits)}
    assert len(ColBERTRetriever(index, search_kwargs=least).retrieve("strptime")) == 1


def test_a_document_without_text_is_refused(textless):
    """There is no empty node when the index was given vectors alone."""
    with pytest.raises(InvalidInput, match="none in 'a'"):
        ColBERTRetriever(textless).retrieve(QUERY)


def nodes():
    """Nodes as another retriever scores them."""
    texts = ["the cat sat", "a date is parsed from a text", "strptime", "files in a folder"]
    return [
        NodeWithScore(node=TextNode(id_=f"n{i}", text=t, metadata={"title": f"number {i}"}), score=0.5)
        for i, t in enumerate(texts)
    ]


@pytest.mark.parametrize("mode", [MetadataMode.NONE, MetadataMode.EMBED])
def test_reranking_is_rerank(encoder, mode):
    """Order and scores are the same as of `rerank` on the nodes' content in the chosen mode."""
    given = nodes()
    texts = [n.node.get_content(metadata_mode=mode) for n in given]
    found = ColBERTReranker(encoder, top_n=2, metadata_mode=mode).postprocess_nodes(given, query_str=QUERY)
    hits = rerank(QUERY, texts, encoder, 2)
    assert [(n.node.node_id, n.score) for n in found] == [(f"n{hit.id}", hit.score) for hit in hits]
    assert [n.score for n in given] == [0.5] * 4
    again = ColBERTReranker(encoder, top_n=2, metadata_mode=mode).apostprocess_nodes(given, QueryBundle(QUERY))
    assert asyncio.run(again) == found


def test_a_reranker_comes_back_from_its_dictionary(encoder):
    """The model is found by name when a serialized reranker is made again."""
    reranker = ColBERTReranker(encoder, top_n=3)
    again = ColBERTReranker.from_dict(reranker.to_dict())
    assert again.top_n == 3
    assert again.model == encoder.source
    assert again.postprocess_nodes(nodes(), query_str=QUERY) == reranker.postprocess_nodes(nodes(), query_str=QUERY)


def test_reranking_needs_a_query(encoder):
    """Nodes without a query are a typed error."""
    with pytest.raises(InvalidInput, match="expected a query"):
        ColBERTReranker(encoder).postprocess_nodes(nodes())


NUMBERS, TEXTS = st.sampled_from([1, 2, 3, 2.5]), st.sampled_from(["a", "b", "c"])
COMPARED = [o for o in FilterOperator if o.name in ("EQ", "NE", "GT", "GTE", "LT", "LTE")]
LISTED = [FilterOperator.IN, FilterOperator.NIN]


@st.composite
def conditions(draw):
    """A condition on the number "n" or the text "t"."""
    key, values = draw(st.sampled_from([("n", NUMBERS), ("t", TEXTS)]))
    if draw(st.booleans()):
        return MetadataFilter(key=key, operator=draw(st.sampled_from(COMPARED)), value=draw(values))
    some = draw(st.lists(st.sampled_from([1, 2, 3] if key == "n" else ["a", "b", "c"]), min_size=1, max_size=2))
    return MetadataFilter(key=key, operator=draw(st.sampled_from(LISTED)), value=some)


METADATA = st.fixed_dictionaries({}, optional={"n": NUMBERS | st.none(), "t": TEXTS | st.none()})
FILTERS = st.builds(
    MetadataFilters,
    filters=st.lists(conditions(), min_size=1, max_size=3),
    condition=st.sampled_from(list(FilterCondition)),
)


@given(st.lists(METADATA, min_size=1, max_size=6), st.lists(FILTERS, min_size=1, max_size=8))
def test_filters_mean_what_llamaindex_means(tmp_path_factory, metadata, filters):
    """Each document matches exactly when LlamaIndex's in-memory store says so."""
    index = Index.create(tmp_path_factory.mktemp("filters") / "i", dim=2)
    index.add([{"id": str(i), "metadata": m} for i, m in enumerate(metadata)], vectors=[[[1, 0]]] * len(metadata))
    for some in filters:
        matches = build_metadata_filter_fn(lambda i: metadata[int(i)], some)
        expected = {str(i) for i in range(len(metadata)) if matches(str(i))}
        assert {hit.id for hit in index.search([[1, 0]], 10, where=where_of(some))} == expected, some


def test_filters_nest(index):
    """Filters within filters keep their conditions."""
    inner = MetadataFilters.from_dicts(
        [{"key": "year", "value": 2021}, {"key": "year", "value": 2024}], FilterCondition.OR
    )
    both = MetadataFilters(filters=[inner, MetadataFilter(key="lang", value="en")])
    assert {hit.id for hit in index.search(QUERY, where=where_of(both))} == {"dates", "rows"}
    assert where_of(MetadataFilters(filters=[])) == {}


@pytest.mark.parametrize("operator", ["any", "all", "contains", "text_match", "text_match_insensitive", "is_empty"])
def test_what_no_filter_says_is_refused(operator):
    """Operators on lists and on parts of texts raise InvalidInput, which names the supported operators."""
    with pytest.raises(InvalidInput, match=f"'{operator}' on 'tags'.*expected one of ==, !="):
        where_of(MetadataFilters.from_dicts([{"key": "tags", "value": ["x"], "operator": operator}]))


def test_none_is_refused():
    """Comparing with None is a typed error."""
    with pytest.raises(InvalidInput, match="None"):
        where_of(MetadataFilters.from_dicts([{"key": "year", "value": None}]))


def test_the_default_model_is_loaded(monkeypatch, encoder):
    """A reranker without encoder and model has the default model."""
    monkeypatch.setattr("refcolbert.encoding.encoder.default_model_folder", lambda: encoder.folder)
    assert isinstance(ColBERTReranker()._encoder, Encoder)
    assert ColBERTReranker().model is None
