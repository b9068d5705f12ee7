"""Index folders in an attacker's hands: each starts sound; any file may change, and the manifest is signed anew."""

import contextlib
import hashlib
import io
import json
import os
import pickle
import socket
import sqlite3
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from refcolbert.documents import Document
from refcolbert.storage.document_file import SCHEMA, pack
from refcolbert.storage.format import npy_header

from .manifests import sign
from .scenarios import SCENARIOS

__all__ = ["CASES", "MANIFESTS", "WORDS", "Folder", "make", "packed"]

F2, F4, I8, U1, U2, U4 = map(np.dtype, ("<f2", "<f4", "<i8", "u1", "<u2", "<u4"))


def packed(documents: Sequence[Document]) -> bytes:
    """The bytes of a document file."""
    with tempfile.NamedTemporaryFile() as file:
        pack(documents, Path(file.name))
        return Path(file.name).read_bytes()


class Folder:
    """An index folder in the attacker's hands."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.manifest: dict[str, Any] = json.loads((path / "manifest.json").read_bytes().rsplit(b"\n", 2)[0])
        self.canary = path.parent / "canary"
        self.victim = path.parent / "victim"
        self.victim.write_bytes(b"precious")

    @property
    def raw(self) -> bool:
        """True if vectors are raw."""
        return self.manifest["codec"] is None

    def entry(self, role: str) -> dict[str, Any]:
        """The manifest's entry of a file."""
        codec = self.manifest["codec"]
        owner = codec if codec and role in codec["files"] else self.manifest["segments"][0]
        found: dict[str, Any] = owner["files"][role]
        return found

    def file(self, role: str) -> Path:
        """The path of a file."""
        return self.path / "data" / str(self.entry(role)["name"])

    def put(self, role: str, content: bytes) -> None:
        """Replace a file, and sign it."""
        self.put_entry(self.entry(role), content)

    def put_entry(self, entry: dict[str, Any], content: bytes) -> None:
        """Replace the file that the manifest speaks of here, and sign it."""
        (self.path / "data" / entry["name"]).write_bytes(content)
        entry.update(bytes=len(content), sha256=hashlib.sha256(content).hexdigest())

    def array(self, role: str, change: Callable[[Any], Any]) -> None:
        """Replace an array by another of the same header."""
        content = self.file(role).read_bytes()
        header = content.index(b"\n") + 1
        dtype = {"positions": I8, "offsets": I8, "starts": I8, "cell_offsets": I8, "vectors": F2, "scales": F2}
        dtype |= {"codes": U2, "residuals": U1, "cells": U4, "cell_documents": U2, "spreads": U1, "deleted": U4}
        dtype |= {"term_spelling": U1, "term_bounds": I8, "term_offsets": I8, "term_documents": U2, "term_counts": U1}
        dtype |= {"term_lengths": U4}
        values = np.frombuffer(content, dtype.get(role, F4), offset=header).copy()
        values = change(values)
        self.put(role, content[:header] + values.tobytes())

    def header(self, role: str, header: bytes) -> None:
        """Replace the header of an array and keep its values."""
        content = self.file(role).read_bytes()
        start = content.index(b"\n") + 1
        self.put(role, header.ljust(start - 1)[: start - 1] + b"\n" + content[start:])

    def sqlite(self, *statements: str, documents: Sequence[Document] | None = None) -> None:
        """Replace the document database by what these statements make of it."""
        connection = sqlite3.connect(":memory:")
        if documents is not None:
            connection.deserialize(packed(documents))
        connection.executescript(";".join(statements))
        connection.commit()
        self.put("documents", connection.serialize())
        connection.close()

    def documents(self) -> list[Document]:
        """Empty documents in the number of the first segment."""
        return [Document(id=f"d{i}") for i in range(self.manifest["segments"][0]["n_docs"])]

    def sign(self) -> None:
        """Write the manifest and its copy."""
        self.publish(sign(self.manifest))

    def publish(self, content: bytes) -> None:
        """Write these bytes as the manifest and its copy."""
        for path in (self.path / "manifest.json", *(self.path / "data").glob("*-manifest.json")):
            path.write_bytes(content)


Attack = Callable[[Folder], Any]
Attacks = dict[str, Attack]


class Payload:
    """Unpickling this makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def npy_of_objects(f: Folder) -> bytes:
    """A .npy file whose content is a pickle."""
    buffer = io.BytesIO()
    np.save(buffer, np.array([Payload(f.canary)], dtype=object), allow_pickle=True)
    return buffer.getvalue()


def npz_bomb() -> bytes:
    """A few kilobytes that unpack to 64 MiB."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", bytes(64 << 20))
    return buffer.getvalue()


