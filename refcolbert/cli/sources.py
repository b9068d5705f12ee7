"""Where documents come from on the command line: files, folders and stdin, cut into passages where asked."""

import sys
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

import click

from ..corpus.passages import split, word_spans
from ..corpus.readers import FORMATS, read_documents, read_stream
from ..documents import Document
from ..encoding.encoder import Encoder

__all__ = ["documents_of", "read_sources", "takes_documents"]

Command = TypeVar("Command", bound=Callable[..., Any])
Reader = Callable[[], Iterator[Document]]

STDIN = Path("-")
TOKENS = "tokens"


def _length(ctx: click.Context, param: click.Parameter, value: str | None) -> int | str | None:
    """How long a passage is: a number of words, or "tokens"."""
    if value is None or value == TOKENS:
        return value
    if not value.isdecimal() or int(value) < 1:
        raise click.BadParameter(f"expected a number of words or {TOKENS!r}, found {value!r}", ctx, param)
    return int(value)


def takes_documents(command: Command) -> Command:
    """Give a verb the argument DOCUMENTS and what says how they are read."""
    for option in (
        click.option("--overlap", type=click.IntRange(0), help="Of a passage with the next one; default: a fifth."),
        click.option(
            "--passages",
            metavar=f"WORDS|{TOKENS}",
            callback=_length,
            help="Split longer documents into passages of so many words, or of as many tokens as the model reads.",
        ),
        click.option(
            "--format", "layout", type=click.Choice(list(FORMATS)), help="Of stdin, and of files, whatever their names."
        ),
        click.argument(
            "documents", nargs=-1, required=True, type=click.Path(exists=True, allow_dash=True, path_type=Path)
        ),
    ):
        command = option(command)
    return command


def read_sources(sources: tuple[Path, ...], layout: str | None = None) -> Iterator[Document]:
    """The documents of all sources, one after the other; "-" is stdin, whose layout must be said."""
    if STDIN in sources and layout is None:
        raise click.UsageError("stdin has no name that tells its layout: say --format")
    return chain.from_iterable(_read(source, layout) for source in sources)


def documents_of(
    sources: tuple[Path, ...], layout: str | None, passages: int | str | None, overlap: int | None, encoder: Encoder
) -> Iterable[Document]:
    """The documents as they are indexed; read once before, but for stdin, so that they are sound and counted.

    Says on stderr how many are too long for the model, whose ends nobody would find.
    """
    if overlap is not None and passages is None:
        raise click.UsageError("--overlap is one of --passages")
    read = partial(_cut, sources, layout, passages, overlap, encoder)
    return read() if STDIN in sources else _Counted(read, encoder.tokenizer.document_room)


class _Counted:
    """Documents that can be read again, and their number."""

    def __init__(self, read: Reader, room: int) -> None:
        self._read, self._n_docs, too_long = read, 0, 0
        for document in read():
            self._n_docs += 1
            too_long += len(word_spans(document.text or "")) > room
        if too_long:
            click.echo(
                f"note: {too_long:,} of {self._n_docs:,} documents have more words than the {room} tokens that the "
                "model reads, and are found by their beginning only; --passages splits them",
                err=True,
            )

    def __len__(self) -> int:
        return self._n_docs

    def __iter__(self) -> Iterator[Document]:
        return self._read()


def _cut(
    sources: tuple[Path, ...], layout: str | None, passages: int | str | None, overlap: int | None, encoder: Encoder
) -> Iterator[Document]:
    documents = read_sources(sources, layout)
    if passages is None:
        return documents
    if isinstance(passages, int):
        return split(documents, passages, overlap)
    return split(documents, encoder.tokenizer.document_room, overlap, encoder.tokenizer.lengths)


def _read(source: Path, layout: str | None) -> Iterator[Document]:
    if source == STDIN and layout is not None:
        return read_stream(sys.stdin.buffer, layout)
    return read_documents(source, layout)
