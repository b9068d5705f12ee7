"""LlamaIndex: an index as an index of LlamaIndex and as a retriever, MaxSim as a postprocessor (extra `llamaindex`)."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..encoding.encoder import Encoder
from ..errors import InvalidInput, MissingDependency, UnknownId
from ..hits import Hit
from ..reading import IndexReader
from ..rerank import rerank
from ..storage.groups import group_of
from .stores import Writable, opened, remove, text_of

try:
    from llama_index.core.bridge.pydantic import PrivateAttr
    from llama_index.core.data_structs import IndexDict
    from llama_index.core.indices.base import BaseIndex
    from llama_index.core.ingestion import run_transformations
    from llama_index.core.postprocessor.types import BaseNodePostprocessor
    from llama_index.core.retrievers import BaseRetriever
    from llama_index.core.schema import BaseNode, Document, MetadataMode, NodeWithScore, QueryBundle, TextNode
    from llama_index.core.storage.docstore.types import RefDocInfo
    from llama_index.core.vector_stores import FilterCondition, FilterOperator, MetadataFilter, MetadataFilters
    from llama_index.core.vector_stores.utils import metadata_dict_to_node, node_to_metadata_dict
except ImportError as error:
    raise MissingDependency(
        "the LlamaIndex adapter needs llama-index-core: pip install 'refcolbert[llamaindex]'"
    ) from error

__all__ = ["ColBERTIndex", "ColBERTReranker", "ColBERTRetriever", "where_of"]

# Metadata in which a stored node has its source document, and all that LlamaIndex knows about it except its text.
SOURCE, CONTENT, KIND = "ref_doc_id", "_node_content", "_node_type"

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


class ColBERTIndex(BaseIndex[IndexDict]):
    """An index as LlamaIndex has them, with `from_documents`, `insert`, `as_retriever` and `as_query_engine`.

    It is no vector store: those take one embedding per node, and ColBERT has a vector per token. The nodes are in the
    index alone. LlamaIndex's document store only gets the hashes that `refresh_ref_docs` compares. The nodes of a
    document replace the earlier nodes of the document with that id, except in `insert_nodes`.
    """

    index_struct_cls = IndexDict

    def __init__(
        self,
        nodes: Sequence[BaseNode] | None = None,
        *,
        index: Writable | str | Path,
        encoder: Encoder | None = None,
        **base: Any,
    ) -> None:
        """`index` is an open index, or a folder: its index is opened, or made if there is none."""
        self.index = opened(index, encoder)
        super().__init__(nodes=list(nodes or []), **base)

    def build_index_from_nodes(self, nodes: Sequence[BaseNode], **_: Any) -> IndexDict:
        """Add nodes in one transaction. They replace all earlier nodes of the same documents."""
        return self._build_index_from_nodes(nodes)

    def _build_index_from_nodes(self, nodes: Sequence[BaseNode], **_: Any) -> IndexDict:
        self.index.upsert(map(_record, nodes), group_by=SOURCE)
        return IndexDict()

    def insert(self, document: Document, **_: Any) -> None:
        """Add a document in one transaction. It replaces the document with that id."""
        nodes = run_transformations([document], self._transformations, show_progress=self._show_progress)
        if nodes:
            self.build_index_from_nodes(nodes)
        else:
            self.delete_ref_doc(document.id_)
        self.docstore.set_document_hash(document.id_, document.hash)

    async def ainsert(self, document: Document, **_: Any) -> None:
        """Call `insert` in a thread."""
        await asyncio.to_thread(self.insert, document)

    update_ref_doc, aupdate_ref_doc = insert, ainsert

    def insert_nodes(self, nodes: Sequence[BaseNode], **_: Any) -> None:
        """Add nodes in one transaction. A node replaces the one with its id."""
        self._insert(nodes)

    async def ainsert_nodes(self, nodes: Sequence[BaseNode], **_: Any) -> None:
        """Call `insert_nodes` in a thread."""
        await asyncio.to_thread(self.insert_nodes, nodes)

    def _insert(self, nodes: Sequence[BaseNode], **_: Any) -> None:
        self.index.upsert(map(_record, nodes))

    def delete_ref_doc(self, ref_doc_id: str, delete_from_docstore: bool = False, **_: Any) -> None:
        """Delete all nodes of a document. Nothing happens if there are none."""
        with suppress(UnknownId):
            self.index.delete([ref_doc_id], group_by=SOURCE)
        # The hash goes with the nodes, so that `refresh_ref_docs` adds the document again.
        self.docstore.delete_document(ref_doc_id, raise_error=False)

    async def adelete_ref_doc(self, ref_doc_id: str, delete_from_docstore: bool = False, **_: Any) -> None:
        """Call `delete_ref_doc` in a thread."""
        await asyncio.to_thread(self.delete_ref_doc, ref_doc_id)

    def delete_nodes(self, node_ids: list[str], delete_from_docstore: bool = False, **_: Any) -> None:
        """Delete nodes. Ids that are not in the index are passed over."""
        remove(self.index, node_ids)

    async def adelete_nodes(self, node_ids: list[str], delete_from_docstore: bool = False, **_: Any) -> None:
        """Call `delete_nodes` in a thread."""
        await asyncio.to_thread(self.delete_nodes, node_ids)

    def _delete_node(self, node_id: str, **_: Any) -> None:
        self.delete_nodes([node_id])

    @property
    def ref_doc_info(self) -> dict[str, RefDocInfo]:
        """The ids of the nodes of each document. All documents of the index are read."""
        found: dict[str, RefDocInfo] = {}
        for stored in self.index.documents():
            found.setdefault(group_of(stored.id, stored.metadata, SOURCE), RefDocInfo()).node_ids.append(stored.id)
        return found

    def as_retriever(
        self,
        similarity_top_k: int = 10,
        filters: MetadataFilters | None = None,
        search_kwargs: Mapping[str, Any] | None = None,
        node_ids: Sequence[str] | None = None,
        **_: Any,
    ) -> "ColBERTRetriever":
        """Return a retriever of this index, or of the nodes `node_ids`.

        Other arguments are ignored, because `as_query_engine` passes all of its own.
        """
        if node_ids is not None:
            search_kwargs = {**(search_kwargs or {}), "ids": list(node_ids)}
        return ColBERTRetriever(
            self.index,
            similarity_top_k,
            filters=filters,
            search_kwargs=search_kwargs,
            callback_manager=self._callback_manager,
            object_map=self._object_map,
        )


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
        return [NodeWithScore(node=_node(self._index, hit), score=hit.score) for hit in hits]

    async def _aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return await asyncio.to_thread(self._retrieve, query_bundle)


class ColBERTReranker(BaseNodePostprocessor):
    """Sorts the nodes of any retriever by MaxSim of the query and their content, and keeps the `top_n` best.

    `metadata_mode` says how much of a node's metadata is part of its content. The serialized form holds `model`, the
    folder or hub id of the encoder, or "small" (None: the default model).
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


def _record(node: BaseNode) -> dict[str, Any]:
    """Return a node as a document. Without a source document, it is its own."""
    metadata = {
        key: value for key, value in node_to_metadata_dict(node, remove_text=True).items() if key in (CONTENT, KIND)
    }
    source = node.ref_doc_id or node.node_id
    text = node.get_content(metadata_mode=MetadataMode.NONE)
    return {"id": node.node_id, "text": text, "metadata": {**node.metadata, **metadata, SOURCE: source}}


def _node(index: IndexReader, hit: Hit) -> BaseNode:
    """Return the node that was stored, or a new one for a document that was added without LlamaIndex."""
    text = text_of(index, hit)
    if CONTENT not in hit.metadata:
        return TextNode(id_=hit.id, text=text, metadata=hit.metadata)
    node = metadata_dict_to_node(hit.metadata, text=text)
    node.metadata = {key: value for key, value in hit.metadata.items() if key not in (CONTENT, KIND, SOURCE)}
    return node


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
