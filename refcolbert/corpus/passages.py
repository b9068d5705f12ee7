"""A document that is longer than the model reads -> overlapping passages, each a document of its own.

The id of a passage is the document's id, "@" and the number of the passage, so the same text gives the same ids. Its
metadata is the document's metadata and `passage_of`, the id of the document. Readers put the title in front of a text;
every passage begins with it, too. A document that is short enough stays as it is.

Lengths are counted in words or in the tokens of a model. Words are separated by white space, and a Chinese or Japanese
character is a word. No word is cut, unless it has more than 40 characters.
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

# Scripts that put no spaces between words: each character is a word.
ALONE = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
WORD = re.compile(rf"[{ALONE}]|[^\s{ALONE}]{{1,40}}")

REMEMBERED = 100_000  # words whose lengths are kept: texts repeat most of theirs

Lengths = Callable[[Sequence[str]], Sequence[int]]  # words -> the length of each word


def split(
    documents: Iterable[Document],
    length: int,
    overlap: int | None = None,
    lengths: Lengths | None = None,
) -> Iterator[Document]:
    """Yield passages of at most `length` words; the last `overlap` words of a passage begin the next one.

        documents  short ones are yielded as they are
        length     of a passage, its title included
        overlap    0 <= overlap < length; None: a fifth of the length
        lengths    words -> the length of each word; None: 1. `encoder.tokenizer.lengths` gives lengths in tokens

    A single word that is longer than `length` is a passage. Raises `InvalidInput` for an overlap out of range.
    An example:

        >>> document = Document(id="cats", text="cats sleep all day and hunt at night")
        >>> for passage in split([document], length=5, overlap=2):
        ...     print(passage.id, passage.text)
        cats@0 cats sleep all day and
        cats@1 day and hunt at night
    """
    overlap = length // 5 if overlap is None else overlap
    if not 0 <= overlap < check_count(length, "passage length"):
        raise InvalidInput(f"overlap must be at least 0 and less than the passage length {length}, found {overlap}")
    counted = _remembering(lengths or _one_each)
    for document in documents:
        yield from _passages(document, length, overlap, counted)


def word_spans(text: str) -> list[tuple[int, int]]:
    """Return (start, end) of every word of a text."""
    return [match.span() for match in WORD.finditer(text)]


def _passages(document: Document, length: int, overlap: int, lengths: Lengths) -> Iterator[Document]:
    """Yield the passages of one document, each with the title in front."""
    text = document.text or ""
    spans = word_spans(text)
    counts = list(lengths([text[start:end] for start, end in spans]))
    if sum(counts) <= length:
        yield document
        return
    n_title = _title_words(document, spans)
    body_length = length - sum(counts[:n_title])
    # A title that leaves no place for new words would give windows that never end: the title is then ordinary text.
    if body_length <= overlap:
        n_title, body_length = 0, length
    title = text[: spans[n_title][0]]
    for i, (first, after) in enumerate(_windows(counts[n_title:], body_length, overlap)):
        body = text[spans[n_title + first][0] : spans[n_title + after - 1][1]]
        yield replace(
            document,
            id=f"{document.id}@{i}",
            text=title + body,
            metadata={PASSAGE_OF: document.id, **document.metadata},
        )


def _title_words(document: Document, spans: Sequence[tuple[int, int]]) -> int:
    """Return the number of words at the beginning of the text that are the title, put there by a reader."""
    title = document.metadata.get("title")
    if not isinstance(title, str) or not (document.text or "").startswith(title):
        return 0
    count = sum(end <= len(title) for _, end in spans)
    return count if count < len(spans) else 0


def _windows(counts: Sequence[int], length: int, overlap: int) -> Iterator[tuple[int, int]]:
    """Yield (first, after): the words of a window are first : after, together at most `length` long.

    A window shares words of up to `overlap` together with the window before it. Six words of length 1, in windows of 4
    with overlap 2, give (0, 4) and (2, 6).
    """
    ends = np.concatenate([[0], np.cumsum(counts)])  # [n_words + 1]
    first = 0
    while True:
        # A window has at least one word, even a word that is too long, and begins at least one word after the window
        # before it. Otherwise the loop would never end.
        after = max(int(np.searchsorted(ends, ends[first] + length, side="right")) - 1, first + 1)
        yield first, after
        if after >= len(counts):
            return
        first = max(int(np.searchsorted(ends, ends[after] - overlap)), first + 1)


def _remembering(lengths: Lengths) -> Lengths:
    """Return a function that asks `lengths` only for words that it has not seen lately."""
    known: dict[str, int] = {}

    def counted(words: Sequence[str]) -> list[int]:
        if len(known) > REMEMBERED:
            known.clear()
        new = [word for word in dict.fromkeys(words) if word not in known]
        known.update(zip(new, lengths(new), strict=True))
        return [known[word] for word in words]

    return counted


def _one_each(words: Sequence[str]) -> list[int]:
    return [1] * len(words)
