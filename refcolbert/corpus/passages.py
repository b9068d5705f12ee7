"""Splitting: a document longer than the model reads -> passages that overlap, each a document of its own.

A passage's id is its document's, "@" and its number, so the same text gives the same ids; its metadata are the
document's, and `PASSAGE_OF` names the document. The title, which readers put in front of the text, stands in front of
every passage. A document that is short enough stays as it is.

Lengths are counted in words or in the tokens of a model. A word is what stands between white space, a Chinese or
Japanese character each; it is never cut, unless it has more than 40 characters.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from ..checks import check_count
from ..documents import Document
from ..errors import InvalidInput
from .readers import PASSAGE_OF

__all__ = ["split", "word_spans"]

ALONE = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # scripts that put no spaces
WORD = re.compile(rf"[{ALONE}]|[^\s{ALONE}]{{1,40}}")

Lengths = Callable[[Sequence[str]], Sequence[int]]  # words -> how much each one counts


def split(
    documents: Iterable[Document], length: int, overlap: int | None = None, lengths: Lengths | None = None
) -> Iterator[Document]:
    """Passages of at most `length` words, the last `overlap` (default: a fifth) of which begin the next one.

    `lengths` says what words count, for a length in tokens (`Encoder.token_lengths`); the title counts, too. A single
    word that is longer stands alone. Raises `InvalidInput` when the overlap leaves nothing new for a passage.
    """
    overlap = length // 5 if overlap is None else overlap
    if not 0 <= overlap < check_count(length, "passage length"):
        raise InvalidInput(f"expected an overlap from 0 to less than the {length} of a passage, found {overlap}")
    for document in documents:
        yield from _passages(document, length, overlap, lengths or _one_each)


def word_spans(text: str) -> list[tuple[int, int]]:
    """(start, end) of every word of a text."""
    return [match.span() for match in WORD.finditer(text)]


def _passages(document: Document, length: int, overlap: int, lengths: Lengths) -> Iterator[Document]:
    text = document.text or ""
    spans = word_spans(text)
    counts = list(lengths([text[start:end] for start, end in spans]))
    if sum(counts) <= length:
        yield document
        return
    lead = _words_of_title(document, spans)
    room = length - sum(counts[:lead])
    if room <= overlap:  # a title that leaves no room is no title
        lead, room = 0, length
    head = text[: spans[lead][0]]
    for i, (first, after) in enumerate(_windows(counts[lead:], room, overlap)):
        body = text[spans[lead + first][0] : spans[lead + after - 1][1]]
        yield replace(
            document,
            id=f"{document.id}@{i}",
            text=head + body,
            metadata={PASSAGE_OF: document.id, **document.metadata},
        )


def _words_of_title(document: Document, spans: Sequence[tuple[int, int]]) -> int:
    """How many words of the text are the title that a reader put in front of it."""
    title = document.metadata.get("title")
    if not isinstance(title, str) or not (document.text or "").startswith(title):
        return 0
    count = sum(end <= len(title) for _, end in spans)
    return count if count < len(spans) else 0


def _windows(counts: Sequence[int], length: int, overlap: int) -> Iterator[tuple[int, int]]:
    """Runs [first, after) of words that count at most `length`, up to `overlap` of it shared with the one before."""
    ends = np.concatenate([[0], np.cumsum(counts)])  # [n_words + 1]
    first = 0
    while True:
        after = max(int(np.searchsorted(ends, ends[first] + length, side="right")) - 1, first + 1)
        yield first, after
        if after >= len(counts):
            return
        first = max(int(np.searchsorted(ends, ends[after] - overlap)), first + 1)


def _one_each(words: Sequence[str]) -> list[int]:
    return [1] * len(words)
