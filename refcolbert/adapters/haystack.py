"""Haystack: an index as a document store and as a retriever, MaxSim as a ranker (haystack-ai, extra `haystack`)."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from ..documents import Document as Stored
from ..encoding.encoder import Encoder
from ..errors import DuplicateId, InvalidInput, MissingDependency
from ..reading import IndexReader
from ..rerank import rerank
from ..sharded import open_index
from .stores import Writable, matching, opened, remove

try:
    from haystack import Document, component, default_from_dict, default_to_dict
    from haystack.document_stores.errors import DuplicateDocumentError
    from haystack.document_stores.types import DuplicatePolicy, FilterPolicy, apply_filter_policy
    from haystack.errors import FilterError
except ImportError as error:
    raise MissingDependency("the Haystack adapter needs haystack-ai: pip install 'refcolbert[haystack]'") from error

__all__ = ["ColBERTDocumentStore", "ColBERTRanker", "ColBERTRetriever", "where_of"]


class ColBERTDocumentStore:
    """Documents in an index: Haystack writes, deletes, filters and counts them.

    It keeps id, content and meta of a document. The index makes its own vectors, so embeddings are not kept. A document
    without content raises `InvalidInput`. Each call sees the newest generation of the index. The serialized form holds
    the folder of the index and the name of the model. The index is opened at the first use.
    """

    def __init__(self, index: Writable | str | Path, *, model: str | None = None) -> None:
        """`index` is an open index, or a folder: its index is opened with `model`, or made if there is none."""
        self.path, self.model = _path(index), model
        self._index = index if isinstance(index, Writable) else None

    @property
    def index(self) -> Writable:
        """The index, at its newest generation."""
        if self._index is None:
            self._index = opened(self.path, _encoder(self.model))
        self._index.refresh()
        return self._index

    def to_dict(self) -> dict[str, Any]:
        """The serialized store."""
        serialized: dict[str, Any] = default_to_dict(self, index=self.path, model=self.model)
        return serialized

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "ColBERTDocumentStore":
        """The store of its serialized form."""
        return default_from_dict(cls, data)  # type: ignore[no-any-return]

    def count_documents(self) -> int:
        """The number of documents."""
        return len(self.index)

    def count_documents_by_filter(self, filters: dict[str, Any]) -> int:
        """The number of documents that match. Raises `FilterError` as `filter_documents` does."""
        return len(self._matching(filters))

    def filter_documents(self, filters: dict[str, Any] | None = None) -> list[Document]:
        """The documents that match, by position. Raises `FilterError` for a filter that has no `where` (`where_of`)."""
        return [Document(id=d.id, content=d.text, meta=d.metadata) for d in self._matching(filters)]

    def write_documents(self, documents: list[Document], policy: DuplicatePolicy = DuplicatePolicy.NONE) -> int:
        """Write documents in one transaction and return their number. The policy NONE is FAIL.

        Raises `DuplicateDocumentError` with FAIL, and then writes nothing. Of documents of one call with the same id,
        OVERWRITE keeps the last one and SKIP the first one.
        """
        if not isinstance(documents, list) or not all(isinstance(document, Document) for document in documents):
            raise InvalidInput(f"expected a list of Haystack documents, found {documents!r:.80}; pass [Document(...)]")
        index = self.index
        if policy in (DuplicatePolicy.NONE, DuplicatePolicy.FAIL):
            try:
                return len(index.add([_record(document) for document in documents]))
            except DuplicateId as error:
                raise DuplicateDocumentError(str(error)) from error
        if policy == DuplicatePolicy.OVERWRITE:
            index.upsert({document.id: _record(document) for document in documents}.values())
            return len(documents)
        known = index.view.find([document.id for document in documents])
        new: dict[str, dict[str, Any]] = {}
        for document in documents:
            if document.id not in known:
                new.setdefault(document.id, _record(document))
        return len(index.add(new.values()))

    def update_by_filter(self, filters: dict[str, Any], meta: dict[str, Any]) -> int:
        """Set these keys in the meta of matching documents, without encoding them again. Returns their number."""
        changed = {document.id: {**document.metadata, **meta} for document in self._matching(filters)}
        self.index.update_metadata(changed)
        return len(changed)

    def delete_documents(self, document_ids: list[str]) -> None:
        """Delete documents. Ids that are not in the index are passed over."""
        remove(self.index, document_ids)

    def delete_by_filter(self, filters: dict[str, Any]) -> int:
        """Delete the documents that match, and return their number. Raises as `filter_documents` does."""
        return remove(self.index, [document.id for document in self._matching(filters)])

    def delete_all_documents(self) -> None:
        """Delete all documents."""
        remove(self.index, self.index.ids())

    async def count_documents_async(self) -> int:
        """Call `count_documents` in a thread."""
        return await asyncio.to_thread(self.count_documents)

    async def filter_documents_async(self, filters: dict[str, Any] | None = None) -> list[Document]:
        """Call `filter_documents` in a thread."""
        return await asyncio.to_thread(self.filter_documents, filters)

    async def write_documents_async(
        self, documents: list[Document], policy: DuplicatePolicy = DuplicatePolicy.NONE
    ) -> int:
        """Call `write_documents` in a thread."""
        return await asyncio.to_thread(self.write_documents, documents, policy)

    async def delete_documents_async(self, document_ids: list[str]) -> None:
        """Call `delete_documents` in a thread."""
        await asyncio.to_thread(self.delete_documents, document_ids)

    def _matching(self, filters: dict[str, Any] | None) -> list[Stored]:
        try:
            return matching(self.index, where_of(filters) if filters else None)
        except InvalidInput as error:
            raise FilterError(str(error)) from error


@component
class ColBERTRetriever:
    """Documents of an index, with the score of their hits.

    `search_kwargs` are more arguments of `Index.search`: mode, min_score, group_by, ...

    The serialized form holds the folder of the index and the name of the model. A dumped pipeline can be loaded where
    both exist. The index is opened by `warm_up`, or at the first run. With a document store, each run sees its newest
    documents.
    """

    def __init__(
        self,
        index: ColBERTDocumentStore | IndexReader | str | Path,
        *,
        model: str | None = None,
        top_k: int = 10,
        filters: dict[str, Any] | None = None,
        filter_policy: str | FilterPolicy = FilterPolicy.REPLACE,
        nprobe: int | None = None,
        candidates: int | None = None,
        exact: bool = False,
        search_kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        """`index` is a store, an open index or a folder; `model` is needed if a folder's own model has moved."""
        self.index = index if isinstance(index, ColBERTDocumentStore) else _path(index)
        self.model, self.top_k, self.filters = model, top_k, filters
        self.filter_policy = FilterPolicy.from_str(filter_policy) if isinstance(filter_policy, str) else filter_policy
        self.nprobe, self.candidates, self.exact = nprobe, candidates, exact
        self.search_kwargs = dict(search_kwargs or {})
        self._index = index if isinstance(index, IndexReader) else None

    def warm_up(self) -> None:
        """Open the index if it is not open. Raises the errors of `Index.open`."""
        self._open_index()

    def to_dict(self) -> dict[str, Any]:
        """The serialized component."""
        names = ("index", "model", "top_k", "filters", "nprobe", "candidates", "exact", "search_kwargs")
        values = {name: getattr(self, name) for name in names}
        serialized: dict[str, Any] = default_to_dict(self, **values, filter_policy=self.filter_policy.value)
        return serialized

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "ColBERTRetriever":
        """The component of its serialized form."""
        return default_from_dict(cls, data)  # type: ignore[no-any-return]

    @component.output_types(documents=list[Document])
    def run(
        self, query: str, filters: dict[str, Any] | None = None, top_k: int | None = None
    ) -> dict[str, list[Document]]:
        """The best documents, best first. `filter_policy` joins `filters` with the component's own."""
        chosen = apply_filter_policy(self.filter_policy, self.filters, filters)
        hits = self._open_index().search(
            query,
            self.top_k if top_k is None else top_k,
            where=where_of(chosen) if chosen else None,
            nprobe=self.nprobe,
            candidates=self.candidates,
            exact=self.exact,
            **self.search_kwargs,
        )
        return {"documents": [Document(id=h.id, content=h.text, meta=h.metadata, score=h.score) for h in hits]}

    @component.output_types(documents=list[Document])
    async def run_async(
        self, query: str, filters: dict[str, Any] | None = None, top_k: int | None = None
    ) -> dict[str, list[Document]]:
        """Call `run` in a thread."""
        return await asyncio.to_thread(self.run, query, filters, top_k)

    def _open_index(self) -> IndexReader:
        if isinstance(self.index, ColBERTDocumentStore):
            return self.index.index
        if self._index is None:
            self._index = open_index(self.index, _encoder(self.model))
        return self._index


