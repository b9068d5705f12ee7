"""Files of documents -> `Document`s, one at a time.

    BEIR       a folder with corpus.jsonl, or that file: {"_id", "title", "text"}
    jsonl      {"id" | "_id", "text", "title"?, "metadata"?}, one object per line; other keys become metadata
    json       an array of such objects, an object with one array of them, or one such object
    csv        a header with a column `text`, perhaps `id` and `title`; other columns become metadata: plain decimal
               numbers as numbers, other fields as text, empty ones not at all
    parquet    the same columns; missing values are left out
    arrow      the same, also as Hugging Face's `datasets` writes them
    tsv        id <tab> text, or text alone, one document per line
    markdown   one document per heading (`markdown`): its id ends in #anchor, its title is the path of headings
    html       the same (`pages`)
    pdf        one document per page that has text: its id ends in #page=3
    code       one document per function, method and class (`source_code`): its id ends in #name
    text       one document, the whole file
    folder     all these files below it. A warning counts the files that are left out: hidden ones, those in a
               .gitignore, unknown endings, and files of records without a text

The ending of a file's name says its layout (FORMATS); a file with the ending .gz is decompressed. `Fields` names the
fields of text and id. A document without an id is named by file and line (or number of the record), a whole file by
its path in the folder. A title is put in front of the text. An error names the file and line that cannot be read; no
document is skipped. The layouts in LIBRARIES need packages of the extra `files`.
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
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path, PurePath
from typing import Any, BinaryIO, cast

from ..documents import Document, records
from ..errors import InvalidInput, MissingDependency, MissingField
from . import source_code
from .folders import EXTRA, visible_files
from .markdown import Section, front_matter, sections
from .pages import html_sections, pdf_pages
from .tables import arrow_tables, parquet_tables

__all__ = [
    "FORMATS",
    "PASSAGE_OF",
    "Fields",
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
    "json": (".json",),
    "csv": (".csv",),
    "tsv": (".tsv",),
    "parquet": (".parquet",),
    "arrow": (".arrow",),
    "markdown": (".md", ".markdown"),
    "text": (".txt", ".rst"),
    "html": (".html", ".htm"),
    "pdf": (".pdf",),
    "code": source_code.ENDINGS,
}
LIBRARIES = {
    "parquet": ("pyarrow",),
    "arrow": ("pyarrow",),
    "html": ("bs4",),
    "pdf": ("pypdf",),
    "code": source_code.LIBRARIES,
}
PASSAGE_OF = "passage_of"  # metadata of a passage: the id of its document
# A code with leading zeros is text, and an integer of more digits, which SQLite may not hold.
INTEGER, FRACTION = re.compile(r"0|-?[1-9][0-9]{0,17}"), re.compile(r"-?(0|[1-9][0-9]{0,17})\.[0-9]+")


@dataclass(frozen=True, slots=True)
class Fields:
    """The fields of a record that are its text and its id."""

    text: str = "text"
    id: str | None = None  # None: "id" or "_id", if there is one

    def check(self, where: str, names: Iterable[str]) -> None:
        """Raise `MissingField` without the field of the text, `InvalidInput` without a named field of ids."""
        for field, option, error in ((self.text, "text", MissingField), (self.id, "id", InvalidInput)):
            if field is not None and field not in names:
                raise error(
                    f"{where}: expected a field {field!r}, found {list(names)}; name the field of the {option} with "
                    f"--{option}-field (in Python {option}_field=)"
                )


PLAIN = Fields()

Lines = Iterator[tuple[str, str]]  # ("file:line", line)
File = tuple[Path, str, str]  # path, the name in ids and errors, layout


def read_documents(
    path: str | Path, layout: str | None = None, *, text_field: str = "text", id_field: str | None = None
) -> Iterator[Document]:
    r"""Return the documents of a file or folder, in file order (a folder's files sorted by path).

        path        a file, or a folder of files
        layout      one of FORMATS for a single file; None: the ending of its name says it
        text_field  the field or column of JSONL, JSON, CSV, Parquet and Arrow files that is the text
        id_field    that of the id; None: "id" or "_id", if there is one

    Raises `InvalidInput` for a path without documents, and while reading for a line that cannot be read;
    `MissingDependency` for a layout that needs the extra `files`. An example:

        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = Path(folder, "pets.tsv").write_text("d1\tCats sleep.\nd2\tDogs bark.\n")
        ...     [(document.id, document.text) for document in read_documents(folder)]
        [('d1', 'Cats sleep.'), ('d2', 'Dogs bark.')]
    """
    fields = Fields(text_field, id_field)
    return read_files(document_files(path, layout, fields), fields)


def document_files(
    path: str | Path, layout: str | None = None, fields: Fields = PLAIN, *, complete: bool = False
) -> list[File]:
    """Return the files that `read_documents` reads, for `read_files`. Logs a warning if it leaves out some of a folder.

    With `complete`, a file of a folder whose library is not installed raises `MissingDependency` instead: for a caller
    that takes a document that is left out for one that was removed. Raises `InvalidInput` for a path without documents.
    """
    path = Path(path)
    corpora = [path / name for name in ("corpus.jsonl", "corpus.jsonl.gz") if (path / name).is_file()]
    if corpora:
        path = corpora[0]
    if path.is_dir():
        return _files(path, fields, complete)
    if not path.is_file():
        raise InvalidInput(f"{path}: expected a file ending in {_endings()}, or a folder, found no such file")
    layout = layout or _format(path)
    if layout is None:
        raise InvalidInput(f"{path}: expected a file ending in {_endings()}, or a folder")
    _check_library(layout, path.name)
    return [(path, path.name, layout)]


def read_files(files: Iterable[File], fields: Fields = PLAIN) -> Iterator[Document]:
    """Yield the documents of files. Raises `InvalidInput` for a line that cannot be read."""
    for path, name, layout in files:
        with _opened(path) as stream:
            yield from read_stream(stream, layout, name, fields)


def read_stream(stream: BinaryIO, layout: str, name: str = "stdin", fields: Fields = PLAIN) -> Iterator[Document]:
    r"""Return the documents of an open binary file in one of the FORMATS; `name` appears in ids and errors.

    An example:

        >>> import io
        >>> [document.id for document in read_stream(io.BytesIO(b"Cats sleep.\nDogs bark.\n"), "tsv")]
        ['stdin:1', 'stdin:2']
    """
    if layout not in FORMATS:
        raise InvalidInput(f"{name}: expected one of the formats {', '.join(FORMATS)}, found {layout!r}")
    _check_library(layout, name)
    return RECORDS[layout](stream, name, fields) if layout in RECORDS else WHOLE[layout](stream, name)


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


def read_jsonl_part(
    path: Path, name: str, first: int, n_bytes: int, line: int, fields: Fields = PLAIN
) -> Iterator[Document]:
    """Yield the documents of one part of a JSONL file, as `cut_jsonl` describes it."""
    with _opened(path) as stream:
        stream.seek(first)
        yield from _jsonl(io.BytesIO(stream.read(n_bytes)), name, fields, line)


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
    names = [ending for layout, endings in FORMATS.items() for ending in endings if layout != "code"]
    return f"{', '.join(names)} or of source code"


def _check_library(layout: str, name: str) -> None:
    missing = [library for library in LIBRARIES.get(layout, ()) if not find_spec(library)]
    if missing:
        raise MissingDependency(f"{name}: reading {layout} needs {', '.join(missing)}, found none: {EXTRA}")


def _files(folder: Path, fields: Fields, complete: bool) -> list[File]:
    """Return the files below a folder that are documents or hold documents, and warn of all others."""
    left_out: Counter[str] = Counter()
    files: list[File] = []
    problem = InvalidInput(f"{folder}: expected corpus.jsonl or files ending in {_endings()}, found none")
    for path in visible_files(folder, left_out):
        name, layout, ending = path.relative_to(folder).as_posix(), _format(path), _ending(path)
        try:
            if layout is None:
                left_out[ending or "without an ending"] += 1
                continue
            _check_library(layout, name)
            if layout in RECORDS:
                next(read_files([(path, name, layout)], fields), None)
            files.append((path, name, layout))
        except MissingField as error:
            problem = error
            left_out[f"{ending} without a field {fields.text!r}"] += 1
        except MissingDependency:
            if complete:
                raise
            left_out[f"{ending}, which is read after {EXTRA}"] += 1
    if left_out:
        log.warning("%s: left out %s", folder, ", ".join(f"{kind} ({n})" for kind, n in sorted(left_out.items())))
    if not files:
        raise problem
    return files


# ---- layouts: an open file and its name -> documents


def _jsonl(stream: BinaryIO, name: str, fields: Fields = PLAIN, first: int = 1) -> Iterator[Document]:
    for where, record in _objects(_lines(stream, name, first)):
        fields.check(where, record)
        yield _document(where, record, fields)


def _json(stream: BinaryIO, name: str, fields: Fields) -> Iterator[Document]:
    """Yield one document per object of the array. Raises `MissingField` for other content, such as settings.

    Settings have comments in places. An array that is not JSON is damaged data, for `InvalidInput`.
    """
    text = "".join(_decoded(stream, name))
    try:
        found = whole = json.loads(text)
    except (ValueError, RecursionError) as error:
        problem = InvalidInput if text.lstrip().startswith("[") else MissingField
        raise problem(f"{name}: not JSON: {error}; correct it") from error
    if isinstance(whole, dict):
        arrays = [value for value in whole.values() if isinstance(value, list)]
        found = [whole] if fields.text in whole else arrays[0] if len(arrays) == 1 else None
    if not isinstance(found, list) or not all(isinstance(record, dict) for record in found):
        shape = f"an object of {list(whole)}" if isinstance(whole, dict) else type(whole).__name__
        raise MissingField(f"{name}: expected an array of objects, or an object with one such array, found {shape}")
    for number, record in enumerate(found, start=1):
        fields.check(f"{name}:{number}", record)
        yield _document(f"{name}:{number}", record, fields)


def _csv(stream: BinaryIO, name: str, fields: Fields) -> Iterator[Document]:
    """Yield one document per row; an empty field counts as none."""
    reader = csv.reader(_decoded(stream, name), strict=True)
    header = _row(reader, name)
    if header is None:
        return
    fields.check(f"{name}:1", header)
    if len(set(header)) != len(header):
        raise InvalidInput(f"{name}:1: expected a header of different names, found {header}; rename one")
    texts = {fields.text, fields.id, "_id", "id", "title"}
    while (row := _row(reader, name)) is not None:
        where = f"{name}:{reader.line_num}"
        if row and len(row) != len(header):
            raise InvalidInput(f"{where}: expected {len(header)} fields as in the header, found {len(row)}")
        if row:
            cells = {key: cell if key in texts else _number(key, cell) for key, cell in zip(header, row, strict=True)}
            record: dict[str, Any] = {key: cell for key, cell in cells.items() if cell != ""}
            # A column of this name is a field like others.
            if "metadata" in record:
                record["metadata"] = {"metadata": record["metadata"]}
            yield _document(where, {fields.text: "", **record}, fields)


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
    return _sections(name, root, parts, fields)


def _html(stream: BinaryIO, name: str) -> Iterator[Document]:
    title, parts = html_sections(stream.read(), name)
    if not parts and title:
        parts = [Section(path=(), anchor="", body="")]
    if not parts:
        log.warning("%s: found no text on the page, which is left out", name)
    return _sections(name, title, _without_anchor(parts), {})


def _pdf(stream: BinaryIO, name: str) -> Iterator[Document]:
    title, parts = pdf_pages(stream, name)
    if not parts:
        log.warning("%s: found no text on its pages, which is left out; if they are pictures, run OCR on it", name)
    return _sections(name, title, parts, {})


def _code(stream: BinaryIO, name: str) -> Iterator[Document]:
    parts = source_code.definitions("".join(_decoded(stream, name)).replace("\r\n", "\n"), _ending(PurePath(name)))
    return _sections(name, name, _without_anchor(parts), {})


def _without_anchor(parts: list[Section]) -> list[Section]:
    """Return the sections. One section is the whole file: its id needs no anchor."""
    return parts if len(parts) > 1 else [replace(part, anchor="") for part in parts]


def _sections(name: str, root: str, parts: list[Section], metadata: dict[str, Any]) -> Iterator[Document]:
    """Yield the sections of a file as documents; `root` is the title above their paths."""
    for section in parts:
        path = section.path if section.path[:1] == (root,) or not root else (root, *section.path)
        title = " > ".join(path)
        yield Document(
            id=f"{name}#{section.anchor}" if section.anchor else name,
            text="\n\n".join(part for part in (title, section.body) if part),
            metadata={
                **metadata,
                **section.metadata,
                **({"title": title} if title else {}),
                **({PASSAGE_OF: name} if len(parts) > 1 else {}),
            },
        )


def _parquet(stream: BinaryIO, name: str, fields: Fields) -> Iterator[Document]:
    return _rows(parquet_tables(stream, name), name, fields)


def _arrow(stream: BinaryIO, name: str, fields: Fields) -> Iterator[Document]:
    return _rows(arrow_tables(stream, name), name, fields)


def _rows(tables: Iterable[Any], name: str, fields: Fields) -> Iterator[Document]:
    """Yield the rows of Arrow tables as documents."""
    number = 0
    try:
        for table in tables:
            fields.check(name, table.column_names)
            for row in records(table, need_text=False):
                number += 1
                metadata = row.pop("metadata")
                record = {key: value for key, value in {**metadata, **row}.items() if value is not None}
                yield _document(f"{name}:{number}", record, fields)
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{name}: a column's name is not UTF-8: {error}; write the file again") from error


RECORDS: dict[str, Callable[[BinaryIO, str, Fields], Iterator[Document]]] = {
    "jsonl": _jsonl,
    "json": _json,
    "csv": _csv,
    "parquet": _parquet,
    "arrow": _arrow,
}
WHOLE: dict[str, Callable[[BinaryIO, str], Iterator[Document]]] = {
    "tsv": _tsv,
    "markdown": _markdown,
    "html": _html,
    "pdf": _pdf,
    "code": _code,
    "text": _text,
}


def _document(where: str, record: dict[str, Any], fields: Fields) -> Document:
    """Return a record as a document: text, perhaps id, "title" and "metadata"; its other fields are metadata."""
    text, name = record.pop(fields.text, None), None
    for key in (fields.id,) if fields.id else ("_id", "id"):
        name = record.pop(key, name)
    title = record.pop("title", "")
    if not isinstance(text, str) or not isinstance(title, str) or isinstance(name, bool | float | list | dict):
        types = {key: type(value).__name__ for key, value in ((fields.text, text), ("title", title), ("id", name))}
        raise InvalidInput(
            f"{where}: expected string {fields.text!r} (and 'title') and a string or integer id, found {types}"
        )
    metadata = record.pop("metadata", None)
    if metadata is not None and not isinstance(metadata, dict):
        raise InvalidInput(f"{where}: expected an object as 'metadata', found {type(metadata).__name__}")
    return Document(
        id=where if name is None else str(name),
        text=f"{title} {text}".strip() if title else text,
        metadata={**({"title": title} if title else {}), **record, **(metadata or {})},
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
