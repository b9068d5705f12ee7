"""What the cases about scores draw: a query and a document, on a grid where float32 is exact, or of unit vectors.

On the grid every entry is k / 8 with |k| <= 8. Products are multiples of 1/64 and every partial sum of fewer than 2^17
of them is an integer below 2^24 in those units: no order of summation, BLAS or chunking can change a bit, so what holds
in real numbers must hold with `==`. For unit vectors the tolerance is derived: with u = 2^-24, g(n) = n u / (1 - n u),
a float32
score is off by at most n_q g(dim + n_q) max|q_i| max|d_j|, its sum over query tokens included; two scores of one
quantity differ by at most twice that.
"""

from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st


def g(n):
    """The relative error of n float32 roundings."""
    return n * 2.0**-24 / (1 - n * 2.0**-24)


@dataclass(frozen=True, slots=True)
class Pair:
    """A query [n_q, dim], a document [n_d, dim], further rows [n_more, dim], and a seed for whatever else varies."""

    q: np.ndarray
    d: np.ndarray
    more: np.ndarray
    seed: int
    exact: bool

    @property
    def rng(self):
        """The same draws each time."""
        return np.random.default_rng(self.seed)

    def tolerance(self, factor=2):
        """How far two scores of one quantity may be apart; 0 on the grid."""
        if self.exact:
            return 0.0
        norms = [
            np.linalg.norm(x.astype(np.float64), axis=1).max() for x in (self.q, np.concatenate([self.d, self.more]))
        ]
        return factor * len(self.q) * g(self.q.shape[1] + len(self.q)) * float(np.prod(norms))

    def same(self, found, expected, factor=2):
        """Assert that two scores are one: equal on the grid, within the derived tolerance elsewhere."""
        off = np.abs(np.asarray(found, np.float64) - np.asarray(expected, np.float64))
        assert (off <= self.tolerance(factor)).all(), f"{found} is not {expected}, tolerance {self.tolerance(factor)}"


@st.composite
def pairs(draw, exact):
    """On the grid, or of unit vectors."""
    seed = draw(st.integers(0, 2**32 - 1), label="seed")
    if not exact:
        rng = np.random.default_rng(seed)
        dim = draw(st.sampled_from([1, 3, 16, 48, 128]), label="dim")
        counts = [
            draw(st.integers(1, most), label=f"rows of {what}") for what, most in (("q", 4), ("d", 5), ("more", 3))
        ]
        return Pair(*(unit(rng, n, dim) for n in counts), seed, exact)
    dim = draw(st.integers(1, 12), label="dim")
    return Pair(*(draw(grid(dim, most), label=what) for what, most in (("q", 5), ("d", 5), ("more", 3))), seed, exact)


@st.composite
def grid(draw, dim, most):
    """[1 .. most, dim] float32 on the grid."""
    n = draw(st.integers(1, most))
    values = draw(st.lists(st.integers(-8, 8), min_size=n * dim, max_size=n * dim))
    return (np.array(values, np.float32) / 8).reshape(n, dim)


def unit(rng, n, dim):
    """[n, dim] float32 unit rows."""
    vectors = rng.standard_normal((n, dim))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
