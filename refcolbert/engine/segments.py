"""Segments: the arrays that a search reads. All of them are immutable, so searches need no lock.

A `Segment` holds documents that were written together: their token vectors, raw or encoded, a position for each
document and a mark for each deleted one. A `SegmentedIndex` numbers the documents of its segments consecutively:

    segment 0   rows 0 1 2    documents 0 1 2
    segment 1   rows 0 1      documents 3 4          starts = [0, 3, 5]

A row, a document number and a position are three things. A row counts within a segment, a document number within one
generation. A document gets its position when it is added, and keeps it. So positions decide between equal scores.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..arrays import Bools, Bytes, Floats, Ints
from ..errors import InvalidInput
from . import ivf
from .codec import Codec, Encoded
from .ragged import Ragged, offsets_of, rows_of
from .terms import TermLists

__all__ = ["Segment", "SegmentedIndex", "largest_norm"]


PART = 1 << 11  # tokens decoded at a time for `largest_norm`: few enough to stay in the cache


@dataclass(frozen=True, slots=True, eq=False)
class Segment:
    """Documents that were written together: raw vectors, or encoded vectors with their inverted lists."""

    positions: Ints  # [n_docs] ascending; decides between equal scores
    offsets: Ints  # [n_docs + 1] into the token arrays
    live: Bools  # [n_docs] False once deleted
    largest_norm: float  # no vector is longer
    raw: NDArray[Any] | None  # [n_tokens, dim] float16 or float32
    encoded: Encoded | None  # in place of `raw`
    lists: ivf.InvertedLists | None  # together with `encoded`
    terms: TermLists | None = None  # the words of the texts, in an index that has them

    def __len__(self) -> int:
        return len(self.positions)

    def tokens(self, rows: Ints) -> Ints | slice:
        """Return the token rows of these documents (ascending rows), one document after the other.

        For consecutive documents this is a slice, so that NumPy returns views instead of copies.
        """
        if len(rows) and rows[-1] - rows[0] + 1 == len(rows):
            return slice(int(self.offsets[rows[0]]), int(self.offsets[rows[-1] + 1]))
        return rows_of(self.offsets, rows)

    def decode(self, tokens: Ints | slice, codec: Codec | None) -> Floats:
        """Return the vectors [n, dim] of these token rows [n]."""
        if self.raw is not None:
            raw = self.raw[tokens]  # [n, dim]
            return _widened(raw) if raw.dtype == np.float16 else np.asarray(raw, np.float32)
        if codec is None:
            raise InvalidInput("expected a codec for a segment of encoded vectors, found None; pass the index's codec")
        return codec.decode(self.coded().take(tokens))

    def coded(self) -> Encoded:
        """Return the encoded vectors. Raises `InvalidInput` for a segment of raw ones."""
        if self.encoded is None:
            raise InvalidInput("expected a segment of encoded vectors, found raw ones; fit a codec first")
        return self.encoded

    def longest(self, codec: Codec | None) -> float:
        """Return the largest norm of the vectors as they decode, PART of them at a time."""
        return largest_norm(lambda part: self.decode(part, codec), int(self.offsets[-1]))

    def lengths(self, rows: Ints) -> Ints:
        """Return the number of tokens of each of these documents: [n_rows]."""
        lengths: Ints = self.offsets[rows + 1] - self.offsets[rows]
        return lengths


def _widened(halves: NDArray[np.float16]) -> Floats:
    """Return finite float16 numbers as float32, exactly. `astype` does the same one by one, and takes twice as long.

    Both types keep the sign, the exponent and the digits in this order. Moved up by 13 bits, a float16's exponent
    stands where a float32's does, and is 112 too small, because float32 counts exponents from 127 and not from 15.
    Multiplying mends that, and makes the subnormal numbers normal.
    """
    bits = np.left_shift(np.asarray(halves).view(np.int16), 13, dtype=np.int32)  # the sign is now in the bits 28 to 31
    bits &= np.int32(-0x70000001)  # it belongs into 31 alone
    out: Floats = bits.view(np.float32)
    out *= np.float32(2.0**112)
    return out


def largest_norm(vectors: Callable[[slice], Floats], n: int) -> float:
    """Return the largest norm of n vectors. `vectors` returns those of a slice, and is called for PART at a time."""
    parts = (vectors(slice(first, first + PART)) for first in range(0, n, PART))
    return max(float(np.linalg.norm(part, axis=1).max()) for part in parts)


@dataclass(frozen=True, eq=False)
class SegmentedIndex:
    """Segments in order, and the codec they share: None while vectors are raw."""

    dim: int
    codec: Codec | None
    segments: tuple[Segment, ...]

    @cached_property
    def starts(self) -> Ints:
        """[n_segments + 1] the number of each segment's first document."""
        return offsets_of([len(s) for s in self.segments])

    @cached_property
    def positions(self) -> Ints:
        """[n_docs] position of each document."""
        return np.concatenate([np.empty(0, np.int64), *(s.positions for s in self.segments)])

    @cached_property
    def live(self) -> Bools:
        """[n_docs] False once deleted."""
        return np.concatenate([np.empty(0, np.bool_), *(s.live for s in self.segments)])

    def eligible(self, allowed: Bools | None) -> Bools:
        """Return the documents that a search may return: [n_docs]. None allows every live document."""
        return self.live if allowed is None else self.live & allowed

    @cached_property
    def lengths(self) -> Ints:
        """[n_docs] number of token vectors of each document."""
        return np.concatenate([np.empty(0, np.int64), *(np.diff(s.offsets) for s in self.segments)])

    @cached_property
    def n_live(self) -> int:
        """The number of live documents."""
        return int(self.live.sum())

    @cached_property
    def n_words(self) -> Ints:
        """[n_docs] number of words of each document."""
        return np.concatenate([np.empty(0, np.int64), *(s.terms.lengths for s in self.segments if s.terms is not None)])

    @cached_property
    def total_words(self) -> int:
        """The number of words of all live documents."""
        return int(self.n_words[self.live].sum())

    def term_entries(self, term: bytes) -> tuple[Ints, Bytes]:
        """Return the documents with a term (ascending numbers, deleted ones included), and its counts: [n] each."""
        parts = [
            (start, *segment.terms.entries(term))
            for start, segment in zip(self.starts, self.segments, strict=False)
            if segment.terms is not None
        ]
        if len(parts) == 1:
            # Without the copies below. Lists of common words are long.
            return parts[0][1].astype(np.int64), parts[0][2]
        documents = [start + rows for start, rows, _ in parts]
        return np.concatenate([np.empty(0, np.int64), *documents]), np.concatenate(
            [np.empty(0, np.uint8), *(counts for _, _, counts in parts)]
        )

    def document_frequency(self, term: bytes) -> int:
        """Return the number of live documents with a term."""
        documents, _ = self.term_entries(term)
        return len(documents) if self.n_live == len(self.live) else int(self.live[documents].sum())

    def parts(self, documents: Ints) -> Iterator[tuple[Segment, Ints]]:
        """Yield each segment that holds some of `documents` (ascending numbers), with their rows in it."""
        bounds = np.searchsorted(documents, self.starts)
        for i, segment in enumerate(self.segments):
            if bounds[i] < bounds[i + 1]:
                yield segment, documents[bounds[i] : bounds[i + 1]] - self.starts[i]

    def chunks(self, documents: Ints, n_tokens: int) -> Iterator[Ints]:
        """Yield runs of `documents` (ascending numbers) of at most `n_tokens` tokens, or of one longer document.

        A scan in such runs holds little in memory at a time.
        """
        ends = np.cumsum(self.lengths[documents])  # [n] number of tokens up to and with each document
        first = 0
        while first < len(documents):
            limit = n_tokens + (int(ends[first - 1]) if first else 0)
            last = max(int(np.searchsorted(ends, limit, side="right")), first + 1)
            yield documents[first:last]
            first = last

    def vectors(self, documents: Ints) -> Ragged:
        """Return the vectors of `documents` (ascending numbers), decoded."""
        arrays = [s.decode(s.tokens(rows), self.codec) for s, rows in self.parts(documents)]
        if not arrays:
            return Ragged(np.empty((0, self.dim), np.float32), np.zeros(1, np.int64))
        return Ragged(np.concatenate(arrays) if len(arrays) > 1 else arrays[0], offsets_of(self.lengths[documents]))
