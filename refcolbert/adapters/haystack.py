"""Haystack: an index as a retriever component, MaxSim as a ranker component (haystack-ai, extra `haystack`)."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from ..encoding.encoder import Encoder
from ..errors import InvalidInput, MissingDependency
from ..index import Index
from ..rerank import rerank

try:
    from haystack import Document, component, default_from_dict, default_to_dict
    from haystack.document_stores.types import FilterPolicy, apply_filter_policy
except ImportError as error:
    raise MissingDependency("the Haystack adapter needs haystack-ai: pip install 'refcolbert[haystack]'") from error

__all__ = ["ColBERTRanker", "ColBERTRetriever", "where_of"]


@component
class ColBERTRetriever:
    """Documents of an index, scored by MaxSim.

    Serialized are the folder of the index and the name of the model, so a pipeline can be dumped and loaded where both
    are in place. The index is opened by `warm_up`, or at the first run.
    """

    def __init__(
        self,
        index: Index | str | Path,
        *,
        model: str | None = None,
        top_k: int = 10,
        filters: dict[str, Any] | None = None,
        filter_policy: str | FilterPolicy = FilterPolicy.REPLACE,
        nprobe: int | None = None,
        candidates: int | None = None,
        exact: bool = False,
    ) -> None:
        """`model` is needed only with a folder, and only where the index's own model is not where it was."""
        self.index = str(index.path if isinstance(index, Index) else index)
        self.model, self.top_k, self.filters = model, top_k, filters
        self.filter_policy = FilterPolicy.from_str(filter_policy) if isinstance(filter_policy, str) else filter_policy
        self.nprobe, self.candidates, self.exact = nprobe, candidates, exact
        self._index = index if isinstance(index, Index) else None

    def warm_up(self) -> None:
        """Open the index, if that has not happened. Raises as `Index.open` does."""
        self._opened()

    def to_dict(self) -> dict[str, Any]:
        """The component as a dictionary."""
        names = ("index", "model", "top_k", "filters", "nprobe", "candidates", "exact")
        values = {name: getattr(self, name) for name in names}
        serialized: dict[str, Any] = default_to_dict(self, **values, filter_policy=self.filter_policy.value)
        return serialized

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "ColBERTRetriever":
        """The component of that dictionary."""
        made: ColBERTRetriever = default_from_dict(cls, data)
        return made

    @component.output_types(documents=list[Document])
    def run(
        self, query: str, filters: dict[str, Any] | None = None, top_k: int | None = None
    ) -> dict[str, list[Document]]:
        """The best documents, best first. `filters` and the component's own are joined as `filter_policy` says."""
        chosen = apply_filter_policy(self.filter_policy, self.filters, filters)
        hits = self._opened().search(
            query,
            self.top_k if top_k is None else top_k,
            where=where_of(chosen) if chosen else None,
            nprobe=self.nprobe,
            candidates=self.candidates,
            exact=self.exact,
        )
        return {"documents": [Document(id=h.id, content=h.text, meta=h.metadata, score=h.score) for h in hits]}

    @component.output_types(documents=list[Document])
    async def run_async(
        self, query: str, filters: dict[str, Any] | None = None, top_k: int | None = None
    ) -> dict[str, list[Document]]:
        """`run`, in a thread."""
        return await asyncio.to_thread(self.run, query, filters, top_k)

    def _opened(self) -> Index:
        if self._index is None:
            self._index = Index.open(self.index, None if self.model is None else Encoder.load(self.model))
        return self._index


