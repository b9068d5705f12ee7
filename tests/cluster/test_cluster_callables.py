"""Classes that any engine can send to its workers."""

import pickle

import numpy as np
import pandas as pd
import pytest
from clusters import TINY, documents

from refcolbert import Index, cluster
from refcolbert.cluster import BuildShard, EncodeDocuments
from refcolbert.errors import EncoderMismatch, InvalidInput
from refcolbert.storage.format import EncoderEntry, Manifest


@pytest.fixture
def encode(encoder):
    """A callable that encodes with the tiny model."""
    return EncodeDocuments(str(TINY), encoder.hash)


@pytest.fixture
def build(encode, encoder, tmp_path):
    """A callable that writes raw shards to a folder."""
    entry = EncoderEntry(encoder.hash, str(TINY))
    settings = Manifest(generation=1, dim=encoder.dim, nbits="float32", train_at=1, seed=0, encoder=entry)
    return BuildShard(str(tmp_path), encode, settings)


def test_columns_come_back_with_vectors(encode, encoder):
    """The vectors of each text are one flat array, equal to the encoder's."""
    columns = encode({"text": ["read a file", "dates"], "year": [1, 2]})
    assert columns["year"] == [1, 2]
    expected = encoder.encode_documents(["read a file", "dates"])
    assert columns["tokens"] == expected.lengths.tolist()
    for i, flat in enumerate(columns["vectors"]):
        np.testing.assert_allclose(flat.reshape(-1, encoder.dim), expected[i], atol=1e-6)


def test_a_pickle_has_no_session(encode):
    """The object is small, before and after it was used."""
    encode({"text": ["one"]})
    assert len(pickle.dumps(encode)) < 1000
    assert pickle.loads(pickle.dumps(encode)) == encode  # noqa: S301 - our own


def test_another_model_is_refused(encode):
    """A process that finds another model raises."""
    with pytest.raises(EncoderMismatch):
        EncodeDocuments(str(TINY), "0" * 64)({"text": ["one"]})


def test_another_version_is_refused(encoder):
    """A process with another version raises."""
    with pytest.raises(InvalidInput, match="expected refcolbert 9"):
        EncodeDocuments(str(TINY), encoder.hash, version="9")({"text": ["one"]})


@pytest.mark.parametrize("kind", [dict, pd.DataFrame])
def test_a_batch_becomes_a_shard(build, kind, tmp_path):
    """Columns become a shard with the other columns as metadata, and its receipt comes back as columns."""
    docs = documents(20)
    columns = {name: [d[name] for d in docs] for name in ("id", "text")} | {"n": np.arange(20)}
    receipt = build(kind(columns))
    assert receipt["documents"] == [20]
    shard = Index.open(tmp_path / receipt["name"][0])
    assert [d.metadata for d in shard.get(["d0", "d19"])] == [{"n": 0}, {"n": 19}]


def test_equal_batches_are_one_shard(build, tmp_path):
    """A shard that is there already is not written again."""
    first = build({"text": ["one", "two"]})
    changed = (tmp_path / first["name"][0] / "manifest.json").stat().st_mtime_ns
    assert build({"text": ["one", "two"]}) == first
    assert (tmp_path / first["name"][0] / "manifest.json").stat().st_mtime_ns == changed
    assert build({"text": ["one", "three"]})["name"] != first["name"]


def test_prepared_shards_become_an_index(encoder, tmp_path):
    """Shards that any engine built in any order are one index, in the order in which they are listed."""
    docs = documents(60)
    build = cluster.prepare(tmp_path / "x", [d["text"] for d in docs], 60, encoder, train_at=300)
    build = pickle.loads(pickle.dumps(build))  # noqa: S301 - our own
    columns = [{name: [d[name] for d in part] for name in ("id", "text")} for part in (docs[:30], docs[30:])]
    second, first = build(columns[1]), build(columns[0])
    index = cluster.publish(tmp_path / "x", [*first["name"], *second["name"]])
    index.check()
    assert index.ids() == [d["id"] for d in docs]
    assert index.info()["centroids"] is not None


def test_columns_of_pandas_and_datasets_agree(encode):
    """`encode` gives the same columns for a dict and for a frame."""
    texts = [d["text"] for d in documents(5)]
    of_dict, of_frame = encode({"text": texts}), encode(pd.DataFrame({"text": texts}))
    for left, right in zip(of_dict["vectors"], of_frame["vectors"], strict=True):
        np.testing.assert_array_equal(left, right)