@component
class ColBERTRanker:
    """Sorts the documents of any retriever by MaxSim of the query and their content."""

    def __init__(self, encoder: Encoder | None = None, *, model: str | None = None, top_k: int | None = None) -> None:
        """Takes an encoder, or `model`: a folder, hub id or "small", loaded by `warm_up` (None: the default model)."""
        self.model = model if encoder is None else encoder.source
        self.top_k = top_k
        self._encoder = encoder

    def warm_up(self) -> None:
        """Load the model if it is not loaded. Raises the errors of `Encoder.load`."""
        if self._encoder is None:
            self._encoder = Encoder.load(self.model)

    def to_dict(self) -> dict[str, Any]:
        """The serialized component, which names the model."""
        serialized: dict[str, Any] = default_to_dict(self, model=self.model, top_k=self.top_k)
        return serialized

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "ColBERTRanker":
        """The component of its serialized form."""
        return default_from_dict(cls, data)  # type: ignore[no-any-return]

    @component.output_types(documents=list[Document])
    def run(self, query: str, documents: list[Document], top_k: int | None = None) -> dict[str, list[Document]]:
        """Copies of the `top_k` best documents (default: all), best first.

        Raises `InvalidInput` for a document without text.
        """
        self.warm_up()
        hits = rerank(query, [_text(d) for d in documents], self._encoder, self.top_k if top_k is None else top_k)
        return {"documents": [replace(documents[int(hit.id)], score=hit.score) for hit in hits]}

    @component.output_types(documents=list[Document])
    async def run_async(
        self, query: str, documents: list[Document], top_k: int | None = None
    ) -> dict[str, list[Document]]:
        """Call `run` in a thread."""
        return await asyncio.to_thread(self.run, query, documents, top_k)


