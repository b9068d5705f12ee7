"""Files of documents -> `Document`s, one at a time.

    BEIR       a folder with corpus.jsonl, or that file: {"_id", "title", "text"}
    jsonl      {"id" | "_id", "text", "title"?, "metadata"?}, one object per line; other keys become metadata
    csv        a header with a column `text`, perhaps `id` and `title`; other columns become metadata: plain decimal
               numbers as numbers, other fields as text, empty ones not at all
    tsv        id <tab> text, or text alone, one document per line
    markdown   one document per heading (`markdown`): its id ends in #anchor, its title is the path of headings
    text       one document, the whole file
    folder     all Markdown and text files below it, else all JSONL, CSV and TSV files; hidden files are left out. A
               warning counts JSONL, CSV and TSV files that are left out

The ending of a file's name says its layout (FORMATS); a file with the ending .gz is decompressed. A document without an
id is named by file and line, a whole file by its path in the folder. A title is put in front of the text. An error
names the file and line that cannot be read; no document is skipped.
"""

import csv
import gzip
import io
import json
import logging
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePath
from typing import Any, BinaryIO, cast

from ..documents import Document
from ..errors import InvalidInput
from .markdown import Section, front_matter, sections

__all__ = [
    "FORMATS",
    "PASSAGE_OF",
    "cut_jsonl",
    "document_files",
    "read_documents",
    "read_files",
    "read_jsonl",
    "read_jsonl_part",
    "read_lines",
    "read_stream",
]

log = logging.getLogger("refcolbert")

FORMATS = {
    "jsonl": (".jsonl", ".ndjson"),
    "csv": (".csv",),
    "tsv": (".tsv",),
    "markdown": (".md", ".markdown"),
    "text": (".txt", ".rst"),
}
WHOLE = ("markdown", "text")  # formats in which a file is a document
NOT_METADATA = ("_id", "id", "title", "text")  # fields of a record
PASSAGE_OF = "passage_of"  # metadata of a passage: the id of its document
# A code with leading zeros is text, and an integer of more digits, which SQLite may not hold.
INTEGER, FRACTION = re.compile(r"0|-?[1-9][0-9]{0,17}"), re.compile(r"-?(0|[1-9][0-9]{0,17})\.[0-9]+")

Lines = Iterator[tuple[str, str]]  # ("file:line", line)
File = tuple[Path, str, str]  # path, the name in ids and errors, layout


def read_documents(path: str | Path, layout: str | None = None) -> Iterator[Document]:
    r"""Return the documents of a file or folder, in file order (a folder's files sorted by path).

        path    a file, or a folder of files
        layout  one of FORMATS for a single file; None: the ending of its name says it

    Raises `InvalidInput` for a path without documents, and while reading for a line that cannot be read. An example:

        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = Path(folder, "pets.tsv").write_text("d1\tCats sleep.\nd2\tDogs bark.\n")
        ...     [(document.id, document.text) for document in read_documents(folder)]
        [('d1', 'Cats sleep.'), ('d2', 'Dogs bark.')]
    """
    return read_files(document_files(path, layout))


def document_files(path: str | Path, layout: str | None = None) -> list[File]:
    """Return the files that `read_documents` reads, for `read_files`. Logs a warning if it leaves out some of a folder.

    Raises `InvalidInput` for a path without documents.
    """
    path = Path(path)
    corpora = [path / name for name in ("corpus.jsonl", "corpus.jsonl.gz") if (path / name).is_file()]
    if corpora:
        path = corpora[0]
    if path.is_dir():
        return _files(path)
    if not path.is_file():
        raise InvalidInput(f"{path}: expected a file ending in {_endings()}, or a folder, found no such file")
    layout = layout or _format(path)
    if layout is None:
        raise InvalidInput(f"{path}: expected a file ending in {_endings()}, or a folder")
    return [(path, path.name, layout)]


def read_files(files: Iterable[File]) -> Iterator[Document]:
    """Yield the documents of files. Raises `InvalidInput` for a line that cannot be read."""
    for path, name, layout in files:
        with _opened(path) as stream:
            yield from read_stream(stream, layout, name)


