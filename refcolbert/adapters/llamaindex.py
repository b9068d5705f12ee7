"""LlamaIndex: an index as a retriever, MaxSim as a node postprocessor (llama-index-core, extra `llamaindex`)."""

import asyncio
from collections.abc import Mapping
from typing import Any

from ..encoding.encoder import Encoder
from ..errors import InvalidInput, MissingDependency
from ..hits import Hit
from ..reading import IndexReader
from ..rerank import rerank

try:
    from llama_index.core.bridge.pydantic import PrivateAttr
    from llama_index.core.postprocessor.types import BaseNodePostprocessor
    from llama_index.core.retrievers import BaseRetriever
    from llama_index.core.schema import MetadataMode, NodeWithScore, QueryBundle, TextNode
    from llama_index.core.vector_stores import FilterCondition, FilterOperator, MetadataFilter, MetadataFilters
except ImportError as error:
    raise MissingDependency(
        "the LlamaIndex adapter needs llama-index-core: pip install 'refcolbert[llamaindex]'"
    ) from error

__all__ = ["ColBERTReranker", "ColBERTRetriever", "where_of"]

OPERATORS = {
    FilterOperator.EQ: "$eq",
    FilterOperator.NE: "$ne",
    FilterOperator.GT: "$gt",
    FilterOperator.GTE: "$gte",
    FilterOperator.LT: "$lt",
    FilterOperator.LTE: "$lte",
    FilterOperator.IN: "$in",
    FilterOperator.NIN: "$nin",
}


class ColBERTRetriever(BaseRetriever):
    """Nodes of an index: id, text and metadata of the documents, with the score of their hits.

    `filters` are LlamaIndex's; `search_kwargs` are more arguments of `Index.search`: mode, min_score, nprobe, ... The
    embedding of a query bundle is not used. A document without text raises `InvalidInput`: text nodes must have text.
    """

    def __init__(
        self,
        index: IndexReader,
        similarity_top_k: int = 10,
        *,
        filters: MetadataFilters | None = None,
        search_kwargs: Mapping[str, Any] | None = None,
        **base: Any,
    ) -> None:
        """`base` holds the arguments of `BaseRetriever`: callback_manager, object_map, objects, verbose."""
        super().__init__(**base)
        self._index, self._top_k = index, similarity_top_k
        self._where = None if filters is None else where_of(filters)
        self._search_kwargs = dict(search_kwargs or {})

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        hits = self._index.search(query_bundle.query_str, self._top_k, where=self._where, **self._search_kwargs)
        return [self._node(hit) for hit in hits]

    async def _aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return await asyncio.to_thread(self._retrieve, query_bundle)

    def _node(self, hit: Hit) -> NodeWithScore:
        if hit.text is None:
            raise InvalidInput(
                f"expected documents with text, found none in {hit.id!r}: {self._index.path} holds it as vectors only"
            )
        return NodeWithScore(node=TextNode(id_=hit.id, text=hit.text, metadata=hit.metadata), score=hit.score)


class ColBERTReranker(BaseNodePostprocessor):
    """Sorts the nodes of any retriever by MaxSim of the query and their content, and keeps the `top_n` best.

    `metadata_mode` says how much of a node's metadata is part of its content. The serialized form holds `model`, the
    folder or hub id of the encoder (None: the default model).
    """

    model: str | None = None
    top_n: int | None = None
    metadata_mode: MetadataMode = MetadataMode.EMBED
    _encoder: Encoder = PrivateAttr()

    def __init__(self, encoder: Encoder | None = None, *, model: str | None = None, **fields: Any) -> None:
        """Takes an encoder, or loads `model`."""
        super().__init__(model=model if encoder is None else encoder.source, **fields)
        self._encoder = encoder or Encoder.load(model)

    @classmethod
    def class_name(cls) -> str:
        """The name in the serialized form."""
        return "ColBERTReranker"

    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        if query_bundle is None:
            raise InvalidInput("expected a query, found none; pass query_str or query_bundle to postprocess_nodes")
        texts = [scored.node.get_content(metadata_mode=self.metadata_mode) for scored in nodes]
        hits = rerank(query_bundle.query_str, texts, self._encoder, self.top_n)
        return [NodeWithScore(node=nodes[int(hit.id)].node, score=hit.score) for hit in hits]


def where_of(filters: MetadataFilters) -> dict[str, Any]:
    """The `where` of refcolbert that has the meaning of LlamaIndex's metadata filters.

    A dot in a key leads into nested metadata. Raises `InvalidInput` for operators that refcolbert does not have (any,
    all, contains, text_match, is_empty: they look into lists and texts), and for comparisons with None.
    """
    parts = [where_of(part) if isinstance(part, MetadataFilters) else _condition(part) for part in filters.filters]
    if not parts:
        return {}
    if filters.condition == FilterCondition.OR:
        return {"$or": parts}
    # NOT in LlamaIndex: none of the conditions holds.
    if filters.condition == FilterCondition.NOT:
        return {"$not": {"$or": parts}}
    return {"$and": parts}


def _condition(part: MetadataFilter) -> dict[str, Any]:
    if part.operator not in OPERATORS:
        raise InvalidInput(
            f"the filter operator {part.operator.value!r} on {part.key!r} is not supported; expected one of "
            f"{', '.join(operator.value for operator in OPERATORS)}"
        )
    if part.value is None:
        raise InvalidInput(f"expected a value for the filter on {part.key!r}, found None, which matches nothing")
    return {part.key: {OPERATORS[part.operator]: part.value}}