def _path(index: IndexReader | str | Path) -> str:
    return str(index.path if isinstance(index, IndexReader) else index)


def _encoder(model: str | None) -> Encoder | None:
    return None if model is None else Encoder.load(model)


def _record(document: Document) -> dict[str, Any]:
    return {"id": document.id, "text": _text(document), "metadata": document.meta}


def _text(document: Document) -> str:
    if document.content is None:
        raise InvalidInput(f"expected documents with text content, found none in {document.id!r}; leave it out")
    return str(document.content)


NOTHING: dict[str, Any] = {"$not": {}}
ORDERED = {">": "$gt", ">=": "$gte", "<": "$lt", "<=": "$lte"}


def where_of(filters: dict[str, Any]) -> dict[str, Any]:
    """The `where` of refcolbert that has the meaning of Haystack's metadata filters.

    Fields are "meta.name" or "name". Dates are compared as texts, which is right if all have one format. Raises
    `InvalidInput` for other fields of a document, an order of texts that are not ISO dates, and malformed filters.
    """
    if "field" in filters:
        return _comparison(filters)
    if filters.get("operator") not in LOGIC or not isinstance(filters.get("conditions"), list):
        raise InvalidInput(f"expected a comparison or AND, OR, NOT with a list of conditions, found {filters!r}")
    return LOGIC[filters["operator"]]([where_of(part) for part in filters["conditions"]])


# NOT in Haystack: not all of the conditions hold.
LOGIC: dict[str, Callable[[list[dict[str, Any]]], dict[str, Any]]] = {
    "AND": lambda parts: {"$and": parts} if parts else {},
    "OR": lambda parts: {"$or": parts} if parts else NOTHING,
    "NOT": lambda parts: {"$not": {"$and": parts}} if parts else NOTHING,
}


def _comparison(part: dict[str, Any]) -> dict[str, Any]:
    """One comparison as a `where`. Raises `InvalidInput` for a malformed one."""
    if not {"operator", "value"} <= set(part):
        raise InvalidInput(f"expected a comparison with field, operator and value, found {part!r}")
    field, operator, value = _field(part["field"]), part["operator"], part["value"]
    if operator == "==":
        return _among(field, [value])
    if operator == "!=":
        return {"$not": _among(field, [value])}
    if operator in ("in", "not in"):
        if not isinstance(value, list):
            raise InvalidInput(f"expected a list of values for {operator!r}, found {value!r}")
        return _among(field, value) if operator == "in" else {"$not": _among(field, value)}
    if operator not in ORDERED:
        raise InvalidInput(f"unknown operator {operator!r}; expected ==, !=, in, not in, {', '.join(ORDERED)}")
    return NOTHING if value is None else {field: {ORDERED[operator]: _ordered(value)}}


def _among(field: str, values: list[Any]) -> dict[str, Any]:
    """The field has one of the values. None also matches documents without the field."""
    condition = {field: {"$in": values}}
    return {"$or": [condition, {field: {"$exists": False}}]} if None in values else condition


def _field(name: Any) -> str:
    if name in Document.__dataclass_fields__ or not isinstance(name, str):
        raise InvalidInput(f"expected a filter on metadata, found the field {name!r}; name it 'meta.NAME'")
    return name.removeprefix("meta.")


def _ordered(value: Any) -> Any:
    """A number, or the text of an ISO date."""
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, str):
        try:
            datetime.fromisoformat(value)
        except ValueError:
            raise InvalidInput(f"expected a number or an ISO date to compare with, found {value!r}") from None
    return value
