"""Haystack: an index as a retriever component, MaxSim as a ranker component (haystack-ai, extra `haystack`)."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from ..encoding.encoder import Encoder
from ..errors import InvalidInput, MissingDependency
from ..reading import IndexReader
from ..rerank import rerank
from ..sharded import open_index

try:
    from haystack import Document, component, default_from_dict, default_to_dict
    from haystack.document_stores.types import FilterPolicy, apply_filter_policy
except ImportError as error:
    raise MissingDependency("the Haystack adapter needs haystack-ai: pip install 'refcolbert[haystack]'") from error

__all__ = ["ColBERTRanker", "ColBERTRetriever", "where_of"]


@component
class ColBERTRetriever:
    """Documents of an index, with the score of their hits.

    `search_kwargs` are more arguments of `Index.search`: mode, min_score, group_by, ...

    The serialized form holds the folder of the index and the name of the model. A dumped pipeline can be loaded where
    both exist. The index is opened by `warm_up`, or at the first run.
    """

    def __init__(
        self,
        index: IndexReader | str | Path,
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
        """`index` is an open index or a folder; `model` is needed if a folder's own model has moved."""
        self.index = str(index.path if isinstance(index, IndexReader) else index)
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
        if self._index is None:
            self._index = open_index(self.index, None if self.model is None else Encoder.load(self.model))
        return self._index


@component
class ColBERTRanker:
    """Sorts the documents of any retriever by MaxSim of the query and their content."""

    def __init__(self, encoder: Encoder | None = None, *, model: str | None = None, top_k: int | None = None) -> None:
        """Takes an encoder, or the folder or hub id `model`, which `warm_up` loads (None: the default model)."""
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