def read_stream(stream: BinaryIO, layout: str, name: str = "stdin") -> Iterator[Document]:
    r"""Return the documents of an open binary file in one of the FORMATS; `name` appears in ids and errors.

    An example:

        >>> import io
        >>> [document.id for document in read_stream(io.BytesIO(b"Cats sleep.\nDogs bark.\n"), "tsv")]
        ['stdin:1', 'stdin:2']
    """
    if layout not in READERS:
        raise InvalidInput(f"{name}: expected one of the formats {', '.join(READERS)}, found {layout!r}")
    return READERS[layout](stream, name)


def read_jsonl(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield ("file:line", object) for each line that is not blank. Raises `InvalidInput` with file and line."""
    return _objects(read_lines(path))


def cut_jsonl(path: Path, size: int) -> Iterator[tuple[int, int, int]]:
    """Yield (first byte, number of bytes, number of the first line) of parts of a file of about `size` bytes.

    Each part ends with a line. The file is read once, because only its lines say where a part ends.
    """
    first, line = 0, 1
    with _opened(path) as stream:
        while part := stream.read(size) + stream.readline():
            yield first, len(part), line
            first, line = first + len(part), line + part.count(b"\n")


def read_jsonl_part(path: Path, name: str, first: int, n_bytes: int, line: int) -> Iterator[Document]:
    """Yield the documents of one part of a JSONL file, as `cut_jsonl` describes it."""
    with _opened(path) as stream:
        stream.seek(first)
        yield from _jsonl(io.BytesIO(stream.read(n_bytes)), name, line)


def read_lines(path: Path) -> Lines:
    """Yield ("file:line", line without its end) for each line that is not blank. Raises `InvalidInput` with both."""
    with _opened(path) as stream:
        yield from _lines(stream, path.name)


def _opened(path: Path) -> BinaryIO:
    try:
        stream = gzip.open(path, "rb") if path.suffix.lower() == ".gz" else path.open("rb")  # noqa: SIM115 - callers close
        return cast("BinaryIO", stream)
    except OSError as error:
        raise InvalidInput(f"{path}: cannot be read: {error.strerror}") from error


def _format(path: PurePath) -> str | None:
    """Return the layout that a file's name says, None for an unknown ending."""
    return next((name for name, endings in FORMATS.items() if _ending(path) in endings), None)


def _ending(path: PurePath) -> str:
    return PurePath(path.stem if path.suffix.lower() == ".gz" else path).suffix.lower()


def _endings() -> str:
    return ", ".join(ending for endings in FORMATS.values() for ending in endings)


def _files(folder: Path) -> list[File]:
    """Return the files below a folder that are documents, or, without any, the files that hold documents."""
    visible = (p for p in folder.rglob("*") if not any(part.startswith(".") for part in p.relative_to(folder).parts))
    named = [(p, p.relative_to(folder).as_posix(), _format(p)) for p in sorted(visible) if p.is_file()]
    files = [(p, name, layout) for p, name, layout in named if layout is not None]
    if not files:
        raise InvalidInput(f"{folder}: expected corpus.jsonl or files ending in {_endings()}, found none")
    whole = [file for file in files if file[2] in WHOLE]
    rest = Counter(_ending(p) for p, _, layout in files if layout not in WHOLE)
    if whole and rest:
        log.warning(
            "%s: found Markdown and text files (%d), which are read, and left out files ending in %s; name such a file "
            "itself to read it",
            folder,
            len(whole),
            ", ".join(f"{ending} ({n})" for ending, n in sorted(rest.items())),
        )
    return whole or files


# ---- layouts: an open file and its name -> documents


def _jsonl(stream: BinaryIO, name: str, first: int = 1) -> Iterator[Document]:
    for where, record in _objects(_lines(stream, name, first)):
        metadata = record.pop("metadata", None)
        if metadata is not None and not isinstance(metadata, dict):
            raise InvalidInput(f"{where}: expected an object as 'metadata', found {type(metadata).__name__}")
        yield _document(where, record, metadata or {})


def _csv(stream: BinaryIO, name: str) -> Iterator[Document]:
    """Yield one document per row; an empty field counts as none."""
    reader = csv.reader(_decoded(stream, name), strict=True)
    header = _row(reader, name)
    if header is None:
        return
    if "text" not in header or len(set(header)) != len(header):
        raise InvalidInput(f"{name}:1: expected a header of different names, 'text' among them, found {header}")
    while (row := _row(reader, name)) is not None:
        where = f"{name}:{reader.line_num}"
        if row and len(row) != len(header):
            raise InvalidInput(f"{where}: expected {len(header)} fields as in the header, found {len(row)}")
        if row:
            fields = dict(zip(header, row, strict=True))
            known = {key: fields.pop(key) or None for key in NOT_METADATA if key in fields}
            known |= {"text": known["text"] or "", "title": known.get("title") or ""}
            yield _document(where, known, {key: _number(key, field) for key, field in fields.items() if field})


def _number(key: str, field: str) -> int | float | str:
    """Return a field of CSV as a number if it is a plain decimal one. A group is named by text, as ids are."""
    if key != PASSAGE_OF and INTEGER.fullmatch(field):
        return int(field)
    return float(field) if key != PASSAGE_OF and FRACTION.fullmatch(field) else field


def _row(reader: Any, name: str) -> list[str] | None:
    try:
        return next(reader, None)
    except csv.Error as error:
        raise InvalidInput(f"{name}:{reader.line_num}: not CSV: {error}") from error


def _tsv(stream: BinaryIO, name: str) -> Iterator[Document]:
    for where, line in _lines(stream, name):
        first, tab, text = line.partition("\t")
        yield Document(id=first, text=text) if tab else Document(id=where, text=line)


def _text(stream: BinaryIO, name: str) -> Iterator[Document]:
    yield Document(id=name, text="".join(_decoded(stream, name)))


def _markdown(stream: BinaryIO, name: str) -> Iterator[Document]:
    """Yield one document per section; its title is the path of headings, below the title of the front matter."""
    fields, text = front_matter("".join(_decoded(stream, name)))
    root = str(fields.get("title") or "")
    parts = sections(text)
    # One section is the whole file: its id needs no anchor. A text without a heading stays as it is, white space too.
    if len(parts) < 2:
        path = parts[0].path if parts else ()
        parts = [Section(path=path, anchor="", body=parts[0].body if path else text)]
    for section in parts:
        path = section.path if section.path[:1] == (root,) or not root else (root, *section.path)
        title = " > ".join(path)
        yield Document(
            id=f"{name}#{section.anchor}" if section.anchor else name,
            text="\n\n".join(part for part in (title, section.body) if part),
            metadata={
                **fields,
                **({"title": title} if title else {}),
                **({PASSAGE_OF: name} if len(parts) > 1 else {}),
            },
        )


READERS: dict[str, Callable[[BinaryIO, str], Iterator[Document]]] = {
    "jsonl": _jsonl,
    "csv": _csv,
    "tsv": _tsv,
    "markdown": _markdown,
    "text": _text,
}


def _document(where: str, record: dict[str, Any], metadata: dict[str, Any]) -> Document:
    """Return a record as a document: "text", perhaps "id" or "_id" and "title"; its other fields are metadata."""
    name = record.pop("_id", None)
    name = record.pop("id", name)
    title, text = record.pop("title", ""), record.pop("text", None)
    if not isinstance(text, str) or not isinstance(title, str) or isinstance(name, bool | float | list | dict):
        types = {key: type(value).__name__ for key, value in (("text", text), ("title", title), ("id", name))}
        raise InvalidInput(f"{where}: expected string 'text' (and 'title') and a string or integer id, found {types}")
    return Document(
        id=where if name is None else str(name),
        text=f"{title} {text}".strip() if title else text,
        metadata={**({"title": title} if title else {}), **record, **metadata},
    )


# ---- lines


def _objects(lines: Lines) -> Iterator[tuple[str, dict[str, Any]]]:
    for where, line in lines:
        try:
            parsed = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InvalidInput(f"{where}: not JSON: {error}") from error
        if not isinstance(parsed, dict):
            raise InvalidInput(f"{where}: expected one JSON object, found {type(parsed).__name__}")
        yield where, parsed


def _lines(stream: BinaryIO, name: str, first: int = 1) -> Lines:
    for number, line in enumerate(_decoded(stream, name, first), start=first):
        if line.strip():
            yield f"{name}:{number}", line.rstrip("\r\n")


def _decoded(stream: BinaryIO, name: str, first: int = 1) -> Iterator[str]:
    r"""Yield the lines of a UTF-8 file from number `first` on, each with its end; only "\n" ends a line."""
    number = 0
    try:
        for number, raw in enumerate(stream, start=first):
            yield raw.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{name}:{number}: not UTF-8: {error}; convert the file to UTF-8") from error
    # EOFError and zlib.error come from a damaged .gz file.
    except (OSError, EOFError, zlib.error) as error:
        raise InvalidInput(f"{name}: cannot be read after line {number}: {error}") from error
