"""Documents: ids, texts and metadata, in SQLite.

A segment's documents are one immutable database. `pack` fills the file that the store has made for it, `DocumentFile`
reads it without ever writing beside it. Row r of the table is document r of the segment.
"""

import errno
import json
import math
import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from .errors import CorruptIndexError, DuplicateId, IndexFileError, InvalidInput
from .filters import compile_filter
from .tokens import check_texts

__all__ = ["Document", "DocumentFile", "as_documents", "pack"]

SCHEMA = (
    "CREATE TABLE documents "
    "(row INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, text TEXT, metadata TEXT NOT NULL) STRICT"
)
DEEPEST = 64  # levels of metadata; SQLite's own limit is 1,000
CACHE_KIB = 16 << 10  # of a database that is being written; the rest of it is on disk already


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


def pack(documents: Iterable[Document], path: Path) -> None:
    """Write a database that holds `documents` in order into the empty file at `path`, in bounded memory.

    Equal documents give equal bytes. Raises `OSError` when SQLite cannot write.
    """
    rows = (
        (i, d.id, d.text, json.dumps(d.metadata, allow_nan=False, ensure_ascii=False)) for i, d in enumerate(documents)
    )
    try:
        with closing(sqlite3.connect(_uri(path, "mode=rw&nolock=1"), uri=True, isolation_level=None)) as connection:
            # A crash leaves a file that no manifest names, so it needs no journal; and the store syncs it.
            for setting in ("journal_mode = OFF", "synchronous = OFF", f"cache_size = -{CACHE_KIB}"):
                connection.execute(f"PRAGMA {setting}")
            connection.execute("BEGIN")
            connection.execute(SCHEMA)
            connection.executemany("INSERT INTO documents VALUES (?, ?, ?, ?)", rows)
            connection.execute("COMMIT")
    except sqlite3.OperationalError as error:
        raise OSError(errno.EIO, f"SQLite: {error}", str(path)) from error


