"""A segment's documents on disk: one immutable SQLite database.

`pack` fills the file that the store has made for it, `DocumentFile` reads it without ever writing beside it. Row r of
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
from .filters import compile_filter

__all__ = ["DocumentFile", "pack"]


SCHEMA = (
    "CREATE TABLE documents "
    "(row INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, text TEXT, metadata TEXT NOT NULL) STRICT"
)


CACHE_KIB = 16 << 10  # of a database that is being written; the rest of it is on disk already


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
