"""Readers: files of documents in the layouts people have -> `Document`s, one at a time.

    BEIR     a folder with corpus.jsonl, or that file: {"_id", "title", "text"}
    JSONL    {"id" | "_id", "text", "title"?, "metadata"?}, one object a line; other keys become metadata
    TSV      id <tab> text a line, or text alone
    text     .txt, .md, .rst: one document a file, its path the id; a folder: every such file below it

A title goes in front of the text. What cannot be read names its file and line; nothing is skipped.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from .documents import Document
from .errors import InvalidInput

__all__ = ["read_documents", "read_jsonl", "read_lines"]

TEXT = (".txt", ".md", ".rst")


def read_documents(path: str | Path) -> Iterator[Document]:
    """Documents of a file or folder, in file order (folders sorted by path). The layout is told by name."""
    path = Path(path)
    if (path / "corpus.jsonl").is_file():
        path = path / "corpus.jsonl"
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.suffix.lower() in TEXT and p.is_file())
        if not files:
            raise InvalidInput(f"{path}: expected corpus.jsonl or files ending in {', '.join(TEXT)}, found none")
        return (_text(file, str(file.relative_to(path))) for file in files)
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise InvalidInput(f"{path}: expected a file ending in {', '.join(READERS)}, or a folder")
    if not path.is_file():
        raise InvalidInput(f"{path}: there is no such file")
    return reader(path)


def read_jsonl(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """("file:line", object) of each line that is not blank. Raises `InvalidInput` naming file and line."""
    for where, line in read_lines(path):
        try:
            parsed = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InvalidInput(f"{where}: not JSON: {error}") from error
        if not isinstance(parsed, dict):
            raise InvalidInput(f"{where}: expected one JSON object, found {type(parsed).__name__}")
        yield where, parsed


def _jsonl(path: Path) -> Iterator[Document]:
    for where, record in read_jsonl(path):
        name = record.pop("_id", None)
        name = record.pop("id", name)
        title, text, metadata = record.pop("title", ""), record.pop("text", None), record.pop("metadata", None)
        if not isinstance(text, str) or not isinstance(title, str) or isinstance(name, bool | float | list | dict):
            raise InvalidInput(f"{where}: expected string 'text' (and 'title') and a string or integer id")
        if metadata is not None and not isinstance(metadata, dict):
            raise InvalidInput(f"{where}: expected an object as 'metadata'")
        yield Document(
            id=where if name is None else str(name),
            text=f"{title} {text}".strip() if title else text,
            metadata={**({"title": title} if title else {}), **record, **(metadata or {})},
        )


def _tsv(path: Path) -> Iterator[Document]:
    for where, line in read_lines(path):
        name, tab, text = line.partition("\t")
        yield Document(id=name, text=text) if tab else Document(id=where, text=line)


def _text(path: Path, name: str) -> Document:
    try:
        return Document(id=name, text=path.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{path}: not UTF-8: {error}") from error


def read_lines(path: Path) -> Iterator[tuple[str, str]]:
    """("file:line", line without its end) of each line that is not blank; `InvalidInput` names file and line."""
    try:
        file = path.open("rb")
    except OSError as error:
        raise InvalidInput(f"{path}: cannot be read: {error.strerror}") from error
    with file:
        for number, raw in enumerate(file, start=1):
            try:
                line = raw.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
            except UnicodeDecodeError as error:
                raise InvalidInput(f"{path.name}:{number}: not UTF-8: {error}") from error
            if line.strip():
                yield f"{path.name}:{number}", line


READERS: dict[str, Callable[[Path], Iterator[Document]]] = {
    ".jsonl": _jsonl,
    ".tsv": _tsv,
    **{suffix: lambda path: iter([_text(path, path.name)]) for suffix in TEXT},
}
