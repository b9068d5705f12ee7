"""Token pooling against Ward's method done the slow way."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import unit

from refcolbert import Index, Ragged
from refcolbert.engine.pooling import clusters, pool, pool_documents
from refcolbert.errors import InvalidInput


def spread(members):
    """The sum of squared distances to the mean."""
    return float(((members - members.mean(axis=0)) ** 2).sum())


def ward(d, n_clusters):
    """Join the two clusters whose union raises the spread least, until `n_clusters` are left: sets of rows."""
    parts = [[i] for i in range(len(d))]
    while len(parts) > n_clusters:
        rise = {
            (a, b): spread(d[parts[a] + parts[b]]) - spread(d[parts[a]]) - spread(d[parts[b]])
            for a in range(len(parts))
            for b in range(a)
        }
        a, b = min(rise, key=rise.get)
        parts[b] += parts.pop(a)
    return {frozenset(part) for part in parts}


def sets(labels):
    """Labels as sets of rows."""
    return {frozenset(np.flatnonzero(labels == i).tolist()) for i in set(labels.tolist())}


@given(st.integers(1, 14), st.integers(1, 6), st.integers(0, 2**32 - 1))
def test_clusters_are_those_of_ward(n, factor, seed):
    """The clusters are those of always joining the best two, numbered in the order of their first tokens."""
    d = unit(np.random.default_rng(seed), n, 5)
    labels = clusters(d, factor)
    assert sets(labels) == ward(d.astype(np.float64), -(-n // factor))
    firsts = [int(np.flatnonzero(labels == i)[0]) for i in range(int(labels.max()) + 1)]
    assert firsts == sorted(firsts)


@pytest.mark.parametrize("n", [1, 2, 7, 40])
@pytest.mark.parametrize("factor", [1, 2, 3, 64])
def test_equal_vectors_end_and_keep_their_number(n, factor):
    """Where every distance is a tie there are still ceil(n / factor) clusters."""
    assert len(sets(clusters(np.ones((n, 4), np.float32), factor))) == -(-n // factor)


@given(st.integers(1, 30), st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_pooled_vectors_point_to_the_mean_and_keep_the_norm(n, factor, seed):
    """A pooled vector is its members' mean at their mean norm."""
    rng = np.random.default_rng(seed)
    d = unit(rng, n, 4) * rng.uniform(0.5, 2, (n, 1)).astype(np.float32)
    labels = clusters(d, factor)
    for i, row in enumerate(pool(d, labels)):
        members = d[labels == i].astype(np.float64)
        mean = members.mean(axis=0)
        assert np.allclose(row / np.linalg.norm(row), mean / np.linalg.norm(mean), atol=1e-5)
        assert np.linalg.norm(row) == pytest.approx(np.linalg.norm(members, axis=1).mean(), rel=1e-5)


def test_documents_are_pooled_each_on_its_own():
    """A document gets the same pooled vectors in any company; factor 1 changes nothing."""
    rng = np.random.default_rng(0)
    documents = Ragged.from_list([unit(rng, n, 6) for n in (1, 5, 9, 2)])
    pooled = pool_documents(documents, 2)
    assert pooled.lengths.tolist() == [1, 3, 5, 1]
    for alone, d in zip(pooled, documents, strict=True):
        assert alone.tobytes() == pool_documents(Ragged.from_list([d]), 2).vectors.tobytes()
    assert pool_documents(documents, 1) is documents


def test_opposite_vectors_give_zero():
    """Vectors that cancel out become a zero vector, not NaN."""
    assert pool(np.float32([[1, 0], [-1, 0]]), np.zeros(2, np.int64)).tolist() == [[0, 0]]


def test_an_index_pools_its_documents(tmp_path, encoder):
    """Added, upserted, built and reencoded documents are pooled alike, and hits explain which words a vector holds."""
    texts = ["the cat sat on the mat", "a dog chased the red ball over there"]
    created = Index.create(tmp_path / "a", encoder, pool_factor=2)
    created.add(texts)
    built = Index.build(tmp_path / "b", texts, encoder, pool_factor=2)
    plain = encoder.encode_documents(texts)
    expected = pool_documents(plain, 2)
    for index in (created, built, Index.open(tmp_path / "a", encoder)):
        assert index.info()["pool_factor"] == 2
        assert index.vectors(["0", "1"]).lengths.tolist() == expected.lengths.tolist()
        assert np.abs(index.vectors(["0", "1"]).vectors - expected.vectors).max() < 2e-3
    created.reencode(encoder)
    assert created.vectors(["0"]).lengths.tolist() == [len(expected[0])]
    explanation = created.search("cat", 1)[0].explain()
    assert explanation.similarities.shape[1] in (len(expected[0]), len(expected[1]))
    assert any("+" in match.document_token for match in explanation.matches)


@pytest.mark.parametrize("factor", [0, 65, 1.5, True])
def test_other_factors_are_refused(tmp_path, factor):
    """The factor is an integer from 1 to 64; nothing is created otherwise."""
    with pytest.raises(InvalidInput, match="pool_factor"):
        Index.create(tmp_path / "i", dim=4, pool_factor=factor)
    assert not (tmp_path / "i").exists()
