"""Random queries and documents for the cases about scores: on a grid where float32 is exact, or unit vectors.

On the grid every entry is k / 8 with |k| <= 8. A product is a multiple of 1/64, and a sum of fewer than 2^17 products
is below 2^24 in that unit, so float32 holds every partial sum exactly. The order of the additions changes no bit, and
an equation between scores must hold with `==`.

For unit vectors the tolerance is derived. With u = 2^-24 and g(n) = n u / (1 - n u), a float32 score is off by at most
n_q g(dim + n_q) max|q_i| max|d_j|, the sum over query tokens included. Two scores that should be equal differ by at
most twice that.
"""

from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st


def g(n):
    """The largest relative error of n float32 roundings."""
    return n * 2.0**-24 / (1 - n * 2.0**-24)


@dataclass(frozen=True, slots=True)
class Pair:
    """A query [n_q, dim], a document [n_d, dim], more rows [n_more, dim], and a seed for all else that varies."""

    q: np.ndarray
    d: np.ndarray
    more: np.ndarray
    seed: int
    exact: bool

    @property
    def rng(self):
        """A generator with the same draws each time."""
        return np.random.default_rng(self.seed)

    def tolerance(self, factor=2):
        """The largest difference of two scores that should be equal; 0 on the grid."""
        if self.exact:
            return 0.0
        norms = [
            np.linalg.norm(x.astype(np.float64), axis=1).max() for x in (self.q, np.concatenate([self.d, self.more]))
        ]
        return factor * len(self.q) * g(self.q.shape[1] + len(self.q)) * float(np.prod(norms))

    def same(self, scores, expected, factor=2):
        """Assert that two scores are equal: exactly on the grid, within the derived tolerance for unit vectors."""
        off = np.abs(np.asarray(scores, np.float64) - np.asarray(expected, np.float64))
        assert (off <= self.tolerance(factor)).all(), f"{scores} is not {expected}, tolerance {self.tolerance(factor)}"


@st.composite
def pairs(draw, exact):
    """A pair on the grid if `exact`, else of unit vectors."""
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
