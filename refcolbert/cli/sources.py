"""The documents that verbs read: files, folders and stdin, split into passages on request."""

import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import wraps
from itertools import chain
from pathlib import Path
from typing import Any

import click
from tqdm import tqdm

from ..cluster.partitions import Passages, partitions
from ..corpus.passages import Lengths, split, word_spans
from ..corpus.readers import FORMATS, PLAIN, Fields, document_files, read_files, read_stream
from ..documents import Document
from ..encoding.encoder import Encoder
from ..errors import MissingDependency
from .options import progress

__all__ = ["Sources", "read_sources", "takes_documents"]

STDIN = Path("-")
TOKENS = "tokens"
WATCH_MILLISECONDS = 100


@dataclass(frozen=True, slots=True)
class Sources:
    """The argument DOCUMENTS with its options."""

    paths: tuple[Path, ...]
    layout: str | None
    passages: int | str | None  # words per passage, or "tokens"
    overlap: int | None
    fields: Fields

    def documents(self, encoder: Encoder, *, complete: bool = False) -> Iterable[Document]:
        """The documents to index. Files are read once before, so that errors come first and the number is known.

        `complete` is that of `document_files`.
        Prints a note if some are too long for the model: nobody would find their ends.
        """
        self._check()
        if STDIN in self.paths:
            return self._passages(read_sources(self.paths, self.layout, self.fields), encoder)
        files = [
            file for path in self.paths for file in document_files(path, self.layout, self.fields, complete=complete)
        ]
        return _Counted(lambda: self._passages(read_files(files, self.fields), encoder), encoder)

    def partitions(self, encoder: Encoder) -> list[Any]:
        """The documents to index, in partitions that other processes read."""
        self._check()
        if STDIN in self.paths:
            raise click.UsageError("expected files or folders with --workers and --dask, found -; write a file first")
        parts = partitions(self.paths, layout=self.layout, text_field=self.fields.text, id_field=self.fields.id)
        return [part if self.passages is None else Passages(part, *self._split(encoder)) for part in parts]

    def changes(self) -> Iterator[None]:
        """Yield at once, and whenever a file has changed. Raises `MissingDependency`."""
        if STDIN in self.paths:
            raise click.UsageError("expected files or folders with --watch, found -")
        try:
            from watchfiles import watch
        except ImportError as error:
            raise MissingDependency("--watch requires watchfiles: pip install 'refcolbert[files]'") from error
        # An editor replaces a file by another one, which a watch of the file itself would miss.
        paths = [path.resolve() if path.is_dir() else path.parent.resolve() / path.name for path in self.paths]
        folders = {path if path.is_dir() else path.parent for path in paths}
        deep = any(path.is_dir() for path in paths)
        # The first timeout is the first time to read: what changes during that is noticed already.
        watching = watch(*folders, recursive=deep, yield_on_timeout=True, rust_timeout=WATCH_MILLISECONDS)
        for i, changed in enumerate(watching):
            if i == 0 or any(Path(name).is_relative_to(path) for _, name in changed for path in paths):
                yield

    def _check(self) -> None:
        if self.overlap is not None and self.passages is None:
            raise click.UsageError("--overlap requires --passages")

    def _passages(self, documents: Iterator[Document], encoder: Encoder) -> Iterator[Document]:
        return documents if self.passages is None else split(documents, *self._split(encoder))

    def _split(self, encoder: Encoder) -> tuple[int, int | None, Lengths | None]:
        """The arguments of `split` after the documents."""
        if isinstance(self.passages, int):
            return self.passages, self.overlap, None
        return encoder.tokenizer.document_room, self.overlap, encoder.tokenizer.lengths


class _Counted:
    """Documents that can be read again, and their number."""

    def __init__(self, read: Callable[[], Iterator[Document]], encoder: Encoder) -> None:
        self._read, self._n_docs, too_long = read, 0, 0
        room = encoder.tokenizer.document_room
        for document in tqdm(read(), desc="read", unit="doc", leave=False, disable=not progress()):
            self._n_docs += 1
            too_long += len(word_spans(document.text or "")) > room
        if too_long:
            click.echo(
                f"note: {too_long:,} of {self._n_docs:,} documents have more words than the {room} tokens that the "
                "model reads. Searches find only their beginnings. --passages splits them",
                err=True,
            )

    def __len__(self) -> int:
        return self._n_docs

    def __iter__(self) -> Iterator[Document]:
        return self._read()


def takes_documents(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a verb the argument DOCUMENTS and its options, which it gets as one object `sources`."""

    @click.argument("documents", nargs=-1, required=True, type=click.Path(exists=True, allow_dash=True, path_type=Path))
    @click.option(
        "--format", "layout", type=click.Choice(list(FORMATS)), help="Format of DOCUMENTS, whatever their name."
    )
    @click.option(
        "--passages",
        metavar=f"WORDS|{TOKENS}",
        callback=_passage_length,
        help="Split longer documents into passages of this many words, or of as many tokens as the model reads.",
    )
    @click.option("--overlap", type=click.IntRange(0), help="Words or tokens that passages share; default: a fifth.")
    @click.option(
        "--text-field",
        default="text",
        help="Field or column that is the text, in JSONL, JSON, CSV, Parquet and Arrow files; default: text.",
    )
    @click.option("--id-field", help="Field or column that is the id; default: id or _id, if there is one.")
    @wraps(command)
    def with_sources(
        documents: tuple[Path, ...],
        layout: str | None,
        passages: int | str | None,
        overlap: int | None,
        text_field: str,
        id_field: str | None,
        **rest: Any,
    ) -> Any:
        return command(sources=Sources(documents, layout, passages, overlap, Fields(text_field, id_field)), **rest)

    return with_sources


def read_sources(sources: tuple[Path, ...], layout: str | None = None, fields: Fields = PLAIN) -> Iterator[Document]:
    """The documents of all sources, in order; "-" is stdin, which requires a layout."""
    if STDIN in sources and layout is None:
        raise click.UsageError("reading from stdin requires --format")
    return chain.from_iterable(
        read_stream(sys.stdin.buffer, layout, fields=fields)
        if source == STDIN and layout
        else read_files(document_files(source, layout, fields), fields)
        for source in sources
    )


def _passage_length(ctx: click.Context, param: click.Parameter, value: str | None) -> int | str | None:
    if value is None or value == TOKENS:
        return value
    if not value.isdecimal() or int(value) < 1:
        raise click.BadParameter(f"expected a number of words or {TOKENS!r}, found {value!r}", ctx, param)
    return int(value)