def replaced(f: Folder, role: str, make: Callable[[Path], Any]) -> None:
    """Put something else than a file in a file's place."""
    f.file(role).unlink()
    make(f.file(role))


def descr(text: bytes) -> bytes:
    """A version 1.0 header of any text."""
    return b"\x93NUMPY\x01\x00\x76\x00" + text


def listening(path: Path) -> None:
    """A socket."""
    made = socket.socket(socket.AF_UNIX)
    with contextlib.chdir(path.parent):  # a socket's whole path has to be short
        made.bind(path.name)


def sparse(f: Folder, role: str, size: int) -> None:
    """A huge file that takes no space on disk."""
    with f.file(role).open("r+b") as file:
        file.truncate(size)
    f.entry(role)["bytes"] = size


def moved(f: Folder) -> None:
    """A link to the very bytes that belong there."""
    f.file("positions").symlink_to(f.file("positions").rename(f.path.parent / "moved"))


def huge_vectors(f: Folder) -> None:
    """A segment of 2^40 bytes, sizes consistent."""
    segment = f.manifest["segments"][0]
    segment["n_tokens"] = 2**37
    header = npy_header((F2, (2**37, 4)))
    f.put("vectors", header)
    sparse(f, "vectors", len(header) + 2**40)


def late_page(f: Folder) -> None:
    """A database whose first page promises a thousand times as many pages."""
    content = bytearray(f.file("documents").read_bytes())
    content[28:32] = (2**31).to_bytes(4, "big")
    content[24:28] = content[92:96]
    f.put("documents", bytes(content))


def looped_pages(f: Folder) -> None:
    """A b-tree page that names itself as its child."""
    content = bytearray(f.file("documents").read_bytes())
    content[4096:4110] = bytes([5, 0, 0, 0, 1, 15, 240, 0, 0, 0, 0, 2, 15, 240])
    f.put("documents", bytes(content))


def rewrite_schema(f: Folder, sql: str) -> None:
    """A database whose schema text is right and whose table is not."""
    f.sqlite(
        sql,
        "CREATE TABLE filler (a)",
        "DROP TABLE filler",
        "PRAGMA writable_schema = ON",
        f"UPDATE sqlite_schema SET sql = '{SCHEMA}' WHERE name = 'documents'",  # noqa: S608 - the attack
    )


TABLE = SCHEMA.removesuffix(" STRICT")
SELECT = "CREATE VIEW documents AS SELECT 0 AS row, 'a' AS id, 'b' AS text, '{}' AS metadata"
RECURSIVE = (
    "CREATE VIEW documents AS WITH RECURSIVE n(row) AS (SELECT 0 UNION ALL SELECT row + 1 FROM n) "
    "SELECT row, 'a' AS id, 'b' AS text, '{}' AS metadata FROM n"
)