class DocumentFile:
    """Read access to one packed database. Safe to share between threads and to use in a forked child."""

    def __init__(self, path: Path, n_docs: int) -> None:
        self.path, self.n_docs = path, n_docs
        self._identity = _identity(path)
        self._local = threading.local()  # SQLite connections are not shared between threads

    def in_place(self) -> bool:
        """Whether the file that was there at first is still what the path leads to."""
        return self._identity == _identity(self.path)

    def ids(self) -> list[str]:
        """Every id, in row order."""
        names = [row[0] for row in self._read("SELECT id FROM documents ORDER BY row", ())]
        if len(names) != self.n_docs:
            raise self._corrupt(f"{self.n_docs} documents", len(names))
        return names

    def rows(self, ids: Sequence[str]) -> dict[str, int]:
        """id -> row for those of `ids` that are here."""
        found = self._read(
            "SELECT id, row FROM documents WHERE id IN (SELECT value FROM json_each(?))", (json.dumps(list(ids)),)
        )
        self._check_rows([row for _, row in found])
        return dict(found)

    def get(self, rows: Sequence[int]) -> list[Document]:
        """The documents at `rows`, in that order."""
        sql = "SELECT row, id, text, metadata FROM documents WHERE row IN (SELECT value FROM json_each(?))"
        found = {
            row: Document(id=name, text=text, metadata=self._metadata(metadata))
            for row, name, text, metadata in self._read(sql, (json.dumps([int(r) for r in rows]),))
        }
        missing = [row for row in rows if row not in found]
        if missing:
            raise self._corrupt(f"rows {missing}", "none of them")
        return [found[row] for row in rows]

    def matching(self, where: Mapping[str, Any]) -> NDArray[np.int64]:
        """[n] rows, ascending, whose metadata satisfy the filter (see `filters`)."""
        condition, parameters = compile_filter(where)
        # The condition is made of constants of this module; every value of the caller's is a bound parameter.
        sql = f"SELECT row FROM documents WHERE {condition} ORDER BY row"  # noqa: S608
        rows = [row[0] for row in self._read(sql, parameters)]
        self._check_rows(rows)
        return np.array(rows, dtype=np.int64)

    def all(self) -> Iterator[Document]:
        """Every document, in row order, one at a time. Raises `CorruptIndexError` where one cannot be read."""
        n_read = 0
        for row, name, text, metadata in self._execute(
            "SELECT row, id, text, metadata FROM documents ORDER BY row", ()
        ):
            if row != n_read or not name or not isinstance(name, str) or not (text is None or isinstance(text, str)):
                raise self._corrupt(f"a document in row {n_read}", (row, name))
            yield Document(id=name, text=text, metadata=self._metadata(metadata))
            n_read += 1
        if n_read != self.n_docs:
            raise self._corrupt(f"{self.n_docs} documents", n_read)

    def check(self) -> None:
        """Raise `CorruptIndexError` unless every document can be read, and rows are 0, 1, ... n_docs - 1."""
        for _ in self.all():
            pass

    def close(self) -> None:
        """Close every thread's connection; another use opens a new one."""
        self._local = threading.local()

    def _read(self, sql: str, parameters: Sequence[Any]) -> list[Any]:
        return list(self._execute(sql, parameters))

    def _execute(self, sql: str, parameters: Sequence[Any]) -> Iterator[Any]:
        try:
            yield from self._connection().execute(sql, parameters)
        except (sqlite3.DatabaseError, UnicodeDecodeError) as error:  # the latter for damaged bytes in a message
            raise CorruptIndexError(f"{self.path}: {error}; restore the index from a copy") from error

    def _metadata(self, text: Any) -> dict[str, Any]:
        try:
            found = json.loads(text)
        except (TypeError, ValueError, RecursionError) as error:
            raise self._corrupt("metadata in JSON", error) from error
        if not isinstance(found, dict):
            raise self._corrupt("metadata that is an object", found)
        return found

    def _check_rows(self, rows: Sequence[int]) -> None:
        if any(not 0 <= row < self.n_docs for row in rows):
            raise self._corrupt(f"rows below {self.n_docs}", max(rows))

    def _corrupt(self, expected: str, found: Any) -> CorruptIndexError:
        return CorruptIndexError(
            f"{self.path}: expected {expected}, found {found!r:.200}; restore the index from a copy"
        )

    def _connection(self) -> sqlite3.Connection:
        found: _Connection | None = getattr(self._local, "connection", None)
        if found is None or found.process != os.getpid():
            found = _Connection(_uri(self.path, "mode=ro&immutable=1"))
            schema = found.sqlite.execute("SELECT type, name, sql FROM sqlite_schema").fetchall()
            if not self.in_place():
                raise IndexFileError(f"{self.path} was replaced after the index was opened; open the index again")
            if schema != [("table", "documents", SCHEMA), ("index", "sqlite_autoindex_documents_1", None)]:
                raise self._corrupt("the one table of a document file", schema)
            self._local.connection = found
        return found.sqlite


def _uri(path: Path, how: str) -> str:
    """What SQLite calls a file, whatever bytes its name is made of."""
    return f"file:{quote(os.fsencode(path))}?{how}"


def _identity(path: Path) -> tuple[int, ...] | None:
    """What tells a file from another one of the same name; None if there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


class _Connection:
    """A thread's connection; closed when the thread or the DocumentFile ends, in whichever thread that is."""

    def __init__(self, uri: str) -> None:
        self.sqlite = sqlite3.connect(uri, uri=True, check_same_thread=False)
        self.process = os.getpid()
        self.sqlite.execute("PRAGMA trusted_schema = OFF")
        self.sqlite.execute("PRAGMA cell_size_check = ON")

    def __del__(self) -> None:
        if hasattr(self, "sqlite"):  # connecting may have failed
            self.sqlite.close()
