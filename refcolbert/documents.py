"""Documents: id, text and metadata, as callers pass them and as hits return them."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .checks import check_texts
from .errors import DuplicateId, InvalidInput

__all__ = ["Document", "as_documents"]

MAX_METADATA_DEPTH = 64  # nested objects and lists; SQLite's own limit is 1,000


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """One document of an index.

    For example:

        >>> from refcolbert import Document
        >>> Document(id="manual", text="Press the button.", metadata={"lang": "en"})
        Document(id='manual', text='Press the button.', metadata={'lang': 'en'})
    """

    id: str  # unique in an index
    text: str | None = None  # None if only vectors were added
    metadata: dict[str, Any] = field(default_factory=dict)  # anything that JSON can hold


def as_documents(items: Iterable[Any], first_position: int, *, need_text: bool) -> list[Document]:
    """Return strings, mappings {"id", "text", "metadata"} and `Document`s as `Document`s.

    - `first_position`: the position of the first one in the index. A document without an id gets its decimal position.
    - `need_text`: refuse documents without a text.

    Raises `InvalidInput` naming the first one that does not fit, `DuplicateId` when an id occurs twice.

        >>> from refcolbert.documents import as_documents
        >>> [document.id for document in as_documents(["one", {"id": "b", "text": "two"}, "three"], 7, need_text=True)]
        ['7', 'b', '9']
    """
    if isinstance(items, str | Mapping | Document) or not isinstance(items, Iterable):
        raise InvalidInput(f"expected a list of documents, found one {type(items).__name__}; pass [document]")
    documents = [_as_document(item, first_position + i, need_text) for i, item in enumerate(items)]
    seen: set[str] = set()
    for document in documents:
        if document.id in seen:
            raise DuplicateId(f"expected distinct ids, id {document.id!r} occurs twice in this call; rename one")
        seen.add(document.id)
    return documents


def _as_document(item: Any, position: int, need_text: bool) -> Document:
    """Return one item as a `Document`, its id filled in. Raises `InvalidInput` naming its position."""
    if isinstance(item, str):
        item = {"text": item}
    elif isinstance(item, Document):
        item = {"id": item.id, "text": item.text, "metadata": item.metadata}
    where = f"document {position}"
    if not isinstance(item, Mapping):
        raise InvalidInput(f"{where}: expected a string, a mapping or a Document, found {type(item).__name__}")
    unknown = sorted(map(str, set(item) - {"id", "text", "metadata"}))
    if unknown:
        raise InvalidInput(f"{where}: unknown keys {unknown}; expected id, text, metadata; put others into metadata")
    text, metadata, name = item.get("text"), item.get("metadata"), item.get("id")
    if name is None:
        name = str(position)
    if not isinstance(name, str) or not name:
        raise InvalidInput(f"{where}: id must be a string of at least one character, found {name!r}")
    _check_json(name, f"{where}: id", MAX_METADATA_DEPTH)
    if text is None and need_text:
        raise InvalidInput(f"{where}: expected a text, found none; add one, or pass add(documents, vectors=...)")
    if text is not None:
        check_texts([text], where)
    return Document(id=name, text=text, metadata=_check_metadata(metadata, where))


def _check_metadata(metadata: Any, where: str) -> dict[str, Any]:
    """Return a copy of metadata that JSON can hold; {} for None. Raises `InvalidInput`."""
    if metadata is None:
        return {}
    if not isinstance(metadata, Mapping):
        raise InvalidInput(f"{where}: metadata must be a mapping, found {metadata!r}")
    _check_json(dict(metadata), f"{where}: metadata", MAX_METADATA_DEPTH)
    return dict(metadata)


def _check_json(value: Any, where: str, depth: int) -> None:
    """Raise `InvalidInput` unless `value` is JSON of at most `depth` levels that SQLite reads back unchanged."""
    if depth == 0:
        raise InvalidInput(f"{where} must be plain JSON of at most {MAX_METADATA_DEPTH} levels, found more; flatten it")
    if isinstance(value, str):
        check_texts([value], where)
        if "\0" in value:
            raise InvalidInput(f"{where} must not hold a NUL character, because SQLite cuts a text there; remove it")
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