ANY: Attacks = {  # for raw and encoded indexes alike
    "positions are a pickle": lambda f: f.put("positions", pickle.dumps(Payload(f.canary))),
    "positions are an array of objects": lambda f: f.put("positions", npy_of_objects(f)),
    "positions are an archive that explodes": lambda f: f.put("positions", npz_bomb()),
    "positions are compressed": lambda f: f.put("positions", zlib.compress(bytes(1 << 20))),
    "a dtype of objects": lambda f: f.header(
        "positions", descr(b"{'descr': '|O', 'fortran_order': False, 'shape': (5,)}")
    ),
    "a structured dtype": lambda f: f.header(
        "positions", descr(b"{'descr': [('a', '<i4'), ('b', '<i4')], 'shape': (5,)}")
    ),
    "code in a header": lambda f: f.header("positions", descr(b"__import__('os').mkdir('canary')")),
    "a deep header": lambda f: f.header("positions", descr(b"(" * 110)),
    "Fortran order": lambda f: f.header("offsets", descr(b"{'descr': '<i8', 'fortran_order': True, 'shape': (6,), }")),
    "big-endian": lambda f: f.header("offsets", descr(b"{'descr': '>i8', 'fortran_order': False, 'shape': (6,), }")),
    "header version 2": lambda f: f.header("offsets", b"\x93NUMPY\x02\x00\x76\x00\x00\x00{'descr': '<i8'}"),
    "a shape beyond the file": lambda f: f.manifest["segments"][0].update(n_tokens=2**60),
    "2^32 documents": lambda f: f.manifest["segments"][0].update(n_docs=2**32),
    "a file of a terabyte": lambda f: sparse(f, "positions", 2**40),
    "a link to a file of others": lambda f: replaced(f, "positions", lambda p: p.symlink_to(f.victim)),
    "a link to what belongs there": moved,
    "a link to a device": lambda f: replaced(f, "positions", lambda p: p.symlink_to("/dev/zero")),
    "a database that is a link": lambda f: replaced(f, "documents", lambda p: p.symlink_to(f.victim)),
    "a pipe": lambda f: replaced(f, "positions", os.mkfifo),
    "a database that is a pipe": lambda f: replaced(f, "documents", os.mkfifo),
    "a socket": lambda f: replaced(f, "positions", listening),
    "a folder": lambda f: replaced(f, "positions", os.mkdir),
    "a name that climbs": lambda f: f.entry("positions").update(name="../../victim"),
    "a name that climbs to an array": lambda f: f.entry("positions").update(name="../../victim.npy"),
    "an absolute name": lambda f: f.entry("positions").update(name="/etc/passwd"),
    "a name with NUL": lambda f: f.entry("positions").update(name="a\0.npy"),
    "a name with a drive": lambda f: f.entry("positions").update(name="C:a.npy"),
    "positions that descend": lambda f: f.array("positions", lambda a: a[::-1]),
    "positions beyond the next": lambda f: f.array("positions", lambda a: a + 10**9),
    "negative positions": lambda f: f.array("positions", lambda a: a - 10**9),
    "offsets that jump back": lambda f: f.array("offsets", lambda a: np.roll(a, 1)),
    "offsets beyond the tokens": lambda f: f.array("offsets", lambda a: a * 1000),
    "a view": lambda f: f.sqlite(SELECT),
    "a view without end": lambda f: f.sqlite(RECURSIVE),
    "another table": lambda f: f.sqlite("CREATE TABLE documents (row, id, text, metadata)"),
    "no table": lambda f: f.sqlite("VACUUM"),
    "a table that is not strict": lambda f: f.sqlite(TABLE),
    "WITHOUT ROWID": lambda f: f.sqlite(TABLE + " WITHOUT ROWID"),
    "WITHOUT ROWID under our schema": lambda f: rewrite_schema(f, TABLE + " WITHOUT ROWID"),
    "a trigger": lambda f: f.sqlite(
        "CREATE TRIGGER t AFTER INSERT ON documents BEGIN SELECT 1; END", documents=f.documents()
    ),
    "one more view": lambda f: f.sqlite("CREATE VIEW v AS SELECT 1", documents=f.documents()),
    "one more index": lambda f: f.sqlite("CREATE INDEX x ON documents (text)", documents=f.documents()),
    "statistics": lambda f: f.sqlite("ANALYZE", documents=f.documents()),
    "a generated column": lambda f: f.sqlite(TABLE[:-1] + ", extra TEXT GENERATED ALWAYS AS (hex(text))) STRICT"),
    "a virtual table": lambda f: f.sqlite("CREATE VIRTUAL TABLE documents USING fts5(row, id, text, metadata)"),
    "fewer documents": lambda f: f.sqlite("DELETE FROM documents WHERE row = 1", documents=f.documents()),
    "more documents": lambda f: f.sqlite("INSERT INTO documents VALUES (500, 'x', '', '{}')", documents=f.documents()),
    "negative rows": lambda f: f.sqlite("UPDATE documents SET row = row - 2", documents=f.documents()),
    "metadata that is not JSON": lambda f: f.sqlite("UPDATE documents SET metadata = '{'", documents=f.documents()),
    "metadata that is a list": lambda f: f.sqlite("UPDATE documents SET metadata = '[]'", documents=f.documents()),
    "deep metadata": lambda f: f.sqlite(
        "UPDATE documents SET metadata = '" + "[" * 100_000 + "'", documents=f.documents()
    ),
    "a number of 5,000 digits": lambda f: f.sqlite(
        'UPDATE documents SET metadata = \'{"a": ' + "9" * 5000 + "}'", documents=f.documents()
    ),
    "text that is not UTF-8": lambda f: f.sqlite(
        "UPDATE documents SET text = CAST(x'fffe80' AS TEXT)", documents=f.documents()
    ),
    "an empty id": lambda f: f.sqlite("UPDATE documents SET id = '' WHERE row = 0", documents=f.documents()),
    "a page count of 2^31": late_page,
    "a page that is its own child": looped_pages,
    "a database of zeros": lambda f: f.put("documents", bytes(12288)),
    "a database of text": lambda f: f.put("documents", b"SQLite format 3\0" + b"x" * 9000),
    "documents that are an array": lambda f: f.put("documents", npy_header((I8, (4,))) + bytes(32)),
}
RAW: Attacks = {
    "NaN among the vectors": lambda f: f.array("vectors", lambda a: np.where(np.arange(len(a)) == 7, np.nan, a)),
    "infinity among the vectors": lambda f: f.array("vectors", lambda a: np.where(np.arange(len(a)) == 7, np.inf, a)),
    "vectors of a terabyte": huge_vectors,
}
ENCODED: Attacks = {
    "codes without centroid": lambda f: f.array("codes", lambda a: a + U2.type(60_000)),
    "NaN among the centroids": lambda f: f.array("centroids", lambda a: a * np.nan),
    "NaN among the steps": lambda f: f.array("steps", lambda a: a * np.nan),
    "a step below 0": lambda f: f.array("steps", lambda a: -np.arange(len(a), dtype=F4)),
    "a negative scale": lambda f: f.array("scales", lambda a: -a),
    "a scale of NaN": lambda f: f.array("scales", lambda a: a * F2.type(np.nan)),
    "cells that jump": lambda f: f.array("starts", lambda a: np.roll(a, 1)),
    "lists of another order": lambda f: f.array("cells", lambda a: a[::-1]),
    "lists that miss documents": lambda f: f.array("cell_documents", lambda a: a * U2.type(0)),
    "lists of documents that are not there": lambda f: f.array("cell_documents", lambda a: a + U2.type(60_000)),
    "lists beyond their end": lambda f: f.array("cell_offsets", lambda a: a * 1000),
    "deleted rows that are not there": lambda f: f.array("deleted", lambda a: a + U4.type(10**6)),
    "nbits of another codec": lambda f: f.manifest.update(nbits=2),
}


