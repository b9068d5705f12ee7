"""What the definition says that no other room is compared with."""

import math

import pytest

from refcolbert import definition


def test_softmax_sums_to_one_and_ignores_a_shift():
    """exp(s_i) over their sum, also for scores whose exp alone would overflow."""
    assert definition.softmax([0.0, math.log(3)]) == pytest.approx([0.25, 0.75])
    assert definition.softmax([1000.0, 1000.0 + math.log(3)]) == pytest.approx([0.25, 0.75])


def test_a_centroid_without_vectors_stays():
    """Of two equal starting centroids the second gets no vector and stays where it was."""
    found = definition.kmeans([[1.0, 0.0], [1.0, 0.0]], 2, 3, 0)
    assert found == [[1.0, 0.0], [1.0, 0.0]]


def test_what_has_no_answer_is_a_value_error():
    """No rows, rows of other lengths, NaN, k = 0, a known or unknown id."""
    for q, d in (([], [[1.0]]), ([[1.0]], []), ([[1.0]], [[1.0, 2.0]]), ([[math.nan]], [[1.0]])):
        with pytest.raises(ValueError, match="expected"):
            definition.maxsim(q, d)
    with pytest.raises(ValueError, match="k must be"):
        definition.top_k([1.0], 0)
    index = definition.Index(1)
    index.add(["a"], [[[1.0]]])
    for wrong in (
        lambda: index.add(["a"], [[[1.0]]]),
        lambda: index.add(["b"], []),
        lambda: index.delete(["b"]),
        lambda: index.upsert(["b", "b"], [[[1.0]], [[1.0]]]),
    ):
        with pytest.raises(ValueError, match="expected"):
            wrong()
