"""The documents of a segment on disk: one immutable SQLite database.

`pack` fills a new file that the store has created. `DocumentFile` reads it, and never writes a file beside it. Row r of
the table is document r of the segment.
"""

import errno
import json
import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from ..documents import Document
from ..errors import CorruptIndexError, IndexFileError
from .filters import compile_filter, compile_kinds

__all__ = ["DocumentFile", "pack"]

SCHEMA = (
    "CREATE TABLE documents "
    "(row INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, text TEXT, metadata TEXT NOT NULL) STRICT"
)
CACHE_KIB = 16 << 10  # of a database that is being written, in memory


def pack(documents: Iterable[Document], path: Path) -> None:
    """Write a database of `documents`, in order, into the empty file at `path`, in bounded memory.

    Equal documents give equal bytes. Raises `OSError` when SQLite cannot write.
    """
    rows = (
        (i, d.id, d.text, json.dumps(d.metadata, allow_nan=False, ensure_ascii=False)) for i, d in enumerate(documents)
    )
    try:
        with closing(sqlite3.connect(_uri(path, "mode=rw&nolock=1"), uri=True, isolation_level=None)) as connection:
            # A crash leaves a file that no manifest names, so no journal is needed. The store syncs the file.
            for setting in ("journal_mode = OFF", "synchronous = OFF", f"cache_size = -{CACHE_KIB}"):
                connection.execute(f"PRAGMA {setting}")
            connection.execute("BEGIN")
            connection.execute(SCHEMA)
            connection.executemany("INSERT INTO documents VALUES (?, ?, ?, ?)", rows)
            connection.execute("COMMIT")
    except sqlite3.OperationalError as error:
        raise OSError(errno.EIO, f"SQLite: {error}", str(path)) from error


class DocumentFile:
    """Read access to one packed database. Threads and forked children may share it."""

    def __init__(self, path: Path, n_docs: int) -> None:
        self.path, self.n_docs = path, n_docs
        self._identity = _identity(path)
        # One connection per thread.
        self._local = threading.local()

    def in_place(self) -> bool:
        """Return True if the path still leads to the file that was there at first."""
        return self._identity == _identity(self.path)

    def ids(self) -> list[str]:
        """Return every id, in row order."""
        names = [row[0] for row in self._read("SELECT id FROM documents ORDER BY row", ())]
        if len(names) != self.n_docs:
            raise self._corrupt(f"{self.n_docs} documents", len(names))
        return names

    def rows(self, ids: Sequence[str]) -> dict[str, int]:
        """Return id -> row for those of `ids` that are in this file."""
        pairs = self._read(
            "SELECT id, row FROM documents WHERE id IN (SELECT value FROM json_each(?))", (json.dumps(list(ids)),)
        )
        self._check_rows([row for _, row in pairs])
        return dict(pairs)

    def get(self, rows: Sequence[int]) -> list[Document]:
        """Return the documents at `rows`, in that order. Raises `CorruptIndexError` when one is missing."""
        sql = "SELECT row, id, text, metadata FROM documents WHERE row IN (SELECT value FROM json_each(?))"
        documents = {
            row: Document(id=name, text=text, metadata=self._metadata(metadata))
            for row, name, text, metadata in self._read(sql, (json.dumps([int(r) for r in rows]),))
        }
        missing = [row for row in rows if row not in documents]
        if missing:
            raise self._corrupt(f"rows {missing}", "none of them")
        return [documents[row] for row in rows]

    def matching(self, where: Mapping[str, Any]) -> NDArray[np.int64]:
        """Return the rows [n], ascending, whose metadata match the filter (`filters`)."""
        condition, parameters = compile_filter(where)
        # The condition consists of constants of `filters`. Every value of the caller is a bound parameter.
        sql = f"SELECT row FROM documents WHERE {condition} ORDER BY row"  # noqa: S608
        rows = [row[0] for row in self._read(sql, parameters)]
        self._check_rows(rows)
        return np.array(rows, dtype=np.int64)

    def kinds(self, field: str) -> Iterator[tuple[int, str]]:
        """Yield (row, kind) of every value at `field` (`filters`), in row order."""
        return self._execute(*compile_kinds(field))

    def all(self) -> Iterator[Document]:
        """Yield every document, in row order. Raises `CorruptIndexError` where one cannot be read."""
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
        """Raise `CorruptIndexError` unless every document can be read and the rows are 0, 1, ... n_docs - 1."""
        for _ in self.all():
            pass

    def close(self) -> None:
        """Close the connections of all threads. Another use opens a new one."""
        self._local = threading.local()

    def _read(self, sql: str, parameters: Sequence[Any]) -> list[Any]:
        return list(self._execute(sql, parameters))

    def _execute(self, sql: str, parameters: Sequence[Any]) -> Iterator[Any]:
        try:
            yield from self._connection().execute(sql, parameters)
        # SQLite may quote damaged bytes in its message, which then cannot be decoded.
        except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
            raise self._corrupt("a readable database", error) from error

    def _metadata(self, text: Any) -> dict[str, Any]:
        try:
            metadata = json.loads(text)
        except (TypeError, ValueError, RecursionError) as error:
            raise self._corrupt("metadata in JSON", error) from error
        if not isinstance(metadata, dict):
            raise self._corrupt("metadata that are an object", metadata)
        return metadata

    def _check_rows(self, rows: Sequence[int]) -> None:
        if any(not 0 <= row < self.n_docs for row in rows):
            raise self._corrupt(f"rows below {self.n_docs}", max(rows))

    def _corrupt(self, expected: str, found: Any) -> CorruptIndexError:
        return CorruptIndexError(
            f"{self.path}: expected {expected}, found {found!r:.200}; restore the index from a copy"
        )

    def _connection(self) -> sqlite3.Connection:
        """Return the connection of this thread and process. A new one is opened read-only and its schema checked."""
        connection: _Connection | None = getattr(self._local, "connection", None)
        if connection is None or connection.process != os.getpid():
            connection = _Connection(_uri(self.path, "mode=ro&immutable=1"))
            schema = connection.sqlite.execute("SELECT type, name, sql FROM sqlite_schema").fetchall()
            if not self.in_place():
                raise IndexFileError(f"{self.path} was replaced after the index was opened; open the index again")
            if schema != [("table", "documents", SCHEMA), ("index", "sqlite_autoindex_documents_1", None)]:
                raise self._corrupt("the one table of a document file", schema)
            self._local.connection = connection
        return connection.sqlite


def _uri(path: Path, options: str) -> str:
    """Return the URI of a file for SQLite. The file's name may have any bytes."""
    return f"file:{quote(os.fsencode(path))}?{options}"


def _identity(path: Path) -> tuple[int, ...] | None:
    """Return device, inode, size and time of a file, which tell it from another at the same path; None if missing."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


class _Connection:
    """The connection of one thread. It is closed when the thread or the `DocumentFile` ends, by any thread."""

    def __init__(self, uri: str) -> None:
        self.sqlite = sqlite3.connect(uri, uri=True, check_same_thread=False)
        self.process = os.getpid()
        self.sqlite.execute("PRAGMA trusted_schema = OFF")
        self.sqlite.execute("PRAGMA cell_size_check = ON")

    def __del__(self) -> None:
        # The attribute is missing if connecting failed.
        if hasattr(self, "sqlite"):
            self.sqlite.close()
