"""NaN and infinity never enter an index: not with documents, not with queries."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refcolbert import Index
from refcolbert.errors import InvalidInput
from tools.faults.scenarios import DIM, answer_of, vectors

BAD = st.sampled_from([np.nan, np.inf, -np.inf, 1e39])  # the last is infinite as float32


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    """Three documents."""
    with Index.create(tmp_path_factory.mktemp("finite") / "i", dim=DIM) as made:
        made.add(["a", "b", "c"], vectors=vectors(3, seed=1))
        yield made


@given(BAD, st.data())
def test_a_document_is_refused_wherever_it_is_not_finite(index, bad, data):
    """One component of one of several documents is enough, and nothing of the call is added."""
    given_vectors = [rows.astype(np.float64) for rows in vectors(4, seed=2)]
    document = data.draw(st.integers(0, 3))
    place = data.draw(st.integers(0, given_vectors[document].size - 1))
    given_vectors[document].flat[place] = bad
    before = answer_of(index)
    for write in (index.add, index.upsert):
        with pytest.raises(InvalidInput, match="finite"):
            write(["d", "e", "f", "g"], vectors=given_vectors)
    assert answer_of(index) == before


@given(BAD, st.data())
def test_a_query_is_refused_wherever_it_is_not_finite(index, bad, data):
    """An error, never an answer with scores that compare with nothing."""
    query = vectors(1, seed=3)[0].astype(np.float64)
    query.flat[data.draw(st.integers(0, query.size - 1))] = bad
    with pytest.raises(InvalidInput, match="finite"):
        index.search(query)
