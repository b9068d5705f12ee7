"""Ragged: the token vectors of many documents in one array. Encoder, engine and storage pass vectors in this form.

    vectors [n_tokens, dim]   float32, the documents' rows one after the other
    offsets [n_docs + 1]      int64, document i owns rows offsets[i] : offsets[i + 1]

There is no padding and no mask: a vector that must not be scored is left out. Two documents of 2 and 1 vectors have
offsets [0, 2, 3].
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import ArrayLike

from ..arrays import Floats, Ints
from ..checks import check_vectors
from ..errors import InvalidInput

__all__ = ["Ragged", "offsets_of", "rows_of"]


def offsets_of(lengths: ArrayLike) -> Ints:
    """Return the offsets [n_docs + 1] of documents with these row counts [n_docs].

    >>> offsets_of([2, 1])
    array([0, 2, 3])
    """
    counts = np.asarray(lengths, dtype=np.int64)
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])


def rows_of(offsets: Ints, documents: Ints) -> Ints:
    """Return the row numbers of the listed documents, one document after the other: [sum of their lengths].

    >>> rows_of(np.array([0, 2, 3, 5]), np.array([2, 0]))
    array([3, 4, 0, 1])
    """
    lengths = offsets[documents + 1] - offsets[documents]  # [n]
    ends = np.cumsum(lengths)  # [n]
    # A document's rows are consecutive in the array and in the result, so they differ from their places in the result
    # by one number per document. In the example, document 2 has places 0 1 and rows 3 4, a shift of 3. Document 0 has
    # places 2 3 and rows 0 1, a shift of -2. One repeat and one addition replace a loop over documents.
    shift = offsets[documents] - (ends - lengths)  # [n]
    return np.repeat(shift, lengths) + np.arange(ends[-1] if ends.size else 0)


@dataclass(frozen=True, slots=True, eq=False)
class Ragged:
    """Token vectors of `len(self)` documents. Treat both arrays as read-only.

    >>> documents = Ragged.from_list([[[1, 0], [0, 1]], [[0.6, 0.8]]])
    >>> len(documents), documents.dim, documents.lengths.tolist()
    (2, 2, [2, 1])
    >>> documents[1]
    array([[0.6, 0.8]], dtype=float32)
    """

    vectors: Floats  # [n_tokens, dim]
    offsets: Ints  # [n_docs + 1]

    def __post_init__(self) -> None:
        """Raise `InvalidInput` when the offsets do not cut `vectors` into documents of at least one row each."""
        object.__setattr__(self, "offsets", np.asarray(self.offsets, dtype=np.int64))
        if self.vectors.ndim != 2 or self.offsets.ndim != 1 or self.offsets.size < 1:
            raise InvalidInput(
                "expected vectors [n_tokens, dim] and offsets [n_docs + 1], "
                f"found {self.vectors.shape} and {self.offsets.shape}"
            )
        if self.offsets[0] != 0 or self.offsets[-1] != len(self.vectors) or (np.diff(self.offsets) < 1).any():
            raise InvalidInput(
                f"offsets must rise strictly from 0 to the {len(self.vectors)} rows: a document has at least one vector"
            )

    @classmethod
    def from_list(cls, documents: Sequence[ArrayLike], dim: int | None = None) -> Self:
        """Join arrays [n_d, dim], one per document. Raises `InvalidInput` naming the first array that does not fit.

        By default `dim` is taken from the first document. An empty list has none, so it needs `dim`.
        """
        arrays: list[Floats] = []
        for position, document in enumerate(documents):
            arrays.append(check_vectors(document, f"document {position}", dim))
            dim = arrays[-1].shape[1]
        if not arrays:
            return cls(np.empty((0, dim or 0), np.float32), np.zeros(1, np.int64))
        return cls(np.concatenate(arrays), offsets_of([len(a) for a in arrays]))

    @property
    def dim(self) -> int:
        """The number of columns of a vector."""
        return int(self.vectors.shape[1])

    @property
    def lengths(self) -> Ints:
        """[n_docs] number of rows of each document."""
        return np.diff(self.offsets)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, position: int) -> Floats:
        """[n_d, dim] the vectors of one document: a view."""
        if not -len(self) <= position < len(self):
            raise IndexError(f"document {position} of {len(self)}")
        position %= len(self)
        return self.vectors[self.offsets[position] : self.offsets[position + 1]]

    def __iter__(self) -> Iterator[Floats]:
        return (self[position] for position in range(len(self)))

    def take(self, documents: Ints) -> "Ragged":
        """Return a copy with the listed documents, in that order."""
        documents = np.asarray(documents, dtype=np.int64)
        return Ragged(self.vectors[rows_of(self.offsets, documents)], offsets_of(self.lengths[documents]))