def _counts_of_0(folder: Folder) -> None:
    """The lengths agree with the counts."""
    for role in ("term_counts", "term_lengths"):
        folder.array(role, np.zeros_like)


WORDS: Attacks = {
    "terms that do not ascend": lambda f: f.array("term_spelling", lambda a: a[::-1]),
    "terms that are equal": lambda f: f.array("term_spelling", lambda a: a * 0 + U1.type(97)),
    "terms that jump back": lambda f: f.array("term_bounds", lambda a: np.roll(a, 1)),
    "terms beyond the spelling": lambda f: f.array("term_bounds", lambda a: a * 1000),
    "lists of words that jump back": lambda f: f.array("term_offsets", lambda a: np.roll(a, 1)),
    "lists of words beyond their end": lambda f: f.array("term_offsets", lambda a: a * 1000),
    "words in documents that are not there": lambda f: f.array("term_documents", lambda a: a + U2.type(60_000)),
    "words in one document alone": lambda f: f.array("term_documents", lambda a: a * U2.type(0)),
    "counts of 0": _counts_of_0,
    "counts of another length": lambda f: f.array("term_counts", lambda a: a + U1.type(1)),
    "counts that stand for more": lambda f: f.array("term_counts", lambda a: a * U1.type(0) + U1.type(255)),
    "documents without a word": lambda f: f.array("term_lengths", lambda a: a * U4.type(0)),
    "documents with 2^32 words": lambda f: f.array("term_lengths", lambda a: a * U4.type(0) - U4.type(1)),
    "fewer terms": lambda f: f.manifest["segments"][0]["words"].update(n_terms=1),
    "2^60 entries": lambda f: f.manifest["segments"][0]["words"].update(n_entries=2**60),
    "words of no tokenizer": lambda f: f.manifest.update(words=None),
    "words that version 1 does not have": lambda f: f.manifest.update(format_version=1),
}
CASES: dict[str, tuple[str, Attack]] = {
    **{f"raw: {name}": ("add", attack) for name, attack in (ANY | RAW).items()},
    **{f"encoded: {name}": ("compact", attack) for name, attack in (ANY | ENCODED | WORDS).items()},
}


MANIFESTS: dict[str, Callable[[Folder], bytes]] = {
    "a pickle": lambda f: pickle.dumps(Payload(f.canary)),
    "a hundred megabytes": lambda f: b"[" * (100 << 20),
    "deep": lambda f: sign(b'{"a":' * 100_000),
    "NaN": lambda f: sign(json.dumps(f.manifest).encode().replace(b'"seed": 0', b'"seed": NaN')),
    "a key twice": lambda f: sign(json.dumps(f.manifest).encode().replace(b'"seed": 0', b'"seed": 0, "seed": 0')),
    "an endless number": lambda f: sign(
        json.dumps(f.manifest).encode().replace(b'"seed": 0', b'"seed": ' + b"9" * 100_000)
    ),
}


def make(folder: Path, scenario: str) -> Folder:
    """A sound index to start from."""
    next(s for s in SCENARIOS if s.name == scenario).prepare(folder / "i")
    return Folder(folder / "i")
