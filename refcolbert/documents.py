"""Documents: id, text and metadata, as callers pass them and as hits return them."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, time
from numbers import Integral
from typing import Any, Protocol

import numpy as np

from .checks import check_texts
from .errors import DuplicateId, InvalidInput

__all__ = ["Document", "Frame", "as_documents", "records"]

SLICE_ROWS = 1024  # rows of a frame that are Python objects at a time
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


class Frame(Protocol):
    """A table of pandas, polars or Arrow. Each row is a document."""

    @property
    def columns(self) -> Any:
        """The columns or their names."""


def as_documents(items: Iterable[Any], first_position: int, *, need_text: bool) -> list[Document]:
    """Return strings, mappings {"id", "text", "metadata"} and `Document`s, or the rows of a frame, as `Document`s.

    - `first_position`: the position of the first one in the index. A document without an id gets its decimal position.
    - `need_text`: refuse documents without a text.

    Raises `InvalidInput` naming the first one that does not fit, `DuplicateId` when an id occurs twice.

        >>> from refcolbert.documents import as_documents
        >>> [document.id for document in as_documents(["one", {"id": "b", "text": "two"}, "three"], 7, need_text=True)]
        ['7', 'b', '9']
    """
    items = records(items, need_text=need_text)
    documents = [_as_document(item, first_position + i, need_text) for i, item in enumerate(items)]
    seen: set[str] = set()
    for document in documents:
        if document.id in seen:
            raise DuplicateId(f"expected distinct ids, id {document.id!r} occurs twice in this call; rename one")
        seen.add(document.id)
    return documents


def records(documents: Any, text: str = "text", id: str = "id", *, need_text: bool) -> Iterable[Any]:  # noqa: A002
    """Return an iterable of documents as it is, or the rows of a frame as mappings {"id", "text", "metadata"}.

    A frame is a table of pandas, polars or Arrow, or a Hugging Face dataset. Its rows are read a few at a time.

    - `text`, `id`: the frame's columns of these. Its other columns are metadata. A column "metadata" of mappings gives
      their entries. Missing values (None, NaN, NaT) are left out, and dates become ISO 8601 text.
    - `need_text`: refuse a frame without the column `text`.

    Raises `InvalidInput` for one document in place of a list, and for a column that is not there.
    """
    one = isinstance(documents, str | bytes | Mapping | Document)
    rows = None if one else _rows(documents)
    if rows is not None:
        return (_record(row, text, id, need_text) for row in rows)
    if one or not isinstance(documents, Iterable):
        raise InvalidInput(
            f"expected a list of documents or a frame, found one {type(documents).__name__}; pass [document]"
        )
    if (text, id) != ("text", "id"):
        raise InvalidInput(
            f"text= and id= name columns of a frame, found {type(documents).__name__}; use the keys 'text' and 'id'"
        )
    return documents


def _rows(frame: Any) -> Iterable[Mapping[Any, Any]] | None:
    """Return the rows of a frame, or None for anything else. Frames are told by their methods, so none is imported."""
    if hasattr(frame, "iter_rows") and hasattr(frame, "columns"):  # polars
        rows: Iterable[Mapping[Any, Any]] = frame.iter_rows(named=True)
        return rows
    if hasattr(frame, "iloc") and hasattr(frame, "columns"):  # pandas
        slices = (frame.iloc[i : i + SLICE_ROWS] for i in range(0, len(frame), SLICE_ROWS))
        # pandas has several missing values. Only columns of objects can hold None in place of them.
        return (row for s in slices for row in s.astype(object).where(s.notna(), None).to_dict("records"))
    if hasattr(frame, "to_pylist") and hasattr(frame, "column_names"):  # Arrow
        return (row for i in range(0, len(frame), SLICE_ROWS) for row in frame.slice(i, SLICE_ROWS).to_pylist())
    # A Hugging Face dataset yields its rows.
    return frame if hasattr(frame, "column_names") and isinstance(frame, Iterable) else None


def _record(row: Mapping[Any, Any], text: str, id: str, need_text: bool) -> dict[str, Any]:  # noqa: A002
    """Return a row of a frame as a mapping {"id", "text", "metadata"}."""
    for role, name, needed in (("text", text, need_text or text != "text"), ("id", id, id != "id")):
        if needed and name not in row:
            raise InvalidInput(f"expected a column {name!r}, found {list(row)}; pass {role}= and the column's name")
    cells = _plain(row)
    record = {"id": cells.pop(id, None), "text": cells.pop(text, None)}
    inner = cells.pop("metadata") if isinstance(cells.get("metadata"), dict) else {}
    return {**record, "metadata": {**cells, **inner}}


def _plain(value: Any) -> Any:
    """Return a value of a frame as JSON has it: None for a missing one, and none of those in mappings."""
    if isinstance(value, np.ndarray | np.generic):
        # A time in nanoseconds would become an integer.
        value = (value.astype("datetime64[us]") if value.dtype.kind == "M" else value).tolist()
    if isinstance(value, Mapping):
        return {key: plain for key, inner in value.items() if (plain := _plain(inner)) is not None}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, float | datetime) and value != value:  # NaN and NaT
        return None
    return value.isoformat() if isinstance(value, date | time) else value


def _as_document(item: Any, position: int, need_text: bool) -> Document:
    """Return one item as a `Document`, its id filled in. Raises `InvalidInput` naming its position."""
    if isinstance(item, str):
        item = {"text": item}
    elif isinstance(item, Document):
        item = {"id": item.id, "text": item.text, "metadata": item.metadata}
    where = f"document {position}"
    if not isinstance(item, Mapping):
        kind = f"{type(item).__module__}.{type(item).__name__}".removeprefix("builtins.")
        raise InvalidInput(f"{where}: expected a string, a mapping or a refcolbert.Document, found {kind}")
    unknown = sorted(map(str, set(item) - {"id", "text", "metadata"}))
    if unknown:
        raise InvalidInput(f"{where}: unknown keys {unknown}; expected id, text, metadata; put others into metadata")
    text, metadata, name = item.get("text"), item.get("metadata"), item.get("id")
    if name is None or (isinstance(name, Integral) and not isinstance(name, bool)):
        name = str(position if name is None else name)
    if not isinstance(name, str) or not name:
        raise InvalidInput(f"{where}: id must be an integer or a string of at least one character, found {name!r}")
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
