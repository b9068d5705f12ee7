"""The one total order."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refcolbert import definition
from refcolbert.engine.topk import top_k
from refcolbert.errors import InvalidInput

SCORES = st.lists(st.integers(-3, 3), max_size=40).map(lambda values: np.array(values, np.float64))


@given(SCORES, st.integers(1, 50))
def test_top_k_equals_a_full_sort(scores, k):
    """top_k gives the first k of a full sort by score descending, position ascending (17)."""
    assert top_k(scores, k).tolist() == definition.top_k(scores.tolist(), k)


@given(SCORES, st.integers(1, 50), st.randoms())
def test_positions_break_ties(scores, k, random):
    """Equal scores go by the given positions, not by index."""
    positions = list(range(100, 100 + len(scores)))
    random.shuffle(positions)
    assert top_k(scores, k, np.array(positions, np.int64)).tolist() == definition.top_k(scores.tolist(), k, positions)


@given(SCORES, st.integers(1, 49))
def test_a_shorter_answer_is_a_prefix(scores, k):
    """top_k(k) begins top_k(k + 1) (18)."""
    assert top_k(scores, k).tolist() == top_k(scores, k + 1)[:k].tolist()


@given(SCORES, SCORES, st.integers(1, 20))
def test_shards_merge(a, b, k):
    """The top k of two shards' top k is the top k of both together (19)."""
    together = np.concatenate([a, b])
    positions = np.concatenate([top_k(a, k), top_k(b, k) + len(a)])
    merged = positions[top_k(together[positions], k, positions)]
    assert merged.tolist() == top_k(together, k).tolist()


@pytest.mark.parametrize("k", [0, -1, 1.0, "1", None, True])
def test_bad_k_is_refused(k):
    """k must be an integer of at least 1."""
    with pytest.raises(InvalidInput, match="k must be"):
        top_k(np.zeros(3), k)
