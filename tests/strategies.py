"""Hypothesis strategies and vectors for tests: vectors on a dyadic grid, where float32 is exact, and unit vectors.

Grid entries are k / 8 with |k| <= 8. Products are multiples of 1/64 and every partial sum of up to 2^17 of them is an
integer below 2^24 in those units, so float32 represents each without rounding: whatever the order of summation, the
BLAS or the chunking, results are equal to the last bit and tests may say `==`.
"""

import numpy as np
from hypothesis import strategies as st

from refcolbert import Ragged

DIMS = st.integers(1, 24)


def grid(n, dim):
    """[n, dim] float32 on the grid."""
    return st.lists(st.integers(-8, 8), min_size=n * dim, max_size=n * dim).map(
        lambda values: (np.array(values, np.float32) / 8).reshape(n, dim)
    )


@st.composite
def grid_arrays(draw, dim, most=8):
    """One array [1 .. most, dim] on the grid."""
    return draw(grid(draw(st.integers(1, most)), dim))


@st.composite
def grid_case(draw, docs=6):
    """A query and a Ragged of 1 .. docs documents on the grid."""
    dim = draw(DIMS, label="dim")
    q = draw(grid_arrays(dim), label="q")
    documents = [draw(grid_arrays(dim), label=f"d{i}") for i in range(draw(st.integers(1, docs), label="n_docs"))]
    return q, Ragged.from_list(documents)


@st.composite
def unit_case(draw, docs=6):
    """A query and a Ragged of unit vectors, from a drawn seed."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1), label="seed"))
    dim = draw(st.sampled_from([1, 2, 16, 48, 96, 128]), label="dim")
    lengths = draw(st.lists(st.integers(1, 40), min_size=1, max_size=docs), label="lengths")
    return unit(rng, draw(st.integers(1, 32), label="n_q"), dim), Ragged.from_list([unit(rng, n, dim) for n in lengths])


def unit(rng, n, dim):
    """[n, dim] random unit rows."""
    vectors = rng.standard_normal((n, dim)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def topical(rng, n_docs, dim, topics=40, least=3, most=30):
    """A Ragged of unit rows scattered around a few directions, as token vectors are."""
    centres = unit(rng, topics, dim)
    documents = []
    for n in rng.integers(least, most, n_docs):
        rows = centres[rng.integers(0, topics, n)] + 0.3 * unit(rng, n, dim)
        documents.append(rows / np.linalg.norm(rows, axis=1, keepdims=True))
    return Ragged.from_list(documents)


class Watched(np.ndarray):
    """An array that notes in `taken` how many rows each slice of it takes."""

    @classmethod
    def of(cls, array) -> "Watched":
        """The same numbers, watched."""
        view = array.view(cls)
        view.taken = []
        return view

    def __getitem__(self, key) -> np.ndarray:
        rows = np.asarray(self)[key]
        if isinstance(key, slice):
            self.taken.append(len(rows))
        return rows
