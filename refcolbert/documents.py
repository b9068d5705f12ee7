"""Documents: ids, texts and metadata, as callers pass them."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .checks import check_texts
from .errors import DuplicateId, InvalidInput

__all__ = ["Document", "as_documents"]

DEEPEST = 64  # levels of metadata; SQLite's own limit is 1,000


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """One document: a unique id, its text (None if only vectors were given), metadata that JSON can hold."""

    id: str
    text: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)


def as_documents(given: Iterable[Any], first_position: int, *, need_text: bool) -> list[Document]:
    """Strings, mappings {"id", "text", "metadata"} and `Document`s -> Documents.

    What comes without an id gets its decimal position in the index, counted from `first_position`.
    Raises `InvalidInput` naming the first one that does not fit, also when an id occurs twice.
    """
    if isinstance(given, str | Mapping | Document) or not isinstance(given, Iterable):
        raise InvalidInput(f"expected a list of documents, found one {type(given).__name__}; pass [document]")
    documents = [_as_document(item, first_position + i, need_text) for i, item in enumerate(given)]
    seen: set[str] = set()
    for document in documents:
        if document.id in seen:
            raise DuplicateId(f"id {document.id!r} occurs twice in this call; ids must be unique")
        seen.add(document.id)
    return documents


def _as_document(item: Any, position: int, need_text: bool) -> Document:
    if isinstance(item, str):
        item = {"text": item}
    elif isinstance(item, Document):
        item = {"id": item.id, "text": item.text, "metadata": item.metadata}
    where = f"document {position}"
    if not isinstance(item, Mapping):
        raise InvalidInput(f"{where}: expected a string, a mapping or a Document, found {type(item).__name__}")
    unknown = sorted(map(str, set(item) - {"id", "text", "metadata"}))
    if unknown:
        raise InvalidInput(f"{where}: unknown keys {unknown}; expected id, text, metadata (put other fields there)")
    text, metadata, name = item.get("text"), item.get("metadata"), item.get("id")
    if name is None:
        name = str(position)
    if not isinstance(name, str) or not name:
        raise InvalidInput(f"{where}: id must be a string of at least one character, found {name!r}")
    _check_json(name, f"{where}: id", DEEPEST)
    if text is None and need_text:
        raise InvalidInput(f"{where}: expected a text; without one pass add(documents, vectors=...)")
    if text is not None:
        check_texts([text], where)
    return Document(id=name, text=text, metadata=_check_metadata(metadata, where))


def _check_metadata(metadata: Any, where: str) -> dict[str, Any]:
    if metadata is None:
        return {}
    if not isinstance(metadata, Mapping):
        raise InvalidInput(f"{where}: metadata must be a mapping, found {metadata!r}")
    _check_json(dict(metadata), f"{where}: metadata", DEEPEST)
    return dict(metadata)


def _check_json(value: Any, where: str, depth: int) -> None:
    """Raise `InvalidInput` unless `value` is JSON that SQLite reads back as it is: no NUL, at most DEEPEST levels."""
    if depth == 0:
        raise InvalidInput(f"{where} must be plain JSON of at most {DEEPEST} levels, found more")
    if isinstance(value, str):
        check_texts([value], where)
        if "\0" in value:
            raise InvalidInput(f"{where} holds a NUL character, at which SQLite would cut it; remove it")
    elif isinstance(value, dict):
        for key, inner in value.items():
            if not isinstance(key, str):
                raise InvalidInput(f"{where}: expected string keys, found {key!r}")
            _check_json(key, where, depth)
            _check_json(inner, where, depth - 1)
    elif isinstance(value, list | tuple):
        for inner in value:
            _check_json(inner, where, depth - 1)
    elif not (value is None or isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value))):
        raise InvalidInput(f"{where} must be plain JSON (text, finite numbers, true, false, null), found {value!r}")
