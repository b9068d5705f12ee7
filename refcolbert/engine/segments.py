"""What is searched: segments of token vectors, raw or encoded, numbered through as one collection. Immutable."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..arrays import Bools, Floats, Ints
from ..errors import InvalidInput
from . import ivf
from .codec import Codec, Encoded
from .ragged import Ragged, offsets_of, rows_of

__all__ = ["Segment", "SegmentedIndex", "largest_norm"]


PART = 1 << 11  # tokens looked at at once when all are, which stay in the cache


@dataclass(frozen=True, slots=True, eq=False)
class Segment:
    """Documents that were written together: raw vectors, or encoded ones with their inverted lists."""

    positions: Ints  # [n_docs] ascending; a document's place in the one total order
    offsets: Ints  # [n_docs + 1] into the token arrays
    live: Bools  # [n_docs] False once deleted
    largest_norm: float  # none of its vectors is longer
    raw: NDArray[Any] | None  # [n_tokens, dim] float16 or float32
    encoded: Encoded | None  # or this
    lists: ivf.InvertedLists | None  # with this

    def __len__(self) -> int:
        return len(self.positions)

    def tokens(self, rows: Ints) -> Ints | slice:
        """Where the tokens of these documents (ascending rows) are: a slice, which copies nothing, for neighbours."""
        if len(rows) and rows[-1] - rows[0] + 1 == len(rows):
            return slice(int(self.offsets[rows[0]]), int(self.offsets[rows[-1] + 1]))
        return rows_of(self.offsets, rows)

    def decode(self, tokens: Ints | slice, codec: Codec | None) -> Floats:
        """[n] token rows -> [n, dim] their vectors."""
        if self.raw is not None:
            return np.asarray(self.raw[tokens], dtype=np.float32)
        if self.encoded is None or codec is None:
            raise InvalidInput("a segment must hold raw vectors, or encoded ones with a codec")
        return codec.decode(self.encoded.take(tokens))

    def longest(self, codec: Codec | None) -> float:
        """The largest norm of its vectors as they decode, PART of them at a time."""
        return largest_norm(lambda part: self.decode(part, codec), int(self.offsets[-1]))

    def lengths(self, rows: Ints) -> Ints:
        """[n_rows] tokens of each of these documents."""
        lengths: Ints = self.offsets[rows + 1] - self.offsets[rows]
        return lengths


def largest_norm(vectors: Callable[[slice], Floats], n: int) -> float:
    """The largest norm of n vectors, of which `vectors` gives a part [PART, dim] at a time."""
    parts = (vectors(slice(first, first + PART)) for first in range(0, n, PART))
    return max(float(np.linalg.norm(part, axis=1).max()) for part in parts)


@dataclass(frozen=True, eq=False)
class SegmentedIndex:
    """What is searched: segments in order, and the codec they share (None while vectors are raw).

    Documents are numbered through the segments: the rows of the first one, then those of the second, ...
    """

    dim: int
    codec: Codec | None
    segments: tuple[Segment, ...]

    @cached_property
    def starts(self) -> Ints:
        """[n_segments + 1] number of each segment's first document."""
        return offsets_of([len(s) for s in self.segments])

    @cached_property
    def positions(self) -> Ints:
        """[n_docs] in the one total order."""
        return np.concatenate([np.empty(0, np.int64), *(s.positions for s in self.segments)])

    @cached_property
    def live(self) -> Bools:
        """[n_docs] False once deleted."""
        return np.concatenate([np.empty(0, np.bool_), *(s.live for s in self.segments)])

    @cached_property
    def lengths(self) -> Ints:
        """[n_docs] token vectors of each document."""
        return np.concatenate([np.empty(0, np.int64), *(np.diff(s.offsets) for s in self.segments)])

    def parts(self, documents: Ints) -> Iterator[tuple[Segment, Ints]]:
        """Ascending document numbers -> each segment that holds some, and their rows in it."""
        bounds = np.searchsorted(documents, self.starts)
        for i, segment in enumerate(self.segments):
            if bounds[i] < bounds[i + 1]:
                yield segment, documents[bounds[i] : bounds[i + 1]] - self.starts[i]

    def vectors(self, documents: Ints) -> Ragged:
        """The vectors of the listed documents (ascending numbers), decoded."""
        arrays = [s.decode(s.tokens(rows), self.codec) for s, rows in self.parts(documents)]
        if not arrays:
            return Ragged(np.empty((0, self.dim), np.float32), np.zeros(1, np.int64))
        return Ragged(np.concatenate(arrays) if len(arrays) > 1 else arrays[0], offsets_of(self.lengths[documents]))
