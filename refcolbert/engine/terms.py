"""Inverted lists of words: for each term, the documents whose texts have it, and how often.

A term is a word as a full-text tokenizer leaves it: in lower case, and often only its stem. Terms are bytes of UTF-8,
and they ascend. A worked example, two documents and their lists:

    document 0   "cat dog cat"        spelling   c a t d o g        all terms, one after the other
    document 1   "dog"                bounds     0     3     6      term 0 is spelling[0:3], term 1 is spelling[3:6]
                                      offsets    0  1     3         list of term 0: entries 0 to 1; of term 1: 1 to 3
                                      documents  0  0 1             the entries: each document once per term
                                      counts     2  1 1             how often it has the term, at most MAX_COUNT
                                      lengths    3 1                number of words of each document
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..arrays import Bools, Bytes, Ints
from ..errors import CorruptIndexError
from .ivf import merge_lists
from .ragged import offsets_of

__all__ = ["MAX_COUNT", "TermLists", "build", "join", "one_edit_away"]

LETTERS = b"abcdefghijklmnopqrstuvwxyz"
MAX_COUNT = 255  # one byte. By then the weight of a term has nearly reached its limit (`bm25`)


@dataclass(frozen=True, slots=True, eq=False)
class TermLists:
    """List t holds documents[offsets[t] : offsets[t + 1]]: the documents with term t."""

    spelling: Bytes  # [n_bytes] the terms in UTF-8
    bounds: Ints  # [n_terms + 1] into `spelling`
    offsets: Ints  # [n_terms + 1] into `documents` and `counts`
    documents: NDArray[Any]  # [n_entries] uint16 or uint32; each list ascending, without repetition
    counts: Bytes  # [n_entries] 1 to MAX_COUNT
    lengths: NDArray[np.uint32]  # [n_docs] number of words, repetitions included; 0 without a text

    def __len__(self) -> int:
        return len(self.bounds) - 1

    def terms(self) -> list[bytes]:
        """Return the spelling of every term, ascending."""
        spelling, bounds = self.spelling.tobytes(), self.bounds.tolist()
        return [spelling[first:last] for first, last in pairwise(bounds)]

    def entries(self, term: bytes) -> tuple[NDArray[Any], Bytes]:
        """Return the documents with a term, ascending, and their counts: [n] each. Both are empty if none has it.

        Raises `CorruptIndexError` for a document that is not there: opening an index does not read every list.
        """
        # Views, because one element of an array costs several times as much as one of a view.
        spelling, bounds = memoryview(self.spelling), memoryview(self.bounds)  # type: ignore[arg-type]

        def spelled(number: int) -> bytes:
            return bytes(spelling[bounds[number] : bounds[number + 1]])

        number = bisect_left(range(len(self)), term, key=spelled)
        if number == len(self) or spelled(number) != term:
            return self.documents[:0], self.counts[:0]
        part = slice(int(self.offsets[number]), int(self.offsets[number + 1]))
        documents = self.documents[part]
        if documents.max() >= len(self.lengths):
            raise CorruptIndexError(
                f"term {number}: expected documents below {len(self.lengths)}, found {documents.max()}; check() names "
                "the damaged file"
            )
        return documents, self.counts[part]


def build(entries: Iterable[tuple[bytes, int, int]], n_docs: int) -> TermLists:
    """Return the lists of `n_docs` documents.

    entries  (term, document, count) of each term of each document, ascending by term, then by document

    >>> lists = build([(b"cat", 0, 2), (b"dog", 0, 1), (b"dog", 1, 1)], 2)
    >>> lists.terms(), lists.offsets.tolist(), lists.documents.tolist(), lists.lengths.tolist()
    ([b'cat', b'dog'], [0, 1, 3], [0, 0, 1], [3, 1])
    >>> lists.entries(b"dog")[0].tolist(), lists.entries(b"fish")[0].tolist()
    ([0, 1], [])
    """
    terms: list[bytes] = []
    firsts: list[int] = []
    documents: list[int] = []
    counts: list[int] = []
    for term, document, count in entries:
        if not terms or terms[-1] != term:
            terms.append(term)
            firsts.append(len(documents))
        documents.append(document)
        counts.append(count)
    return TermLists(
        spelling=np.frombuffer(b"".join(terms), np.uint8),
        bounds=offsets_of([len(term) for term in terms]),
        offsets=np.array([*firsts, len(documents)], np.int64),
        documents=np.array(documents, np.uint32),
        counts=np.minimum(np.array(counts, np.int64), MAX_COUNT).astype(np.uint8),
        lengths=np.bincount(np.array(documents, np.int64), counts, minlength=n_docs).astype(np.uint32),
    )


def one_edit_away(term: bytes) -> set[bytes]:
    """Return the terms that differ from `term` by one letter: inserted, left out, replaced, or swapped with the next.

    >>> sorted(one_edit_away(b"do"))[:4], len(one_edit_away(b"do"))
    ([b'ado', b'ao', b'bdo', b'bo'], 129)
    """
    letters = [bytes([letter]) for letter in LETTERS]
    cuts = [(term[:i], term[i:]) for i in range(len(term) + 1)]
    edited = {head + letter + tail for head, tail in cuts for letter in letters}
    edited |= {head + tail[1:] for head, tail in cuts if tail}
    edited |= {head + letter + tail[1:] for head, tail in cuts if tail for letter in letters}
    edited |= {head + tail[1:2] + tail[:1] + tail[2:] for head, tail in cuts if len(tail) > 1}
    return edited - {term}


def join(parts: Sequence[tuple[TermLists, Bools]]) -> TermLists:
    """Return the lists of the live documents of all parts, numbered consecutively, part after part.

    parts  lists, and which of their documents are live: [n_docs of the part]

    They equal the lists that `build` makes of these documents alone.
    """
    lists = list(_live_lists(parts))
    terms = sorted({term for part in lists for term in part.terms()})
    number_of = {term: number for number, term in enumerate(terms)}
    numbers = [np.array([number_of[term] for term in part.terms()], np.int64) for part in lists]
    _, offsets, places = merge_lists([(n, part.offsets) for n, part in zip(numbers, lists, strict=True)])
    documents, counts = np.empty(int(offsets[-1]), np.uint32), np.empty(int(offsets[-1]), np.uint8)
    for part, place in zip(lists, places, strict=True):
        documents[place], counts[place] = part.documents, part.counts
    return TermLists(
        spelling=np.frombuffer(b"".join(terms), np.uint8),
        bounds=offsets_of([len(term) for term in terms]),
        offsets=offsets,
        documents=documents,
        counts=counts,
        lengths=np.concatenate([np.empty(0, np.uint32), *(part.lengths for part in lists)]),
    )


def _live_lists(parts: Sequence[tuple[TermLists, Bools]]) -> Iterator[TermLists]:
    """Yield the lists of the live documents of each part, by their numbers among the live documents of all parts."""
    first = 0
    for lists, live in parts:
        number = first + np.cumsum(live) - 1  # [n_docs] new number of each live document
        kept = live[lists.documents]  # [n_entries]
        # [n_terms + 1] number of kept entries before each list
        offsets = offsets_of(kept)[lists.offsets]
        used = np.flatnonzero(np.diff(offsets)).tolist()  # terms of a live document
        terms = lists.terms()
        names = [terms[number] for number in used]
        yield TermLists(
            spelling=np.frombuffer(b"".join(names), np.uint8),
            bounds=offsets_of([len(name) for name in names]),
            offsets=np.concatenate([offsets[:-1][used], offsets[-1:]]),
            documents=number[lists.documents[kept]].astype(np.uint32),
            counts=lists.counts[kept],
            lengths=lists.lengths[live],
        )
        first += int(live.sum())