@component
class ColBERTRanker:
    """Sorts documents that any retriever found by MaxSim of the query with their content."""

    def __init__(self, encoder: Encoder | None = None, *, model: str | None = None, top_k: int | None = None) -> None:
        """Takes an encoder that is there already; otherwise `model`, a folder or hub id, is loaded by `warm_up`."""
        self.model = model if encoder is None else encoder.source
        self.top_k = top_k
        self._encoder = encoder

    def warm_up(self) -> None:
        """Load the model, if that has not happened. Raises as `Encoder.load` does."""
        if self._encoder is None:
            self._encoder = Encoder.load(self.model)

    def to_dict(self) -> dict[str, Any]:
        """The component as a dictionary: the model by name."""
        serialized: dict[str, Any] = default_to_dict(self, model=self.model, top_k=self.top_k)
        return serialized

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "ColBERTRanker":
        """The component of that dictionary."""
        made: ColBERTRanker = default_from_dict(cls, data)
        return made

    @component.output_types(documents=list[Document])
    def run(self, query: str, documents: list[Document], top_k: int | None = None) -> dict[str, list[Document]]:
        """The `top_k` best documents (default: all), best first; copies, so that those passed in stay as they are.

        Raises `InvalidInput` for a document without text.
        """
        self.warm_up()
        hits = rerank(query, [_text(d) for d in documents], self._encoder, self.top_k if top_k is None else top_k)
        return {"documents": [replace(documents[int(hit.id)], score=hit.score) for hit in hits]}

    @component.output_types(documents=list[Document])
    async def run_async(
        self, query: str, documents: list[Document], top_k: int | None = None
    ) -> dict[str, list[Document]]:
        """`run`, in a thread."""
        return await asyncio.to_thread(self.run, query, documents, top_k)


def _text(document: Document) -> str:
    if document.content is None:
        raise InvalidInput(f"document {document.id!r} has no text content, which is what a ranker reads")
    return str(document.content)


NOTHING: dict[str, Any] = {"$not": {}}
ORDERED = {">": "$gt", ">=": "$gte", "<": "$lt", "<=": "$lte"}


def where_of(filters: dict[str, Any]) -> dict[str, Any]:
    """Haystack's metadata filters in refcolbert's form (`filters`), with the same meaning.

    Fields are "meta.name" or "name". Dates are compared as the texts they are, which is right where all are written in
    one way. Raises `InvalidInput` for filters on other fields of a document, an order of texts that are no ISO dates,
    and what is no filter.
    """
    if "field" in filters:
        return _comparison(filters)
    if filters.get("operator") not in LOGIC or not isinstance(filters.get("conditions"), list):
        raise InvalidInput(f"expected a comparison or AND, OR, NOT with a list of conditions, found {filters!r}")
    return LOGIC[filters["operator"]]([where_of(part) for part in filters["conditions"]])


LOGIC: dict[str, Callable[[list[dict[str, Any]]], dict[str, Any]]] = {
    "AND": lambda parts: {"$and": parts} if parts else {},
    "OR": lambda parts: {"$or": parts} if parts else NOTHING,
    "NOT": lambda parts: {"$not": {"$and": parts}} if parts else NOTHING,  # not all of them
}


def _comparison(part: dict[str, Any]) -> dict[str, Any]:
    if not {"operator", "value"} <= set(part):
        raise InvalidInput(f"a comparison has field, operator and value, found {part!r}")
    field, operator, value = _field(part["field"]), part["operator"], part["value"]
    if operator == "==":
        return _among(field, [value])
    if operator == "!=":
        return {"$not": _among(field, [value])}
    if operator in ("in", "not in"):
        if not isinstance(value, list):
            raise InvalidInput(f"{operator!r} takes a list of values, found {value!r}")
        return _among(field, value) if operator == "in" else {"$not": _among(field, value)}
    if operator not in ORDERED:
        raise InvalidInput(f"unknown operator {operator!r}; expected ==, !=, in, not in, {', '.join(ORDERED)}")
    return NOTHING if value is None else {field: {ORDERED[operator]: _ordered(value)}}


def _among(field: str, values: list[Any]) -> dict[str, Any]:
    """One of the values; None is also a field that is not there."""
    found = {field: {"$in": values}}
    return {"$or": [found, {field: {"$exists": False}}]} if None in values else found


def _field(name: Any) -> str:
    if name in Document.__dataclass_fields__ or not isinstance(name, str):
        raise InvalidInput(f"filters reach the metadata alone, found the field {name!r}; expected 'meta.NAME'")
    return name.removeprefix("meta.")


def _ordered(value: Any) -> Any:
    """A number, or a date as the text it is."""
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, str):
        try:
            datetime.fromisoformat(value)
        except ValueError:
            raise InvalidInput(f"only numbers and ISO dates have an order in Haystack, found {value!r}") from None
    return value
